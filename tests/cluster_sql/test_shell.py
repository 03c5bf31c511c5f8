"""The shell over a cluster: every backslash command, completion, and formats give what they give on a directory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from shell.commands import COMMANDS
from shell.completion import suggest
from shell.metadata import Metadata
from shell.output import FileOutput
from shell.runner import Runner, Settings
from shell.session import MEMORY, Connection, Session
from tests.cluster_sql.world import World

URL = "tikv://pd:2379/test"
TABLE = "CREATE TABLE item (id BIGINT PRIMARY KEY, name VARCHAR(40), KEY by_name (name))"
TRANSCRIPT = [
    "\\?", "\\h select", "\\d", "\\d item", "\\d+ item", "\\dt", "\\dv", "\\di", "\\di item", "\\l", "\\u test",
    "\\f", "\\f csv", "SELECT * FROM item ORDER BY id;", "\\f table", "\\x on",
    "SELECT * FROM item ORDER BY id;", "\\x off", "\\timing on", "\\timing off", "\\P", "\\P off",
    "INSERT IGNORE INTO item VALUES (1, 'again');", "\\W", "BEGIN;", "DELETE FROM item;",
    "SELECT COUNT(*) FROM item;", "ROLLBACK;", "SELECT COUNT(*) FROM item;", "SELECT * FROM nothing;",
    "\\i script.sql", "EXPLAIN FORMAT = 'brief' SELECT name FROM item WHERE id = 1;", "\\e",
]  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(stores=1)
    yield made
    made.close()


def transcript(session: Session, tmp_path: Path, name: str) -> str:
    """What the shell prints, results and messages in their order."""
    (tmp_path / "script.sql").write_text("SELECT name FROM item WHERE id = 2;\n")
    target = tmp_path / f"{name}.txt"
    errors = io.StringIO()
    runner = Runner(session, Settings(force=True), FileOutput(str(target)), errors)
    lines = [line.replace("script.sql", str(tmp_path / "script.sql")) for line in TRANSCRIPT]
    setup = [f"{TABLE};", "INSERT INTO item VALUES (1, 'pen'), (2, '東京');"]
    runner.run_chunks(f"{line}\n" for line in [*setup, *lines])
    runner.destination.close()
    return target.read_text() + errors.getvalue()


def test_every_command_gives_what_it_gives_on_a_directory(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for name, session in (("cluster", Session(URL, lambda _: opened(world))), ("memory", Session(MEMORY))):
        text = transcript(session, tmp_path, name)
        said.append(text + capsys.readouterr().out)
        session.query("DROP TABLE item")
        session.close()
    assert said[0] == said[1]
    assert "東京" in said[0]
    left = {"\\q", "\\c", "\\o", "\\w", "\\s", "\\u"}
    assert set(COMMANDS) - {line.split()[0] for line in TRANSCRIPT} <= left


def opened(world: World) -> Connection:
    connection: Connection = world.connect()
    return connection


def test_completion_reads_the_catalog_by_a_session_of_its_own(world: World) -> None:
    session = Session(URL, lambda _: opened(world))
    session.query("CREATE TABLE stock (place VARCHAR(10) PRIMARY KEY, many INT)")
    names = Metadata(session)
    session.query("BEGIN")
    assert "stock" in [found.text for found in suggest("SELECT * FROM st", "", names)]
    assert "many" in [found.text for found in suggest("SELECT * FROM stock WHERE ", "", names)]
    assert "stock" in [found.text for found in suggest("\\d ", "", names)]
    assert session.in_transaction
    assert names.problem == ""
    names.close()
    session.query("ROLLBACK")
    session.query("DROP TABLE stock")
    session.close()


def test_another_place_can_be_opened_and_left_again(world: World, tmp_path: Path) -> None:
    def connect(path: str) -> Connection:
        import sqlfront

        return opened(world) if path.startswith("tikv://") else sqlfront.connect(path, autocommit=True)

    runner = Runner(Session(URL, connect), Settings(), FileOutput(str(tmp_path / "out")), io.StringIO())
    assert runner.run_chunks([f"\\c {MEMORY}\nCREATE TABLE here (id INT PRIMARY KEY);\n\\c {URL}\n\\dt\n"])
    assert runner.session.path == URL
    runner.destination.close()
    assert "here" not in (tmp_path / "out").read_text().split()
    runner.session.close()
