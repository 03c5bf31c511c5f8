"""SQL types as Spark's: the words of its DDL, and the Arrow type whose values Spark takes for them.

| MySQL | Spark | |
|---|---|---|
| TINYINT, SMALLINT, INT, BIGINT | TINYINT, SMALLINT, INT, BIGINT | UNSIGNED the next wider, of BIGINT DECIMAL(20,0) |
| YEAR | SMALLINT | |
| BIT(n) | BIGINT, BIT(64) DECIMAL(20, 0) | |
| DECIMAL(p, s) | DECIMAL(p, s) | over 38 digits STRING |
| FLOAT, DOUBLE | FLOAT, DOUBLE | |
| CHAR, VARCHAR, TEXT, ENUM, SET, JSON | STRING | |
| BINARY, VARBINARY, BLOB | BINARY | |
| DATE | DATE | a zero date is NULL, here and below |
| DATETIME | TIMESTAMP_NTZ | |
| TIMESTAMP | TIMESTAMP | the instant, whatever the zones |
| TIME | INTERVAL DAY TO SECOND | TIME goes below zero and beyond a day |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from coprocessor.arrow import DECIMAL128_PRECISION_MAX
from coprocessor.codec.datum import decimal_shape
from coprocessor.errors import Unsupported
from coprocessor.types import STRING_TPS, FieldType, Tp

if TYPE_CHECKING:
    from sqlfront.catalog.model import Column

_WIDE = ("DECIMAL(20,0)", pa.decimal128(20, 0))
_INTEGERS: dict[Tp, tuple[tuple[str, pa.DataType], tuple[str, pa.DataType]]] = {
    Tp.TINY: (("TINYINT", pa.int8()), ("SMALLINT", pa.int16())),
    Tp.SHORT: (("SMALLINT", pa.int16()), ("INT", pa.int32())),
    Tp.INT24: (("INT", pa.int32()), ("INT", pa.int32())),
    Tp.LONG: (("INT", pa.int32()), ("BIGINT", pa.int64())),
    Tp.LONGLONG: (("BIGINT", pa.int64()), _WIDE),
}
_OTHERS: dict[Tp, tuple[str, pa.DataType]] = {
    Tp.YEAR: ("SMALLINT", pa.int16()),
    Tp.FLOAT: ("FLOAT", pa.float32()),
    Tp.DOUBLE: ("DOUBLE", pa.float64()),
    Tp.DATE: ("DATE", pa.date32()),
    Tp.DATETIME: ("TIMESTAMP_NTZ", pa.timestamp("us")),
    Tp.TIMESTAMP: ("TIMESTAMP", pa.timestamp("us", tz="UTC")),
    Tp.DURATION: ("INTERVAL DAY TO SECOND", pa.duration("us")),
    Tp.ENUM: ("STRING", pa.string()),
    Tp.SET: ("STRING", pa.string()),
    Tp.JSON: ("STRING", pa.string()),
}
_HAS_ZERO = frozenset({Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP})
"""Types with a zero value, which comes as NULL."""


def spark_type(type_: FieldType) -> tuple[str, pa.DataType]:
    """Returns a type as Spark's DDL has it, and its Arrow type. Raises Unsupported."""
    tp = type_.tp
    if tp in _INTEGERS:
        return _INTEGERS[tp][type_.unsigned]
    if tp == Tp.NEWDECIMAL:
        precision, scale = decimal_shape(type_)
        if precision > DECIMAL128_PRECISION_MAX:
            return "STRING", pa.string()
        return f"DECIMAL({precision},{scale})", pa.decimal128(precision, scale)
    if tp == Tp.BIT:
        return _WIDE if type_.flen >= 64 else ("BIGINT", pa.int64())
    if tp in STRING_TPS:
        return ("BINARY", pa.binary()) if type_.is_binary else ("STRING", pa.string())
    if tp not in _OTHERS:
        raise Unsupported(f"columns of type {tp.name} in Spark")
    return _OTHERS[tp]


def ddl_of(columns: Sequence[Column]) -> str:
    """Returns a table's columns as the DDL of a Spark schema."""
    parts = []
    for column in columns:
        never_null = column.not_null and column.type.tp not in _HAS_ZERO
        quoted = column.name.replace("`", "``")
        parts.append(f"`{quoted}` {spark_type(column.type)[0]}{' NOT NULL' if never_null else ''}")
    return ", ".join(parts)


def to_spark(batch: pa.RecordBatch, names: Sequence[str], types: Sequence[FieldType]) -> pa.RecordBatch:
    """Returns a batch of `arrow_type(inside=True)` columns with Spark's Arrow types."""
    wanted = [spark_type(type_)[1] for type_ in types]
    arrays = [
        column if column.type == arrow else column.cast(arrow)
        for column, arrow in zip(batch.columns, wanted, strict=True)
    ]
    schema = pa.schema(list(zip(names, wanted, strict=True)))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
