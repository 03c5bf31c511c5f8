"""A catalog over the memory engine, and the least of a session that DDL, SHOW and checks need."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from kvstore.client.api import CancelToken, Reader
from kvstore.client.embedded import EmbeddedStore
from pd.oracle import LocalOracle
from sqlfront.bind.ddl import read_text
from sqlfront.catalog.autoid import AutoIds
from sqlfront.catalog.catalog import LocalCatalog
from sqlfront.catalog.model import Column, Schema, Table
from sqlfront.catalog.replica_status import ReplicaStatus
from sqlfront.catalog.stats import Statistics, execute_analyze
from sqlfront.exec.check import check_table, execute_admin_check
from sqlfront.exec.ddl import execute_definition
from sqlfront.exec.show import execute_describe, execute_show
from sqlfront.parse import AdminCheckIndex, AdminCheckTable, AnalyzeTable, Describe, Show, parse
from sqlfront.result import Result
from sqlfront.variables import VARIABLES


@dataclass
class FakeVariables:
    zone: dt.tzinfo = dt.UTC

    def all(self, scope: str = "session") -> Iterator[tuple[str, str]]:
        yield ("autocommit", "ON")
        yield ("time_zone", scope)

    def get(self, name: str) -> object:
        return VARIABLES[name].default


class FakeDatabase:
    def __init__(self, storage: EmbeddedStore | None = None) -> None:
        self.storage = storage or EmbeddedStore.open(None, LocalOracle)
        self.catalog = LocalCatalog(self.storage)
        self.autoids = AutoIds(self.storage)
        self.statistics = Statistics(self.storage)
        self.sessions: dict[int, Any] = {}
        self.replicas: dict[str, ReplicaStatus] = {}
        self.columnar = SimpleNamespace(switched=lambda table: None)

    def replica_status(self, table: Table) -> ReplicaStatus | None:
        return self.replicas.get(table.name)

    def reopen(self) -> FakeDatabase:
        """The catalog as another process would find it after a kill."""
        return FakeDatabase(self.storage)


@dataclass
class FakeSession:
    database: Any = field(default_factory=FakeDatabase)
    current_db: str = "test"
    variables: Any = field(default_factory=FakeVariables)
    warnings: list[tuple[str, int, str]] = field(default_factory=list)
    id: int = 1
    statement: str = ""
    cancel: CancelToken = field(default_factory=CancelToken)

    def __post_init__(self) -> None:
        self.database.sessions[self.id] = self

    @property
    def storage(self) -> EmbeddedStore:
        return self.database.storage  # type: ignore[no-any-return]

    def seen(self, schema: Schema) -> Schema:
        return schema

    def layered(self, reader: Reader) -> Reader:
        return reader

    def note(self, code: int, message: str) -> None:
        self.warnings.append(("Note", code, message))

    def ddl(self, text: str) -> Result:
        self.warnings.clear()
        return execute_definition(self, read_text(text))  # type: ignore[arg-type]

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """Rows of a SHOW, DESCRIBE, ANALYZE or ADMIN statement."""
        return self.result(text).fetch_all()

    def result(self, text: str) -> Result:
        me: Any = self
        match parse(text).statement:
            case Show() as show:
                return execute_show(me, show)
            case Describe() as describe:
                return execute_describe(me, describe)
            case AnalyzeTable() as analyze:
                return execute_analyze(me, analyze)
            case AdminCheckTable() | AdminCheckIndex() as check:
                return execute_admin_check(me, check)
        raise AssertionError(text)

    def columns_of(self, relation: Table) -> tuple[Column, ...]:
        assert relation.view is None
        return relation.columns

    def table(self, name: str) -> Table:
        return self.database.catalog.schema.need_table(self.current_db, name)  # type: ignore[no-any-return]

    def insert(self, name: str, *rows: Sequence[Any], table: Table | None = None) -> None:
        """Writes whole rows as an executor would, with the indexes that writers must maintain."""
        table = table or self.table(name)
        txn = self.database.storage.begin()
        self.write(txn, table, rows)
        txn.commit(lambda ts: self.database.catalog.check_revisions({table.id: table.revision}))
        self.database.statistics.note_changes(table.id, len(rows))

    def write(self, txn: Any, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        codec = table.write_codec
        for row in rows:
            handle = self.database.autoids.allocate_row_ids(table) if codec.is_hidden_handle else codec.handle_of(row)
            txn.insert(*codec.encode_record(row, handle))
            for _, key, value, distinct in codec.index_entries(row, handle):
                (txn.insert if distinct else txn.put)(key, value)

    def delete(self, name: str, handle: Any) -> None:
        table = self.table(name)
        codec = table.write_codec
        txn = self.database.storage.begin()
        value = txn.get(codec.record_key(handle))
        if value is None:
            txn.rollback()
            return
        row = codec.decode(handle, value)
        txn.delete(codec.record_key(handle))
        for _, key, _, _ in codec.index_entries(row, handle):
            txn.delete(key)
        txn.commit(lambda ts: self.database.catalog.check_revisions({table.id: table.revision}))

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        out: list[tuple[Any, ...]] = []
        for part in self.table(name).physical:
            decode = part.codec.key_decoder()
            out += [decode(k, v) for k, v in self.database.storage.snapshot().scan(*part.codec.record_range)]
        return out

    def check(self, name: str) -> int:
        return sum(check_table(self.database.storage.snapshot(), part) for part in self.table(name).physical)

    def index_entries(self, name: str, index: str) -> list[tuple[bytes, bytes]]:
        table = self.table(name)
        found = table.index(index)
        assert found is not None
        return list(self.database.storage.snapshot().scan(*table.codec.index_range(found.schema)))
