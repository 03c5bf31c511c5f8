"""Generated plans over one wide table: typed expressions that may go over the wire, and executors made of them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import strategies as st

from coprocessor import types as t
from coprocessor.dag.plan import (
    Aggregation,
    Dag,
    EncodeType,
    Limit,
    Projection,
    ScanColumn,
    Selection,
    TableScan,
    TopN,
    types_after,
)
from coprocessor.expr import Agg, Call, Column, Const, Expr, OrderKey
from coprocessor.functions import resolve, resolve_agg
from coprocessor.types import FieldType, Tp

UTF8 = {"charset": "utf8mb4", "collate": "utf8mb4_bin"}
COLUMNS: tuple[tuple[str, FieldType], ...] = (
    ("id", t.BIGINT),
    ("n", t.INT),
    ("u", FieldType(Tp.LONGLONG, 20, 0, unsigned=True)),
    ("d", t.decimal_type(12, 2)),
    ("e", t.decimal_type(20, 4)),
    ("f", t.DOUBLE),
    ("s", t.varchar(20)),
    ("c", FieldType(Tp.STRING, 10, charset="utf8mb4", collate="utf8mb4_bin")),
    ("b", FieldType(Tp.VARCHAR, 20, charset="binary", collate="binary")),
    ("day", t.DATE),
    ("at", t.DATETIME6),
    ("stamp", FieldType(Tp.TIMESTAMP, 19, 0)),
    ("span", FieldType(Tp.DURATION, 17, 6)),
    ("y", FieldType(Tp.YEAR, 4)),
    ("color", FieldType(Tp.ENUM, elems=("red", "green", "blue"), **UTF8)),
    ("doc", t.JSON),
)
TYPES = tuple(type_ for _, type_ in COLUMNS)
TABLE_ID = 77


def table_scan(offsets: tuple[int, ...] | None = None, *, desc: bool = False) -> TableScan:
    """A scan of the table's columns at `offsets`."""
    chosen = range(len(COLUMNS)) if offsets is None else offsets
    columns = tuple(ScanColumn(i + 1, TYPES[i], not_null=i == 0, is_handle=i == 0) for i in chosen)
    return TableScan(TABLE_ID, columns, desc)


TEXT_VALUES = st.sampled_from(["", "a", "A", "ab", "a ", "b", "é", "zz  ", "%", "ab_c"])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-20, 20),
    "real": st.sampled_from([0.0, -1.5, 2.25, 1e6, -3.0]),
    "decimal": st.decimals(-500, 500, places=2),
    "string": TEXT_VALUES,
    "time": st.datetimes(dt.datetime(2019, 12, 30), dt.datetime(2020, 1, 3)).map(lambda d: d.replace(microsecond=0)),
    "duration": st.timedeltas(dt.timedelta(hours=-30), dt.timedelta(hours=30)),
}


def value_of(type_: FieldType) -> st.SearchStrategy[Any]:
    """Values of a column's type, small ones that meet."""
    match type_.tp:
        case Tp.LONGLONG if type_.unsigned:
            return st.sampled_from([0, 1, 5, 2**63, 2**64 - 1])
        case Tp.YEAR:
            return st.integers(2018, 2021)
        case Tp.NEWDECIMAL:
            return st.decimals(-500, 500, places=type_.decimal)
        case Tp.VARCHAR if type_.is_binary:
            return TEXT_VALUES.map(str.encode)
        case Tp.STRING:
            return TEXT_VALUES.map(str.rstrip)
        case Tp.DATE:
            return VALUES["time"].map(dt.datetime.date)
        case Tp.ENUM:
            return st.sampled_from(type_.elems)
        case Tp.JSON:
            return st.sampled_from(["1", '"x"', "[1, 2]", '{"a": null}', "true"])
    from coprocessor.functions import kind

    return VALUES[kind(type_)]


def literal(kind: str) -> st.SearchStrategy[Const]:
    types = {
        "int": t.BIGINT, "real": t.DOUBLE, "decimal": t.decimal_type(10, 2), "string": t.TEXT, "time": t.DATETIME,
        "duration": FieldType(Tp.DURATION, 17, 6),
    }  # fmt: skip
    return VALUES[kind].map(lambda v: Const(v, types[kind]))


def columns_of(types: tuple[FieldType, ...], kind: str) -> list[Column]:
    """The columns of a kind that servers may compare and compute with."""
    from coprocessor.functions import kind as kind_of

    barred = (Tp.ENUM, Tp.SET, Tp.BIT, Tp.JSON)
    return [
        Column(i, ft) for i, ft in enumerate(types) if kind_of(ft) == kind and ft.tp not in barred and not ft.is_binary
    ]


@st.composite
def typed(draw: st.DrawFn, types: tuple[FieldType, ...], kind: str, depth: int = 2) -> Expr:
    """An expression of a kind."""
    columns = columns_of(types, kind)
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(columns)) if columns and draw(st.booleans()) else draw(literal(kind))
    if kind in ("int", "decimal") and draw(st.booleans()):
        name = draw(st.sampled_from(["plus", "minus", "mul"]))
        signed = [c for c in columns if not c.type.unsigned]
        side = st.sampled_from(signed) if signed else literal(kind)
        return resolve(name, (draw(side | literal(kind)), draw(literal(kind))))
    if kind == "int":
        return draw(conditions(types, depth - 1))
    shape = draw(st.sampled_from(["if", "coalesce", "case"]))
    a, b = draw(typed(types, kind, depth - 1)), draw(typed(types, kind, depth - 1))
    if shape == "coalesce":
        return resolve("coalesce", (a, b))
    test = draw(conditions(types, depth - 1))
    return resolve("if", (test, a, b)) if shape == "if" else resolve("case", (test, a, b))


@st.composite
def conditions(draw: st.DrawFn, types: tuple[FieldType, ...], depth: int = 2) -> Expr:
    """A condition: a comparison, a test, or a few of them."""
    if depth > 0 and draw(st.integers(0, 2)) == 0:
        name = draw(st.sampled_from(["and", "or", "not"]))
        parts = [draw(conditions(types, depth - 1)) for _ in range(1 if name == "not" else 2)]
        return resolve(name, parts)
    kind = draw(st.sampled_from([k for k in VALUES if columns_of(types, k)] or ["int"]))
    columns = columns_of(types, kind)
    left = draw(st.sampled_from(columns)) if columns else draw(literal(kind))
    shape = draw(st.sampled_from(["compare", "in", "isnull", "between", "like" if kind == "string" else "compare"]))
    if shape == "isnull":
        return resolve("isnull", (left,))
    if shape == "in":
        return resolve("in", (left, *(draw(literal(kind)) for _ in range(3))))
    if shape == "between":
        return resolve("between", (left, draw(literal(kind)), draw(literal(kind))))
    if shape == "like":
        return resolve("like", (left, Const(draw(st.sampled_from(["a%", "%b", "_", "%", "a\\%"])), t.TEXT)))
    name = draw(st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne", "nulleq"]))
    return resolve(name, (left, draw(typed(types, kind, max(depth - 1, 0)))))


@st.composite
def aggregates(draw: st.DrawFn, types: tuple[FieldType, ...]) -> Agg:
    name = draw(st.sampled_from(["count", "count", "sum", "avg", "min", "max"]))
    if name == "count" and draw(st.booleans()):
        return resolve_agg("count", ())
    kinds = ["int", "decimal"] if name in ("sum", "avg") else ["int", "decimal", "time", "string", "duration"]
    kind = draw(st.sampled_from(kinds))
    return resolve_agg(name, (draw(typed(types, kind, 1)),))


@st.composite
def steps(draw: st.DrawFn, types: tuple[FieldType, ...]) -> tuple[Any, ...]:
    """What may stand over a scan, as TiDB sends it: a selection, then one of the others, perhaps a limit."""
    out: list[Any] = []
    if draw(st.booleans()):
        out.append(Selection(tuple(draw(st.lists(conditions(types), min_size=1, max_size=2)))))
    shape = draw(st.sampled_from(["none", "agg", "topn", "limit", "project"]))
    if shape == "project":
        kinds = st.sampled_from(["int", "decimal", "string", "time", "duration"])
        out.append(Projection(tuple(draw(typed(types, draw(kinds), 1)) for _ in range(3))))
    elif shape == "agg":
        groups = draw(st.lists(st.sampled_from(columns_of(types, "int") + columns_of(types, "string")), max_size=2))
        aggs = draw(st.lists(aggregates(types), min_size=1, max_size=3))
        out.append(Aggregation(tuple(dict.fromkeys(groups)), tuple(aggs)))
    elif shape == "topn":
        keys = draw(st.lists(st.sampled_from(columns_of(types, "int") + columns_of(types, "time")), min_size=1))
        ordered = tuple(OrderKey(k, draw(st.booleans())) for k in dict.fromkeys(keys[:2]))
        out.append(TopN((*ordered, OrderKey(Column(0, types[0]))), draw(st.integers(0, 8))))
    elif shape == "limit":
        out.append(Limit(draw(st.integers(0, 8))))
    return tuple(out)


@st.composite
def dags(draw: st.DrawFn, encode: EncodeType | None = None) -> Dag:
    """A whole request over the table, all of its columns scanned."""
    scan = table_scan(desc=draw(st.booleans()))
    chain = draw(steps(TYPES))
    types: tuple[FieldType, ...] = TYPES
    for step in chain:
        types = types_after(step, types)
    offsets = tuple(range(len(types)))
    zone = draw(st.sampled_from(["", "UTC", "Europe/Berlin"]))
    return Dag(scan, chain, offsets, encode or draw(st.sampled_from(EncodeType)), zone)


def binary_form(expr: Expr) -> Expr:
    """The expression as it comes back from the wire: BETWEEN as two comparisons."""
    from coprocessor.expr import transform

    def form(e: Expr) -> Expr:
        if isinstance(e, Call) and e.func == "between":
            x, low, high = e.args
            return Call("and", (Call("ge", (x, low), t.BOOL), Call("le", (x, high), t.BOOL)), t.BOOL)
        return e

    return transform(expr, form)
