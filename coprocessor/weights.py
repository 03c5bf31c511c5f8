"""The weights of characters under the collations that ignore case and accents.

    utf8mb4_general_ci   one weight a character: the capital letter without accents; 0xFFFD beyond the BMP
    utf8mb4_unicode_ci   the primary weights of the Unicode Collation Algorithm 4.0.0; 0xFFFD beyond the BMP
    utf8mb4_0900_ai_ci   those of version 9.0.0, for all of Unicode

As MySQL and TiDB have them, without contractions. A character has up to eight weights of 16 bits, or none (it is
ignored); a string's weights are those of its characters, one after the other, and strings compare as these do. The
tables are in `weights.npz` (`weight_tables.py` makes it); what they lack follows a rule.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cache
from pathlib import Path

WEIGHTS_MAX = 8
REPLACEMENT = 0xFFFD
_BMP_END = 0x10000
_PRIVATE = 0xF0000
"""Behind it, a character for each weight that no character of its own stands for."""
_PRIVATE_CLASSES = 0xE000
_PRIVATE_CLASSES_END = 0xF8FF

Rule = Callable[[int], tuple[int, ...]]


def tables_path() -> Path:
    return Path(__file__).with_name("weights.npz")


def implicit_0400(code: int) -> tuple[int, ...]:
    """The weights that version 4.0.0 gives to ideographs and to what was not assigned."""
    if 0x3400 <= code <= 0x4DB5:
        base = 0xFB80
    elif 0x4E00 <= code <= 0x9FA5 or 0xFA0E <= code <= 0xFA0F:
        base = 0xFB40
    else:
        base = 0xFBC0
    return _derived(base, code)


def _derived(base: int, code: int) -> tuple[int, int]:
    return base + (code >> 15), code & 0x7FFF | 0x8000


_HAN_0900 = ((0x3400, 0x4DB5), (0x20000, 0x2A6D6), (0x2A700, 0x2B734), (0x2B740, 0x2B81D), (0x2B820, 0x2CEA1))


def _implicit_0900(code: int) -> tuple[int, ...]:
    if 0x17000 <= code <= 0x18AFF:  # Tangut
        return 0xFB00, code - 0x17000 | 0x8000
    if any(first <= code <= last for first, last in _HAN_0900):
        base = 0xFB80
    elif 0x4E00 <= code <= 0x9FD5 or 0xFA0E <= code <= 0xFA29:
        base = 0xFB40
    else:
        base = 0xFBC0
    return _derived(base, code)


_HANGUL, _HANGUL_END = 0xAC00, 0xD7AF
_LEADING, _VOWEL, _TRAILING = 0x1100, 0x1161, 0x11A7
_VOWELS, _TRAILINGS = 21, 28


class Weights:
    """The weights under one collation. All of its results are made once for each character that occurs."""

    def __init__(self, name: str) -> None:
        """`name` is that of the table: general, u0400 or u0900."""
        import numpy as np  # the catalog, which asks for no weights, comes without it

        with np.load(tables_path()) as tables:
            codes, counts, weights = (tables[f"{name}_{part}"] for part in ("codes", "counts", "weights"))
        ends = np.cumsum(counts, dtype=np.int64).tolist()
        flat = weights.tolist()
        starts = [0, *ends]
        self._explicit = {
            code: tuple(flat[start:end]) for code, start, end in zip(codes.tolist(), starts, ends, strict=False)
        }
        self._rule: Rule = {"general": _one_of_itself, "u0400": implicit_0400, "u0900": self._beyond_table}[name]
        self._bmp_only = name != "u0900"
        self._as_units = _Table(lambda code: "".join(map(chr, self.of(code))))
        self._alike = _Table(self._texts_of_weights() if name != "general" else lambda code: chr(self.of(code)[0]))
        self._classes = _Table(self._class_of)
        self._class_numbers: dict[str, str] = {}
        self._singles: list[tuple[int, int]] | None = None
        """The weights that characters have alone, in order, each with one of these."""

    def of(self, code: int) -> tuple[int, ...]:
        """The weights of one character."""
        if self._bmp_only and code >= _BMP_END:
            return (REPLACEMENT,)
        found = self._explicit.get(code)
        return self._rule(code) if found is None else found

    def _beyond_table(self, code: int) -> tuple[int, ...]:
        if 0xD800 <= code <= 0xDFFF or code == REPLACEMENT:
            return (REPLACEMENT,)
        if _HANGUL <= code <= _HANGUL_END:
            leading, rest = divmod(code - _HANGUL, _VOWELS * _TRAILINGS)
            vowel, trailing = divmod(rest, _TRAILINGS)
            jamo = [_LEADING + leading, _VOWEL + vowel, *([_TRAILING + trailing] if trailing else [])]
            return tuple(self.of(letter)[0] for letter in jamo)
        return _implicit_0900(code)

    def key(self, text: str) -> bytes:
        """The sort key: all weights, big-endian."""
        return text.translate(self._as_units).encode("utf-16-be", "surrogatepass")

    def alike(self, text: str) -> str:
        """A text that strings have in common that are equal; its ASCII letters are capital (general_ci) or small.

        Under general_ci it also sorts as the strings do. What is ASCII and printable, or white space, stays so.
        """
        return text.translate(self._alike)

    def classes(self, text: str) -> str:
        """One character for each of the text's, the same for those that are equal: for patterns and searches.

        It means something within this process only.
        """
        return text.translate(self._classes)

    def following(self, character: str) -> str | None:
        """A character that sorts behind all strings that begin with this one, whatever their weights; None when there
        is none, or this one has not exactly one weight."""
        own = self.of(ord(character))
        if len(own) != 1:
            return None
        if self._singles is None:
            codes = (*range(0x20, 0xD800), *range(0xE000, _BMP_END))
            found = {weights[0]: code for code in reversed(codes) if len(weights := self.of(code)) == 1}
            self._singles = sorted(found.items())
        at = bisect_right(self._singles, own[0], key=lambda single: single[0])
        return chr(self._singles[at][1]) if at < len(self._singles) else None

    def _texts_of_weights(self) -> Callable[[int], str]:
        """The function from a character to what stands for its weights: what is ASCII where that has the weight."""
        spaces_and_printable = (*reversed(range(0x20, 0x7F)), *range(0x09, 0x0E))
        own = {self.of(code): chr(code) for code in spaces_and_printable if not 0x41 <= code <= 0x5A}
        return lambda code: "".join(own.get((w,)) or chr(_PRIVATE + w) for w in self.of(code))

    def _class_of(self, code: int) -> str:
        text = self._alike[code]
        if len(text) == 1:
            return text
        if text not in self._class_numbers:
            number = _PRIVATE_CLASSES + len(self._class_numbers)
            # more than there are classes of characters with several weights outside of East Asian scripts
            self._class_numbers[text] = chr(number) if number <= _PRIVATE_CLASSES_END else chr(code)
        return self._class_numbers[text]


def _one_of_itself(code: int) -> tuple[int, ...]:
    return (code,)


class _Table(dict[int, str]):
    """What `str.translate` asks; made for a character when it first occurs."""

    def __init__(self, make: Callable[[int], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, code: int) -> str:
        text = self[code] = self._make(code)
        return text


_TABLES = {"general_ci": "general", "unicode_ci": "u0400", "0900_ai_ci": "u0900"}


_loaded = cache(Weights)


@cache
def weights_of(collate: str) -> Weights | None:
    """The weights of a collation by its name, one object for utf8 and utf8mb4; None for one without weights here."""
    table = _TABLES.get(collate.partition("_")[2])
    return None if table is None else _loaded(table)
