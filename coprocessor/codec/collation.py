"""Sort keys of collations: the bytes by which strings are compared and under which they lie in keys.

`binary` compares raw bytes; the `_bin` collations of MySQL are PAD SPACE, so trailing spaces do not count;
`utf8mb4_0900_bin` does not pad. The case-insensitive collations give every character a weight without case and accents:
`utf8mb4_general_ci` two bytes a character as in TiDB, the UCA collations (`unicode_ci`, `0900_ai_ci`) the folded text.
Weights of the _ci collations follow Unicode's decomposition and case mapping; they are not MySQL's tables to the byte.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import lru_cache

from coprocessor.errors import Unsupported
from coprocessor.types import FieldType

SortKey = Callable[[str], bytes]

_NO_PAD_BIN = frozenset({"utf8mb4_0900_bin", "binary"})
_UCA = frozenset({"utf8mb4_unicode_ci", "utf8_unicode_ci", "utf8mb3_unicode_ci"})
_GENERAL = frozenset({"utf8mb4_general_ci", "utf8_general_ci", "utf8mb3_general_ci", "latin1_swedish_ci"})
_REPLACEMENT_WEIGHT = 0xFFFD


@lru_cache(maxsize=65536)
def _general_weight(char: str) -> bytes:
    if ord(char) > 0xFFFF:
        return _REPLACEMENT_WEIGHT.to_bytes(2, "big")
    base = unicodedata.normalize("NFD", char)[0]
    upper = base.upper()
    weight = ord(upper[0])
    return (weight if weight <= 0xFFFF else _REPLACEMENT_WEIGHT).to_bytes(2, "big")


def _bin_pad(text: str) -> bytes:
    return text.rstrip(" ").encode()


def _bin_no_pad(text: str) -> bytes:
    return text.encode()


def _general_ci(text: str) -> bytes:
    return b"".join(map(_general_weight, text.rstrip(" ")))


def _fold(text: str) -> bytes:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char)).encode()


def _unicode_ci(text: str) -> bytes:
    return _fold(text.rstrip(" "))


def sort_key(collate: str) -> SortKey:
    """Returns the function from a string to its sort key under `collate` (empty: the default, utf8mb4_bin)."""
    if collate in _NO_PAD_BIN:
        return _bin_no_pad
    if not collate or collate.endswith("_bin"):
        return _bin_pad
    if collate in _GENERAL:
        return _general_ci
    if collate in _UCA:
        return _unicode_ci
    if collate == "utf8mb4_0900_ai_ci":
        return _fold
    raise Unsupported(f"collation '{collate}' is not supported")


def is_bin_collation(collate: str) -> bool:
    """Whether strings of this collation are equal only when their bytes are (but for trailing spaces)."""
    return not collate or collate == "binary" or collate.endswith("_bin")


def pads_space(collate: str) -> bool:
    """Whether trailing spaces do not count in comparisons."""
    return collate not in _NO_PAD_BIN and "0900" not in collate


def needs_restored_data(type_: FieldType) -> bool:
    """Whether the comparable encoding of a value loses what is needed to restore it (TiDB's `NeedRestoredData`).

    CHAR under a _bin collation does not: its trailing spaces are gone before it is stored.
    """
    from coprocessor.types import BLOB_TPS, STRING_TPS, Tp

    if type_.tp not in STRING_TPS or type_.is_binary or type_.collate in _NO_PAD_BIN:
        return False
    return not is_bin_collation(type_.collate) or type_.tp in (Tp.VARCHAR, Tp.VAR_STRING) or type_.tp in BLOB_TPS
