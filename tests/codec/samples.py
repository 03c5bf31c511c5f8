"""Types, values and tables for the codec tests: every stored type with strategies that reach its extremes."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import strategies as st

from coprocessor.codec.json_binary import dump
from coprocessor.schema import ColumnSchema, IndexColumn, IndexSchema, TableSchema
from coprocessor.types import BIGINT, DATE, DOUBLE, FLOAT, INT, JSON, UBIGINT, FieldType, Tp, decimal_type, varchar
from kvstore.client.api import PackedBatch

ELEMS = ("red", "green", "blue", "dark grey")
UTF8: dict[str, Any] = {"charset": "utf8mb4", "collate": "utf8mb4_bin"}
BINARY: dict[str, Any] = {"charset": "binary", "collate": "binary"}


def char(length: int, collate: str = "utf8mb4_bin") -> FieldType:
    return FieldType(Tp.STRING, length, charset="utf8mb4", collate=collate)


TYPES: dict[str, FieldType] = {
    "tiny": FieldType(Tp.TINY, 4, 0),
    "utiny": FieldType(Tp.TINY, 4, 0, unsigned=True),
    "short": FieldType(Tp.SHORT, 6, 0),
    "int24": FieldType(Tp.INT24, 8, 0),
    "int": INT,
    "uint": FieldType(Tp.LONG, 11, 0, unsigned=True),
    "bigint": BIGINT,
    "ubigint": UBIGINT,
    "year": FieldType(Tp.YEAR, 4),
    "bit": FieldType(Tp.BIT, 64),
    "float": FLOAT,
    "double": DOUBLE,
    "dec1": decimal_type(1, 0),
    "dec15_2": decimal_type(15, 2),
    "dec18_9": decimal_type(18, 9),
    "dec17_17": decimal_type(17, 17),
    "dec38_10": decimal_type(38, 10),
    "dec65_30": decimal_type(65, 30),
    "varchar": varchar(40),
    "varchar_ci": varchar(40).with_(collate="utf8mb4_general_ci"),
    "char": char(20),
    "text": FieldType(Tp.BLOB, 65535, **UTF8),
    "varbinary": FieldType(Tp.VARCHAR, 40, **BINARY),
    "blob": FieldType(Tp.BLOB, 65535, **BINARY),
    "date": DATE,
    "datetime": FieldType(Tp.DATETIME, 19, 0),
    "datetime6": FieldType(Tp.DATETIME, 26, 6),
    "timestamp": FieldType(Tp.TIMESTAMP, 26, 6),
    "time": FieldType(Tp.DURATION, 17, 6),
    "enum": FieldType(Tp.ENUM, elems=ELEMS, **UTF8),
    "set": FieldType(Tp.SET, elems=ELEMS, **UTF8),
    "json": JSON,
}

INT_BITS = {Tp.TINY: 8, Tp.SHORT: 16, Tp.INT24: 24, Tp.LONG: 32, Tp.LONGLONG: 64}
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


def ints(low: int, high: int) -> st.SearchStrategy[int]:
    edges = [v for v in (low, low + 1, -129, -128, -1, 0, 1, 127, 128, 255, 256, 65535, high) if low <= v <= high]
    return st.sampled_from(edges) | st.integers(low, high)


def decimals(prec: int, frac: int) -> st.SearchStrategy[Decimal]:
    limit = 10**prec - 1

    def scaled(unscaled: int) -> Decimal:
        return Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -frac))

    return ints(-limit, limit).map(scaled)


def values_of(type_: FieldType) -> st.SearchStrategy[Any]:
    """Values of a type as the codecs see them, NULL not among them."""
    tp = type_.tp
    if tp in INT_BITS:
        bits = INT_BITS[tp]
        return ints(0, (1 << bits) - 1) if type_.unsigned else ints(-(1 << bits - 1), (1 << bits - 1) - 1)
    if tp == Tp.YEAR:
        return st.just(0) | st.integers(1901, 2155)
    if tp == Tp.BIT:
        return ints(0, (1 << 64) - 1)
    if tp in (Tp.FLOAT, Tp.DOUBLE):
        width = 32 if tp == Tp.FLOAT else 64
        return st.floats(allow_nan=False, allow_infinity=False, width=width).map(lambda v: v + 0.0)
    if tp == Tp.NEWDECIMAL:
        return decimals(type_.flen, type_.decimal)
    if tp == Tp.DATE:
        return st.sampled_from([dt.date.min, dt.date.max, dt.date(2000, 2, 29)]) | st.dates()
    if tp in (Tp.DATETIME, Tp.TIMESTAMP):
        low = dt.datetime(1970, 1, 2) if tp == Tp.TIMESTAMP else dt.datetime.min
        high = dt.datetime(2038, 1, 18) if tp == Tp.TIMESTAMP else dt.datetime.max
        moments = st.datetimes(low, high)
        return moments if type_.decimal == 6 else moments.map(lambda v: v.replace(microsecond=0))
    if tp == Tp.DURATION:
        most = dt.timedelta(hours=838, minutes=59, seconds=59)
        return st.timedeltas(-most, most)
    if tp == Tp.ENUM:
        return st.sampled_from(ELEMS)
    if tp == Tp.SET:
        return st.sets(st.sampled_from(ELEMS)).map(lambda s: ",".join(e for e in ELEMS if e in s))
    if tp == Tp.JSON:
        return JSON_VALUES.map(dump)
    if type_.is_binary:
        return st.binary(max_size=40)
    return TEXTS.map(lambda s: s.rstrip(" ")[:20]) if tp == Tp.STRING else TEXTS | TEXTS.map(lambda s: s[:38] + "  ")


def wide_table(**changes: Any) -> TableSchema:
    """A table with a column of every type, ids apart from offsets and not in their order."""
    columns = tuple(
        ColumnSchema(100 - i, name, type_, default=changes.get(name)) for i, (name, type_) in enumerate(TYPES.items())
    )
    return TableSchema(77, "wide", columns)


def int_table(*, unsigned: bool = False, indexes: tuple[IndexSchema, ...] = ()) -> TableSchema:
    handle = UBIGINT if unsigned else BIGINT
    columns = (ColumnSchema(1, "id", handle, True), ColumnSchema(2, "k", INT), ColumnSchema(3, "s", varchar(40)))
    return TableSchema(5, "t", columns, 0, indexes=indexes)


def common_table(*types: FieldType, indexes: tuple[IndexSchema, ...] = ()) -> TableSchema:
    """A table whose primary key is the first columns, of these types, with one more column."""
    columns = [ColumnSchema(i + 1, f"p{i}", type_, True) for i, type_ in enumerate(types)]
    columns.append(ColumnSchema(len(types) + 1, "v", INT))
    parts = tuple(IndexColumn(i) for i in range(len(types)))
    return TableSchema(6, "c", tuple(columns), -1, parts, indexes)


def pack(pairs: list[tuple[bytes, bytes]], newest_ts: int = 0) -> PackedBatch:
    """Packs key-value pairs as a store's scan does, with bytes between the pieces that belong to nobody."""
    keys, values = bytearray(b"?"), bytearray(b"\xee\xee")
    bounds: list[list[int]] = [[], [], [], []]
    for key, value in pairs:
        bounds[0].append(len(keys))
        keys += key
        bounds[1].append(len(keys))
        bounds[2].append(len(values))
        values += value
        bounds[3].append(len(values))
        values += b"\xee"
    starts = [np.array(b, np.int64) for b in bounds]
    data = [np.frombuffer(bytes(b), np.uint8) for b in (keys, values)]
    return PackedBatch(len(pairs), data[0], starts[0], starts[1], data[1], starts[2], starts[3], newest_ts)
