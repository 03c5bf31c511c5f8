"""The record keys of a run of rows, in ascending order and packed: without the table's prefix, as one Arrow array."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coprocessor.codec.gather import INT32_MAX, Bytes, Ints, spans, windows
from coprocessor.codec.keys import RECORD_PREFIX_LEN
from kvstore.client.api import PackedBatch


class KeyColumn:
    """Record keys of one table; `array` holds what follows their prefix, of a fixed width where all have one length."""

    __slots__ = ("array", "prefix")

    def __init__(self, prefix: bytes, array: Any) -> None:
        self.prefix = prefix
        self.array = array

    @classmethod
    def of(cls, prefix: bytes, packed: PackedBatch) -> KeyColumn:
        """The keys of a batch of records that all begin with `prefix`."""
        starts, ends = packed.key_starts + RECORD_PREFIX_LEN, packed.key_ends
        if packed.count:
            width = int(ends[0] - starts[0])
            if width > 0 and bool((ends - starts == width).all()):
                return cls(prefix, _fixed(windows(packed.keys, starts, width).reshape(-1), width))
        return cls(prefix, spans(packed.keys, starts, ends, pa.binary()))

    @classmethod
    def joined(cls, prefix: bytes, parts: Sequence[KeyColumn]) -> KeyColumn:
        """The keys of consecutive runs as one."""
        return cls(prefix, concat([part.array for part in parts if len(part)]) if parts else pa.array([], pa.binary()))

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, i: int) -> bytes:
        suffix: bytes = self.array[i].as_py()
        return self.prefix + suffix

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)

    def handles(self) -> tuple[Bytes, Ints, Ints]:
        """A buffer and where each row's handle begins and ends in it."""
        width = _width(self.array)
        if width:
            data = np.frombuffer(self.array.buffers()[1], np.uint8)
            starts = (np.arange(len(self)) + self.array.offset) * width
            return data, starts, starts + width
        _, offset_buffer, data_buffer = self.array.buffers()
        if not len(self) or data_buffer is None:
            empty = np.zeros(len(self), np.int64)
            return np.empty(0, np.uint8), empty, empty
        offsets = np.frombuffer(offset_buffer, np.int32)[self.array.offset :][: len(self) + 1].astype(np.int64)
        return np.frombuffer(data_buffer, np.uint8), offsets[:-1], offsets[1:]

    def positions(self, keys: Sequence[bytes]) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Returns for ascending keys where each stands or would stand, and whether it is there."""
        width = _width(self.array)
        count = len(self)
        if width and count and all(len(key) == RECORD_PREFIX_LEN + width for key in keys):
            # Of equal length, so that numpy's blindness to trailing zeros does no harm.
            data = self.handles()[0].view(f"S{width}")[self.array.offset :][:count]
            wanted = np.frombuffer(b"".join([key[RECORD_PREFIX_LEN:] for key in keys]), f"S{width}")
            at: Ints = np.searchsorted(data, wanted).astype(np.int64)
            return at, (at < count) & (data[np.minimum(at, count - 1)] == wanted)
        places = [bisect_left(self, key) for key in keys]
        found = [place < count and self[place] == key for place, key in zip(places, keys, strict=True)]
        return np.array(places, np.int64), np.array(found, np.bool_)


def _fixed(data: Bytes, width: int) -> Any:
    return pa.Array.from_buffers(pa.binary(width), len(data) // width, [None, pa.py_buffer(np.ascontiguousarray(data))])


def _width(array: Any) -> int:
    return int(array.type.byte_width) if pa.types.is_fixed_size_binary(array.type) else 0


def suffixes(keys: Sequence[bytes], like: Any) -> Any:
    """The keys without their prefix as an Arrow array, of the type of `like` if they fit it."""
    cut = [key[RECORD_PREFIX_LEN:] for key in keys]
    width = _width(like)
    return pa.array(cut, like.type if width and all(len(key) == width for key in cut) else pa.binary())


def concat(arrays: Sequence[Any]) -> Any:
    """Puts arrays of keys one after another; widths that differ make it one of variable width."""
    if not arrays:
        return pa.array([], pa.binary())
    if len({array.type for array in arrays}) > 1:
        arrays = [array.cast(pa.binary()) for array in arrays]
    assert sum(array.nbytes for array in arrays) <= INT32_MAX
    return pa.concat_arrays(arrays)
