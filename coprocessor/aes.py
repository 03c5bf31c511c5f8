"""AES (FIPS 197) in the modes of `block_encryption_mode` (NIST SP 800-38A), for AES_ENCRYPT and AES_DECRYPT.

In Python, some tens of microseconds a block: for columns of secrets, not for files. Nothing here is constant in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

BLOCK = 16


def _double(a: int) -> int:
    return (a << 1 ^ 0x11B) if a & 0x80 else a << 1


def _times(factor: int) -> bytes:
    """The products of all bytes with a factor in the field of 256."""
    out = bytearray()
    for a in range(256):
        product, power, rest = 0, a, factor
        while rest:
            if rest & 1:
                product ^= power
            power, rest = _double(power), rest >> 1
        out.append(product)
    return bytes(out)


def _make_sbox() -> bytes:
    sbox = bytearray(256)
    p = q = 1
    while True:  # p runs through the field by its generator 3, q through the inverses
        p ^= _double(p)
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q = (q ^ 0x09 if q & 0x80 else q) & 0xFF
        spread = q | q << 8
        sbox[p] = (q ^ spread >> 7 ^ spread >> 6 ^ spread >> 5 ^ spread >> 4) & 0xFF ^ 0x63
        if p == 1:
            break
    sbox[0] = 0x63
    return bytes(sbox)


_SBOX = _make_sbox()
_INVERSE = bytes(_SBOX.index(i) for i in range(256))
_X2, _X3, _X9, _X11, _X13, _X14 = map(_times, (2, 3, 9, 11, 13, 14))
_SHIFTED = tuple((i + 4 * (i % 4)) % 16 for i in range(16))
"""Where each byte of a block comes from when its rows are shifted, and back."""
_UNSHIFTED = tuple((i - 4 * (i % 4)) % 16 for i in range(16))


@lru_cache(maxsize=64)
def _round_keys(key: bytes) -> tuple[bytes, ...]:
    words = [key[i : i + 4] for i in range(0, len(key), 4)]
    size, power = len(words), 1
    for i in range(size, 4 * (size + 7)):
        word = words[-1]
        if i % size == 0:
            word = (word[1:] + word[:1]).translate(_SBOX)
            word = bytes([word[0] ^ power]) + word[1:]
            power = _double(power)
        elif size > 6 and i % size == 4:
            word = word.translate(_SBOX)
        words.append(_xor(word, words[i - size]))
    return tuple(b"".join(words[i : i + 4]) for i in range(0, len(words), 4))


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a) ^ int.from_bytes(b)).to_bytes(len(a))


def encrypt_block(key: bytes, block: bytes) -> bytes:
    first, *middle, last = _round_keys(key)
    state = _xor(block, first)
    for round_key in middle:
        s = bytes([state[i] for i in _SHIFTED]).translate(_SBOX)
        mixed = bytearray()
        for c in range(0, 16, 4):
            a, b, d, e = s[c : c + 4]
            mixed += bytes((_X2[a] ^ _X3[b] ^ d ^ e, a ^ _X2[b] ^ _X3[d] ^ e, a ^ b ^ _X2[d] ^ _X3[e],
                            _X3[a] ^ b ^ d ^ _X2[e]))  # fmt: skip
        state = _xor(bytes(mixed), round_key)
    return _xor(bytes([state[i] for i in _SHIFTED]).translate(_SBOX), last)


def decrypt_block(key: bytes, block: bytes) -> bytes:
    first, *middle, last = _round_keys(key)
    state = _xor(block, last)
    for round_key in reversed(middle):
        s = _xor(bytes([state[i] for i in _UNSHIFTED]).translate(_INVERSE), round_key)
        mixed = bytearray()
        for c in range(0, 16, 4):
            a, b, d, e = s[c : c + 4]
            mixed += bytes((_X14[a] ^ _X11[b] ^ _X13[d] ^ _X9[e], _X9[a] ^ _X14[b] ^ _X11[d] ^ _X13[e],
                            _X13[a] ^ _X9[b] ^ _X14[d] ^ _X11[e], _X11[a] ^ _X13[b] ^ _X9[d] ^ _X14[e]))  # fmt: skip
        state = bytes(mixed)
    return _xor(bytes([state[i] for i in _UNSHIFTED]).translate(_INVERSE), first)


def fold_key(key: bytes, bits: int) -> bytes:
    """A key of any length as MySQL makes one of `bits` of it: its bytes laid over each other."""
    out = bytearray(bits // 8)
    for i, byte in enumerate(key):
        out[i % len(out)] ^= byte
    return bytes(out)


def encrypt(data: bytes, key: bytes, mode: str, iv: bytes = b"") -> bytes:
    """Encrypts under a mode, `aes-128-cbc` or so; ecb and cbc fill up the last block (PKCS 7).

    `iv` is a block for all but ecb.
    """
    _, bits, chain = mode.split("-")
    key = fold_key(key, int(bits))
    if chain in ("ofb", "cfb128"):
        return b"".join(_streamed(data, key, iv, chain, encrypting=True))
    fill = BLOCK - len(data) % BLOCK
    out, before = [], iv
    for block in _blocks(data + bytes([fill]) * fill):
        before = encrypt_block(key, _xor(block, before) if chain == "cbc" else block)
        out.append(before)
    return b"".join(out)


def decrypt(data: bytes, key: bytes, mode: str, iv: bytes = b"") -> bytes | None:
    """Undoes `encrypt`; None for what it cannot have given."""
    _, bits, chain = mode.split("-")
    key = fold_key(key, int(bits))
    if chain in ("ofb", "cfb128"):
        return b"".join(_streamed(data, key, iv, chain, encrypting=False))
    if not data or len(data) % BLOCK:
        return None
    out, before = [], iv
    for block in _blocks(data):
        plain = decrypt_block(key, block)
        out.append(_xor(plain, before) if chain == "cbc" else plain)
        before = block
    whole = b"".join(out)
    fill = whole[-1]
    if not 1 <= fill <= BLOCK or whole[-fill:] != bytes([fill]) * fill:
        return None
    return whole[:-fill]


def _blocks(data: bytes) -> Iterator[bytes]:
    return (data[i : i + BLOCK] for i in range(0, len(data), BLOCK))


def _streamed(data: bytes, key: bytes, iv: bytes, chain: str, *, encrypting: bool) -> Iterator[bytes]:
    register = iv
    for block in _blocks(data):
        pad = encrypt_block(key, register)
        out = _xor(block, pad[: len(block)])
        register = pad if chain == "ofb" else out if encrypting else block
        yield out
