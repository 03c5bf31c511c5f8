"""The index entries of a row: one function per table that makes all of them, compiled from its schema.

The source is made of numbers from the schema alone; encoders and prefixes reach it as bound names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coprocessor.codec import keys
from coprocessor.codec.datum import INT_FLAG, NIL, SIGN, U64_MASK, key_encoder
from coprocessor.codec.keys import Handle
from coprocessor.codec.restored import RestoredData, count_spaces, restored_data
from coprocessor.codec.row import compile_encoder, define
from coprocessor.schema import IndexSchema, TableSchema

IndexEntry = tuple[IndexSchema, bytes, bytes, bool]
EntriesFn = Callable[[Sequence[Any], Handle], list[IndexEntry]]
RestoredFn = Callable[[Sequence[Any] | Mapping[int, Any]], bytes]


def compile_entries(schema: TableSchema) -> EntriesFn:
    """Returns the function (values, handle) -> (index, key, value, distinct) of every index of the table.

    A distinct key must not be there yet; any other has the handle at its end.
    """
    names: dict[str, Any] = {"index_value": keys.index_value, "add_restored": keys.add_restored, "NIL": NIL}
    lines = ["def entries(values, handle):"]
    if schema.handle_offset < 0 and schema.common_handle:
        lines.append("    suffix = handle")
        names["IN_KEY"] = keys.index_value(b"", distinct=False)
    else:
        names["pack"] = struct.Struct(">BQ").pack
        names["IN_KEY"] = keys.INDEX_VALUE_IN_KEY
        lines.append(f"    suffix = pack({INT_FLAG}, handle + {SIGN} & {U64_MASK})")
    made: list[str] = []
    for i, index in enumerate(schema.indexes):
        names[f"index{i}"] = index
        names[f"prefix{i}"] = keys.index_prefix(schema.table_id, index.id)
        parts = []
        for j, column in enumerate(index.columns):
            part = f"p{i}_{j}"
            names[f"enc{i}_{j}"] = key_encoder(schema.columns[column.offset].type, column.prefix)
            lines.append(f"    {part} = enc{i}_{j}(values[{column.offset}])")
            parts.append(part)
        key = " + ".join([f"prefix{i}", *parts])
        value, in_value = "IN_KEY", "index_value(handle, distinct=True)"
        restored = restored_data(schema, index)
        if restored is not None:
            names[f"restore{i}"] = restored_row(restored)
            lines.append(f"    restored{i} = restore{i}(values)")
            value, in_value = (f"add_restored({plain}, restored{i})" for plain in (value, in_value))
        in_key = f"(index{i}, {key} + suffix, {value}, False)"
        if index.unique:
            null = " or ".join(f"{part} == NIL" for part in parts)
            made.append(f"{in_key} if {null} else (index{i}, {key}, {in_value}, True)")
        else:
            made.append(in_key)
    lines.append(f"    return [{', '.join(made)}]")
    function: EntriesFn = define("entries", lines, names)
    return function


def restored_row(restored: RestoredData) -> RestoredFn:
    """Compiles the function from a table's row to the row of its restored data."""
    names: dict[str, Any] = {"encode": compile_encoder(restored.rows), "count": count_spaces}
    shown = []
    for part in restored.parts:
        value = f"values[{part.offset}]"
        if part.prefix >= 0:
            value = f"(None if {value} is None else {value}[:{part.prefix}])"
        shown.append(f"count({value})" if part.counted else value)
    lines = ["def restore(values):", f"    return encode(({', '.join(shown)},))"]
    function: RestoredFn = define("restore", lines, names)
    return function
