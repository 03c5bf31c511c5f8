"""Row version 2: encoder and decoder, interpreted from a schema or compiled for it (`pkg/util/rowcodec`).

80 | flags (1 big, 2 checksum) | u16 n_notnull | u16 n_null | ids not null | ids null | end offsets | values

Everything is little-endian, ids are sorted; ids take one byte and offsets two, or four each when an id is above 255 or
the values are longer than 65535 bytes. A row begins with a *header*, the bytes up to the end offsets: rows of one table
have few distinct headers, so the decoder is Python source generated once per header, with every offset known. The
source is made of numbers from the schema alone; values and types reach it as bound names. A row of version 1 is
brought to this form first (row_v1.py).

Which columns a row leaves out follows TiDB's `CanSkip`: the integer handle; a column of the common handle whose key
datum restores it; a NULL in a column without default; a virtual generated column.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import repeat
from operator import itemgetter, methodcaller
from typing import Any, TypeVar

from coprocessor.codec.collation import needs_restored_data
from coprocessor.codec.datum import (
    DURATION_FLAG,
    FLOAT_FLAG,
    INT_FLAG,
    U64_MASK,
    UINT_FLAG,
    compact_int,
    compact_uint,
    decimal_shape,
    decode_key_datum,
    skip_key_datum,
    value_decoder,
    value_encoder,
    value_of_number,
    wire_kind,
)
from coprocessor.codec.decimals import CONTEXT, bin_size, decode_decimal, word_layout
from coprocessor.codec.keys import RECORD_PREFIX_LEN
from coprocessor.codec.temporal import DATES, from_utc
from coprocessor.errors import CodecError
from coprocessor.schema import ColumnSchema, TableSchema
from coprocessor.types import FieldType, Tp
from kvstore.codec import decode_float

VERSION = 0x80
FLAG_BIG = 1
FLAG_CHECKSUM = 2
FIXED_HEADER = 6
SMALL_ID_MAX = 255
SMALL_VALUES_MAX = 65535
COMPILED_HEADERS_MAX = 1024

NUMBER_FLAGS = {
    "int": INT_FLAG,
    "uint": UINT_FLAG,
    "time": UINT_FLAG,
    "duration": DURATION_FLAG,
    "float": FLOAT_FLAG,
}
"""Kinds whose datum in a key has nine bytes, and the flag, its first."""
NUMBER_DATUM_LEN = 9

_VERSION_2 = bytes((VERSION,))
_COUNTS = struct.Struct("<HH")
_SIGN = 1 << 63

RowEncoderFn = Callable[[Sequence[Any]], bytes]
RowPatcherFn = Callable[[bytes, Sequence[Any]], bytes]
CellPatcherFn = Callable[[bytes, Mapping[int, Any]], bytes | None]
Other = TypeVar("Other")
RowDecoderFn = Callable[[Any, bytes], tuple[Any, ...]]
RowsDecoderFn = Callable[[Iterable[bytes], Iterable[bytes] | None], list[tuple[Any, ...]]]


# Layout


@dataclass(frozen=True, slots=True)
class RowLayout:
    """The header of a row, parsed: ids not null and null, where the values start and the width of an offset."""

    not_null: tuple[int, ...]
    null: tuple[int, ...]
    header_len: int
    big: bool

    @property
    def values_start(self) -> int:
        return self.header_len + len(self.not_null) * (4 if self.big else 2)


def header_length(row: bytes) -> int:
    """Returns the length of the header: the bytes that rows of equal shape share."""
    if row[0] != VERSION:
        raise CodecError(f"row version {row[0]:#x}, expected {VERSION:#x}")
    not_null, null = _COUNTS.unpack_from(row, 2)
    return int(FIXED_HEADER + (not_null + null) * (4 if row[1] & FLAG_BIG else 1))


def parse_header(row: bytes) -> RowLayout:
    """Parses the header of a row (or a header alone)."""
    length = header_length(row)
    if len(row) < length:
        raise CodecError(f"row cut short: {len(row)} bytes with a header of {length}")
    count, _ = _COUNTS.unpack_from(row, 2)
    big = bool(row[1] & FLAG_BIG)
    ids = row[FIXED_HEADER:length]
    all_ids = struct.unpack(f"<{len(ids) // 4}I", ids) if big else tuple(ids)
    return RowLayout(tuple(all_ids[:count]), tuple(all_ids[count:]), length, big)


def row_slices(row: bytes) -> dict[int, bytes | None]:
    """Returns the bytes of each stored value by column id, None for NULL: the plain reading of a row."""
    layout = parse_header(row)
    count = len(layout.not_null)
    ends = struct.unpack_from(f"<{count}{'I' if layout.big else 'H'}", row, layout.header_len)
    start, base = 0, layout.values_start
    slices: dict[int, bytes | None] = dict.fromkeys(layout.null)
    for column_id, end in zip(layout.not_null, ends, strict=True):
        if end < start or base + end > len(row):
            raise CodecError(f"row cut short: column {column_id} ends at {base + end} of {len(row)}")
        slices[column_id] = row[base + start : base + end]
        start = end
    return slices


def build_row(not_null: Sequence[tuple[int, bytes]], null: Sequence[int]) -> bytes:
    """Builds a row from (id, value bytes) and the ids of NULLs, both ascending."""
    ids = [column_id for column_id, _ in not_null]
    ends, total = [], 0
    for _, data in not_null:
        total += len(data)
        ends.append(total)
    big = total > SMALL_VALUES_MAX or max((*ids, *null), default=0) > SMALL_ID_MAX
    head = make_header(ids, null, big=big)
    offsets = struct.pack(f"<{len(ends)}{'I' if big else 'H'}", *ends)
    return b"".join((head, offsets, *(data for _, data in not_null)))


def make_header(not_null: Sequence[int], null: Sequence[int], *, big: bool) -> bytes:
    """Returns the header of rows with these ids (ascending)."""
    ids = (*not_null, *null)
    body = struct.pack(f"<{len(ids)}I", *ids) if big else bytes(ids)
    return bytes((VERSION, FLAG_BIG if big else 0)) + _COUNTS.pack(len(not_null), len(null)) + body


# Which columns a row stores


def key_only_offsets(schema: TableSchema) -> frozenset[int]:
    """Offsets of the columns that live in the record key alone."""
    if schema.handle_offset >= 0:
        return frozenset((schema.handle_offset,))
    return frozenset(
        part.offset
        for part in schema.common_handle
        if part.prefix < 0 and not needs_restored_data(schema.columns[part.offset].type)
    )


def stored_offsets(schema: TableSchema) -> tuple[int, ...]:
    """Offsets of the columns that rows store, in the order of their ids."""
    skipped = key_only_offsets(schema)
    offsets = [i for i, column in enumerate(schema.columns) if column.stored and i not in skipped]
    return tuple(sorted(offsets, key=lambda i: schema.columns[i].id))


# Encoder


def encode_row(schema: TableSchema, values: Sequence[Any]) -> bytes:
    """Encodes the row of `values` (one per column of the table): the plain form of `compile_encoder`."""
    not_null: list[tuple[int, bytes]] = []
    null: list[int] = []
    for offset in stored_offsets(schema):
        column, value = schema.columns[offset], values[offset]
        if value is not None:
            not_null.append((column.id, value_encoder(column.type)(value)))
        elif column.default is not None:
            null.append(column.id)
    return build_row(not_null, null)


def compile_encoder(schema: TableSchema) -> RowEncoderFn:
    """Compiles the encoder of the table's rows: one value per column in, row bytes out. TIMESTAMPs are naive UTC."""
    stored = stored_offsets(schema)
    columns = schema.columns
    plan = tuple((offset, columns[offset].id, value_encoder(columns[offset].type)) for offset in stored)
    nullable = frozenset(offset for offset in stored if columns[offset].default is not None)

    def slow(values: Sequence[Any]) -> bytes:
        not_null = [(i, encode(values[at])) for at, i, encode in plan if values[at] is not None]
        return build_row(not_null, [i for at, i, _ in plan if values[at] is None and at in nullable])

    if not stored or any(columns[offset].id > SMALL_ID_MAX for offset in stored):
        return slow
    names: dict[str, Any] = {"slow": slow, "join": b"".join, "compact_int": compact_int, "compact_uint": compact_uint}
    names["HEAD"] = make_header([columns[offset].id for offset in stored], [], big=False)
    names["pack"] = struct.Struct(f"<{len(stored)}H").pack
    lines = ["def encode(values):"]
    lines.append("    " + "".join(f"c{i}, " for i in range(len(columns))) + "= values")
    lines.append("    if " + " or ".join(f"c{at} is None" for at in stored) + ":")
    lines.append("        return slow(values)")
    end = ""
    for at, _, encode in plan:
        names[f"enc{at}"] = encode
        lines.append(f"    p{at} = {_encode_expression(columns[at].type, at)}")
        lines.append(f"    e{at} = {end}len(p{at})")
        end = f"e{at} + "
    lines.append(f"    if e{stored[-1]} > {SMALL_VALUES_MAX}:")
    lines.append("        return slow(values)")
    ends = ", ".join(f"e{at}" for at in stored)
    parts = ", ".join(f"p{at}" for at in stored)
    lines.append(f"    return join((HEAD, pack({ends}), {parts}))")
    function: RowEncoderFn = define("encode", lines, names)
    return function


def compile_patcher(
    schema: TableSchema, changed: frozenset[int], encode: Callable[[Any], Other]
) -> Callable[[bytes, Any], bytes | Other]:
    """Compiles the encoder of rows of which the columns at `changed` alone may have changed: (the row as it was, values
    by offset) in, row bytes out. What stayed is copied, not encoded; rows of another shape are given to `encode`, which
    alone asks for the values of other columns.
    """
    stored, columns = stored_offsets(schema), schema.columns
    slots = [slot for slot, at in enumerate(stored) if at in changed]
    if not slots or any(columns[at].id > SMALL_ID_MAX for at in stored):
        return lambda row, values: encode(values)
    head = make_header([columns[at].id for at in stored], [], big=False)
    names: dict[str, Any] = {"HEAD": head, "encode": encode, "join": b"".join}
    names |= {"compact_int": compact_int, "compact_uint": compact_uint}
    ends_of = struct.Struct(f"<{len(stored)}H")
    names["unpack"], names["pack"] = ends_of.unpack_from, ends_of.pack
    base = len(head) + ends_of.size
    lines = ["def patch(row, values):", "    if not row.startswith(HEAD):", "        return encode(values)"]
    for at in (stored[slot] for slot in slots):
        names[f"enc{at}"] = value_encoder(columns[at].type)
        lines += [f"    c{at} = values[{at}]", f"    if c{at} is None:", "        return encode(values)"]
        lines.append(f"    p{at} = {_encode_expression(columns[at].type, at)}")
    lines.append("    " + "".join(f"e{slot}, " for slot in range(len(stored))) + f"= unpack(row, {len(head)})")
    ends, pieces, start, moved = [], [], f"{base}", ""
    for slot, at in enumerate(stored):
        before = f"{base} + e{slot - 1}" if slot else f"{base}"
        if slot in slots:
            pieces += [f"row[{start}:{before}]", f"p{at}"]
            start = f"{base} + e{slot}"
            lines.append(f"    d{at} = {moved}len(p{at}) - e{slot}" + (f" + e{slot - 1}" if slot else ""))
            moved = f"d{at} + "
        ends.append(f"{moved}e{slot}")
    pieces.append(f"row[{start}:{base} + e{len(stored) - 1}]")
    lines += [f"    if {ends[-1]} > {SMALL_VALUES_MAX}:", "        return encode(values)"]
    lines.append(f"    return join((HEAD, pack({', '.join(ends)}), {', '.join(pieces)}))")
    function: Callable[[bytes, Any], bytes | Other] = define("patch", lines, names)
    return function


def _encode_expression(type_: FieldType, at: int) -> str:
    kind = wire_kind(type_)
    if kind == "text":
        return f"c{at}.encode()"
    return f"enc{at}(c{at})"


# Decoder


@dataclass(frozen=True, slots=True)
class _Body:
    """Source that decodes one row: statements, then the tuple of its values as an expression."""

    names: dict[str, Any]
    """What the source refers to."""
    ends: str
    """The variables of the end offsets that are unpacked; empty when no value is read from the row."""
    handle_lines: list[str]
    values: str
    header_len: int
    values_start: int

    @property
    def lines(self) -> list[str]:
        # Only the offsets up to the last wanted value are unpacked; the values are copied once, so slices need no sums.
        cut = [
            f"    {self.ends}= unpack_ends(row, {self.header_len})",
            f"    data = row[{self.values_start}:]",
        ]
        return (cut if self.ends else []) + self.handle_lines


class _Compiler:
    """Generates the decoders of one (schema, wanted columns, zone), one per header that shows up."""

    def __init__(self, schema: TableSchema, offsets: Sequence[int], tz: dt.tzinfo | None) -> None:
        self.schema = schema
        self.offsets = tuple(offsets)
        self.tz = tz
        self.by_header: dict[bytes, RowDecoderFn] = {}
        self.key_only = key_only_offsets(schema)
        self.key_parts = {part.offset: i for i, part in enumerate(schema.common_handle)}

    def dispatch(self) -> RowDecoderFn:
        """Returns the decoder of rows with any header: the usual one (nothing NULL or missing) is tried first."""
        body = self._usual()
        source = [
            "def decode(handle, row):",
            "    if not row.startswith(usual):",
            "        return other(handle, row)",
            *body.lines,
            f"    return {body.values}",
        ]
        function: RowDecoderFn = define("decode", source, body.names)
        return function

    def batch(self, skip: int) -> tuple[RowsDecoderFn, bool]:
        """Like `dispatch`, for many rows whose bytes begin at `skip`: no call per row.

        Also returns whether it needs the record keys.
        """
        body = self._usual(skip)
        needs_keys = any(offset in self.key_only for offset in self.offsets)
        handle = "None"
        if needs_keys and self.schema.handle_offset < 0:
            handle = f"key[{RECORD_PREFIX_LEN}:]"
        elif needs_keys:
            body.names["unpack_handle"] = struct.Struct(">Q").unpack_from
            handle = f"unpack_handle(key, {RECORD_PREFIX_LEN})[0] - {_SIGN}"
        source = [
            "def decode(values, keys):",
            *self._all_usual(body, skip, needs_keys=needs_keys),
            "    rows = []",
            "    append = rows.append",
            "    for key, row in zip(keys, values):" if needs_keys else "    for row in values:",
            f"        if not row.startswith(usual, {skip}):",
            f"            append(other({handle}, row[{skip}:]))",
            "            continue",
            *([f"        handle = {handle}"] if needs_keys else ()),
            *(f"    {line}" for line in body.lines),
            f"        append({body.values})",
            "    return rows",
        ]
        function: RowsDecoderFn = define("decode", source, body.names)
        return function, needs_keys

    def _all_usual(self, body: _Body, skip: int, *, needs_keys: bool) -> list[str]:
        """Statements that return the rows where all of them have the usual header: one comprehension over pieces that
        functions in C cut out, less than half of the loop's work. None for handles of several columns.
        """
        if not body.ends or (needs_keys and self.schema.handle_offset < 0):
            return []
        names = body.names
        names["is_usual"] = methodcaller("startswith", names["usual"], skip)
        names["tail"] = itemgetter(slice(body.values_start, None))
        names["repeat"] = repeat
        targets = f"data, ({body.ends})"
        pieces = f"map(tail, values), map(unpack_ends, values, repeat({body.header_len}))"
        handle = ""
        if needs_keys:
            targets += ", (stored, )"
            pieces += f", map(unpack_handle, keys, repeat({RECORD_PREFIX_LEN}))"
            handle = f" for handle in (stored - {_SIGN}, )"
        return [
            "    if all(map(is_usual, values)):",
            f"        return [{body.values} for {targets} in zip({pieces}){handle}]",
        ]

    def _usual(self, skip: int = 0) -> _Body:
        """The body for rows with the usual header, nothing NULL or missing; `other` decodes all the rest."""
        ids = [self.schema.columns[offset].id for offset in stored_offsets(self.schema)]
        usual_header = make_header(ids, [], big=any(i > SMALL_ID_MAX for i in ids))
        body = self._body(parse_header(usual_header), skip)
        by_header, compile_header = self.by_header, self._compile

        def other(handle: Any, row: bytes) -> tuple[Any, ...]:
            if row[:1] != _VERSION_2:
                # here, since hardly any table has such rows, and what reads none should start without it
                from coprocessor.codec.row_v1 import version_2_of

                row = version_2_of(row)
            header = row[: header_length(row)]
            decode = by_header.get(header)
            if decode is None:
                decode = compile_header(header)
            return decode(handle, row)

        body.names["usual"] = usual_header
        body.names["other"] = other
        return body

    def _compile(self, header: bytes) -> RowDecoderFn:
        body = self._body(parse_header(header))
        source = ["def decode(handle, row):", *body.lines, f"    return {body.values}"]
        function: RowDecoderFn = define("decode", source, body.names)
        if len(self.by_header) >= COMPILED_HEADERS_MAX:
            self.by_header.clear()
        self.by_header[header] = function
        return function

    def _body(self, layout: RowLayout, skip: int = 0) -> _Body:
        """The source for rows of one layout that begin at byte `skip` of `row`."""
        names: dict[str, Any] = {"UNPACK_INT": UNPACK_INT, "UNPACK_UINT": UNPACK_UINT, "DATES": DATES}
        position = {column_id: i for i, column_id in enumerate(layout.not_null)}
        null = frozenset(layout.null)
        used: set[int] = set()
        expressions: list[str] = []
        handle_lines: list[str] = []
        for slot, offset in enumerate(self.offsets):
            column = self.schema.columns[offset]
            if offset in self.key_only:
                expressions.append(self._handle_expression(offset, names, handle_lines))
            elif column.id in position:
                used.add(position[column.id])
                expressions.append(self._value_expression(slot, column, position[column.id], names))
            elif column.id in null or column.default is None:
                expressions.append("None")
            else:
                names[f"default{slot}"] = default_of(column, self.tz)
                expressions.append(f"default{slot}")
        count = max(used) + 1 if used else 0
        names["unpack_ends"] = struct.Struct(f"<{count}{'I' if layout.big else 'H'}").unpack_from
        ends = "".join(f"e{i}, " for i in range(count))
        values = "(" + "".join(f"{e}, " for e in expressions) + ")"
        return _Body(names, ends, handle_lines, values, skip + layout.header_len, skip + layout.values_start)

    def _value_expression(self, slot: int, column: ColumnSchema, i: int, names: dict[str, Any]) -> str:
        start = f"e{i - 1}" if i else "0"
        piece = f"data[{start}:e{i}]"
        type_, kind = column.type, wire_kind(column.type)
        if kind == "text":
            return f"{piece}.decode()"
        if kind == "bytes":
            return piece
        width = f"e{i} - {start}" if i else f"e{i}"
        if kind == "int":
            return f"UNPACK_INT[{width}](data, {start})[0]"
        if type_.tp == Tp.DATE:
            return f"DATES[{piece}]"
        if kind == "uint" and type_.tp not in (Tp.ENUM, Tp.SET):
            return f"UNPACK_UINT[{width}](data, {start})[0]"
        names[f"dec{slot}"] = decimal_row_decoder(type_) if kind == "decimal" else value_decoder(type_, self.tz)
        return f"dec{slot}({piece})"

    def _handle_expression(self, offset: int, names: dict[str, Any], lines: list[str]) -> str:
        if self.schema.handle_offset == offset:
            return f"handle & {U64_MASK}" if self.schema.unsigned_handle else "handle"
        part = self.key_parts[offset]
        types = [self.schema.columns[p.offset].type for p in self.schema.common_handle[: part + 1]]
        if all(wire_kind(t) in NUMBER_FLAGS for t in types):
            # Datums of numbers are nine bytes each, so the place of this one is known.
            return self._number_expression(types[-1], part * NUMBER_DATUM_LEN + 1, names)
        parts = sorted({self.key_parts[o] for o in self.offsets if o in self.key_only})
        if "split" not in names:
            names["split"] = handle_splitter(self.schema, parts)
            lines.append("    parts = split(handle)")
        value = f"parts[{parts.index(part)}]"
        if types[-1].tp != Tp.TIMESTAMP or self.tz is None or self.tz is dt.UTC:
            return value
        names["local"] = local_time(self.tz)
        return f"local({value})"

    def _number_expression(self, type_: FieldType, at: int, names: dict[str, Any]) -> str:
        """The value of a number's datum whose eight bytes lie at `at`."""
        kind = wire_kind(type_)
        if kind == "float":
            names["decode_float"] = decode_float
            return f"decode_float(handle, {at})[0]"
        names["unpack_u64"] = struct.Struct(">Q").unpack_from
        number = f"unpack_u64(handle, {at})[0]" + (f" - {_SIGN}" if kind in ("int", "duration") else "")
        if kind in ("int", "uint") and type_.tp not in (Tp.ENUM, Tp.SET):
            return number
        names[f"value{at}"] = value_of_number(type_, self.tz)
        return f"value{at}({number})"


def compile_decoder(
    schema: TableSchema, offsets: Sequence[int] | None = None, tz: dt.tzinfo | None = None
) -> RowDecoderFn:
    """Compiles the decoder of the columns at `offsets` (None: all): (handle, row bytes) in, tuple of values out.

    The handle is an int (hidden and integer handles) or the bytes of a common handle. TIMESTAMPs come in zone `tz`,
    None for UTC. Raises CodecError on bytes that are no row; damage within values may show as struct.error or
    UnicodeDecodeError.
    """
    wanted = range(len(schema.columns)) if offsets is None else offsets
    return _Compiler(schema, wanted, tz).dispatch()


def compile_rows_decoder(
    schema: TableSchema, offsets: Sequence[int] | None, tz: dt.tzinfo | None, skip: int
) -> tuple[RowsDecoderFn, bool]:
    """Like `compile_decoder`, for many rows at once: (entries, record keys) in, list of tuples out.

    A row begins at byte `skip` of its entry. The second result tells whether the keys are needed; where they are not,
    None serves in their place.
    """
    wanted = range(len(schema.columns)) if offsets is None else offsets
    return _Compiler(schema, wanted, tz).batch(skip)


def local_time(tz: dt.tzinfo) -> Callable[[dt.datetime | None], dt.datetime | None]:
    """Returns the function that brings a TIMESTAMP from UTC to `tz`."""
    return lambda value: None if value is None else from_utc(value, tz)


def default_of(column: ColumnSchema, tz: dt.tzinfo | None) -> Any:
    """Returns the value of a column that a row is too old to have; a TIMESTAMP's default is kept in UTC."""
    if column.type.tp == Tp.TIMESTAMP and isinstance(column.default, dt.datetime):
        return from_utc(column.default, tz)
    return column.default


def handle_splitter(schema: TableSchema, parts: Sequence[int]) -> Callable[[bytes], tuple[Any, ...]]:
    """Returns the decoder of the datums `parts` of a common handle, numbers in its order; those the key does not tell
    come as None.
    """
    key_only = key_only_offsets(schema)
    last = max(parts, default=-1) + 1
    plan = tuple(
        (schema.columns[column.offset].type, i in parts and column.offset in key_only)
        for i, column in enumerate(schema.common_handle[:last])
    )
    picks = tuple(parts)

    def split(handle: bytes) -> tuple[Any, ...]:
        pos, out = 0, []
        for type_, wanted in plan:
            if wanted:
                value, pos = decode_key_datum(type_, handle, pos)
            else:
                value, pos = None, skip_key_datum(handle, pos)
            out.append(value)
        return tuple([out[part] for part in picks])

    return split


def _no_such_width(data: bytes, pos: int) -> tuple[int]:
    raise CodecError("an integer in a row has 1, 2, 4 or 8 bytes")


def _by_width(codes: str) -> tuple[Callable[[bytes, int], tuple[int]], ...]:
    table: list[Any] = [_no_such_width] * 9
    for code in codes:
        packer = struct.Struct("<" + code)
        table[packer.size] = packer.unpack_from
    return tuple(table)


UNPACK_INT = _by_width("bhiq")
UNPACK_UINT = _by_width("BHIQ")

_WORD_CODES = {1: "B", 2: "H", 3: "BH", 4: "I"}


def decimal_row_decoder(type_: FieldType) -> Callable[[bytes], Any]:
    """Compiles the decoder of a column's decimals: one unpack, one sum; other shapes go the long way."""
    prec, frac = decimal_shape(type_)
    words = word_layout(prec, frac)
    unpack = struct.Struct(">H" + "".join(_WORD_CODES[size] for size, _ in words))
    size = 2 + bin_size(prec, frac)
    names: dict[str, Any] = {
        "unpack": unpack.unpack,
        "slow": decode_decimal,
        "scale": CONTEXT.scaleb,
        "Decimal": Decimal,
    }
    names["exponent"] = Decimal(-frac)
    fields: list[str] = []
    total = ""
    masks: dict[str, int] = {}
    for i, (width, digits) in enumerate(words):
        parts = (f"w{i}h", f"w{i}") if width == 3 else (f"w{i}",)
        fields += parts
        masks |= {parts[0]: 0xFF, parts[-1]: 0xFFFF} if width == 3 else {parts[0]: (1 << 8 * width) - 1}
        word = f"(w{i}h * 65536 + w{i})" if width == 3 else f"w{i}"
        total = f"({total}) * {10**digits} + {word}" if total else word
    top = fields[0]
    top_bit = (masks[top] + 1) // 2
    scaled = "scale(Decimal({}), exponent)" if frac else "Decimal({})"
    lines = [
        "def decode(data):",
        f"    if len(data) != {size}:",
        "        return slow(data)",
        f"    shape, {', '.join(fields)} = unpack(data)",
        f"    if shape != {prec << 8 | frac}:",
        "        return slow(data)",
        f"    if {top} & {top_bit}:",
        f"        {top} ^= {top_bit}",
        f"        return {scaled.format(total)}",
        *(f"    {name} ^= {mask ^ top_bit if name == top else mask}" for name, mask in masks.items()),
        f"    return {scaled.format(f'-({total})')}",
    ]
    function: Callable[[bytes], Any] = define("decode", lines, names)
    return function


def define(name: str, lines: list[str], names: dict[str, Any]) -> Any:
    """Executes generated source, made of schema numbers and bound names only, and returns the function it defines."""
    namespace = dict(names)
    exec(compile("\n".join(lines), f"<{name} row>", "exec"), namespace)
    return namespace[name]
