"""AES in the modes of `block_encryption_mode`, for AES_ENCRYPT and AES_DECRYPT. The door to the package cryptography,
which comes with the extra `crypto`: importing this raises ImportError without it.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.decrepit.ciphers.modes import CFB, OFB
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB, ModeWithInitializationVector
from cryptography.hazmat.primitives.padding import PKCS7

BLOCK_BITS = 128
STREAMS = ("ofb", "cfb128")
"""The modes that do not fill up the last block."""


def encrypt(data: bytes, key: bytes, mode: str, iv: bytes = b"") -> bytes:
    """Encrypts under a mode, `aes-128-cbc` or so; ecb and cbc fill up the last block (PKCS 7).

    `iv` is a block for all but ecb.
    """
    chain = mode.rpartition("-")[2]
    if chain not in STREAMS:
        padder = PKCS7(BLOCK_BITS).padder()
        data = padder.update(data) + padder.finalize()
    encryptor = _cipher(key, mode, iv).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def decrypt(data: bytes, key: bytes, mode: str, iv: bytes = b"") -> bytes | None:
    """Undoes `encrypt`; None for what it cannot have given."""
    chain = mode.rpartition("-")[2]
    decryptor = _cipher(key, mode, iv).decryptor()
    try:
        plain = decryptor.update(data) + decryptor.finalize()
        if chain in STREAMS:
            return plain
        unpadder = PKCS7(BLOCK_BITS).unpadder()
        return unpadder.update(plain) + unpadder.finalize()
    except ValueError:  # not of whole blocks, or not filled up as `encrypt` does
        return None


def _cipher(key: bytes, mode: str, iv: bytes) -> Cipher[ECB | ModeWithInitializationVector]:
    _, bits, chain = mode.split("-")
    modes: dict[str, Callable[[bytes], ModeWithInitializationVector]] = {"cbc": CBC, "cfb128": CFB, "ofb": OFB}
    return Cipher(algorithms.AES(fold_key(key, int(bits))), ECB() if chain == "ecb" else modes[chain](iv))


def fold_key(key: bytes, bits: int) -> bytes:
    """A key of any length as MySQL makes one of `bits` of it: its bytes laid over each other."""
    out = bytearray(bits // 8)
    for i, byte in enumerate(key):
        out[i % len(out)] ^= byte
    return bytes(out)
