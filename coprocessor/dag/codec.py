"""Requests on the wire: tipb.DAGRequest to a plan and back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import lru_cache

from google.protobuf.message import DecodeError

from coprocessor.dag.expressions import Decoder, encode_agg, encode_expr
from coprocessor.dag.field_types import scan_column, text_of, wire_column
from coprocessor.dag.plan import (
    Aggregation,
    Dag,
    EncodeType,
    IndexScan,
    Limit,
    Projection,
    Scan,
    ScanColumn,
    Selection,
    Step,
    TableScan,
    TopN,
    sum_of,
    types_after,
    zone,
)
from coprocessor.errors import BadRequest, Unsupported
from coprocessor.expr import Agg, OrderKey
from coprocessor.functions import resolve_agg
from coprocessor.types import FieldType
from kvstore.proto import tipb_pb2

EXECUTORS_MAX = 32
COLUMNS_MAX = 4096
LIMIT_MAX = 1 << 62
KNOWN_REQUESTS_MAX = 256
KNOWN_BYTES_MAX = 16 << 10
"""Requests of up to so many bytes are kept decoded."""
_ENCODINGS = {int(encode): encode for encode in EncodeType}


def encode_dag(dag: Dag) -> tipb_pb2.DAGRequest:
    """Encodes a plan. Raises Unsupported where it holds what servers do not compute as we do."""
    tz = dag.tz
    executors = [_wire_scan(dag.scan), *(_wire_step(step, tz) for step in dag.steps)]
    for executor, name in zip(executors, dag.executor_ids, strict=False):
        executor.executor_id = name
    return tipb_pb2.DAGRequest(
        executors=executors,
        output_offsets=dag.output_offsets,
        encode_type=tipb_pb2.EncodeType.Name(dag.encode),
        time_zone_name=dag.time_zone,
        time_zone_offset=dag.zone_offset,
        flags=dag.flags,
        sql_mode=dag.sql_mode,
        div_precision_increment=dag.div_precision_increment,
        collect_execution_summaries=dag.summaries,
        chunk_memory_layout=tipb_pb2.ChunkMemoryLayout(endian=tipb_pb2.LittleEndian),
    )


def _wire_scan(scan: Scan) -> tipb_pb2.Executor:
    columns = [wire_column(column) for column in scan.columns]
    if isinstance(scan, TableScan):
        table = tipb_pb2.TableScan(
            table_id=scan.table_id,
            columns=columns,
            desc=scan.desc,
            primary_column_ids=scan.primary_columns,
            primary_prefix_column_ids=scan.primary_prefixes,
        )
        return tipb_pb2.Executor(tp=tipb_pb2.TypeTableScan, tbl_scan=table)
    index = tipb_pb2.IndexScan(
        table_id=scan.table_id,
        index_id=scan.index_id,
        columns=columns,
        desc=scan.desc,
        unique=scan.unique,
        primary_column_ids=scan.primary_columns,
    )
    return tipb_pb2.Executor(tp=tipb_pb2.TypeIndexScan, idx_scan=index)


def _wire_step(step: Step, tz: dt.tzinfo) -> tipb_pb2.Executor:
    match step:
        case Selection():
            conditions = [encode_expr(e, tz) for e in step.conditions]
            return tipb_pb2.Executor(tp=tipb_pb2.TypeSelection, selection=tipb_pb2.Selection(conditions=conditions))
        case Projection():
            exprs = [encode_expr(e, tz) for e in step.exprs]
            return tipb_pb2.Executor(tp=tipb_pb2.TypeProjection, Projection=tipb_pb2.Projection(exprs=exprs))
        case Aggregation():
            return _wire_aggregation(step, tz)
        case TopN():
            keys = [tipb_pb2.ByItem(expr=encode_expr(k.expr, tz), desc=k.desc) for k in step.keys]
            return tipb_pb2.Executor(tp=tipb_pb2.TypeTopN, topN=tipb_pb2.TopN(order_by=keys, limit=step.limit))
        case Limit():
            return tipb_pb2.Executor(tp=tipb_pb2.TypeLimit, limit=tipb_pb2.Limit(limit=step.limit))


def _parts(agg: Agg) -> tuple[Agg, ...]:
    """An average is asked for as TiDB does, by the two it is made of; they are the columns that it would give."""
    return (resolve_agg("count", agg.args), sum_of(agg)) if agg.func == "avg" else (agg,)


def _wire_aggregation(step: Aggregation, tz: dt.tzinfo) -> tipb_pb2.Executor:
    if not step.partial:
        raise Unsupported("complete aggregates on the wire")
    aggregation = tipb_pb2.Aggregation(
        group_by=[encode_expr(e, tz) for e in step.groups],
        agg_func=[encode_agg(part, tz) for agg in step.aggs for part in _parts(agg)],
        streamed=step.streamed,
    )
    tp = tipb_pb2.TypeStreamAgg if step.streamed else tipb_pb2.TypeAggregation
    return tipb_pb2.Executor(tp=tp, aggregation=aggregation)


def decode_dag(data: bytes) -> Dag:
    """Decodes a request. Raises BadRequest for what makes no sense, Unsupported for what is not known."""
    return _known_dag(data) if len(data) <= KNOWN_BYTES_MAX else _decode(data)


@lru_cache(maxsize=KNOWN_REQUESTS_MAX)
def _known_dag(data: bytes) -> Dag:
    """The same request comes once for every region, and again with every run of a statement."""
    return _decode(data)


def _decode(data: bytes) -> Dag:
    wire = tipb_pb2.DAGRequest()
    try:
        wire.ParseFromString(data)
    except DecodeError as error:
        raise BadRequest(f"not a DAGRequest: {error}") from None
    if wire.HasField("root_executor") and not wire.executors:
        raise Unsupported("a tree of executors (root_executor)")
    if not 0 < len(wire.executors) <= EXECUTORS_MAX:
        raise BadRequest(f"{len(wire.executors)} executors, from 1 to {EXECUTORS_MAX} are taken")
    time_zone = text_of(wire.time_zone_name)
    tz = zone(time_zone, wire.time_zone_offset)
    scan = _scan(wire.executors[0])
    types = tuple(column.type for column in scan.columns)
    steps: list[Step] = []
    for executor in wire.executors[1:]:
        step = _step(executor, types, tz)
        types = types_after(step, types)
        steps.append(step)
    for offset in wire.output_offsets:
        if offset >= len(types):
            raise BadRequest(f"output column {offset} of {len(types)}")
    return Dag(
        scan=scan,
        steps=tuple(steps),
        output_offsets=tuple(wire.output_offsets),
        encode=_ENCODINGS.get(wire.encode_type, EncodeType.DEFAULT),
        time_zone=time_zone,
        zone_offset=wire.time_zone_offset,
        flags=wire.flags,
        sql_mode=wire.sql_mode,
        div_precision_increment=wire.div_precision_increment or 4,
        summaries=wire.collect_execution_summaries,
        executor_ids=tuple(text_of(e.executor_id) for e in wire.executors) if wire.executors[0].executor_id else (),
    )


def _has(executor: tipb_pb2.Executor, name: str) -> None:
    if not executor.HasField(name):
        raise BadRequest(f"an executor of type {tipb_pb2.ExecType.Name(executor.tp)} without its `{name}`")


def _scan(executor: tipb_pb2.Executor) -> Scan:
    if executor.tp == tipb_pb2.TypeTableScan and executor.HasField("tp"):
        _has(executor, "tbl_scan")
        table = executor.tbl_scan
        primary, prefixes = tuple(table.primary_column_ids), tuple(table.primary_prefix_column_ids)
        columns = _columns(table.columns)
        # TiDB's ADMIN CHECK TABLE asks for the handle twice when the index has it too
        if len({column.id for column in columns}) != len(set(columns)) or len(set(primary)) != len(primary):
            raise BadRequest("a table scan with one column in two forms")
        return TableScan(table.table_id, columns, table.desc, primary, prefixes)
    if executor.tp == tipb_pb2.TypeIndexScan:
        _has(executor, "idx_scan")
        index = executor.idx_scan
        columns, primary = _columns(index.columns), tuple(index.primary_column_ids)
        return IndexScan(index.table_id, index.index_id, columns, index.desc, index.unique, primary)
    what = tipb_pb2.ExecType.Name(executor.tp) if executor.HasField("tp") else "of no known type"
    raise BadRequest(f"the first executor is {what}, not a scan")


def _columns(wire: Sequence[tipb_pb2.ColumnInfo]) -> tuple[ScanColumn, ...]:
    if len(wire) > COLUMNS_MAX:
        raise BadRequest(f"{len(wire)} columns of a scan, at most {COLUMNS_MAX} are taken")
    return tuple(scan_column(column) for column in wire)


def _step(executor: tipb_pb2.Executor, types: tuple[FieldType, ...], tz: dt.tzinfo) -> Step:
    decoder = Decoder(types, tz)
    tp = executor.tp if executor.HasField("tp") else None
    if tp == tipb_pb2.TypeSelection:
        _has(executor, "selection")
        return Selection(tuple(decoder.expr(e) for e in executor.selection.conditions))
    if tp == tipb_pb2.TypeProjection:
        _has(executor, "Projection")
        return Projection(tuple(decoder.expr(e) for e in executor.Projection.exprs))
    if tp in (tipb_pb2.TypeAggregation, tipb_pb2.TypeStreamAgg):
        _has(executor, "aggregation")
        wire = executor.aggregation
        groups = tuple(decoder.expr(e) for e in wire.group_by)
        return Aggregation(groups, tuple(decoder.agg(e) for e in wire.agg_func), tp == tipb_pb2.TypeStreamAgg)
    if tp == tipb_pb2.TypeTopN:
        _has(executor, "topN")
        keys = tuple(OrderKey(decoder.expr(item.expr), item.desc) for item in executor.topN.order_by)
        return TopN(keys, min(executor.topN.limit, LIMIT_MAX))
    if tp == tipb_pb2.TypeLimit:
        _has(executor, "limit")
        return Limit(min(executor.limit.limit, LIMIT_MAX))
    what = "of no known type" if tp is None else tipb_pb2.ExecType.Name(tp)
    raise Unsupported(f"the executor {what}")
