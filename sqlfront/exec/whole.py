"""Queries that a columnar store computes whole.

Where every table of a residual query has a columnar replica, and one store has all of it, the store gets the query's
text for DuckDB instead of a request for each table: only the result comes over the wire, and joins run beside the
columns. What is not so, or fails there, goes by the requests of its tables (`push_reader.py`).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from coprocessor.columnar.whole import WholeQuery, WholeRelation, encode_whole
from coprocessor.dag.build import scan_table
from coprocessor.dag.plan import Dag, TableScan
from coprocessor.env import Env
from coprocessor.errors import Unsupported
from kvstore.client.api import PushDown, PushRequest, Reader
from sqlfront.errors import Error
from sqlfront.exec.print_sql import PrintedQuery, print_query
from sqlfront.exec.push_reader import with_all_columns
from sqlfront.exec.pushing import Pushing, wire_zone
from sqlfront.plan.nodes import Node, Scan
from sqlfront.plan.push_down import unpushed

if TYPE_CHECKING:
    import pyarrow as pa

    from sqlfront.session import Session


class WholePlan:
    """A query as one store computes it."""

    def __init__(self, root: Node, printed: PrintedQuery, scans: dict[str, Scan], tz: dt.tzinfo | None) -> None:
        self.root = root
        """The plan, of which nothing is left to be done by tables."""
        self._printed = printed
        self._scans = scans
        name, offset = wire_zone(tz)
        self._parts, self._places = printed.pieces()
        self._relations = {}
        for relation, scan in scans.items():
            schema = scan.table.codec.schema
            own = scan_table(schema, scan.offsets)
            wide = with_all_columns(own, schema)
            assert isinstance(wide, TableScan)
            dag = Dag(wide, (), (), time_zone=name, zone_offset=offset)
            self._relations[relation] = WholeRelation(dag, len(own.columns))
        self._ranges = sorted({scan.table.codec.record_range for scan in scans.values()})

    def ask(self, session: Session, push_down: PushDown, pushing: Pushing, env: Env, reader: Reader) -> pa.Table | None:
        """The result, its columns as DuckDB made them; None where it has to be computed otherwise."""
        if pushing.has_own_writes(self._ranges):
            return None
        query = WholeQuery(self._parts, self._places, self._relations, self._printed.values(env))
        try:
            data = encode_whole(query)
        except Unsupported:
            return None
        answers = push_down.run_whole(PushRequest(b"", self._ranges, reader.ts, columnar=data), session.cancel)
        if answers is None:
            return None
        batches = []
        asked = pushing.stats_of(self.root).rows
        for answer in answers:
            asked.note(answer)
            for batch in _batches_of(answer.data):
                pushing.hold(batch.nbytes)
                batches.append(batch)
        return _table_of(batches)


def compile_whole(root: Node, tz: dt.tzinfo | None) -> WholePlan | None:
    """The query for one store; None where a table has no columnar replica, or DuckDB alone cannot compute it."""
    plain = unpushed(root)
    try:
        printed = print_query(plain)
        scans: dict[str, Scan] = {}
        for name, relation in printed.relations.items():
            if not isinstance(relation, Scan) or not relation.table.columnar or relation.engine == "tikv":
                return None
            scans[name] = relation
        if not any(scan.access is not None and scan.access.columnar for scan in scans.values()):
            return None
        # what the store has of texts is not known here
        padded = frozenset(c.id for scan in scans.values() for c in scan.cols if c.type.is_text)
        printed = print_query(plain, padded=padded)
        return None if printed.udfs else WholePlan(plain, printed, scans, tz)
    except (Unsupported, Error):
        return None


def _batches_of(data: bytes) -> list[pa.RecordBatch]:
    import pyarrow as pa

    from kvstore.proto import tipb_pb2

    response = tipb_pb2.SelectResponse.FromString(data)
    found: list[pa.RecordBatch] = []
    for chunk in response.chunks:
        with pa.ipc.open_stream(chunk.rows_data) as stream:
            found += stream
    return found


def _table_of(batches: list[pa.RecordBatch]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_batches(batches) if batches else pa.table({})
