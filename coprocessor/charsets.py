"""Character sets other than UTF-8, where text comes in or goes through them: introducers, CONVERT ... USING, files.

Inside, all text is UTF-8. MySQL's latin1 is Windows-1252 with the five bytes that stand for nothing there as they are.
"""

from __future__ import annotations

import codecs

CODECS = {
    "utf8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "utf8": "utf-8",
    "ascii": "ascii",
    "latin1": "cp1252",
    "gbk": "gbk",
    "gb18030": "gb18030",
}
"""MySQL's names of the character sets that there are besides `binary`, and Python's."""

_LEFT_OUT = "sqlfront_latin1"


def _as_they_are(exc: UnicodeError) -> tuple[str, int]:
    assert isinstance(exc, UnicodeDecodeError)
    return exc.object[exc.start : exc.end].decode("latin-1"), exc.end


codecs.register_error(_LEFT_OUT, _as_they_are)


def decode(data: bytes, charset: str) -> str | None:
    """The text that bytes are in a character set; None when they are none."""
    try:
        return data.decode(CODECS[charset], _LEFT_OUT if charset == "latin1" else "strict")
    except UnicodeDecodeError:
        return None


def through(text: str, charset: str) -> str:
    """What is left of a text in a character set: a question mark for each character that is not in it."""
    if text.isascii() or charset == "utf8mb4":
        return text
    if charset in ("utf8", "utf8mb3"):
        return "".join(c if c <= "\uffff" else "?" for c in text)
    codec = CODECS[charset]
    return text.encode(codec, "replace").decode(codec)
