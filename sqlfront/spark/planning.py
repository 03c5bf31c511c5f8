"""A read in the driver: the table as it was at one timestamp, and its parts as plain data.

    options ► timestamp, its versions kept ► the table's record at it ► one encoded request ► a part a region group

Everything happens at the timestamp, the schema too. Versions are kept by a service safe point at the placement driver
that ends by itself: it is renewed by whoever reads a part (`reading.py`), as nobody tells when a job is over.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from coprocessor.dag.build import scan_table
from coprocessor.dag.codec import encode_dag
from coprocessor.dag.expressions import at_offsets
from coprocessor.dag.plan import Dag, EncodeType, Selection
from coprocessor.errors import CoprocessorError
from coprocessor.expr import Column as ColumnRef
from coprocessor.expr import columns as columns_of
from coprocessor.table import KeyRange
from kvstore.client.cluster.push import RegionPart
from kvstore.errors import KvError
from kvstore.rpc.api import RpcError
from sqlfront.catalog.meta import MetaReader
from sqlfront.catalog.model import Schema, make_database, make_table
from sqlfront.cluster import ClusterTarget, check_stores
from sqlfront.errors import Error, InterfaceError, error, near_match, unsupported
from sqlfront.exec.pushing import SELECT_FLAGS
from sqlfront.spark.filters import HANDLE_MAX, HANDLE_MIN, Condition, Pushed, handle_bounds, push
from sqlfront.translate import translate

if TYPE_CHECKING:
    from kvstore.client.cluster.storage import ClusterStorage
    from sqlfront.catalog.model import Column, Table

Connect = Callable[[ClusterTarget], AbstractContextManager["ClusterStorage"]]


@contextmanager
def connected(target: ClusterTarget) -> Iterator[ClusterStorage]:
    """A client of a cluster for a while; what goes wrong with it is an error of ours."""
    from kvstore.client.cluster.storage import ClusterStorage

    with translated():
        storage = ClusterStorage.connect(target.addresses, target.transport)
        try:
            check_stores(storage)
            yield storage
        finally:
            storage.close()


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the store and of requests as those that users see."""
    try:
        yield
    except Error:
        raise
    except (KvError, CoprocessorError, RpcError) as exc:
        raise translate(exc) from exc


@dataclass(frozen=True, slots=True)
class Read:
    """One read of a table: `ts` for all of it; `service` keeps its versions for `hold_s` seconds at a time."""

    target: ClusterTarget
    ts: int
    service: str
    hold_s: int
    table: Table


@dataclass(frozen=True, slots=True)
class Part:
    """What an executor reads, in plain data: `dag` is a tipb DAGRequest whose columns are called `names`."""

    addresses: list[str]
    tls: dict[str, str] = field(repr=False)
    ranges: list[KeyRange]
    dag: bytes
    names: list[str]
    ts: int
    service: str
    hold_s: int

    def plain(self) -> dict[str, Any]:
        """The part as a dictionary, which `Part(**plain)` makes it from."""
        return asdict(self)

    @property
    def target(self) -> ClusterTarget:
        return ClusterTarget(tuple(self.addresses), **self.tls)


def begin_read(storage: ClusterStorage, target: ClusterTarget, db: str, table: str, ts: int, hold_s: int) -> Read:
    """Keeps the versions at `ts`, 0 for a fresh timestamp, and finds the table as it was then.

    Raises 9006 when the versions are gone, 8055 for a timestamp to come, 1049, 1146, 1412 and 8200 for the table.
    """
    now = storage.now_ts()
    if ts > now:
        raise error(8055, f"cannot set read timestamp to a future time: {ts} is beyond {now}")
    ts = ts or now
    service = f"sqlfront-spark-{ts}-{uuid.uuid4().hex[:8]}"
    storage.keep_versions(service, ts, hold_s)
    return Read(target, ts, service, hold_s, table_at(storage, db, table, ts))


def table_at(storage: ClusterStorage, db: str, name: str, ts: int) -> Table:
    """Reads a table's record as it was at `ts`. Raises 1049, 1146, 1412, 8200."""
    meta = MetaReader(storage.snapshot(ts))
    infos = {info.name.lower(): info for info in meta.databases()}
    databases = {key: make_database(info, ()) for key, info in infos.items()}
    if (info := infos.get(db.lower())) is not None:
        databases[db.lower()] = make_database(info, [make_table(t, info) for t in meta.tables(info.id)])
    return Schema(meta.schema_version(), MappingProxyType(databases)).at(ts).need_table(db, name)


def chosen_columns(table: Table, names: Sequence[str]) -> list[Column]:
    """The table's columns of these names, all for none. Raises 1054, and 1235 for what no store has as it is."""
    if table.parts:
        raise unsupported(f"a partitioned table ('{table.name}') in Spark")
    found = _named_columns(table, names)
    virtual = next((column for column in found if not column.stored), None)
    if virtual is not None:
        raise unsupported(f"the virtual generated column '{virtual.name}' in Spark")
    return found


def _named_columns(table: Table, names: Sequence[str]) -> list[Column]:
    if not names:
        return list(table.visible)
    found = []
    for name in names:
        column = table.column(name)
        if column is None:
            hint = near_match(name, [c.name for c in table.visible])
            raise error(1054, f"Unknown column '{name}' in '{table.db}.{table.name}'{hint}")
        found.append(column)
    if len({column.id for column in found}) < len(found):
        raise InterfaceError(f"a column is asked for twice: {', '.join(names)}")
    return found


def push_conditions(table: Table, conditions: Sequence[Condition]) -> list[Pushed | None]:
    """Returns what stores evaluate for each condition."""
    refs: Mapping[str, ColumnRef] = {c.name.casefold(): ColumnRef(c.offset, c.type, c.name) for c in table.visible}
    return [push(condition, refs) for condition in conditions]


def plan_parts(
    storage: ClusterStorage, read: Read, names: Sequence[str], conditions: Sequence[Condition], wanted: int
) -> list[Part]:
    """Cuts a read into parts: as many as there are regions, or `wanted` if these are fewer and it is not 0.

    `names` are columns of the table, in the order that the rows have. Rows that do not satisfy the conditions are left
    out as far as stores can tell; where no row can, there is no part.
    """
    key_range = record_range(read.table, conditions)
    if key_range is None:
        return []
    pushed = [one for one in push_conditions(read.table, conditions) if one is not None]
    push_down = storage.push_down
    assert push_down is not None
    dag = request_for(read.table, names, pushed, arrow=push_down.arrow)
    data = encode_dag(dag).SerializeToString()
    regions = storage.by_region([key_range])
    target = read.target
    tls = {"ca": target.ca, "cert": target.cert, "key_file": target.key_file}
    return [
        Part(list(target.addresses), tls, ranges, data, list(names), read.ts, read.service, read.hold_s)
        for ranges in group_regions(regions, wanted)
    ]


def record_range(table: Table, conditions: Sequence[Condition]) -> KeyRange | None:
    """The keys of the records that can satisfy conditions over a signed integer primary key, None for no keys."""
    start, end = table.codec.record_range
    if table.handle_offset < 0 or (column := table.columns[table.handle_offset]).type.unsigned:
        return start, end
    low, high = HANDLE_MIN, HANDLE_MAX
    for condition in conditions:
        least, most = handle_bounds(condition, column.name)
        low, high = max(low, least), min(high, most)
    if low > high:
        return None
    if low > HANDLE_MIN:
        start = table.codec.record_key(low)
    if high < HANDLE_MAX:
        end = table.codec.record_key(high + 1)
    return start, end


def request_for(table: Table, names: Sequence[str], pushed: Sequence[Pushed], *, arrow: bool) -> Dag:
    """The request for columns of the rows that satisfy conditions. Raises 1054."""
    shown = [column.offset for column in chosen_columns(table, names)]
    conditions = [one.expr for one in pushed]
    offsets = list(dict.fromkeys([*shown, *sorted(set().union(*map(columns_of, conditions)))]))
    layout = {offset: place for place, offset in enumerate(offsets)}
    steps = (Selection(tuple(at_offsets(c, layout) for c in conditions)),) if conditions else ()
    return Dag(
        scan_table(table.codec.schema, offsets),
        steps,
        output_offsets=tuple(layout[offset] for offset in shown),
        encode=EncodeType.ARROW if arrow else EncodeType.CHUNK,
        time_zone="UTC",
        flags=SELECT_FLAGS,
    )


def group_regions(regions: Sequence[RegionPart], wanted: int) -> list[list[KeyRange]]:
    """Groups of key ranges, ascending within each: regions of one store together where it can be, as many in each."""
    count = min(wanted, len(regions)) if wanted else len(regions)
    by_store = sorted(regions, key=lambda part: (part.store_id, part.ranges[0][0]))
    bounds = [len(by_store) * i // count for i in range(count + 1)] if count else [0]
    groups = [by_store[low:high] for low, high in pairwise(bounds)]
    return [_joined(sorted(one for part in group for one in part.ranges)) for group in groups]


def _joined(ranges: Sequence[KeyRange]) -> list[KeyRange]:
    """The ranges with those that meet made one."""
    out: list[KeyRange] = []
    for start, end in ranges:
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out
