"""The PyPI package dbapi-compliance: PEP 249's stock suite, in full."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import dbapi20  # type: ignore[import-untyped]
import pytest

import sqlfront


class TestDatabaseAPI20(dbapi20.DatabaseAPI20Test):  # type: ignore[misc]
    driver = sqlfront
    connect_kw_args: dict[str, Any] = {}
    lower_func = None  # the suite's name of a stored procedure; there are none

    def setUp(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="dbapi20-")
        self.connect_args = (str(Path(self._directory) / "db"),)
        self._opened: list[Any] = []

    def tearDown(self) -> None:
        for connection in self._opened:
            if not connection.closed:
                connection.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _connect(self) -> Any:
        self._opened.append(super()._connect())
        return self._opened[-1]

    def test_callproc(self) -> None:
        """There are no stored procedures: callproc, if there is one, says so."""
        cursor = self._connect().cursor()
        if hasattr(cursor, "callproc"):
            with pytest.raises(sqlfront.NotSupportedError):
                cursor.callproc("lower", ("FOO",))

    def test_nextset(self) -> None:
        """There are no multiple result sets: a cursor either lacks nextset or answers None."""
        cursor = self._connect().cursor()
        if hasattr(cursor, "nextset"):
            cursor.execute("select 1")
            assert cursor.nextset() is None

    def test_setoutputsize(self) -> None:
        """Sizes are accepted and ignored, as PEP 249 allows."""
        cursor = self._connect().cursor()
        cursor.setoutputsize(1000)
        cursor.setoutputsize(1000, 0)
        cursor.execute("select repeat('x', 5000)")
        assert len(cursor.fetchone()[0]) == 5000
