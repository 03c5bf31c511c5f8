"""Access paths at work: the keys a scan reads, and the rows they give as tuples or as Arrow.

A `ScanReader` is compiled once for a scan of a plan and shared by all executions; the reader (a snapshot, or a
transaction with its own writes merged in) and the environment come with each call.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from coprocessor.codec.collation import member_key
from coprocessor.codec.temporal import to_utc
from coprocessor.convert import CTX
from coprocessor.evaluate import Closure, Env, compile_expr, compile_predicate
from coprocessor.table import KeyRange
from coprocessor.types import FieldType, Tp
from kvstore.client.api import Chunk, Reader
from kvstore.errors import Cancelled
from kvstore.mvcc.chunks import pairs_of
from sqlfront.exec.own_rows import show_own_rows, with_twins
from sqlfront.plan.access import Access
from sqlfront.plan.nodes import HANDLE_OFFSET, Scan

if TYPE_CHECKING:
    import pyarrow as pa

    from coprocessor.segments import SegmentCache

Row = tuple[Any, ...]

LOOKUP_BATCH_ROWS = 256  # index entries whose rows are fetched together
ENUMS_KEPT_MAX = 256  # types whose members are kept by what they are compared by
KEY_BYTES = 120  # what a record key takes in a set and a list
PACKED_ROWS_MIN = 2000.0  # estimated rows from which ranges are decoded in batches


class ScanReader:
    """Reads one scan by its access path."""

    def __init__(self, scan: Scan, tz: dt.tzinfo | None) -> None:
        assert scan.access is not None
        self.scan = scan
        self.access: Access = scan.access
        self.table = scan.table
        self.codec = scan.table.codec
        self.tz = tz
        self.layout = {c.id: i for i, c in enumerate(scan.cols)}
        self.offsets = tuple(o for o in scan.offsets if o != HANDLE_OFFSET)
        self.with_handle = HANDLE_OFFSET in scan.offsets
        self._keys = KeyMaker(scan, tz)
        # points cost less than to find out which partitions they may be in
        spread = None if self.access.point else scan.partitions
        self._partitions = None if spread is None else spread.pruned_by(scan)
        left = [c for c in scan.where if c not in self.access.used]
        self.predicates = [compile_predicate(c, self.layout) for c in left]
        self._decode = self._row_decoder()
        self._decode_chunk = self._chunk_decoder()
        index = self.access.index
        parts = [replace(scan, access=part, where=()) for part in self.access.parts]
        self._parts = [ScanReader(part, tz) for part in parts]
        self._record_key_of_entry = None if index is None else self.codec.index_record_key(index.schema)
        self._read = self._covered if self.access.kind == "index" and self.access.cover else self._decoded

    def ranges(self, env: Env) -> list[KeyRange]:
        """The key ranges of the access path, of records or of index entries."""
        return self._keys.ranges(env)

    def _is_left_out(self, env: Env) -> bool:
        """Whether this is a partition in which the parameters of an execution leave no rows."""
        return self._partitions is not None and self.scan.number not in self._partitions(env.params)

    def points(self, env: Env) -> list[bytes] | None:
        """The record keys of an access path that knows them, in their order; None for any other."""
        access = self.access
        return self._keys.points(env) if access.point and access.kind == "primary" else None

    # Rows

    def rows(self, reader: Reader, env: Env, *, reverse: bool = False) -> Iterator[Row]:
        """Yields the scan's rows that satisfy its conditions, in the access path's order."""
        return itertools.chain.from_iterable(self.row_chunks(reader, env, reverse=reverse))

    def row_chunks(self, reader: Reader, env: Env, *, reverse: bool = False) -> Iterator[list[Row]]:
        """The same rows in lists, as they are decoded: small ones first."""
        chunks = self._read(reader, env, reverse)
        return self.passing(chunks, env) if self.predicates else chunks

    def read_chunks(
        self, reader: Reader, env: Env, reverse: bool = False, first: int = LOOKUP_BATCH_ROWS
    ) -> Iterator[list[Row]]:
        """The rows of the access path in lists, conditions not applied; `first` are fetched and decoded together at
        first."""
        return self._read(reader, env, reverse, first)

    def passing(self, chunks: Iterator[list[Row]], env: Env) -> Iterator[list[Row]]:
        """Of rows those that satisfy the conditions that the access path does not enforce."""
        if not self.predicates:
            return chunks
        if len(self.predicates) == 1:
            only = self.predicates[0]
            return ([row for row in chunk if only(row, env)] for chunk in chunks)
        predicates = self.predicates
        return ([row for row in chunk if all(p(row, env) for p in predicates)] for chunk in chunks)

    def keyed_rows(self, reader: Reader, env: Env) -> Iterator[Row]:
        """Yields the scan's rows with their record key as one value more."""
        return self.keyed(self.pairs(reader, env), env)

    def keyed(self, pairs: Iterable[tuple[bytes, bytes]], env: Env) -> Iterator[Row]:
        """The same from the access path's records."""
        decode, predicates = self._decode, self.predicates
        for key, value in pairs:
            row = decode(key, value)
            if all(p(row, env) for p in predicates):
                yield (*row, key)

    def pairs(self, reader: Reader, env: Env, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yields (record key, row value) along the access path, conditions not applied."""
        return pairs_of(self._chunks(reader, env, reverse))

    def _chunks(self, reader: Reader, env: Env, reverse: bool, first: int = LOOKUP_BATCH_ROWS) -> Iterator[Chunk]:
        key_of = self._record_key_of_entry
        if key_of is not None:
            entries = self._entries(reader, env, reverse)
            return self._gets(reader, (list(itertools.starmap(key_of, chunk.pairs())) for chunk in entries), first)
        if self._parts:
            return self._gets(reader, (self._found_by_any(reader, env),), first)
        return _beginning(self._entries(reader, env, reverse), first)

    def _found_by_any(self, reader: Reader, env: Env) -> list[bytes]:
        """The record keys that any of several paths finds, in their order."""
        keys: set[bytes] = set()
        for part in self._parts:
            keys.update(part._record_keys(reader, env))
        env.quota.hold(len(keys) * KEY_BYTES)
        return sorted(keys)

    def _record_keys(self, reader: Reader, env: Env) -> Iterable[bytes]:
        """The record keys of the access path; those of a whole primary key need not be there."""
        points = self.points(env)
        if points is not None:
            return points
        pairs, key_of = pairs_of(self._entries(reader, env, False)), self._record_key_of_entry
        return (key for key, _ in pairs) if key_of is None else itertools.starmap(key_of, pairs)

    def _entries(self, reader: Reader, env: Env, reverse: bool) -> Iterator[Chunk]:
        """The keys and values of the access path itself: records, or index entries."""
        if self._is_left_out(env):
            return iter(())
        if self.access.index is not None:
            show_own_rows(reader, self.codec, self.access.index.schema)
        if self.access.point:
            keys = self._keys.points(env)
            if self.access.index is not None:
                keys = with_twins(reader, keys)
            if len(keys) == 1:
                value = reader.get(keys[0])
                return iter(() if value is None else (Chunk(keys, [value]),))
            found = reader.batch_get(keys)
            there = [key for key in (reversed(keys) if reverse else keys) if key in found]
            return iter((Chunk(there, [found[key] for key in there]),))
        ranges = self._keys.ranges(env)
        return _until_interrupted(reader, reversed(ranges) if reverse else ranges, env, reverse=reverse)

    def _gets(self, reader: Reader, found: Iterable[list[bytes]], size: int) -> Iterator[Chunk]:
        """Fetches rows by lists of their keys, in the keys' order: so many at first, then more."""
        for records in found:
            at = 0
            while at < len(records):
                batch = records[at : at + size]
                at += size
                there = reader.batch_get(batch)
                known = [record for record in batch if record in there]
                yield Chunk(known, [there[record] for record in known])
                size = min(size * 2, LOOKUP_BATCH_ROWS)

    def _decoded(self, reader: Reader, env: Env, reverse: bool, first: int = LOOKUP_BATCH_ROWS) -> Iterator[list[Row]]:
        """Rows from their records."""
        return map(self._decode_chunk, self._chunks(reader, env, reverse, first))

    def _covered(self, reader: Reader, env: Env, reverse: bool, first: int = LOOKUP_BATCH_ROWS) -> Iterator[list[Row]]:
        """Rows from index entries alone."""
        index = self.access.index
        assert index is not None
        decode = self.codec.index_decoder(index.schema, self.scan.offsets, self.tz)
        chunks = _beginning(self._entries(reader, env, reverse), first)
        return (list(itertools.starmap(decode, chunk.pairs())) for chunk in chunks)

    def _row_decoder(self) -> Callable[[bytes, bytes], Row]:
        codec = self.codec
        decode = codec.key_decoder(self.offsets, self.tz)
        if not self.with_handle:
            return decode
        handle_of = codec.handle_of_key
        return lambda key, value: (*decode(key, value), handle_of(key))

    def _chunk_decoder(self) -> Callable[[Chunk], list[Row]]:
        if not self.with_handle:
            return self.codec.chunk_decoder(self.offsets, self.tz)
        decode = self._decode
        return lambda chunk: list(itertools.starmap(decode, chunk.pairs()))

    # Arrow

    def batches(
        self, reader: Reader, env: Env, segments: SegmentCache | None, writes: Sequence[tuple[bytes, bytes | None]]
    ) -> Iterator[pa.RecordBatch]:
        """The scan's rows as Arrow, columns in the scan's order; conditions are left to whoever reads them.

        `writes` are the transaction's own writes to the table's records, which `reader` merges in.
        """
        from coprocessor.arrow import rows_to_batch
        from coprocessor.scan import scan_table

        access = self.access
        if self._is_left_out(env):
            return
        if access.kind == "scan" and segments is not None and not self.with_handle:
            yield from segments.scan(reader.ts, reader, self.codec, self.offsets, self.tz, dirty=writes)
            return
        if access.kind in ("scan", "primary") and not access.point and not writes and not self.with_handle:
            if access.rows >= PACKED_ROWS_MIN or access.kind == "scan":
                yield from scan_table(reader, self.codec, self.offsets, self._keys.ranges(env), self.tz)
                return
        if access.kind in ("index", "merge") and not (access.point or access.cover or self.with_handle):
            if access.rows >= PACKED_ROWS_MIN:
                yield from self._looked_up(reader, env)
                return
        names = [f"c{c.id}" for c in self.scan.cols]
        rows = list(env.quota.rows(self.rows(reader, env)))
        yield rows_to_batch(rows, names, [c.type for c in self.scan.cols], inside=True)

    def _looked_up(self, reader: Reader, env: Env) -> Iterator[pa.RecordBatch]:
        """The rows that many index entries, or several paths, point to: fetched in the order of their keys, decoded in
        bulk."""
        from coprocessor.codec.vector import BatchDecoder
        from coprocessor.scan import BATCH_ROWS
        from kvstore.mvcc.packed import pack_pairs

        decoder = BatchDecoder(self.codec.schema, self.offsets, self.tz)
        found_keys = iter(self._found_by_any(reader, env) if self._parts else self._record_keys(reader, env))
        while keys := sorted(itertools.islice(found_keys, BATCH_ROWS)):
            found = reader.batch_get(keys)
            yield decoder.decode(pack_pairs([(key, found[key]) for key in keys if key in found], 0))


def _until_interrupted(reader: Reader, ranges: Iterable[KeyRange], env: Env, *, reverse: bool) -> Iterator[Chunk]:
    """What is in some ranges. Raises Cancelled."""
    for start, end in ranges:
        for chunk in reader.scan_chunks(start, end, reverse=reverse):
            if env.is_interrupted():
                raise Cancelled
            yield chunk


def _beginning(chunks: Iterator[Chunk], first: int) -> Iterator[Chunk]:
    """The chunks, of which the first has at most `first` rows: no more may be wanted."""
    for chunk in chunks:
        if first < len(chunk):
            yield chunk.part(0, first)
            chunk = chunk.part(first, len(chunk))
        yield chunk
        break
    yield from chunks


_NO_VALUE = object()


class KeyMaker:
    """Computes the keys and key ranges of an access path for one execution."""

    def __init__(self, scan: Scan, tz: dt.tzinfo | None) -> None:
        access = scan.access
        assert access is not None
        self.access = access
        self.codec = scan.table.codec
        self.table = scan.table
        self._types = access.key_types
        self._tz = tz
        self._prefix: list[list[Closure | None]] = [
            [None if e is None else compile_expr(e, {}) for e in part] for part in access.prefix
        ]
        # One integer handle, the commonest point of all.
        single = (
            access.point and access.kind == "primary" and self.table.handle_offset >= 0 and len(access.prefix[0]) == 1
        )
        self._handle = self._prefix[0][0] if single else None
        self._single = [part[0] for part in self._prefix] if all(len(part) == 1 for part in self._prefix) else None
        """Where each key column has one value to look for."""
        unsigned = self.codec.schema.unsigned_handle
        self._low_handle, self._high_handle = (0, (1 << 64) - 1) if unsigned else (-(1 << 63), (1 << 63) - 1)
        self._low = None if access.low is None else compile_expr(access.low.expr, {})
        self._high = None if access.high is None else compile_expr(access.high.expr, {})

    def points(self, env: Env) -> list[bytes]:
        """Returns the keys of a point access, without repeats, in key order."""
        codec, index = self.codec, self.access.index
        if self._handle is not None:
            value = self._handle((), env)
            if value.__class__ is int and self._low_handle <= value <= self._high_handle:
                return [codec.record_key(value)]
        keys: set[bytes] = set()
        for values in self._combinations(env):
            if None in values:
                continue
            if index is not None:
                key = codec.unique_key(index.schema, values)
                if key is not None:
                    keys.add(key)
            elif self.table.handle_offset >= 0:
                keys.add(codec.record_key(values[0]))
            else:
                keys.add(codec.record_key(codec.common_handle(values)))
        return sorted(keys)

    def ranges(self, env: Env) -> list[KeyRange]:
        """Returns disjoint key ranges in key order (an unsigned handle's in order of value)."""
        access, codec = self.access, self.codec
        if access.kind == "scan" or (access.kind == "primary" and not access.is_bounded):
            return [codec.record_range]
        bounds = self._bounds(env)
        if bounds is None:
            return []
        low, high, low_open, high_open = bounds
        if access.kind == "primary" and self.table.handle_offset >= 0:
            return self._handle_ranges(env, low, high, low_open, high_open)
        out: list[KeyRange] = []
        bounded = access.low is not None or access.high is not None or access.not_null
        for values in self._combinations(env):
            if access.index is not None:
                found = codec.index_range(access.index.schema, values, low, high, low_open, high_open, not_null=bounded)
            else:
                found = codec.common_handle_range(values, low, high, low_open, high_open)
            if found[0] < found[1]:
                out.append(found)
        return sorted(set(out)) if len(out) > 1 else out

    def _handle_ranges(self, env: Env, low: Any, high: Any, low_open: bool, high_open: bool) -> list[KeyRange]:
        if not self._prefix:
            return self.codec.handle_range(low, high, low_open, high_open)
        out: list[KeyRange] = []
        for values in sorted(v for v in self._combinations(env) if v[0] is not None):
            out.extend(self.codec.handle_range(values[0], values[0]))
        return out

    def _combinations(self, env: Env) -> Iterable[tuple[Any, ...]]:
        """The equality values to look for, of all key columns that have some; a value its column cannot hold
        takes its combinations away.
        """
        if self._single is not None:
            row = [self._value_of(part, type_, env) for part, type_ in zip(self._single, self._types, strict=False)]
            return () if _NO_VALUE in row else (tuple(row),)
        parts = [
            [self._value_of(closure, type_, env) for closure in closures]
            for closures, type_ in zip(self._prefix, self._types, strict=False)
        ]
        if self.access.together:
            return (row for row in zip(*parts, strict=True) if all(value is not _NO_VALUE for value in row))
        return itertools.product(*([value for value in part if value is not _NO_VALUE] for part in parts))

    def _value_of(self, closure: Closure | None, type_: FieldType, env: Env) -> Any:
        """The value as the column has it (None for IS NULL), _NO_VALUE when no row has it."""
        if closure is None:
            return None
        value = closure((), env)
        if value is None:
            return _NO_VALUE
        narrowed, exact = narrow(value, type_, self._tz)
        if type_.is_integer and not _fits_key(narrowed, type_):
            return _NO_VALUE
        return narrowed if exact else _NO_VALUE

    def _bounds(self, env: Env) -> tuple[Any, Any, bool, bool] | None:
        """The range's bounds as column values; None when nothing satisfies one: it is NULL, or past what the column
        holds."""
        low = high = None
        low_open = high_open = False
        type_ = self._types[len(self._prefix)] if len(self._prefix) < len(self._types) else None
        if self._low is not None and self.access.low is not None and type_ is not None:
            value = self._low((), env)
            beyond = _beyond(value, type_)
            if value is None or beyond > 0:
                return None
            if beyond == 0:
                # x > 5.5 is x > 5 for whole x, and so is x >= 5.5.
                low, exact = narrow(value, type_, self._tz)
                low_open = self.access.low.open or not exact
        if self._high is not None and self.access.high is not None and type_ is not None:
            value = self._high((), env)
            beyond = _beyond(value, type_)
            if value is None or beyond < 0:
                return None
            if beyond == 0:
                high, exact = narrow(value, type_, self._tz)
                high_open = self.access.high.open and exact
        return low, high, low_open, high_open


def _fits_key(value: int, type_: FieldType) -> bool:
    """Whether a key of an integer column can have a value."""
    return 0 <= value < 1 << 64 if type_.unsigned else -(1 << 63) <= value < 1 << 63


def _beyond(value: Any, type_: FieldType) -> int:
    """Whether a value lies above (1) or below (-1) all that a DECIMAL column holds."""
    if value is None or not type_.is_decimal:
        return 0
    limit = 10 ** (type_.flen - max(type_.decimal, 0))
    return int(value >= limit) - int(value <= -limit)


def narrow(value: Any, type_: FieldType, tz: dt.tzinfo | None) -> tuple[Any, bool]:
    """Brings a value of a comparison's type to the column's: the largest column value not above it, and whether it
    is equal.
    """
    if type_.is_integer:
        if isinstance(value, int):
            return int(value), True
        if isinstance(value, float) and not math.isfinite(value):
            return (1 << 64 if value > 0 else -(1 << 64)), False
        floor = math.floor(value)
        return floor, floor == value
    if type_.is_decimal:
        scale = max(type_.decimal, 0)
        exact = value if isinstance(value, Decimal) else Decimal(value)
        if _beyond(exact, type_):
            return exact, False
        floored = exact.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_FLOOR, context=CTX)
        return floored, floored == exact
    if type_.is_real:
        return float(value), True
    if type_.tp == Tp.DATE:
        if isinstance(value, dt.datetime):
            return value.date(), value.time() == dt.time()
        return value, True
    if type_.tp in (Tp.DATETIME, Tp.TIMESTAMP):
        return _narrow_datetime(value, type_, tz)
    if type_.tp == Tp.DURATION and isinstance(value, dt.timedelta):
        unit = 10 ** (6 - max(type_.decimal, 0))
        micros = value // dt.timedelta(microseconds=1)
        return dt.timedelta(microseconds=micros // unit * unit), micros % unit == 0
    if type_.tp == Tp.ENUM:
        key, members = _members(type_)
        member = members.get(key(value)) if isinstance(value, str) else None
        return member, member is not None
    return value, True


@lru_cache(ENUMS_KEPT_MAX)
def _members(type_: FieldType) -> tuple[Callable[[str], object], dict[object, str]]:
    """The members of an ENUM by what strings that are equal to them have in common, and the function to that."""
    key = member_key(type_.collate)
    return key, {key(member): member for member in reversed(type_.elems)}


def _narrow_datetime(value: Any, type_: FieldType, tz: dt.tzinfo | None) -> tuple[Any, bool]:
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day)
    unit = 10 ** (6 - max(type_.decimal, 0))
    floored = value.replace(microsecond=value.microsecond // unit * unit)
    exact = floored == value
    return (to_utc(floored, tz) if type_.tp == Tp.TIMESTAMP else floored), exact
