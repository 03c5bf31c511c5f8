"""Index entries back to values: decoders compiled for one index, as those of rows are for one table.

The usual entry has its leading numbers at places known in advance and its handle in the form this code writes. Source
with those places is generated; an entry of another form (a NULL among the leading numbers, TiDB's other values) is
decoded datum by datum, with the same result.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Sequence
from typing import Any

from coprocessor.codec import keys
from coprocessor.codec.datum import INT_FLAG, SIGN, decode_key_datum, skip_key_datum, value_of_number, wire_kind
from coprocessor.codec.keys import Handle
from coprocessor.codec.row import NUMBER_DATUM_LEN, NUMBER_FLAGS, define, handle_splitter, local_time
from coprocessor.errors import CodecError
from coprocessor.schema import IndexSchema, TableSchema
from coprocessor.types import FieldType, Tp
from kvstore.codec import decode_float

IndexDecoder = Callable[[bytes, bytes], tuple[Any, ...]]
RecordKeyOf = Callable[[bytes, bytes], bytes]

HANDLE = -1
"""Stands for the handle itself among offsets."""

_U64 = struct.Struct(">Q")
_I64 = struct.Struct(">q")
_IN_KEY = keys.INDEX_VALUE_IN_KEY
_COMMON_IN_KEY = keys.index_value(b"", distinct=False)
_COMMON_HEADS = (_COMMON_IN_KEY, _COMMON_IN_KEY + bytes((keys.RESTORED_DATA_FLAG,)))
"""How the values of entries begin that have a common handle in their keys."""


def handle_of_entry(index: IndexSchema, key: bytes, value: bytes, *, common: bool) -> Handle:
    """Returns the handle that an index entry points to."""
    handle = keys.handle_from_index_value(value)
    return keys.handle_from_index_key(key, len(index.columns), common=common) if handle is None else handle


def compile_record_key(schema: TableSchema, index: IndexSchema) -> RecordKeyOf:
    """Compiles the function from an index entry to the record key that it points to."""
    prefix = keys.record_prefix(schema.table_id)
    common = schema.handle_offset < 0 and bool(schema.common_handle)

    def any_form(key: bytes, value: bytes) -> bytes:
        return prefix + keys.encode_handle(handle_of_entry(index, key, value, common=common))

    if common:
        return any_form

    def record_key(key: bytes, value: bytes) -> bytes:
        # The handle's datum in the key has the same eight bytes as a record key.
        if (value == _IN_KEY or _has_no_handle(value)) and key[-NUMBER_DATUM_LEN] == INT_FLAG:
            return prefix + key[-8:]
        return any_form(key, value)

    return record_key


def _has_no_handle(value: bytes) -> bool:
    """Whether a value of an int-handle table with restored data has no handle."""
    return len(value) > keys.OLD_INDEX_VALUE_LEN_MAX and value[0] < keys.HANDLE_TAIL_LEN


def compile_index_decoder(
    schema: TableSchema, index: IndexSchema, offsets: Sequence[int], tz: dt.tzinfo | None = None
) -> IndexDecoder:
    """Compiles (index key, index value) -> values of the columns at `offsets`, which the entry must tell exactly.

    HANDLE among the offsets is the handle, unsigned where its column is. TIMESTAMPs come in zone `tz`, None for UTC.
    """
    return _IndexCompiler(schema, index, offsets, tz).function()


def _place(i: int) -> int:
    """Where the datum `i` begins in an index key when those before are numbers."""
    return keys.INDEX_PREFIX_LEN + i * NUMBER_DATUM_LEN


class _IndexCompiler:
    def __init__(self, schema: TableSchema, index: IndexSchema, offsets: Sequence[int], tz: dt.tzinfo | None) -> None:
        self.schema, self.index, self.tz = schema, index, tz
        self.common = schema.handle_offset < 0 and bool(schema.common_handle)
        self.types = [schema.columns[column.offset].type for column in index.columns]
        self._handle_types = [schema.columns[column.offset].type for column in schema.common_handle]
        self.picks = [self._pick(offset) for offset in offsets]
        self.names: dict[str, Any] = {"unpack_u64": _U64.unpack_from, "unpack_i64": _I64.unpack, "IN_KEY": _IN_KEY}
        self.names |= {"COMMON_HEADS": _COMMON_HEADS, "has_no_handle": _has_no_handle}

    def _pick(self, offset: int) -> tuple[str, int]:
        """Where a column's value is: a datum of the index, the handle, or a datum of the common handle."""
        for i, column in enumerate(self.index.columns):
            if column.offset == offset and column.prefix < 0:
                return "index", i
        if offset in (HANDLE, self.schema.handle_offset):
            return "handle", 0
        for i, column in enumerate(self.schema.common_handle):
            if column.offset == offset:
                return "part", i
        raise CodecError(f"index '{self.index.name}' does not hold column {offset}")

    def function(self) -> IndexDecoder:
        slow = self._slow()
        sources = {source for source, _ in self.picks}
        in_common = self.common and bool(sources & {"handle", "part"})
        # A common handle in the key follows all of the index's datums.
        read = len(self.types) if in_common else max([i + 1 for s, i in self.picks if s == "index"], default=0)
        part_types = self._handle_types[: max([i + 1 for s, i in self.picks if s == "part"], default=0)]
        if not all(wire_kind(type_) in NUMBER_FLAGS for type_ in (*self.types[:read], *part_types)):
            return slow
        self.names["slow"] = slow
        checks = [f"key[{_place(i)}] != {NUMBER_FLAGS[wire_kind(type_)]}" for i, type_ in enumerate(self.types[:read])]
        if in_common:
            checks.append(f"value[:{len(_COMMON_HEADS[1])}] not in COMMON_HEADS")
        lines = ["def decode(key, value):"]
        if checks:
            lines += [f"    if {' or '.join(checks)}:", "        return slow(key, value)"]
        if "handle" in sources:
            lines += [f"    handle = key[{_place(read)}:]"] if in_common else self._handle_lines()
        values = [self._expression(source, i, read) for source, i in self.picks]
        lines.append("    return (" + "".join(f"{value}, " for value in values) + ")")
        function: IndexDecoder = define("decode", lines, self.names)
        return function

    def _expression(self, source: str, i: int, datums: int) -> str:
        if source == "handle":
            return "handle"
        if source == "index":
            return self._number(self.types[i], _place(i) + 1)
        return self._number(self._handle_types[i], _place(datums + i) + 1)

    def _number(self, type_: FieldType, at: int) -> str:
        """The number whose eight bytes lie at `at` in the key."""
        kind = wire_kind(type_)
        if kind == "float":
            self.names["decode_float"] = decode_float
            return f"decode_float(key, {at})[0]"
        number = f"unpack_u64(key, {at})[0]" + (f" - {SIGN}" if kind in ("int", "duration") else "")
        if kind in ("int", "uint") and type_.tp not in (Tp.ENUM, Tp.SET):
            return number
        self.names[f"value{at}"] = value_of_number(type_, self.tz)
        return f"value{at}({number})"

    def _handle_lines(self) -> list[str]:
        unsigned = " & 0xFFFFFFFFFFFFFFFF" if self.schema.unsigned_handle else ""
        return [
            f"    if (value == IN_KEY or has_no_handle(value)) and key[-9] == {INT_FLAG}:",
            f"        handle = (unpack_u64(key, len(key) - 8)[0] - {SIGN}){unsigned}",
            "    elif len(value) == 8:",
            f"        handle = unpack_i64(value)[0]{unsigned}",
            "    else:",
            "        return slow(key, value)",
        ]

    def _slow(self) -> IndexDecoder:
        """The decoder datum by datum, over any form of entry."""
        parts = sorted({i for source, i in self.picks if source == "part"})
        split = handle_splitter(self.schema, parts)
        needs_handle = any(source != "index" for source, _ in self.picks)
        wanted = {i for source, i in self.picks if source == "index"}
        plan = [(type_, i in wanted) for i, type_ in enumerate(self.types[: max(wanted, default=-1) + 1])]
        index, common, unsigned = self.index, self.common, self.schema.unsigned_handle
        sources = [(s, parts.index(i) if s == "part" else i) for s, i in self.picks]
        local = [self._localiser(source, i) for source, i in self.picks]

        def decode(key: bytes, value: bytes) -> tuple[Any, ...]:
            handle: Any = None
            if needs_handle:
                handle = handle_of_entry(index, key, value, common=common)
                if unsigned and isinstance(handle, int):
                    handle &= (1 << 64) - 1
            of_handle = split(handle) if parts else ()
            pos, of_index = keys.INDEX_PREFIX_LEN, []
            for type_, is_wanted in plan:
                datum, pos = decode_key_datum(type_, key, pos) if is_wanted else (None, skip_key_datum(key, pos))
                of_index.append(datum)
            row = [of_index[i] if s == "index" else handle if s == "handle" else of_handle[i] for s, i in sources]
            return tuple([value if move is None else move(value) for value, move in zip(row, local, strict=True)])

        return decode

    def _localiser(self, source: str, i: int) -> Callable[[Any], Any] | None:
        type_: FieldType | None = None
        if source == "index":
            type_ = self.types[i]
        elif source == "part":
            type_ = self._handle_types[i]
        if type_ is None or type_.tp != Tp.TIMESTAMP or self.tz is None or self.tz is dt.UTC:
            return None
        return local_time(self.tz)
