"""Keys as a person gives and reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kvstore.codec import decode_bytes, encode_bytes
from shell.ctl.session import CtlError

KeyKind = Literal["txn", "raw", "encoded"]


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it was given: text or hexadecimal, of the transactional or the raw interface, or encoded already."""

    text: str
    hex: bool = False
    kind: KeyKind = "txn"

    @property
    def plain(self) -> bytes:
        """The user's key. Raises CtlError."""
        if not self.hex:
            return self.text.encode("utf-8", "surrogateescape")
        try:
            return bytes.fromhex(self.text)
        except ValueError:
            raise CtlError(f"{self.text!r} is not hexadecimal") from None

    @property
    def encoded(self) -> bytes:
        """The key in the space of region bounds."""
        return encode_bytes(self.plain) if self.kind == "txn" else self.plain


def shown(bound: bytes) -> str:
    """A region's bound: hexadecimal, and the user's key where it is an encoded one of printable text."""
    if not bound:
        return ""
    text = bound.hex().upper()
    try:
        plain, end = decode_bytes(bound)
        readable = plain.decode("ascii")
    except (ValueError, IndexError):
        return text
    return f"{text} ({readable})" if end == len(bound) and readable.isprintable() else text
