"""What the demo shows: headings, results as tables, timings, the progress of the load. Only this knows rich."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import sqlfront


class Screen:
    """The terminal, or whatever standard output is."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def heading(self, text: str) -> None:
        self._console.print(f"\n[bold cyan]{text}[/]")

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def ok(self, text: str) -> None:
        self._console.print(f"  [green]✓[/] {text}")

    def wrong(self, text: str) -> None:
        self._console.print(f"  [bold red]✗ {text}[/]")

    def refuse(self, text: str) -> None:
        Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)

    def answer(self, con: sqlfront.Connection, title: str, sql: str) -> None:
        """Runs a query and shows its title, its time and its rows."""
        start = time.perf_counter()
        cursor = con.execute(sql)
        rows = cursor.fetchall()
        milliseconds = (time.perf_counter() - start) * 1000
        self._console.print(f"\n[bold]{title}[/]  [dim]{milliseconds:.0f} ms[/]")
        self.table([column[0] for column in cursor.description or ()], rows)

    def table(self, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Shows rows; numbers to the right."""
        table = Table(header_style="bold", border_style="dim")
        for index, name in enumerate(names):
            numeric = bool(rows) and not isinstance(rows[0][index], str)
            table.add_column(name, justify="right" if numeric else "left")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self._console.print(table)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str, int], Callable[[int, int | None], None]]]:
        """Shows a bar for each table; gives a function that starts one and returns how to move it."""
        columns = (
            TextColumn("  {task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as bars:

            def start(name: str, total: int) -> Callable[[int, int | None], None]:
                task = bars.add_task(name, total=total, rate="")
                began = time.perf_counter()

                def move(done: int, _total: int | None) -> None:
                    rate = done / max(time.perf_counter() - began, 1e-9)
                    bars.update(task, completed=done, rate=f"{rate:>9,.0f} rows/s")

                return move

            yield start


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    return f"{value:,}" if isinstance(value, int | Decimal) else str(value)
