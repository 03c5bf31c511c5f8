"""The typed plan of one coprocessor request: a scan and what happens to its rows, leaf first.

An expression's `Column.id` is the offset into the rows that the executor below gives; `types_after` tells their types.
The wire form is in codec.py, the execution in run.py.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias, assert_never
from zoneinfo import ZoneInfo

from coprocessor.errors import BadRequest
from coprocessor.expr import Agg, Expr, OrderKey
from coprocessor.functions import resolve_agg
from coprocessor.types import UBIGINT, FieldType

HANDLE_ID = -1
"""The column id of a hidden row id."""


class EncodeType(IntEnum):
    """How rows come in the answer (tipb's EncodeType; ARROW is ours, record batches without their schema)."""

    DEFAULT = 0
    CHUNK = 1
    ARROW = 1000


@dataclass(frozen=True, slots=True)
class ScanColumn:
    """A column that a scan gives; `default` is the value of rows written before it was added (TIMESTAMP in UTC)."""

    id: int
    type: FieldType
    not_null: bool = False
    is_handle: bool = False
    default: object = None


@dataclass(frozen=True, slots=True)
class TableScan:
    """Records of a table. `primary_columns` are the ids of a clustered key's columns, in the key's order, and
    `primary_prefixes` those of them that the key holds a prefix of."""

    table_id: int
    columns: tuple[ScanColumn, ...]
    desc: bool = False
    primary_columns: tuple[int, ...] = ()
    primary_prefixes: tuple[int, ...] = ()

    @property
    def repeats_columns(self) -> bool:
        """Whether a column is asked for twice."""
        return len(set(self.columns)) < len(self.columns)


@dataclass(frozen=True, slots=True)
class IndexScan:
    """Entries of an index: its columns in order, then the handle's (an integer, or all of `primary_columns`)."""

    table_id: int
    index_id: int
    columns: tuple[ScanColumn, ...]
    desc: bool = False
    unique: bool = False
    primary_columns: tuple[int, ...] = ()

    @property
    def handle_columns(self) -> int:
        """How many of the columns, the last ones, are the handle's."""
        if self.columns and self.columns[-1].is_handle:
            return 1
        count = len(self.primary_columns)
        last = tuple(column.id for column in self.columns[len(self.columns) - count :])
        return count if last == self.primary_columns else 0


@dataclass(frozen=True, slots=True)
class Selection:
    conditions: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Projection:
    exprs: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Gives the aggregates' columns in order, then the grouped ones.

    A `partial` AVG is two columns, count and sum, and a COUNT is unsigned: what is merged above. Not `partial` gives
    each aggregate's own result, which no request on the wire can ask for. `streamed` tells that the input comes in
    the groups' order, and that the output has to.
    """

    groups: tuple[Expr, ...]
    aggs: tuple[Agg, ...]
    streamed: bool = False
    partial: bool = True


@dataclass(frozen=True, slots=True)
class TopN:
    keys: tuple[OrderKey, ...]
    limit: int


@dataclass(frozen=True, slots=True)
class Limit:
    limit: int


Scan: TypeAlias = TableScan | IndexScan
Step: TypeAlias = Selection | Projection | Aggregation | TopN | Limit


@dataclass(frozen=True, slots=True)
class Dag:
    """One request: `scan`, then `steps`; the columns at `output_offsets` of the last one are the answer.

    `flags` and `sql_mode` are tipb's bits; the zone is `time_zone` by name if there is one, else `zone_offset` seconds.
    """

    scan: Scan
    steps: tuple[Step, ...] = ()
    output_offsets: tuple[int, ...] = ()
    encode: EncodeType = EncodeType.ARROW
    time_zone: str = ""
    zone_offset: int = 0
    flags: int = 0
    sql_mode: int = 0
    div_precision_increment: int = 4
    summaries: bool = False
    executor_ids: tuple[str, ...] = ()

    @property
    def tz(self) -> dt.tzinfo:
        """The zone that TIMESTAMPs are seen in. Raises BadRequest for an unknown name."""
        return zone(self.time_zone, self.zone_offset)

    @property
    def output_types(self) -> tuple[FieldType, ...]:
        types = self.types
        return tuple(types[offset] for offset in self.output_offsets)

    @property
    def types(self) -> tuple[FieldType, ...]:
        """The types of the last executor's columns."""
        return self.types_at(len(self.steps))

    def types_at(self, count: int) -> tuple[FieldType, ...]:
        """The types of the columns that the first `count` steps make of the scan's."""
        types = tuple(column.type for column in self.scan.columns)
        for step in self.steps[:count]:
            types = types_after(step, types)
        return types


def zone(name: str, offset: int) -> dt.tzinfo:
    """Returns the zone of a name, or of an offset in seconds where there is no name."""
    if name and name.upper() != "UTC":
        try:
            return ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            raise BadRequest(f"unknown time zone {name!r}") from None
    if name or not offset:
        return dt.UTC
    if abs(offset) >= 86_400:
        raise BadRequest(f"a time zone offset of {offset} seconds")
    return dt.timezone(dt.timedelta(seconds=offset))


def types_after(step: Step, types: tuple[FieldType, ...]) -> tuple[FieldType, ...]:
    """Returns the types of the columns that `step` makes of columns of `types`."""
    match step:
        case Selection() | TopN() | Limit():
            return types
        case Projection():
            return tuple(expr.type for expr in step.exprs)
        case Aggregation():
            columns = [ft for agg in step.aggs for ft in (partial_types(agg) if step.partial else (agg.type,))]
            return (*columns, *(expr.type for expr in step.groups))
    assert_never(step)


def partial_types(agg: Agg) -> tuple[FieldType, ...]:
    """Returns the types of the columns of a partial aggregate."""
    if agg.func == "count":
        return (UBIGINT,)
    if agg.func == "avg":
        return UBIGINT, sum_of(agg).type
    return (agg.type,)


def sum_of(agg: Agg) -> Agg:
    """Returns the sum that a partial average holds."""
    return resolve_agg("sum", agg.args)
