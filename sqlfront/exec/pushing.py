"""Push-down requests of one statement: their settings, where they are answered, and what came of them.

A request is a `Dag` over key ranges. Its rows come from the regions, as many answers; from the transaction's own writes
(own_writes.py), by the same plan run here; or, where servers do not compute what the plan holds, all from here over the
rows that the statement's reader gives. Whoever asks sees batches and need not know which of these it was.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast
from zoneinfo import ZoneInfo

from coprocessor.dag.answer import Answer, read_answer, select_columns
from coprocessor.dag.codec import encode_dag
from coprocessor.dag.plan import Aggregation, Dag, EncodeType, Limit, Scan, Step, TopN
from coprocessor.dag.run import Execution
from coprocessor.dag.scan import Source
from coprocessor.env import Env
from coprocessor.errors import Unsupported
from coprocessor.expr import Const, Context, Expr, Param, transform
from coprocessor.table import KeyRange
from kvstore.client.api import CancelToken, PushAnswer, PushDown, PushRequest, Reader, ReadFrom, Transaction
from sqlfront.exec.own_writes import OwnWrites, Writes, without_keys

if TYPE_CHECKING:
    import pyarrow as pa

    from coprocessor.duck import DuckEngine
    from sqlfront.variables import Variables

_T = TypeVar("_T")

OWN_WRITES_MAX = 4096
"""Beyond so many written keys in the ranges of a request, all of it is answered here: each key cuts a range in two."""

# What a SELECT asks servers to make of bad values, as TiDB does: tipb's DAGRequest.flags.
_TRUNCATE_AS_WARNING, _IN_SELECT, _IGNORE_ZERO_IN_DATE, _DIVISION_BY_ZERO_AS_WARNING = 1 << 1, 1 << 5, 1 << 7, 1 << 8
SELECT_FLAGS = _TRUNCATE_AS_WARNING | _IN_SELECT | _IGNORE_ZERO_IN_DATE | _DIVISION_BY_ZERO_AS_WARNING

# MySQL's bits of the modes that can be set (sql_class.h).
_SQL_MODE_BITS = {
    "ANSI_QUOTES": 2,
    "IGNORE_SPACE": 3,
    "ONLY_FULL_GROUP_BY": 5,
    "NO_DIR_IN_CREATE": 7,
    "NO_AUTO_VALUE_ON_ZERO": 19,
    "STRICT_TRANS_TABLES": 21,
    "STRICT_ALL_TABLES": 22,
    "NO_ZERO_IN_DATE": 23,
    "NO_ZERO_DATE": 24,
    "ERROR_FOR_DIVISION_BY_ZERO": 26,
    "NO_AUTO_CREATE_USER": 28,
    "NO_ENGINE_SUBSTITUTION": 30,
}


def sql_mode_bits(modes: frozenset[str]) -> int:
    """Returns `DAGRequest.sql_mode`."""
    return sum(1 << _SQL_MODE_BITS[mode] for mode in modes)


def wire_zone(tz: dt.tzinfo | None) -> tuple[str, int]:
    """Returns a zone as requests have it: a name, or no name and an offset in seconds."""
    if isinstance(tz, ZoneInfo):
        return tz.key, 0
    offset = None if tz is None else tz.utcoffset(None)
    return ("", int(offset.total_seconds())) if offset else ("UTC", 0)


@dataclass(slots=True)
class Asked:
    """What the regions answered to one executor chain; `rows[i]` is what the i-th executor gave, leaf first.

    Of the `tasks`, `columnar` are answers of columnar replicas, which do not count their executors' rows.
    """

    tasks: int = 0
    columnar: int = 0
    wire_bytes: int = 0
    cache_hits: int = 0
    seconds: float = 0.0
    seconds_max: float = 0.0
    rows: list[int] = field(default_factory=list)

    def note(self, answer: PushAnswer, decoded: Answer | None = None) -> None:
        self.tasks += 1
        self.columnar += answer.columnar
        self.wire_bytes += answer.wire_bytes
        self.cache_hits += answer.wire_bytes == 0
        self.seconds += answer.seconds
        self.seconds_max = max(self.seconds_max, answer.seconds)
        if decoded is not None:
            self.add_rows([summary.rows for summary in decoded.summaries])

    def add_rows(self, counts: Sequence[int]) -> None:
        """Adds what each executor gave."""
        self.rows += [0] * (len(counts) - len(self.rows))
        for i, count in enumerate(counts):
            self.rows[i] += count


@dataclass(frozen=True, slots=True)
class PushStats:
    """What came of a pushed scan: of the requests for its rows, and of those for the entries of its index before."""

    rows: Asked = field(default_factory=Asked)
    entries: Asked = field(default_factory=Asked)


@dataclass(frozen=True, slots=True)
class Order:
    """How a request's rows come: in the order of the keys or as regions are ready, and how many are wanted at a time.

    `page_rows` 0 is for whoever reads to the end.
    """

    keep: bool = False
    page_rows: int = 0


ANY_ORDER = Order()


class Pushing:
    """One statement's requests."""

    def __init__(
        self,
        push_down: PushDown,
        engine: DuckEngine,
        variables: Variables,
        env: Env,
        *,
        txn: Transaction | None = None,
        cancel: CancelToken | None = None,
        read: ReadFrom = ReadFrom.LEADER,
        measuring: bool = False,
    ) -> None:
        self._push_down = push_down
        self.engine = engine
        self.env = env
        self._txn = txn
        self._cancel = cancel
        self._read = read
        self.measuring = measuring
        self.few_rows = push_down.few_rows
        self._concurrency = int(variables.get("tidb_distsql_scan_concurrency"))
        lookup = int(variables.get("tidb_index_lookup_concurrency"))
        self.lookup_concurrency = lookup if lookup > 0 else int(variables.get("tidb_executor_concurrency"))
        self.lookup_rows = int(variables.get("tidb_index_lookup_size"))
        self.page_rows = int(variables.get("tidb_min_paging_size")) if variables.get("tidb_enable_paging") else 0
        self._sql_mode = sql_mode_bits(variables.sql_modes)
        self._div_precision = variables.div_precision_increment
        self.stats: dict[int, PushStats] = {}
        self._open: list[Generator[Any, None, None]] = []

    def stats_of(self, node: object) -> PushStats:
        """What came of a plan's pushed node, by its identity."""
        return self.stats.setdefault(id(node), PushStats())

    def opened(self, rows: Generator[_T, None, None]) -> Generator[_T, None, None]:
        """Notes rows that are read as they come, so that `close` stops what is under way for them."""
        self._open.append(rows)
        return rows

    def close(self) -> None:
        """Stops what nobody reads any more; harmless where all has been read."""
        for rows in self._open:
            rows.close()

    # Plans

    def dag(self, scan: Scan, steps: Sequence[Step], tz: dt.tzinfo | None, output: Sequence[int] | None = None) -> Dag:
        """The request of a scan and its steps; `output` are the columns that are wanted, None for all."""
        name, offset = wire_zone(tz)
        dag = Dag(
            scan,
            tuple(steps),
            time_zone=name,
            zone_offset=offset,
            flags=SELECT_FLAGS,
            sql_mode=self._sql_mode,
            div_precision_increment=self._div_precision,
            summaries=self.measuring,
        )
        wanted = range(len(dag.types)) if output is None else output
        encode = EncodeType.ARROW if self._push_down.arrow else EncodeType.CHUNK
        return replace(dag, output_offsets=tuple(wanted), encode=encode)

    def bound(self, expr: Expr) -> Expr:
        """The expression with this execution's parameters and session values as literals."""

        def literal(part: Expr) -> Expr:
            match part:
                case Param():
                    return Const(self.env.params[part.index], part.type)
                case Context():
                    return Const(self.env.value(part.key), part.type)
                case _:
                    return part

        return transform(expr, literal)

    # Answers

    def has_own_writes(self, ranges: Sequence[KeyRange]) -> bool:
        return self._txn is not None and any(self._txn.has_dirty(start, end) for start, end in ranges)

    def parts(
        self, dag: Dag, ranges: Sequence[KeyRange], reader: Reader, asked: Asked, columnar: Dag | None = None
    ) -> Parts:
        """Divides a request between the store and this process; `columnar` is the same one for columnar replicas, which
        are asked first."""
        ascending = sorted(ranges)
        try:
            data = encode_dag(dag).SerializeToString()
            of_replicas = b"" if columnar is None else encode_dag(columnar).SerializeToString()
        except Unsupported:  # a value that has no form on the wire
            return Parts(self, dag, b"", (), (ascending, reader), reader.ts, asked)
        writes = self._own_writes(ascending)
        if not writes:
            return Parts(self, dag, data, ascending, None, reader.ts, asked, of_replicas)
        if len(writes) > OWN_WRITES_MAX:
            return Parts(self, dag, data, (), (ascending, reader), reader.ts, asked)
        own = (ascending, OwnWrites(writes, reader.ts))
        return Parts(self, dag, data, without_keys(ascending, writes), own, reader.ts, asked, of_replicas)

    def _own_writes(self, ranges: Sequence[KeyRange]) -> Writes:
        txn = self._txn
        if txn is None or not ranges or not txn.has_dirty(ranges[0][0], ranges[-1][1]):
            return ()
        return [write for start, end in ranges for write in txn.dirty(start, end)]

    def answers(
        self, data: bytes, ranges: Sequence[KeyRange], ts: int, *, desc: bool, order: Order, columnar: bytes
    ) -> Answers:
        """Asks the regions; close it to stop them."""
        request = PushRequest(
            data, ranges, ts, order.keep, desc, order.page_rows, self._concurrency, self._read, columnar
        )
        return cast(Answers, self._push_down.run(request, self._cancel))

    # What it takes

    def hold(self, size: int) -> None:
        """Notes that so many bytes more are kept in memory. Raises OverQuota."""
        self.env.quota.hold(size)


Answers = Generator[PushAnswer, None, None]
Batches = Generator["pa.RecordBatch", None, None]


class Parts:
    """A request, divided: `ranges` are the store's, `here` are ranges that a reader in this process answers."""

    def __init__(
        self,
        pushing: Pushing,
        dag: Dag,
        data: bytes,
        ranges: Sequence[KeyRange],
        here: tuple[Sequence[KeyRange], Reader] | None,
        ts: int,
        asked: Asked,
        columnar: bytes = b"",
    ) -> None:
        self._pushing = pushing
        self._dag = dag
        self._data = data
        self._ranges = ranges
        self._here = here
        self._ts = ts
        self._asked = asked
        self._columnar = columnar

    def batches(self, order: Order = ANY_ORDER) -> Batches:
        """Yields the rows of all parts. With an order to keep there must be no two parts."""
        assert not (order.keep and self._here is not None and self._ranges)
        yield from self.own_batches()
        yield from self.remote_batches(order)

    def own_batches(self) -> Batches:
        """Yields what this process answers."""
        if self._here is None:
            return
        dag, env = self._dag, self._pushing.env
        ranges, reader = self._here

        def source() -> Source:
            return Source(dag.scan, ranges, reader, dag.tz, lambda: None)

        here = Env(tz=dag.tz, warn=env.warn)
        execution = Execution(dag, source, self._pushing.engine, here)
        for batch in execution.batches():
            yield select_columns(batch, dag.output_offsets)
        if self._pushing.measuring:
            self._asked.add_rows(execution.produced)

    def remote_batches(self, order: Order = ANY_ORDER) -> Batches:
        """Yields what the regions answer, as it comes; nobody is asked before the first batch is."""
        if not self._ranges:
            return
        dag, warn = self._dag, self._pushing.env.warn
        types, tz = dag.output_types, dag.tz
        asked = self._pushing.answers(
            self._data, self._ranges, self._ts, desc=dag.scan.desc, order=order, columnar=self._columnar
        )
        with closing(asked) as answers:
            for answer in answers:
                decoded = read_answer(answer.data, types, tz)
                self._asked.note(answer, decoded)
                for code, message in decoded.warnings:
                    warn(code, message)
                yield from decoded.batches


def stops_early(steps: Sequence[Step]) -> bool:
    """Whether a region need not read all of its rows for an answer: then it is asked by pages."""
    return any(isinstance(s, Limit) for s in steps) and not any(isinstance(s, Aggregation | TopN) for s in steps)
