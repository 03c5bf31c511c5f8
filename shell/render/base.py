"""What every writer of rows implements, and what it is told about its surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shell.values import Column, Row


class TextSink(Protocol):
    """Where finished text goes."""

    def write(self, text: str, /) -> object: ...


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """`terminal_columns` is the terminal's width when the result is for a terminal, else None: then nothing is cut."""

    header: bool = True
    terminal_columns: int | None = None


class RowWriter(Protocol):
    """Writes one result as it arrives; a batch has at least one row."""

    def begin(self, columns: Sequence[Column]) -> None: ...

    def rows(self, batch: Sequence[Row]) -> None: ...

    def end(self) -> None: ...
