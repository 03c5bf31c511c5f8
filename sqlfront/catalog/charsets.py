"""Character sets and collations: which there are, and what is stored for those that a definition names.

Text is UTF-8 throughout. A definition may name any character set whose characters Unicode has and whose texts are
commonly in dumps; utf8mb4 is stored, with the collation of utf8mb4 that compares alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from coprocessor.codec.collation import pads_space
from coprocessor.types import TEXT_COLLATE
from sqlfront.errors import error, near_match, unsupported

TEXT_DEFAULT = ("utf8mb4", "utf8mb4_bin")
BINARY = ("binary", "binary")


@dataclass(frozen=True, slots=True)
class Collation:
    """One that columns can have."""

    name: str
    charset: str
    number: int
    is_default: bool = False

    @property
    def row(self) -> tuple[str, str, int, str, str, int, str]:
        """Its row in information_schema.COLLATIONS."""
        pad = "PAD SPACE" if pads_space(self.name) else "NO PAD"
        return self.name, self.charset, self.number, "Yes" if self.is_default else "", "Yes", 1, pad


COLLATIONS = (
    Collation("binary", "binary", 63, is_default=True),
    Collation("utf8mb4_bin", "utf8mb4", 46, is_default=True),
    Collation("utf8mb4_general_ci", "utf8mb4", 45),
    Collation("utf8mb4_unicode_ci", "utf8mb4", 224),
    Collation("utf8mb4_0900_ai_ci", "utf8mb4", 255),
    Collation("utf8mb4_0900_bin", "utf8mb4", 309),
)
CHARSETS = (("binary", "binary", "Binary pseudo charset", 1), ("utf8mb4", "utf8mb4_bin", "UTF-8 Unicode", 4))

STORED_AS = {
    **{c.name: c.name for c in COLLATIONS},
    "utf8_bin": "utf8mb4_bin", "utf8_general_ci": "utf8mb4_general_ci", "utf8_unicode_ci": "utf8mb4_unicode_ci",
    "utf8mb3_bin": "utf8mb4_bin", "utf8mb3_general_ci": "utf8mb4_general_ci",
    "utf8mb3_unicode_ci": "utf8mb4_unicode_ci",
    "ascii_bin": "utf8mb4_bin", "ascii_general_ci": "utf8mb4_general_ci",
    "latin1_bin": "utf8mb4_bin", "latin1_general_ci": "utf8mb4_general_ci", "latin1_swedish_ci": "utf8mb4_general_ci",
}  # fmt: skip
"""Every collation that may be named, and the one of a column that names it."""


def compared_as(name: str) -> str:
    """By which collation a session with this `collation_connection` compares literals; `binary` is none of text."""
    stored = STORED_AS.get(name, TEXT_COLLATE)
    return TEXT_COLLATE if stored == "binary" else stored


_TEXT_CHARSETS = ("utf8mb4", "utf8mb3", "utf8", "ascii", "latin1")
_REFUSED_CHARSETS = frozenset(
    {"gbk", "gb18030", "gb2312", "big5", "utf16", "utf16le", "utf32", "ucs2", "latin2", "latin5", "latin7", "greek"}
    | {"hebrew", "sjis", "cp932", "ujis", "eucjpms", "euckr", "tis620", "koi8r", "koi8u", "cp1250", "cp1251", "cp1252"}
    | {"cp1256", "cp1257", "cp850", "cp852", "cp866", "armscii8", "dec8", "geostd8", "hp8", "keybcs2", "macce"}
    | {"macroman", "swe7"}
)


def check_charset(
    charset: str | None, collate: str | None, default: tuple[str, str] = TEXT_DEFAULT, *, position: int = -1
) -> tuple[str, str]:
    """Returns the charset and collation that are stored for what a definition names; `default` where it names none.

    Raises 1115 and 1273 for names that are none, 1253 for two that do not fit, 1235 for those that are not here.
    """
    charset, collate = (charset or "").lower(), (collate or "").lower()
    if charset in _REFUSED_CHARSETS:
        raise unsupported(f"CHARACTER SET {charset}", position=position)
    if charset and charset != "binary" and charset not in _TEXT_CHARSETS:
        hint = near_match(charset, _TEXT_CHARSETS)
        raise error(1115, f"Unknown character set: '{charset}'{hint}", position=position)
    if not collate:
        return default if not charset else BINARY if charset == "binary" else TEXT_DEFAULT
    stored = STORED_AS.get(collate)
    if stored is None:
        if collate.partition("_")[0] in (*_TEXT_CHARSETS, *_REFUSED_CHARSETS):
            raise unsupported(f"COLLATE {collate}", position=position)
        raise error(1273, f"Unknown collation: '{collate}'{near_match(collate, STORED_AS)}", position=position)
    family = collate.partition("_")[0]
    if charset and charset != family and {charset, family} != {"utf8", "utf8mb3"}:
        message = f"COLLATION '{collate}' is not valid for CHARACTER SET '{charset}'"
        raise error(1253, message, position=position)
    return BINARY if stored == "binary" else ("utf8mb4", stored)
