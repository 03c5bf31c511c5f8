"""The interactive shell, driven through prompt_toolkit's pipe input."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.formatted_text import fragment_list_to_text
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from shell import history as history_module
from shell.highlight import ShellLexer
from shell.history import history_path, open_history
from shell.output import StandardOutput
from shell.repl import Repl, bare_command
from shell.runner import Runner, Settings
from shell.session import Session
from sqlfront.errors import error
from tests.shell.fake import INT, Answer, FakeDatabase, column, sleeping, wait_until

CTRL_C, CTRL_D = "\x03", "\x04"


class Shell:
    """A shell on a fake database; `type` runs it on some keys and returns what was printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.fake = FakeDatabase({"select 1": Answer([column("a", INT)], [(1,)])})
        self.session = Session("shop.db", self.fake.connect)  # type: ignore[arg-type]
        self.history = InMemoryHistory()

    def type(self, keys: str) -> str:
        import sys

        settings = Settings(timing=False)
        self.runner = Runner(self.session, settings, StandardOutput(), sys.stderr, interactive=True)
        with create_pipe_input() as source:
            source.send_text(keys)
            self.repl = Repl(self.runner, input=source, output=DummyOutput(), history=self.history)
            self.repl.run()
        captured = self._capsys.readouterr()
        self.complained = captured.err
        return captured.out.split("\n", 1)[1]

    @property
    def typed(self) -> list[str]:
        """The user's own statements."""
        return [s for s in self.fake.executed if "information_schema" not in s and s != "SHOW DATABASES"]

    @property
    def prompt(self) -> str:
        return fragment_list_to_text(self.repl._message())


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    made = Shell(capsys)
    yield made
    made.session.close()


def test_a_statement_and_its_status(shell: Shell) -> None:
    assert shell.type("select 1;\r" + CTRL_D) == "+---+\n| a |\n+---+\n| 1 |\n+---+\n1 row in set\n\n"


def test_enter_continues_until_the_semicolon(shell: Shell) -> None:
    shell.type("select\r1\r;\r" + CTRL_D)
    assert shell.typed == ["select\n1"]
    assert shell.history.get_strings() == ["select\n1\n;"]


def test_capital_g(shell: Shell) -> None:
    assert "1. row" in shell.type("select 1\\G\r\\q\r")


def test_a_quoted_semicolon_does_not_end(shell: Shell) -> None:
    shell.type("select ';\r';\r" + CTRL_D)
    assert shell.typed == ["select ';\n'"]


def test_several_statements_on_a_line_stop_at_an_error(shell: Shell) -> None:
    shell.fake.answers["bad"] = error(1064, "syntax", position=0)
    shell.type("select 1; bad; select 1;\rselect 1;\r" + CTRL_D)
    assert shell.typed == ["select 1", "bad", "select 1"]
    assert shell.complained == "ERROR 1064 (42000): syntax\nLINE 1: bad\n        ^\n\n"


def test_ctrl_c_clears_the_line(shell: Shell) -> None:
    shell.type("select nonsense" + CTRL_C + "select 1;\r" + CTRL_D)
    assert shell.typed == ["select 1"]


def test_words_of_the_mysql_client(shell: Shell) -> None:
    shell.type("use shop\rselect 1;\rexit\r")
    assert shell.typed == ["USE `shop`", "select 1"]
    assert shell.prompt == "shop> "


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("exit", "\\q"),
        ("QUIT;", "\\q"),
        ("help", "\\?"),
        ("use shop;", "\\u shop"),
        ("source a.sql", "\\i a.sql"),
        ("use a b", "use a b"),
        ("select 1;", "select 1;"),
    ],
)
def test_bare_command(typed: str, command: str) -> None:
    assert bare_command(typed) == command


def test_the_prompt_shows_an_open_transaction(shell: Shell) -> None:
    out = shell.type("begin;\r" + CTRL_D)
    assert shell.prompt == "test*> "
    assert "the open transaction is rolled back" in out


def test_continuation_prompts(shell: Shell) -> None:
    shell.type(CTRL_D)
    for text, prompt in [("select 1", "-> "), ("select 'a", "'> "), ("/* a", "/*> "), ("select `a", "`> ")]:
        assert shell.repl._continuation_text(text) == prompt
    assert fragment_list_to_text(shell.repl._continuation(7, 1, 0)) == "    -> "
    assert fragment_list_to_text(shell.repl._continuation(7, 1, 1)) == " " * 7


def test_delimiter_lasts(shell: Shell) -> None:
    shell.type("delimiter //\rselect 1; select 2//\rdelimiter ;\rselect 1;\r" + CTRL_D)
    assert shell.typed == ["select 1; select 2", "select 1"]


def test_status_lines(shell: Shell) -> None:
    shell.fake.answers["update t"] = Answer(
        rowcount=2, info="Rows matched: 2  Changed: 2", warnings=[("Warning", 1265, "x")]
    )
    shell.fake.answers["none"] = Answer([column("a")], [])
    out = shell.type("update t;\rnone;\r\\timing on\rselect 1;\r" + CTRL_D)
    assert "Query OK, 2 rows affected, 1 warning\nRows matched: 2  Changed: 2\n\n" in out
    assert "Empty set\n" in out
    assert "1 row in set (" in out


def test_ctrl_c_stops_the_statement_and_keeps_the_session(shell: Shell) -> None:
    shell.fake.answers["sleep"] = sleeping
    connection = shell.session.connection

    def press() -> None:
        wait_until(connection.running.is_set)  # type: ignore[attr-defined]
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)  # another thread that the kernel chose would not wake this one

    presser = threading.Thread(target=press)
    presser.start()
    out = shell.type("sleep;\rselect 1;\r" + CTRL_D)
    presser.join()
    assert shell.complained == "\nERROR 1317 (70100): Query execution was interrupted\n\n"
    assert "1 row in set" in out


def test_a_bug_does_not_end_the_session(shell: Shell) -> None:
    shell.fake.answers["bug"] = ZeroDivisionError("oops")
    out = shell.type("bug;\rselect 1;\r" + CTRL_D)
    assert "this is a bug in sqlfront" in shell.complained
    assert "ZeroDivisionError: oops" in shell.complained
    assert "1 row in set" in out


def test_the_editor_fills_the_prompt(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "editor"
    script.write_text('#!/bin/sh\ncat "$1" > "$0.saw"\necho "select 2;" > "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(script))
    shell.type("select 1;\r\\e\r\r" + CTRL_D)
    assert (tmp_path / "editor.saw").read_text() == "select 1;\n"
    assert shell.typed == ["select 1", "select 2"]


def test_watch_repeats_until_ctrl_c(shell: Shell) -> None:
    def press() -> None:
        wait_until(lambda: len(shell.typed) >= 3)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    shell.type("select 1;\r\\w 0.01\r" + CTRL_D)
    presser.join()
    assert set(shell.typed) == {"select 1"}


def test_history_is_private_and_without_passwords(tmp_path: Path) -> None:
    path = history_path({"XDG_STATE_HOME": str(tmp_path / "state")})
    assert path == tmp_path / "state" / "sqlfront" / "history"
    history, complaint = open_history(path)
    assert complaint == ""
    history.append_string("select 1;")
    history.append_string("create user a identified by 'secret';")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "select 1" in path.read_text()
    assert "secret" not in path.read_text()


def test_history_of_another_mode_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.touch(mode=0o644)
    open_history(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_history_that_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    history, complaint = open_history(tmp_path / "file" / "history")
    assert "history is not kept" in complaint
    history.append_string("x")


def test_history_is_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history"
    history, _ = open_history(path)
    for i in range(100):
        history.append_string(f"select {i};")
    monkeypatch.setattr(history_module, "HISTORY_BYTES_MAX", 1000)
    history, _ = open_history(path)
    kept = list(history.load_history_strings())
    assert kept[0] == "select 99;"
    assert 40 < len(kept) < 60
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lexer_takes_commands_and_sql() -> None:
    for text in ("\\d flights\nselect 1", "select 'a' from b -- c\n"):
        assert "".join(value for _, value in ShellLexer(ensurenl=False, stripnl=False).get_tokens(text)) == text


def test_on_a_real_database(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    session = Session(":memory:")
    try:
        runner = Runner(session, Settings(), StandardOutput(), sys.stderr, interactive=True)
        keys = (
            "create table item (\rid bigint primary key,\rname varchar(20)\r);\r"
            "begin; insert into item values (1, 'pen'), (2, null);\r"
            "select name\rfrom item\rorder by id;\r"
            "select nme\rfrom item;\r"
            "\\d item\r"
            "rollback; select count(*) as c from item\\G\r\\q\r"
        )
        with create_pipe_input() as source:
            source.send_text(keys)
            Repl(runner, input=source, output=DummyOutput(), history=InMemoryHistory()).run()
    finally:
        session.close()
    captured = capsys.readouterr()
    assert "+------+\n| name |\n+------+\n| pen  |\n| NULL |\n+------+\n2 rows in set\n" in captured.out
    assert "| id    | bigint      | NO   | PRI |" in captured.out
    assert "| PRIMARY    |          0 |            1 | id          |" in captured.out
    assert captured.out.endswith("c: 0\n1 row in set\n\n")
    complaint = captured.err.splitlines()
    assert complaint[0].startswith("ERROR 1054 (42S22): Unknown column 'nme' in 'field list'")
    assert complaint[1:3] == ["LINE 1: select nme", "               ^"]
