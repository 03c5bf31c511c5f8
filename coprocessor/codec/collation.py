"""Sort keys of collations: the bytes by which strings are compared and under which they lie in keys.

`binary` compares raw bytes; the `_bin` collations of MySQL are PAD SPACE, so trailing spaces do not count;
`utf8mb4_0900_bin` does not pad. The `_ci` collations compare weights, which are the key as they are TiDB's.
"""

from __future__ import annotations

from collections.abc import Callable

from coprocessor.errors import Unsupported
from coprocessor.types import BLOB_TPS, STRING_TPS, FieldType, Tp
from coprocessor.weights import weights_of

SortKey = Callable[[str], bytes]

_NO_PAD_BIN = frozenset({"utf8mb4_0900_bin", "binary"})


def _bin_pad(text: str) -> bytes:
    return text.rstrip(" ").encode()


def _bin_no_pad(text: str) -> bytes:
    return text.encode()


def sort_key(collate: str) -> SortKey:
    """Returns the function from a string to its sort key under `collate` (empty: the default, utf8mb4_bin)."""
    if collate in _NO_PAD_BIN:
        return _bin_no_pad
    if not collate or collate.endswith("_bin"):
        return _bin_pad
    weights = weights_of(collate)
    if weights is None:
        raise Unsupported(f"collation '{collate}' is not supported")
    key = weights.key
    return (lambda text: key(text.rstrip(" "))) if pads_space(collate) else key


def member_key(collate: str) -> Callable[[str], object]:
    """The key by which the members of an ENUM or SET are found; trailing spaces count under no collation."""
    if not collate.endswith("_ci"):
        return lambda name: name.rstrip(" ")
    weights = weights_of(collate) or weights_of("utf8mb4_general_ci")
    assert weights is not None
    key = weights.key
    return lambda name: key(name.rstrip(" "))


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
    if type_.tp not in STRING_TPS or type_.is_binary or type_.collate in _NO_PAD_BIN:
        return False
    return not is_bin_collation(type_.collate) or type_.tp in (Tp.VARCHAR, Tp.VAR_STRING) or type_.tp in BLOB_TPS
