"""Columns of decimals as TiDB keeps them in memory and in chunks: 40 bytes a value, both ways, over whole columns.

u8 digits before the point | u8 digits after it | u8 digits shown | u8 negative | 9 x u32le words of nine digits: those
before the point, the most significant first, then those after it, the last one filled up with zeros. As in TiKV, words
of zeros at the front are left out and the first word that is there counts with all its digits.

Numbers of up to 256 bits are computed with as limbs, lists of uint64 arrays that hold 32 bits each, low ones first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coprocessor.arrow import arrow_type
from coprocessor.codec.datum import decimal_shape
from coprocessor.codec.gather import primitive
from coprocessor.errors import CodecError
from coprocessor.types import FieldType

VALUE_BYTES = 40
WORDS = 9
DIGITS_PER_WORD = 9
_BASE = np.uint64(10**9)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)

Limbs = list[npt.NDArray[np.uint64]]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


def encode_decimals(column: Any, type_: FieldType) -> Bytes:
    """Returns a matrix of 40 bytes a row for a decimal128 or decimal256 array; NULLs are zeros."""
    prec, scale = decimal_shape(type_)
    limbs, negative = _magnitudes(column)
    fraction_words = -(-scale // DIGITS_PER_WORD)
    _multiply(limbs, 10 ** (fraction_words * DIGITS_PER_WORD - scale))
    words = []
    while limbs:
        words.append(_divide(limbs, int(_BASE)))
        _trim(limbs)
    while len(words) < fraction_words:
        words.append(np.zeros(len(column), np.uint64))
    matrix = _laid_out(words, fraction_words, prec, scale, negative)
    if column.null_count:
        matrix[column.is_null().to_numpy(zero_copy_only=False)] = 0
    return matrix


def _laid_out(words: Limbs, fraction_words: int, prec: int, scale: int, negative: Bools) -> Bytes:
    """`words` are those of the value, the least significant first."""
    count = len(negative)
    whole = words[fraction_words:]
    shown = np.zeros(count, np.int64)
    for i, word in enumerate(whole, 1):
        shown[word != 0] = i
    if not fraction_words:
        shown = np.maximum(shown, 1)
        whole = whole or [np.zeros(count, np.uint64)]
    fraction = words[:fraction_words][::-1]
    out = np.zeros((count, WORDS + 1), "<u4")
    for places in np.unique(shown).tolist():
        rows = shown == places
        for i, word in enumerate([*whole[:places][::-1], *fraction], 1):
            if i > WORDS:
                raise CodecError(f"a decimal of more than {WORDS} words")
            out[rows, i] = word[rows]
    head = np.zeros((count, 4), np.uint8)
    full, rest = divmod(prec - scale, DIGITS_PER_WORD)
    head[:, 0] = shown * DIGITS_PER_WORD - np.where(shown > full, DIGITS_PER_WORD - rest, 0) * (rest > 0)
    head[:, 1] = head[:, 2] = scale
    head[:, 3] = negative
    matrix = out.view(np.uint8)
    matrix[:, :4] = head
    return matrix


def _magnitudes(column: Any) -> tuple[Limbs, Bools]:
    """Absolute values as limbs, high zeros trimmed, and which are negative; NULLs are 0."""
    count = len(column)
    width = column.type.byte_width // 4
    buffer = column.buffers()[1]
    if not count or buffer is None:
        return [], np.zeros(count, np.bool_)
    raw = np.frombuffer(buffer, "<u4", count=(column.offset + count) * width).reshape(-1, width)[column.offset :]
    negative = raw[:, -1] >> np.uint32(31) != 0
    if column.null_count:
        null = column.is_null().to_numpy(zero_copy_only=False)
        raw = raw.copy()
        raw[null] = 0
        negative = negative & ~null
    limbs = [raw[:, i].astype(np.uint64) for i in range(width)]
    _negate(limbs, negative)
    _trim(limbs)
    return limbs, negative


def _negate(limbs: Limbs, rows: Bools) -> None:
    """Two's complement of some rows."""
    if not rows.any():
        return
    carry = rows.astype(np.uint64)
    flip = np.where(rows, _LOW, np.uint64(0))
    for i, limb in enumerate(limbs):
        value = (limb ^ flip) + carry
        limbs[i], carry = value & _LOW, value >> _SHIFT


def _trim(limbs: Limbs) -> None:
    while limbs and not limbs[-1].any():
        limbs.pop()


def _multiply(limbs: Limbs, factor: int) -> None:
    """Multiplies by a number below 2**32."""
    if factor == 1 or not limbs:
        return
    carry = np.zeros(len(limbs[0]), np.uint64)
    for i, limb in enumerate(limbs):
        value = limb * np.uint64(factor) + carry
        limbs[i], carry = value & _LOW, value >> _SHIFT
    if carry.any():
        limbs.append(carry)


def _add(limbs: Limbs, summand: npt.NDArray[np.uint64]) -> None:
    """Adds a number below 2**32 to each row."""
    carry = summand
    for i, limb in enumerate(limbs):
        value = limb + carry
        limbs[i], carry = value & _LOW, value >> _SHIFT
        if not carry.any():
            return
    limbs.append(carry)


def _divide(limbs: Limbs, divisor: int) -> npt.NDArray[np.uint64]:
    """Divides by a number below 2**32 and returns the remainders."""
    by = np.uint64(divisor)
    rest = np.zeros(len(limbs[0]), np.uint64)
    for i in reversed(range(len(limbs))):
        value = rest << _SHIFT | limbs[i]
        limbs[i], rest = value // by, value % by
    return rest


def decode_decimals(matrix: Bytes, type_: FieldType, valid: Bools) -> Any:
    """Decodes a matrix of 40 bytes a row to an Arrow array. Digits beyond the type's scale are rounded away.

    Raises CodecError for what is no decimal, or too large for the type.
    """
    scale = decimal_shape(type_)[1]
    arrow = arrow_type(type_)
    width = arrow.byte_width // 4
    out = np.zeros((len(matrix), width), "<u4")
    shape = matrix[:, 0].astype(np.int64) << 8 | matrix[:, 1]
    for key in np.unique(shape[valid]).tolist():
        rows = np.flatnonzero(valid & (shape == key))
        limbs = _unscaled(matrix[rows], key >> 8, key & 0xFF, scale)
        _check_size(limbs, width)
        limbs += [np.zeros(len(rows), np.uint64)] * (width - len(limbs))
        _negate(limbs, matrix[rows, 3] != 0)
        for i, limb in enumerate(limbs):
            out[rows, i] = limb
    return primitive(arrow, out, valid)


def _check_size(limbs: Limbs, width: int) -> None:
    _trim(limbs)
    if len(limbs) > width or (len(limbs) == width and bool((limbs[-1] >> np.uint64(31)).any())):
        raise CodecError("a decimal too large for its column")


def _unscaled(matrix: Bytes, whole_digits: int, digits: int, scale: int) -> Limbs:
    """The values times 10**scale of rows that all have so many digits before and after the point."""
    whole_words, fraction_words = -(-whole_digits // DIGITS_PER_WORD), -(-digits // DIGITS_PER_WORD)
    if whole_words + fraction_words > WORDS:
        raise CodecError(f"a decimal of {whole_digits} and {digits} digits")
    words = np.ascontiguousarray(matrix[:, 4:]).view("<u4").astype(np.uint64)
    limbs: Limbs = []
    for i in range(whole_words + fraction_words):
        word = words[:, i]
        if bool((word >= _BASE).any()):
            raise CodecError("a decimal with a word of more than nine digits")
        _multiply(limbs, int(_BASE))
        _add(limbs, word)
    more = scale - fraction_words * DIGITS_PER_WORD
    if more < 0:
        _shift_down(limbs, -more)
    for done in range(0, more, DIGITS_PER_WORD):
        _multiply(limbs, 10 ** min(more - done, DIGITS_PER_WORD))
    return limbs


def _shift_down(limbs: Limbs, places: int) -> None:
    """Divides by 10**places, rounding half away from zero."""
    _trim(limbs)
    if not limbs:
        return
    while places > 1:
        step = min(places - 1, DIGITS_PER_WORD)
        _divide(limbs, 10**step)
        places -= step
    _add(limbs, np.full(len(limbs[0]), 5, np.uint64))
    _divide(limbs, 10)
