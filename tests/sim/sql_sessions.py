"""Sessions that read and write, and sessions that change the schema, on simulated SQL servers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from kvstore.client.api import LOGICAL_BITS
from kvstore.errors import KvError, TxnError
from kvstore.rpc.api import RpcError
from sqlfront.database import Database
from sqlfront.errors import Error
from sqlfront.session import Session
from tests.sim.sql_model import GROUPS, OWN_ROWS, OWN_STEP, Model, Row, Span
from tests.sim.threads import Crew

PAUSE_S = 0.15
LONG_PAUSE_S = 4.0
DDL_PAUSE_S = 1.0
COLLECTS = 0.3
"""After so many of the changes garbage is collected."""
KEPT_MS = 6000
"""How far back garbage collection leaves versions."""
SHARED = (901, 902, 903)
CREATE = (
    "CREATE TABLE t (id INT PRIMARY KEY, a BIGINT NOT NULL, b INT, c VARCHAR(20), d BIGINT)",
    "CREATE TABLE u (id BIGINT AUTO_INCREMENT PRIMARY KEY, mark BIGINT, KEY im (mark))",
)
UPSERT = (
    "INSERT INTO t (id, a, b, c, d) VALUES (?, ?, ?, ?, ?) "
    "ON DUPLICATE KEY UPDATE a = VALUES(a), b = VALUES(b), c = VALUES(c), d = VALUES(d)"
)
UPDATE = "UPDATE t SET a = ?, b = ?, c = ?, d = ? WHERE id = ?"
UPDATE_BY_A = "UPDATE t SET a = ?, b = ?, c = ?, d = ? WHERE a = ?"
DELETE = "DELETE FROM t WHERE id = ?"
COLUMNS = "id, a, b, c, d"

OUT_OF_DATE, CHANGED, NO_ANSWER, LOCK_WAIT, DEADLOCK, CONFLICT = 8027, 8028, 1105, 1205, 1213, 9007
NO_TABLE, DEFINITION_CHANGED = 1146, 1412
EXPECTED = frozenset({OUT_OF_DATE, CHANGED, LOCK_WAIT, DEADLOCK, CONFLICT, DEFINITION_CHANGED})
EXPECTED_OF_DDL = EXPECTED | {NO_ANSWER, NO_TABLE, 1050, 1054, 1060, 1061, 1072, 1091}
"""Besides, what another server's change has made of the statement's names meanwhile."""


class Failed(Exception):
    """The statement failed, and did nothing for certain."""


class Lost(Exception):
    """Nobody knows whether the statement did anything."""


class SqlClient:
    """A session, and what becomes of its statements."""

    def __init__(self, crew: Crew, database: Database, expected: frozenset[int]) -> None:
        self.crew = crew
        self.database = database
        self._expected = expected
        self.session: Session = self._attempt(database.session)
        self._attempt(lambda: self.session.use("test"))

    def _attempt(self, call: Callable[[], Any]) -> Any:
        while True:
            try:
                return call()
            except (Error, KvError):
                self.crew.sleep(1.0)

    def run(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        """Raises Failed, Lost."""
        try:
            result = self.session.execute(sql, params or None)
            return [tuple(row) for row in result.fetch_all()]
        except TxnError as exc:
            raise Failed(f"{type(exc).__name__}: {exc}") from exc
        except Error as exc:
            if exc.code not in self._expected:
                raise AssertionError(f"{sql} {params}: {exc.code} {exc}") from exc
            raise Failed(f"{exc.code}: {exc}") from exc
        except (KvError, RpcError) as exc:
            raise Lost(f"{type(exc).__name__}: {exc}") from exc

    def rollback(self) -> None:
        try:
            self.session.rollback()
        except (KvError, RpcError):
            return


class Writer:
    """Writes rows of its own, whose values it knows, and some that all write."""

    def __init__(self, crew: Crew, database: Database, model: Model, rng: random.Random, slot: int) -> None:
        self._crew = crew
        self._model = model
        self._rng = rng
        self._slot = slot
        self._client = SqlClient(crew, database, EXPECTED)
        self._own = [(slot + 1) * OWN_STEP + n for n in range(OWN_ROWS)]

    def work(self) -> None:
        model, rng = self._model, self._rng
        steps = (self._write, self._write, self._transaction, self._transaction, self._read, self._find, self._compare)
        while not model.is_over:
            step = rng.choice((*steps, self._mark))
            try:
                step()
                model.count(step.__name__.strip("_"))
            except (Failed, Lost) as exc:
                self._note(f"{step.__name__}: {type(exc).__name__} {str(exc)[:60]}")
                model.count(type(exc).__name__)
                self._client.rollback()
            self._crew.sleep(rng.expovariate(1 / PAUSE_S))

    def _note(self, what: str) -> None:
        self._model.note(f"{self._crew.monotonic():.6f} {self._slot} {what}")

    def _change(self) -> tuple[str, tuple[object, ...], int, Callable[[int | None], int | None]]:
        """A statement, its row, and what it makes of the row's value."""
        rng, model = self._rng, self._model
        row_id = rng.choice(self._own) if rng.random() < 0.8 else rng.choice(SHARED)
        row = model.draw(row_id)
        kind = rng.randrange(4)
        known = model.values(row_id)
        if kind == 0:
            return DELETE, (row_id,), row_id, lambda old: None
        if kind == 1:
            return UPDATE, (*row.values[1:], row_id), row_id, lambda old: None if old is None else row.a
        if kind == 2 and len(known) == 1 and None not in known and row_id in self._own:
            (old_a,) = known
            return UPDATE_BY_A, (*row.values[1:], old_a), row_id, lambda old: row.a
        return UPSERT, row.values, row_id, lambda old: row.a

    def _write(self) -> None:
        self._apply([self._change()], lambda run: run())

    def _transaction(self) -> None:
        rng, client = self._rng, self._client
        changes = []
        for change in (self._change() for _ in range(rng.randint(1, 3))):
            if change[2] not in [c[2] for c in changes]:
                changes.append(change)

        def around(run: Callable[[], None]) -> None:
            client.run(f"BEGIN {rng.choice(('PESSIMISTIC', 'OPTIMISTIC'))}")
            if rng.random() < 0.3:
                self._crew.sleep(rng.expovariate(1 / LONG_PAUSE_S))
            run()
            if rng.random() < 0.3:
                self._crew.sleep(rng.expovariate(1 / LONG_PAUSE_S))
            if rng.random() < 0.1:
                client.rollback()
                raise Failed("rolled back")
            client.run("COMMIT")

        self._apply(changes, around)

    def _apply(self, changes: list[Any], around: Callable[[Callable[[], None]], None]) -> None:
        model = self._model
        before = {row_id: model.values(row_id) for _, _, row_id, _ in changes}
        after = {row_id: frozenset(make(old) for old in before[row_id]) for _, _, row_id, make in changes}
        mine = [row_id for row_id in before if row_id in self._own]
        for row_id in mine:  # from here on, should this process end
            model.may_be[row_id] = before[row_id] | after[row_id]

        def run() -> None:
            for sql, params, _, _ in changes:
                self._client.run(sql, *params)

        try:
            around(run)
        except Failed:
            model.may_be.update({row_id: before[row_id] for row_id in mine})
            raise
        model.may_be.update({row_id: after[row_id] for row_id in mine})
        self._note(f"wrote {sorted((i, str(v)) for i, v in after.items())}")

    def _read(self) -> None:
        row_id = self._rng.choice(self._own)
        rows = [Row.read(found) for found in self._client.run(f"SELECT {COLUMNS} FROM t WHERE id = ?", row_id)]
        value = rows[0].a if rows else None
        assert value in self._model.values(row_id), f"row {row_id} is {value}: {self._model.values(row_id)}"
        self._model.may_be[row_id] = frozenset({value})

    def _find(self) -> None:
        """Looks an own row up by other columns, by an index if there is one."""
        model = self._model
        sure = [i for i in self._own if len(model.values(i)) == 1 and None not in model.values(i)]
        if not sure:
            return
        row_id = self._rng.choice(sure)
        (a,) = model.values(row_id)
        assert a is not None
        row = Row(row_id, a)
        if self._rng.random() < 0.5:
            found = self._client.run(f"SELECT {COLUMNS} FROM t WHERE a = ?", a)
        else:
            found = self._client.run(f"SELECT {COLUMNS} FROM t WHERE c = ? AND b = ?", row.values[3], row.values[2])
        assert [Row.read(one) for one in found] == [row], f"{row} is not found by its columns: {found}"

    def _compare(self) -> None:
        """Reads all rows of one snapshot, and some of them by an index if there is one."""
        client = self._client
        client.run("BEGIN OPTIMISTIC")
        if self._rng.random() < 0.3:
            self._crew.sleep(self._rng.expovariate(1 / LONG_PAUSE_S))
        rows = sorted(client.run(f"SELECT {COLUMNS} FROM t"))
        group = self._rng.randrange(GROUPS)
        found = sorted(client.run(f"SELECT {COLUMNS} FROM t WHERE b = ?", group))
        for row in rows:
            Row.read(row)
        wanted = [row for row in rows if row[2] == group]
        assert found == wanted, f"by b = {group}: {found}, of all rows: {wanted}"
        client.run("COMMIT")

    def _mark(self) -> None:
        """Adds a row to the table that is truncated and renamed."""
        model = self._model
        model.drawn += 1
        mark, span = model.drawn, Span(self._crew.monotonic())
        model.inserted[mark] = span
        name = self._rng.choice(("u", "u2"))
        try:
            if self._client.database.catalog.schema.need_database("test").table(name) is None:
                raise Failed("it has the other name")
            try:
                self._client.run(f"INSERT INTO {name} (mark) VALUES (?)", mark)
            except AssertionError as exc:
                if str(NO_TABLE) in str(exc):
                    raise Failed("renamed meanwhile") from exc
                raise
        except (Failed, Error):
            del model.inserted[mark]
            return
        span.until = self._crew.monotonic()


class Changer:
    """Changes the schema, all the time."""

    def __init__(self, crew: Crew, database: Database, model: Model, rng: random.Random, number: int) -> None:
        self._crew = crew
        self._model = model
        self._rng = rng
        self._number = number
        self._client = SqlClient(crew, database, EXPECTED_OF_DDL)

    def work(self) -> None:
        model = self._model
        while not model.is_over:
            try:
                sql = self._statement()
            except (Error, KvError):
                continue
            span = Span(self._crew.monotonic())
            if sql.startswith("TRUNCATE"):
                model.truncated.append(span)
            try:
                self._client.run(sql)
                span.until = self._crew.monotonic()
                model.count("ddl")
                outcome = "done"
            except Failed as exc:
                # A change of several versions may have begun; a truncation is one.
                outcome = f"failed: {str(exc)[:80]}"
                model.count("ddl failed")
                if span in model.truncated:
                    model.truncated.remove(span)
            except Lost as exc:
                outcome = f"lost: {str(exc)[:80]}"
                model.count("ddl lost")
            model.note(f"{self._crew.monotonic():.6f} ddl{self._number} {sql}: {outcome}")
            self._crew.sleep(self._rng.expovariate(1 / DDL_PAUSE_S))
            if self._rng.random() < COLLECTS:
                self._collect()

    def _collect(self) -> None:
        """Lets go of versions that only transactions and statements read which last far longer than usual."""
        storage = self._client.database.storage
        try:
            safe_point = storage.now_ts() - (KEPT_MS << LOGICAL_BITS)
            storage.gc(safe_point)
            self._model.count("gc")
        except (KvError, RpcError) as exc:
            self._model.note(f"{self._crew.monotonic():.6f} ddl{self._number} gc: {type(exc).__name__}")
            self._model.count("gc failed")

    def _statement(self) -> str:
        self._crew.sleep(0.01)
        rng = self._rng
        test = self._client.database.catalog.schema.need_database("test")
        t = test.table("t")
        assert t is not None
        there = {index.name for index in t.indexes}
        columns = {column.name: column for column in t.columns}

        def toggle(name: str, what: str) -> str:
            return f"ALTER TABLE t DROP INDEX {name}" if name in there else f"ALTER TABLE t ADD {what}"

        if "x" not in columns:
            x = "ALTER TABLE t ADD COLUMN x INT NOT NULL DEFAULT 7" + rng.choice(("", ", ADD INDEX ix (x)"))
        else:
            x = "ALTER TABLE t DROP COLUMN x"
        u = "u" if test.table("u") is not None else "u2"
        return rng.choice(
            (
                toggle("ib", "INDEX ib (b)"),
                toggle("ib", "INDEX ib (b)"),
                toggle("ic", "INDEX ic (c, b)"),
                toggle("ua", "UNIQUE ua (a)"),
                toggle("ua", "UNIQUE ua (a)"),
                x,
                f"ALTER TABLE t MODIFY d {rng.choice(('INT', 'BIGINT'))}",
                f"TRUNCATE TABLE {u}",
                f"RENAME TABLE {u} TO {'u2' if u == 'u' else 'u'}",
            )
        )
