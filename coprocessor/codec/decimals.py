"""MySQL's binary decimal: groups of nine digits in big-endian words, order-preserving (`strings/decimal.c`).

A DECIMAL(p, s) value is `p s` (one byte each) and `bin`, whose length depends on p and s alone: the integer digits in
groups of nine from the point leftwards, the fraction digits in groups of nine from the point rightwards, a partial
group at either end in as few bytes as it needs. The first bit is flipped; a negative value has all bits inverted before
that.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from coprocessor.errors import CodecError, OutOfRange

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DIGITS_PER_WORD = 9
BYTES_OF_DIGITS = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
PRECISION_MAX = 65
SCALE_MAX = 30

CONTEXT = decimal.Context(prec=200, rounding=decimal.ROUND_HALF_UP, Emax=9999, Emin=-9999)


@lru_cache(maxsize=1024)
def word_layout(prec: int, frac: int) -> tuple[tuple[int, int], ...]:
    """Returns the groups of a DECIMAL(prec, frac) as (bytes, digits), most significant first."""
    if not 0 < prec <= PRECISION_MAX or not 0 <= frac <= min(SCALE_MAX, prec):
        raise CodecError(f"no such decimal: DECIMAL({prec},{frac})")
    whole = prec - frac
    words: list[tuple[int, int]] = []
    if lead := whole % DIGITS_PER_WORD:
        words.append((BYTES_OF_DIGITS[lead], lead))
    words += [(4, DIGITS_PER_WORD)] * (whole // DIGITS_PER_WORD + frac // DIGITS_PER_WORD)
    if trail := frac % DIGITS_PER_WORD:
        words.append((BYTES_OF_DIGITS[trail], trail))
    return tuple(words)


def bin_size(prec: int, frac: int) -> int:
    """Returns the length of `bin`, without the two bytes of precision and scale."""
    return sum(size for size, _ in word_layout(prec, frac))


@lru_cache(maxsize=1024)
def unscaled_encoder(prec: int, frac: int) -> Callable[[int], bytes]:
    """Returns the encoder of an unscaled integer (value * 10**frac) to prec, frac and bin."""
    head = bytes((prec, frac))
    words = word_layout(prec, frac)[::-1]
    size = bin_size(prec, frac)
    limit = 10**prec
    flip = 1 << (8 * size - 1)
    mask = (1 << (8 * size)) - 1

    def too_large(unscaled: int) -> OutOfRange:
        return OutOfRange(f"Out of range value: {unscaled}e-{frac} for DECIMAL({prec},{frac})")

    if len(words) <= 3:
        # the usual widths at once: the last group, the one before it, and what is left for the first
        (width, digits), (width2, digits2) = (*words, (0, 0))[:2]
        last, middle = 10**digits, 10**digits2 if len(words) > 2 else limit
        low, high = 8 * width, 8 * (width + width2)

        def encode_few(unscaled: int) -> bytes:
            magnitude = -unscaled if unscaled < 0 else unscaled
            if magnitude >= limit:
                raise too_large(unscaled)
            rest, group = divmod(magnitude, last)
            first, second = divmod(rest, middle)
            packed: int = (first << high | second << low | group) ^ flip
            return head + (packed ^ mask if unscaled < 0 else packed).to_bytes(size, "big")

        return encode_few

    def encode(unscaled: int) -> bytes:
        magnitude = -unscaled if unscaled < 0 else unscaled
        if magnitude >= limit:
            raise too_large(unscaled)
        packed = shift = 0
        for width, digits in words:
            magnitude, group = divmod(magnitude, 10**digits)
            packed |= group << shift
            shift += 8 * width
        if unscaled < 0:
            packed ^= mask
        return head + (packed ^ flip).to_bytes(size, "big")

    return encode


@lru_cache(maxsize=1024)
def decimal_encoder(prec: int, frac: int) -> Callable[[Decimal], bytes]:
    """Returns the encoder of a Decimal, already rounded to `frac`, to prec, frac and bin."""
    encode = unscaled_encoder(prec, frac)
    scale = CONTEXT.scaleb

    def encode_decimal(value: Decimal) -> bytes:
        return encode(int(scale(value, frac)))

    return encode_decimal


@lru_cache(maxsize=4096)
def unscaled_decoder(prec: int, frac: int) -> Callable[[bytes], int]:
    """Returns the decoder of `bin` alone to the unscaled integer."""
    words = word_layout(prec, frac)[::-1]
    size = bin_size(prec, frac)
    flip = 1 << (8 * size - 1)
    mask = (1 << (8 * size)) - 1
    plan = tuple((8 * width, (1 << 8 * width) - 1, 10**digits) for width, digits in words)

    def decode(data: bytes) -> int:
        packed = int.from_bytes(data, "big")
        negative = not packed & flip
        packed ^= flip
        if negative:
            packed ^= mask
        unscaled, unit = 0, 1
        for bits, low, base in plan:
            unscaled += (packed & low) * unit
            packed >>= bits
            unit *= base
        return -unscaled if negative else unscaled

    return decode


@lru_cache(maxsize=4096)
def _decoder_of_head(head: bytes) -> tuple[Callable[[bytes], int], int, int]:
    prec, frac = head
    return unscaled_decoder(prec, frac), -frac, 2 + bin_size(prec, frac)


def decode_decimal(data: bytes) -> Decimal:
    """Decodes prec, frac and bin (with nothing behind it) to a Decimal of exactly frac digits after the point."""
    decode, exponent, size = _decoder_of_head(data[:2])
    if len(data) != size:
        raise CodecError(f"decimal of {len(data)} bytes, expected {size}")
    return CONTEXT.scaleb(Decimal(decode(data[2:])), exponent)


def encoded_size(data: bytes, pos: int) -> int:
    """Returns the length of the decimal (prec, frac, bin) that starts at `pos`."""
    return _decoder_of_head(data[pos : pos + 2])[2]


def words_from_bytes(
    rows: npt.NDArray[np.uint8], prec: int, frac: int
) -> tuple[list[tuple[npt.NDArray[np.int64], int]], npt.NDArray[np.bool_]]:
    """Splits a matrix of `bin` rows into its groups, [(values, digits)], and tells which rows are negative."""
    import numpy as np

    negative = rows[:, 0] < 0x80
    flips = np.where(negative, np.uint8(0xFF), np.uint8(0))
    groups: list[tuple[npt.NDArray[np.int64], int]] = []
    column = 0
    for width, digits in word_layout(prec, frac):
        value = np.zeros(len(rows), np.int64)
        for i in range(column, column + width):
            byte = rows[:, i] ^ flips
            if i == 0:
                byte = byte ^ np.uint8(0x80)
            value = (value << 8) | byte
        groups.append((value, digits))
        column += width
    return groups, negative


def decode_vector(rows: npt.NDArray[np.uint8], prec: int, frac: int) -> npt.NDArray[np.int64]:
    """Decodes a matrix of `bin` rows of a DECIMAL(prec <= 18, frac) to unscaled int64."""
    import numpy as np

    groups, negative = words_from_bytes(rows, prec, frac)
    total = np.zeros(len(rows), np.int64)
    for value, digits in groups:
        total *= 10**digits
        total += value
    return np.where(negative, -total, total)


def decode_vector_wide(rows: npt.NDArray[np.uint8], prec: int, frac: int) -> npt.NDArray[np.uint64]:
    """Decodes a matrix of `bin` rows of a DECIMAL(prec <= 38, frac) to int128 as (low, high) pairs of uint64."""
    import numpy as np

    groups, negative = words_from_bytes(rows, prec, frac)
    mask32 = np.uint64(0xFFFFFFFF)
    # Four limbs of 32 bits: a limb times 10**9 and a carry fit in 64.
    limbs = [np.zeros(len(rows), np.uint64) for _ in range(4)]
    for value, digits in groups:
        carry = value.astype(np.uint64)
        base = np.uint64(10**digits)
        for i in range(4):
            carry = limbs[i] * base + carry
            limbs[i] = carry & mask32
            carry = carry >> np.uint64(32)
    out = np.empty((len(rows), 2), np.uint64)
    out[:, 0] = limbs[0] | (limbs[1] << np.uint64(32))
    out[:, 1] = limbs[2] | (limbs[3] << np.uint64(32))
    if negative.any():
        low = ~out[negative, 0] + np.uint64(1)
        out[negative, 1] = ~out[negative, 1] + (low == 0).astype(np.uint64)
        out[negative, 0] = low
    return out
