"""Gathering pieces of a byte buffer with numpy: the primitives under the vectorised decoder and encoder.

A window of k bytes at any offset is one element of an array of dtype V{k} that lies over the buffer with a stride of
one byte, so picking N windows is one take: a memmove each. Integers are read out of such windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

INT32_MAX = (1 << 31) - 1


def windows(data: Bytes, starts: Ints, width: int) -> Bytes:
    """Returns the `width` bytes at each start as a matrix; what lies beyond the buffer's end reads as zero."""
    if len(starts) == 0 or width == 0:
        return np.zeros((len(starts), width), np.uint8)
    last = len(data) - width
    if last < 0 or int(starts.max()) > last:
        return _windows_at_end(data, starts, width)
    over = np.ndarray((last + 1,), f"V{width}", data, 0, (1,))
    matrix: Bytes = over[starts].view(np.uint8).reshape(len(starts), width)
    return matrix


def _windows_at_end(data: Bytes, starts: Ints, width: int) -> Bytes:
    """Windows of which some leave the buffer: those are read from a padded copy of its last bytes alone."""
    first_beyond = max(len(data) - width + 1, 0)
    tail = np.concatenate((data[first_beyond:], np.zeros(width, np.uint8)))
    matrix = np.empty((len(starts), width), np.uint8)
    beyond = starts >= first_beyond
    matrix[~beyond] = windows(data, starts[~beyond], width)
    # A window that begins at the end or after it is all padding.
    matrix[beyond] = windows(tail, np.minimum(starts[beyond] - first_beyond, len(tail) - width), width)
    return matrix


def little_u64(data: Bytes, starts: Ints) -> npt.NDArray[np.uint64]:
    """Reads 8 little-endian bytes at each start."""
    out: npt.NDArray[np.uint64] = windows(data, starts, 8).view("<u8").reshape(-1)
    return out


def big_u64(data: Bytes, starts: Ints) -> npt.NDArray[np.uint64]:
    """Reads 8 big-endian bytes at each start."""
    out: npt.NDArray[np.uint64] = windows(data, starts, 8).view(">u8").reshape(-1).astype(np.uint64)
    return out


def compact_uints(data: Bytes, starts: Ints, widths: Ints) -> npt.NDArray[np.uint64]:
    """Reads little-endian unsigned integers of the given widths (1 to 8 bytes)."""
    shift = (64 - 8 * widths).astype(np.uint64)
    out: npt.NDArray[np.uint64] = (little_u64(data, starts) << shift) >> shift
    return out


def compact_ints(data: Bytes, starts: Ints, widths: Ints) -> Ints:
    """Reads little-endian signed integers of the given widths (1 to 8 bytes)."""
    shift = 64 - 8 * widths
    out: Ints = (little_u64(data, starts).view(np.int64) << shift) >> shift
    return out


def spans(data: Bytes, starts: Ints, ends: Ints, arrow_type: Any) -> Any:
    """Gathers byte spans into an Arrow string or binary array.

    When spans ascend, an array of every second element of (start, end, start, ...) as offsets over the buffer itself
    *is* the wanted column with the gaps between: Arrow's take then copies the wanted ones in compiled code.
    """
    import pyarrow as pa

    count = len(starts)
    if count == 0:
        return pa.array([], arrow_type)
    offsets = np.empty(2 * count, np.int64)
    offsets[0::2] = starts
    offsets[1::2] = ends
    if bool((offsets[1:] >= offsets[:-1]).all()) and int(offsets[-1]) <= INT32_MAX:
        over = pa.Array.from_buffers(
            arrow_type, 2 * count - 1, [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
        )
        return over.take(primitive(pa.int32(), np.arange(0, 2 * count, 2, dtype=np.int32)))
    lengths = ends - starts
    out_offsets = np.zeros(count + 1, np.int64)
    np.cumsum(lengths, out=out_offsets[1:])
    if int(out_offsets[-1]) > INT32_MAX:
        raise OverflowError("a batch holds more than 2 GiB of one string column")
    index = np.repeat(starts - out_offsets[:-1], lengths) + np.arange(int(out_offsets[-1]))
    return pa.Array.from_buffers(
        arrow_type, count, [None, pa.py_buffer(out_offsets.astype(np.int32)), pa.py_buffer(data[index])]
    )


def validity(valid: npt.NDArray[np.bool_]) -> Any:
    """Returns the Arrow validity bitmap, None when all is valid."""
    import pyarrow as pa

    if bool(valid.all()):
        return None
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


def spread(values: Any, valid: npt.NDArray[np.bool_]) -> Any:
    """Returns the values, one after another, in the valid places of an Arrow array, and NULL in the others."""
    import pyarrow as pa

    if bool(valid.all()):
        return values
    return values.take(pa.array(np.cumsum(valid) - 1, pa.int64(), mask=~valid))


def primitive(arrow_type: Any, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> Any:
    """Lays an Arrow array of a fixed-width type over numpy values of that width, without a copy."""
    import pyarrow as pa

    bitmap = None if valid is None else validity(valid)
    values = np.ascontiguousarray(values)
    count = values.nbytes * 8 // arrow_type.bit_width
    return pa.Array.from_buffers(arrow_type, count, [bitmap, pa.py_buffer(values)])
