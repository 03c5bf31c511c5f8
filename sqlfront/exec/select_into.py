"""SELECT ... INTO: one row into user variables, rows into a file (OUTFILE), one row as it is into a file (DUMPFILE)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlfront.bind.literals import type_of
from sqlfront.errors import DatabaseError, error
from sqlfront.parse import FileForm, SelectInto
from sqlfront.result import Result, ResultColumn, Row
from sqlfront.text_files import plain_bytes, row_writer

if TYPE_CHECKING:
    from sqlfront.exec.statement import Executable
    from sqlfront.session import Session

ER_TOO_MANY_ROWS = 1172
ER_WRONG_NUMBER_OF_COLUMNS = 1222
ER_NO_DATA = 1329
NO_DATA = "No data - zero rows fetched, selected, or processed"

Take = Callable[["Session", Result], int]


def select_into(session: Session, statement: SelectInto, query: Executable) -> Into:
    """The executable of a query and of what becomes of its rows."""
    if statement.variables:
        return Into(query, lambda s, result: _into_variables(s, result, statement.variables))
    path, form = os.path.abspath(statement.path), statement.form
    if form is None:
        return Into(query, lambda s, result: _dump(s, result, path))
    return Into(query, lambda s, result: _write(s, result, path, form))


class Into:
    """A query whose rows do not go to the client."""

    def __init__(self, query: Executable, take: Take) -> None:
        self.any_integer = query.any_integer
        self._query = query
        self._take = take

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        result = self._query.run(session, params)
        try:
            count = self._take(session, result)
        finally:
            result.close()
        session.row_count = session.found_rows = count
        return Result(affected_rows=count)


def _columns(result: Result) -> tuple[ResultColumn, ...]:
    assert result.columns is not None
    return result.columns


def _one_row(session: Session, result: Result) -> tuple[Row | None, bool]:
    """The first row, and whether there is another."""
    first: Row | None = None
    for batch in result.fetch():
        for row in batch:
            if first is not None:
                return first, True
            first = row
    return first, False


def _too_many() -> DatabaseError:
    return error(ER_TOO_MANY_ROWS, "Result consisted of more than one row")


def _into_variables(session: Session, result: Result, names: list[str]) -> int:
    if len(_columns(result)) != len(names):
        raise error(ER_WRONG_NUMBER_OF_COLUMNS, "The used SELECT statements have a different number of columns")
    row, more = _one_row(session, result)
    if row is None:
        session.warn(ER_NO_DATA, NO_DATA)
        return 0
    for name, value in zip(names, row, strict=True):
        session.user_variables[name] = (value, type_of(value))
    if more:
        raise _too_many()
    return 1


def _created(path: str) -> Any:
    try:
        return open(path, "xb")
    except FileExistsError as exc:
        raise error(1086, f"File '{path}' already exists", sqlstate="HY000") from exc
    except OSError as exc:
        message = f"Can't create/write to file '{path}' (OS errno {exc.errno} - {exc.strerror})"
        raise error(1, message, sqlstate="HY000") from exc


def _write(session: Session, result: Result, path: str, form: FileForm) -> int:
    lines = row_writer(form, [c.type for c in _columns(result)])
    count = 0
    with _created(path) as file:
        try:
            for batch in result.fetch():
                session.check_cancelled()
                file.write(lines(batch))
                count += len(batch)
        except BaseException:
            os.unlink(path)
            raise
    return count


def _dump(session: Session, result: Result, path: str) -> int:
    row, more = _one_row(session, result)
    if more:
        raise _too_many()
    if row is None:
        session.warn(ER_NO_DATA, NO_DATA)
        return 0
    with _created(path) as file:
        file.write(b"".join(plain_bytes(v, c.type) for v, c in zip(row, _columns(result), strict=True)))
    return 1
