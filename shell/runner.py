"""Runs what was typed or read: statements on the session, backslash lines in the command registry, results to writers.

The same runner serves `-e`, scripts, standard input and the interactive shell. `interactive` adds the status lines, the
pager and a terminal's limits; without it only results are printed, and errors go to the message stream in both.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from shell.diagnostics import error_text, location_text, plain_error_text
from shell.output import Destination
from shell.pager import PAGER_OFF, PagedText, PagerClosed
from shell.render import BINARY_FORMATS, row_writer
from shell.render.base import RenderOptions, TextSink
from shell.session import Outcome, Session
from shell.statements import Piece, Splitter, Statement, StatementTooLong
from shell.text import terminal_safe
from sqlfront.errors import ER_QUERY_INTERRUPTED, Error
from sqlfront.errors import error as database_error

READ_CHARS = 256 * 1024
INCLUDE_DEPTH_MAX = 16

_FIRST_WORD = re.compile(r"(?:\s|\(|/\*.*?\*/|(?:--\s|#)[^\n]*)*([a-z]+)", re.IGNORECASE | re.DOTALL)
_SCHEMA_WORDS = frozenset({"CREATE", "DROP", "ALTER", "RENAME", "TRUNCATE", "USE"})


class ShellError(Exception):
    """A mistake in what was asked of the shell itself, with a message for the user."""


class ScriptFailed(Exception):
    """A script run by a command failed; its errors have been reported."""


@dataclass(slots=True)
class Settings:
    """What the options and the backslash commands set."""

    format: str = "table"
    header: bool = True
    timing: bool = False
    vertical: bool = False
    echo: bool = False
    force: bool = False
    pager: str = PAGER_OFF


@dataclass(slots=True)
class Runner:
    """Runs pieces one after another and remembers what commands refer to: the last statement and its warnings."""

    session: Session
    settings: Settings
    destination: Destination
    messages: TextIO
    interactive: bool = False
    last: Statement | None = None
    warnings: list[tuple[str, int, str]] = field(default_factory=list)
    prefill: str = ""
    leaving: bool = False
    interrupted: bool = False
    on_schema_change: Callable[[], None] | None = None
    _depth: int = 0
    _guarded: bool = False
    _paging: bool = False
    _results: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run_chunks(self, chunks: Iterable[str]) -> bool:
        """Runs a script that arrives in chunks; False when anything failed. Stops at the first error unless forced."""
        splitter, good = Splitter(), True
        try:
            for piece in _all_pieces(splitter, chunks):
                good = self.run(piece) and good
                if self._guarded and self._stop.is_set():
                    return False
                if self.leaving or self.interrupted or not (good or self.settings.force):
                    break
        except (StatementTooLong, ShellError) as error:
            self._report(plain_error_text(str(error)), None)
            return False
        return good

    def run_file(self, path: str) -> bool:
        """Runs a script file; False when anything in it failed."""
        if self._depth >= INCLUDE_DEPTH_MAX:
            raise ShellError(f"scripts include each other more than {INCLUDE_DEPTH_MAX} deep at {path!r}")
        self._depth += 1
        try:
            with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                return self.run_chunks(iter(lambda: file.read(READ_CHARS), ""))
        finally:
            self._depth -= 1

    def run_init(self, path: str) -> bool:
        """Runs a start-up script, reporting also that it cannot be read."""
        try:
            return self.run_file(path)
        except BrokenPipeError:
            raise
        except (ShellError, OSError) as error:
            self._report(plain_error_text(str(error)), None)
            return False

    def run(self, piece: Piece) -> bool:
        """Runs one statement or command and reports its error, if any; False when it failed."""
        statement = piece if isinstance(piece, Statement) else None
        try:
            with self.interruptible():
                if statement is not None:
                    self.run_statement(statement)
                else:
                    self._run_command(piece.text)
        except Error as error:
            self._report(error_text(error, statement), statement, located=error.position >= 0)
            self.interrupted = self.interrupted or (error.code == ER_QUERY_INTERRUPTED and self._stop.is_set())
            return False
        except BrokenPipeError:
            raise
        except ScriptFailed:
            return False
        except (ShellError, OSError) as error:
            self._report(plain_error_text(str(error)), None)
            return False
        return True

    def run_statement(self, statement: Statement) -> None:
        """Executes one statement and writes its result; raises what goes wrong."""
        if self.settings.echo:
            self.say(f"{statement.text};\n")
        form = self._format_of(statement)
        outcome = self.session.start(statement.text, rows=form not in BINARY_FORMATS)
        try:
            if outcome.columns is not None:
                self._write_result(outcome, form)
            self.warnings = list(outcome.warnings)
            self._status(outcome)
        finally:
            outcome.close()
        self.last = statement
        self._follow(statement)

    def run_sql(self, sql: str) -> None:
        """Executes SQL on behalf of a command, outside what `\\e` and `\\g` remember."""
        last = self.last
        self.run_statement(Statement(sql))
        self.last = last

    def say(self, text: str) -> None:
        """Writes the shell's own text where results go."""
        self.destination.text().write(text)

    def redirect(self, destination: Destination) -> None:
        """Sends later results elsewhere."""
        self.destination.close()
        self.destination = destination
        self._results = 0

    def wait(self, seconds: float) -> bool:
        """Sleeps; True when the user interrupted it."""
        return self._stop.wait(seconds)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Lets Ctrl-C stop what runs inside instead of ending the shell; a third one in a row ends it."""
        if self._guarded or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._stop.clear()
        self._guarded = True
        presses = 0

        def on_interrupt(number: int, frame: object) -> None:
            nonlocal presses
            # in a pager Ctrl-C belongs to the pager, as often as the user likes
            presses = 1 if self._paging else presses + 1
            self._stop.set()
            if presses > 2:
                os._exit(128 + signal.SIGINT)  # the thread of the statement may be stuck for good; do not wait for it
            self.session.interrupt()
            if presses == 2:
                self.messages.write("\nstill stopping; Ctrl-C once more leaves sqlfront without waiting\n")

        before = signal.signal(signal.SIGINT, on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            self._guarded = False

    def _run_command(self, text: str) -> None:
        from shell.commands import run_command

        run_command(self, text)

    def _report(self, text: str, statement: Statement | None, *, located: bool = True) -> None:
        self.destination.flush()
        if statement is not None and not located and not self.interactive:
            text += location_text(statement)
        if self.interactive:
            # after Ctrl-C the terminal has echoed ^C and stands behind it
            text = ("\n" if self._stop.is_set() else "") + text + "\n"
        self.messages.write(terminal_safe(text))
        self.messages.flush()

    def _format_of(self, statement: Statement) -> str:
        form = self.settings.format
        if form in BINARY_FORMATS:
            if self.destination.is_terminal:
                raise ShellError(f"{form} is a binary format: name a file for it (-o FILE or \\o FILE), or use a pipe")
            return form
        return "vertical" if self.settings.vertical or statement.terminator == "\\G" else form

    def _write_result(self, outcome: Outcome, form: str) -> None:
        self._results += 1
        if form in BINARY_FORMATS:
            if self._results > 1:
                raise ShellError(f"{form} output holds one result, and this is the second: run one query per output")
            self._write_batches(outcome, form)
            return
        if self.interactive and self.destination.is_terminal:
            self._write_to_screen(outcome, form)
            return
        sink = self.destination.text()
        if self._results > 1:
            sink.write("\r\n" if form == "csv" else "\n")
        self._write_rows(outcome, form, sink, None)

    def _write_to_screen(self, outcome: Outcome, form: str) -> None:
        size = shutil.get_terminal_size()
        if self.settings.pager == PAGER_OFF:
            self._write_rows(outcome, form, self.destination.text(), size.columns)
            return
        paged = PagedText(sys.stdout, self.settings.pager, size.columns, size.lines, wide=form == "table")
        self._paging = True
        try:
            self._write_rows(outcome, form, paged, size.columns)
        except PagerClosed:
            return
        finally:
            paged.close()
            self._paging = False

    def _write_rows(self, outcome: Outcome, form: str, sink: TextSink, columns: int | None) -> None:
        assert outcome.columns is not None
        if columns is None and self.destination.is_terminal:
            columns = shutil.get_terminal_size().columns
        writer = row_writer(form, sink, RenderOptions(self.settings.header, columns))
        writer.begin(outcome.columns)
        for batch in outcome.batches():
            writer.rows(batch)
            self._check_stop()
        writer.end()

    def _write_batches(self, outcome: Outcome, form: str) -> None:
        from shell.render.arrow import batch_writer

        schema, batches = outcome.record_batches()
        try:
            writer = batch_writer(form, self.destination.binary(), schema)
            try:
                for batch in batches:
                    writer.write_batch(batch)
                    self._check_stop()
            finally:
                writer.close()
            self.destination.flush()
        except BaseException:
            self.destination.discard()
            raise

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise database_error(ER_QUERY_INTERRUPTED, "Query execution was interrupted")

    def _status(self, outcome: Outcome) -> None:
        if not self.interactive and not self.settings.timing:
            return
        text = status_text(outcome, timing=self.settings.timing)
        if self.interactive:
            self.destination.flush()
            info = f"{outcome.info}\n" if outcome.info else ""
            sys.stdout.write(f"{text}\n{info}\n")
            sys.stdout.flush()
        else:
            self.destination.flush()
            self.messages.write(f"{text}\n")

    def _follow(self, statement: Statement) -> None:
        if self.on_schema_change is None:
            return
        match = _FIRST_WORD.match(statement.text)
        if match and match[1].upper() in _SCHEMA_WORDS:
            self.on_schema_change()


def _all_pieces(splitter: Splitter, chunks: Iterable[str]) -> Iterator[Piece]:
    for chunk in chunks:
        yield from splitter.feed(chunk)
    yield from splitter.finish()


def plural(count: int, noun: str) -> str:
    """Returns the count and the noun: "1 row", "3 rows"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def status_text(outcome: Outcome, *, timing: bool) -> str:
    """Returns the line below a result: what came back, warnings, time in the database."""
    if outcome.columns is not None:
        text = f"{plural(outcome.row_number, 'row')} in set" if outcome.row_number else "Empty set"
        if not outcome.complete:
            text = f"{plural(outcome.row_number, 'row')} read, the rest left out"
    else:
        text = "Query OK" + (f", {plural(outcome.rowcount, 'row')} affected" if outcome.rowcount >= 0 else "")
    if outcome.warnings:
        text += f", {plural(len(outcome.warnings), 'warning')}"
    return f"{text} ({outcome.seconds:.3f} sec)" if timing else text
