"""LOAD DATA [LOCAL] INFILE: a text file of the host that the statement runs on, into a table.

Where every row has to fit (strict mode, neither IGNORE nor REPLACE) and the fields are the columns, the file goes the
way of bulk loads (`sqlfront/load.py`). Everything else, and what runs in a transaction, is an INSERT of one row with
the fields as its parameters, run for each row of the file as one statement. LOCAL implies IGNORE, as in MySQL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from coprocessor.charsets import CODECS
from sqlfront import parse
from sqlfront.bind.literals import type_of
from sqlfront.errors import error, unsupported
from sqlfront.exec.changing import Row
from sqlfront.exec.dml import MISSING, InsertChange, make_change
from sqlfront.exec.statement import bind_context
from sqlfront.load import append_rows
from sqlfront.load_files import converted_text, takes_bytes
from sqlfront.load_source import CHUNK_ROWS, Chunk, Source, match_columns
from sqlfront.result import Result
from sqlfront.text_files import Field, read_rows

if TYPE_CHECKING:
    from sqlfront.catalog.model import Column, Table
    from sqlfront.session import Session

ER_FILE_NOT_FOUND = 29
ER_TOO_FEW_FIELDS = 1261
ER_TOO_MANY_FIELDS = 1262
_ENCODINGS = {**CODECS, "ascii": "utf-8", "binary": "utf-8", "": "utf-8"}


def execute_load_data(
    session: Session, parsed: parse.Parsed, statement: parse.LoadData, params: Sequence[object]
) -> Result:
    """Loads the file; the result counts its rows."""
    if parsed.positional or parsed.names:
        raise error(1210, "Incorrect arguments to LOAD DATA")
    return _Load(session, statement).run()


class _Load:
    """One execution."""

    def __init__(self, session: Session, statement: parse.LoadData) -> None:
        self.session = session
        self.statement = statement
        self.path = os.path.abspath(statement.path)
        self.encoding = _ENCODINGS.get(statement.charset, "")
        if not self.encoding:
            raise unsupported(f"LOAD DATA ... CHARACTER SET {statement.charset}")
        db = statement.table.db or session.current_db
        if not db:
            raise error(1046, "No database selected")
        position = statement.table.this.meta.get("start", -1)
        self.table: Table = session.seen(session.schema).need_table(db, statement.table.name, position=position)
        self.targets = statement.targets or [c.name for c in self.table.columns if c.generated is None]
        self.duplicates = statement.duplicates or ("ignore" if statement.local else "")
        self.lenient = self.duplicates == "ignore" or not session.variables.strict
        self.rows = 0
        self.last: list[Field] = []

    def run(self) -> Result:
        session = self.session
        if not os.path.isfile(self.path):
            message = f"File '{self.path}' not found (OS errno 2 - No such file or directory)"
            raise error(ER_FILE_NOT_FOUND, message, sqlstate="HY000")
        plain = not self.statement.assignments and not any(name.startswith("@") for name in self.targets)
        if (
            plain
            and not (self.duplicates or self.lenient or self.table.temporary)
            and session.txn is None
            and self.targets
        ):
            name = f"{self.table.db}.{self.table.name}"
            added = append_rows(session.database, session, name, lambda table: self._source())
            return self._result(added, added)
        change = self._change()
        done = change.run_rows(session, self._parameters)
        for name, value in zip(self.targets, self.last, strict=False):
            if name.startswith("@"):
                session.user_variables[name[1:]] = (value, type_of(value))
        return self._result(done.affected_rows, self.rows, done.last_insert_id)

    def _result(self, affected: int, rows: int, last_insert_id: int = 0) -> Result:
        deleted = affected - rows if self.duplicates == "replace" else 0
        skipped = rows - affected if self.duplicates == "ignore" else 0
        warnings = len(self.session.warnings)
        info = f"Records: {rows}  Deleted: {deleted}  Skipped: {skipped}  Warnings: {warnings}"
        return Result(None, None, affected, last_insert_id, info)

    # The file

    def _fields(self) -> Iterator[list[Field]]:
        """Rows with as many fields as there are targets, at most; errors and warnings of those that have not."""
        width, skip = len(self.targets), self.statement.skip
        with open(self.path, encoding=self.encoding, errors="surrogateescape", newline="") as file:
            self.rows = 0
            for row in islice(read_rows(file, self.statement.form), skip, None):
                self.rows += 1
                if len(row) < width:
                    message = f"Row {self.rows} doesn't contain data for all columns"
                    self._complain(ER_TOO_FEW_FIELDS, message)
                elif len(row) > width:
                    message = f"Row {self.rows} was truncated; it contained more data than there were input columns"
                    self._complain(ER_TOO_MANY_FIELDS, message)
                    del row[width:]
                self.last = row
                yield row

    def _complain(self, code: int, message: str) -> None:
        if not self.lenient:
            raise error(code, message)
        self.session.warn(code, message)

    def _source(self) -> Source:
        return Source(self.targets, None, self._chunks())

    def _chunks(self) -> Iterator[Chunk]:
        rows, first = self._fields(), 1
        columns = match_columns(self.targets, self.table)
        while part := list(islice(rows, CHUNK_ROWS)):
            fields = [list(field) for field in zip(*part, strict=True)]
            yield Chunk([_array(c, f) for c, f in zip(columns, fields, strict=True)], len(part), first)
            first += len(part)

    def _parameters(self) -> Iterator[Row]:
        width = len(self.targets)
        for row in self._fields():
            yield tuple(row) if len(row) == width else (*row, *[MISSING] * (width - len(row)))

    # The INSERT

    def _change(self) -> InsertChange:
        """An INSERT whose parameters are the fields; variables among the targets are parameters of SET."""
        places = {name[1:]: i for i, name in enumerate(self.targets) if name.startswith("@")}
        names = [name for name in self.targets if not name.startswith("@")]
        match_columns(names, self.table)  # each of them once
        values: list[exp.Expression] = [_field(i) for i, name in enumerate(self.targets) if not name.startswith("@")]
        for name, tree in self.statement.assignments:
            names.append(name)
            values.append(tree.transform(lambda node: _with_fields(node, places)))
        tree = exp.Insert(
            this=exp.Schema(
                this=self.statement.table.copy(), expressions=[exp.to_identifier(n, quoted=True) for n in names]
            ),
            expression=exp.Values(expressions=[exp.Tuple(expressions=values)]),
            ignore=self.duplicates == "ignore",
        )
        # SET may change a column that a field is for, and reads what that gave it.
        statement = parse.Insert(tree, self.duplicates == "replace", repeats=True)
        keys = tuple(_key(i) for i in range(len(self.targets)))
        parsed = parse.Parsed(statement, "", names=keys)
        ctx = bind_context(self.session, parsed, [""] * len(keys))
        change = make_change(self.session, ctx, statement)
        assert isinstance(change, InsertChange)
        return change


def _array(column: Column, values: list[Any]) -> Any:
    """The fields of a column in bulk, where they are text throughout; else as they are, to be converted one by one."""
    import pyarrow as pa

    if takes_bytes(column):
        encoded = [v.encode("utf-8", "surrogateescape") if isinstance(v, str) else v for v in values]
        return pa.array(encoded, pa.binary())
    if any(isinstance(v, bytes) for v in values):
        return values
    return converted_text(column, pa.array(values, pa.string()))


def _key(place: int) -> str:
    return f"field_{place}"


def _field(place: int) -> exp.Placeholder:
    return exp.Placeholder(this=_key(place))


def _with_fields(node: Any, places: dict[str, int]) -> Any:
    if isinstance(node, exp.Parameter) and node.name.casefold() in places:
        return _field(places[node.name.casefold()])
    return node
