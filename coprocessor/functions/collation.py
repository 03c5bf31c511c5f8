"""Collations: which strings are equal and how they order.

`sort_key(collate)` is the Python form, `duck_key(collate, text, pad)` the DuckDB form of the same key. utf8mb4_bin (the
default) is PAD SPACE: trailing spaces do not count. The `_ci` collations compare without case and accents (letters are
decomposed, marks dropped, lower-cased), which is what utf8mb4_general_ci and utf8mb4_0900_ai_ci do for Latin, Greek and
Cyrillic letters; `utf8mb4_0900_*` and `binary` are NO PAD.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any, TypeAlias

from coprocessor.types import FieldType

SortKey: TypeAlias = Callable[[Any], Any]


def is_ci(collate: str) -> bool:
    """True for collations that ignore case."""
    return collate.endswith("_ci")


def pads(collate: str) -> bool:
    """True for collations that ignore trailing spaces."""
    return collate != "binary" and "_0900_" not in collate


def fold_text(text: str) -> str:
    """Drops accents and case."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).lower()


def _strip(text: str) -> str:
    return text.rstrip(" ")


def _fold_strip(text: str) -> str:
    return fold_text(text).rstrip(" ")


def sort_key(ft: FieldType) -> SortKey | None:
    """Returns the function from a value to what compares in its collation; None when values compare as they are."""
    if not ft.is_string or ft.is_binary:
        return None
    if is_ci(ft.collate):
        return _fold_strip if pads(ft.collate) else fold_text
    return _strip if pads(ft.collate) else None


def duck_key(ft: FieldType, text: str, *, pad: bool) -> str:
    """Returns the DuckDB text of the sort key; `pad` False leaves trailing spaces alone."""
    if not ft.is_string or ft.is_binary:
        return text
    if is_ci(ft.collate):
        text = f"lower(strip_accents({text}))"
    return f"rtrim({text}, ' ')" if pad and pads(ft.collate) else text
