"""The interactive shell: a prompt, what is typed goes to the runner, and again.

Enter runs the input when every statement in it is complete and begins a new line otherwise. Ctrl-C clears the line at
the prompt and stops a running statement (`Runner.interruptible`); Ctrl-D on an empty line leaves.
"""

from __future__ import annotations

import os
import re
import sys
import traceback

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import ThreadedCompleter
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import completion_is_selected, has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from shell.completion import SqlCompleter
from shell.highlight import ShellLexer
from shell.history import history_path, open_history
from shell.metadata import Metadata
from shell.pager import PAGER_OFF, default_pager
from shell.runner import Runner
from shell.statements import DEFAULT_DELIMITER, Piece, Splitter
from shell.text import one_line

_BARE_COMMANDS = {"exit": "\\q", "quit": "\\q", "help": "\\?", "status": "\\s"}
_BARE_WITH_NAME = re.compile(r"(use|source)[ \t]+(\S+)\Z", re.IGNORECASE)
_BARE_NAMES = {"use": "\\u", "source": "\\i"}
_STYLE = Style.from_dict({"prompt": "bold", "star": "bold ansiyellow", "continuation": "ansibrightblack"})


class Repl:
    """One interactive run. Tests hand in prompt_toolkit's input, output and history."""

    def __init__(
        self,
        runner: Runner,
        *,
        input: Input | None = None,
        output: Output | None = None,
        history: History | None = None,
    ) -> None:
        self._runner = runner
        self._delimiter = DEFAULT_DELIMITER
        self._metadata = Metadata(runner.session)
        runner.on_schema_change = lambda: self._metadata.follow(runner.session)
        if runner.settings.pager == PAGER_OFF and input is None:
            runner.settings.pager = default_pager(os.environ)
        self._complaint = ""
        if history is None:
            history, self._complaint = open_history(history_path(os.environ))
        self._prompt: PromptSession[str] = PromptSession(
            message=self._message,
            prompt_continuation=self._continuation,
            multiline=True,
            lexer=PygmentsLexer(ShellLexer, sync_from_start=True),
            completer=ThreadedCompleter(SqlCompleter(self._metadata)),
            complete_while_typing=True,
            validate_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            history=history,
            key_bindings=self._bindings(),
            style=_STYLE,
            enable_open_in_editor=False,
            input=input,
            output=output,
        )

    def run(self) -> None:
        """Prompts until the user leaves."""
        self._greet()
        try:
            while not self._runner.leaving:
                try:
                    self._run_text(self._read())
                except KeyboardInterrupt:  # at the prompt, or in the moment before a statement is there to be stopped
                    continue
                except EOFError:
                    break
        finally:
            self._metadata.close()
        if self._runner.session.in_transaction:
            print("the open transaction is rolled back")

    def _read(self) -> str:
        prefill, self._runner.prefill = self._runner.prefill, ""
        return self._prompt.prompt(default=prefill)

    def _greet(self) -> None:
        import sqlfront

        where = one_line(self._runner.session.path)
        print(f"sqlfront {sqlfront.__version__} on {where}. \\? lists the commands, \\q leaves.")
        if self._complaint:
            print(f"({self._complaint})")

    def _run_text(self, text: str) -> None:
        self._runner.interrupted = False
        for piece in self._pieces(text):
            try:
                if not self._runner.run(piece) and not self._runner.settings.force:
                    return
            except Exception:  # noqa: BLE001 - the edge of the process: a bug must not cost the user the session
                traceback.print_exc()
                sys.stderr.write("this is a bug in sqlfront; the session goes on\n")
                return
            if self._runner.leaving:
                return

    def _pieces(self, text: str) -> list[Piece]:
        splitter = Splitter(self._delimiter)
        pieces = [*splitter.feed(bare_command(text)), *splitter.finish()]
        self._delimiter = splitter.delimiter
        return pieces

    def _waits_for(self, text: str) -> str:
        """Returns what a text still lacks before it can run; see `Splitter.continuation`."""
        if bare_command(text) != text:
            return ""
        splitter = Splitter(self._delimiter)
        for _ in splitter.feed(text + "\n"):
            continue
        return splitter.continuation

    def _message(self) -> StyleAndTextTuples:
        session = self._runner.session
        name = one_line(session.database) or "sqlfront"
        star = "*" if session.in_transaction else ""
        return [("class:prompt", name), ("class:star", star), ("class:prompt", "> ")]

    def _continuation(self, width: int, line_number: int, wrap_count: int) -> StyleAndTextTuples:
        if wrap_count:
            return [("", " " * width)]
        lines = self._prompt.default_buffer.document.lines[:line_number]
        return [("class:continuation", self._continuation_text("\n".join(lines)).rjust(width))]

    def _continuation_text(self, before: str) -> str:
        waits = self._waits_for(before)
        return f"{waits or '-'}> "

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()

        @bindings.add("enter", filter=has_focus(DEFAULT_BUFFER) & ~completion_is_selected)
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if self._waits_for(buffer.text):
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @bindings.add("enter", filter=has_focus(DEFAULT_BUFFER) & completion_is_selected)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.complete_state = None

        return bindings


def bare_command(text: str) -> str:
    """Returns the backslash command for a line that people of the mysql client type without one, or the text itself."""
    line = text.strip().removesuffix(";").rstrip()
    command = _BARE_COMMANDS.get(line.lower())
    if command is not None:
        return command
    match = _BARE_WITH_NAME.match(line)
    if match is not None and "\n" not in line:
        return f"{_BARE_NAMES[match[1].lower()]} {match[2]}"
    return text
