"""The catalog on disk: closed, opened, and opened after a process that did not close."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kvstore.client.embedded import EmbeddedStore
from pd.oracle import LocalOracle
from tests.catalog.harness import FakeDatabase, FakeSession


def _open(path: Path) -> FakeSession:
    return FakeSession(FakeDatabase(EmbeddedStore.open(str(path), LocalOracle)))


def test_closed_and_opened(tmp_path: Path) -> None:
    session = _open(tmp_path / "db")
    session.ddl("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(9), KEY (v))")
    first = session.database.autoids.allocate(session.table("t"))
    session.insert("t", (first, "a"))
    session.ddl("ALTER TABLE t ADD w DECIMAL(5,2) DEFAULT 1.25")
    session.query("ANALYZE TABLE t")
    version = session.database.catalog.schema.version
    session.database.autoids.close()
    session.database.statistics.close()
    session.database.storage.close()

    again = _open(tmp_path / "db")
    assert again.database.catalog.schema.version == version
    assert [str(v) for v in again.rows("t")[0]] == ["1", "a", "1.25"]
    assert again.check("t") == 1
    assert again.database.autoids.allocate(again.table("t")) == first + 1
    assert again.database.statistics.rows(again.table("t")) == 1
    again.database.storage.close()


def test_importing_the_catalog_is_light() -> None:
    code = (
        "import sys, sqlfront.catalog.catalog, sqlfront.catalog.stats, sqlfront.catalog.autoid, sqlfront.exec.show, "
        "sqlfront.exec.check; print([m for m in ('numpy', 'pyarrow', 'duckdb', 'rocksdict') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
