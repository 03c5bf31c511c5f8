"""The runner against canned answers: results, errors, redirection, commands and interruption."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shell.commands import COMMANDS, run_command, table_name
from shell.output import FileOutput, StandardOutput
from shell.render.base import TextSink
from shell.runner import INCLUDE_DEPTH_MAX, Runner, Settings, ShellError
from shell.session import FETCH_ROWS, Session
from shell.statements import Statement
from sqlfront.errors import error
from tests.shell.fake import DECIMAL, INT, Answer, FakeDatabase, column, sleeping, wait_until

INDEXES = (
    "SELECT index_name, non_unique, seq_in_index, column_name FROM information_schema.statistics"
    " WHERE LOWER(table_schema) = {} AND LOWER(table_name) = {} ORDER BY index_name, seq_in_index"
)
ONE = Answer([column("a", INT)], [(1,)])


class Captured:
    """A destination in memory."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        self.is_terminal = is_terminal
        self.buffer = io.StringIO(newline="")
        self.bytes = io.BytesIO()

    def text(self) -> TextSink:
        return self.buffer

    def binary(self) -> io.BytesIO:
        return self.bytes

    def flush(self) -> None:
        self.buffer.flush()

    def discard(self) -> None:
        self.bytes = io.BytesIO()

    def close(self) -> None:
        self.flush()


class Bench:
    """A runner on a fake database with everything captured."""

    def __init__(self, **settings: object) -> None:
        self.fake = FakeDatabase({"select 1": ONE})
        self.out = Captured()
        self.messages = io.StringIO()
        self.session = Session("shop.db", self.fake.connect)  # type: ignore[arg-type]
        self.runner = Runner(self.session, Settings(**settings), self.out, self.messages)  # type: ignore[arg-type]

    def run(self, text: str) -> bool:
        return self.runner.run_chunks([text])

    @property
    def printed(self) -> str:
        return self.out.buffer.getvalue()

    @property
    def complained(self) -> str:
        return self.messages.getvalue()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(format="csv")
    yield made
    made.runner.session.close()


def test_only_results_are_printed(bench: Bench) -> None:
    bench.fake.answers["update t"] = Answer(rowcount=3)
    assert bench.run("select 1; update t; select 1;")
    assert bench.printed == "a\r\n1\r\n\r\na\r\n1\r\n"
    assert bench.complained == ""


def test_the_first_error_stops(bench: Bench) -> None:
    bench.fake.answers["bad"] = error(1064, "syntax", position=0)
    assert not bench.run("select 1;\nbad;\nselect 1")
    assert bench.fake.executed == ["select 1", "bad"]
    assert bench.complained == "ERROR 1064 (42000): syntax\nLINE 2: bad\n        ^\n"


def test_force_goes_on_and_still_fails(bench: Bench) -> None:
    bench.runner.settings.force = True
    bench.fake.answers["bad"] = error(1205, "waited")
    assert not bench.run("bad; select 1")
    assert bench.fake.executed == ["bad", "select 1"]
    assert bench.complained == "ERROR 1205 (HY000): waited\nLINE 1: bad\n"


def test_capital_g_shows_columns_below_each_other(bench: Bench) -> None:
    assert bench.run("select 1\\G")
    assert bench.printed.endswith("a: 1\n")


def test_results_come_in_batches(bench: Bench) -> None:
    rows = [(i,) for i in range(2 * FETCH_ROWS + 1)]
    bench.fake.answers["many"] = Answer([column("a", INT)], rows)
    assert bench.run("many")
    assert bench.printed == "a\r\n" + "".join(f"{i}\r\n" for (i,) in rows)


def test_timing_goes_to_the_message_stream(bench: Bench) -> None:
    bench.runner.settings.timing = True
    bench.fake.answers["update t"] = Answer(rowcount=1, warnings=[("Warning", 1265, "Data truncated")])
    assert bench.run("select 1; update t; use x")
    lines = bench.complained.splitlines()
    assert lines[0].startswith("1 row in set (")
    assert lines[1].startswith("Query OK, 1 row affected, 1 warning (")
    assert lines[2].startswith("Query OK, 0 rows affected (")


def test_echo(bench: Bench) -> None:
    bench.runner.settings.echo = True
    assert bench.run("select\n1")
    assert bench.printed == "select\n1;\na\r\n1\r\n"


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_binary_formats(bench: Bench, form: str) -> None:
    bench.runner.settings.format = form
    bench.fake.answers["t"] = Answer([column("a", INT), column("b")], [(1, "x"), (2, None), (3, "z")])
    assert bench.run("use x; t")
    data = pa.BufferReader(bench.out.bytes.getvalue())
    table = pa.ipc.open_stream(data).read_all() if form == "arrow" else pq.read_table(data)
    assert table.to_pydict() == {"a": [1, 2, 3], "b": ["x", None, "z"]}


def test_a_second_binary_result_is_refused(bench: Bench) -> None:
    bench.runner.settings.format = "arrow"
    assert not bench.run("select 1; select 1")
    assert bench.complained == (
        "ERROR: arrow output holds one result, and this is the second: run one query per output\n"
    )


def test_binary_on_a_terminal_is_refused(bench: Bench) -> None:
    bench.runner.settings.format = "parquet"
    bench.runner.destination = Captured(is_terminal=True)
    assert not bench.run("select 1")
    assert "parquet is a binary format" in bench.complained
    assert bench.fake.executed == []


def test_a_failed_statement_leaves_the_file_as_it_was(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")
    bench.fake.answers["bad"] = error(1064, "syntax")
    assert not bench.run(f"\\o {path}\nbad;")
    bench.runner.destination.close()
    assert path.read_text() == "before"


def test_output_goes_to_a_file_and_back(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.csv"
    assert bench.run(f"\\o {path}\nselect 1; select 1;\n\\o\nselect 1;")
    assert path.read_bytes() == b"a\r\n1\r\n\r\na\r\n1\r\n"
    assert capsys.readouterr().out == "a\r\n1\r\n"


def test_a_failed_binary_result_leaves_no_file(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    bench.runner.settings.format = "parquet"
    bench.runner.destination = FileOutput(str(path))
    bench.fake.answers["t"] = Answer([column("a", INT)], [(1,)], failure=error(1317, "interrupted"))
    assert not bench.run("t")
    assert not path.exists()
    assert bench.complained.startswith("ERROR 1317 (70100): interrupted\n")


def test_an_unwritable_file_is_an_error(bench: Bench, tmp_path: Path) -> None:
    assert not bench.run(f"\\o {tmp_path}/missing/out.csv\nselect 1;")
    assert "No such file or directory" in bench.complained


def test_include(bench: Bench, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner.sql", tmp_path / "outer.sql"
    inner.write_text("\ufeffselect 1;\n")
    outer.write_text(f"\\i {inner}\n\\i {inner}\n")
    assert bench.run(f"\\i {outer}\n")
    assert bench.fake.executed == ["select 1", "select 1"]


def test_an_error_in_an_included_file_stops_all(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "a.sql"
    script.write_text("\n\nbad;\nselect 1;")
    bench.fake.answers["bad"] = error(1064, "syntax", position=1)
    assert not bench.run(f"\\i {script}\nselect 1;")
    assert bench.fake.executed == ["bad"]
    assert "LINE 3: bad\n         ^\n" in bench.complained


def test_endless_includes_end(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "loop.sql"
    script.write_text(f"\\i {script}\n")
    assert not bench.run(f"\\i {script}\n")
    assert f"more than {INCLUDE_DEPTH_MAX} deep" in bench.complained


def test_a_script_that_is_not_text(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "a.sql"
    script.write_bytes(b"select '\xff';")
    assert bench.run(f"\\i {script}\n")
    assert bench.fake.executed == ["select '\udcff'"]


def test_every_command_has_help(bench: Bench) -> None:
    run_command(bench.runner, "\\?")
    for command in COMMANDS.values():
        assert command.usage in bench.printed
        assert command.help in bench.printed


@pytest.mark.parametrize(
    ("line", "sql"),
    [
        ("\\d", ["SHOW FULL TABLES"]),
        ("\\dt", ["SHOW FULL TABLES"]),
        ("\\dt;", ["SHOW FULL TABLES"]),
        ("\\dv", ["SHOW FULL TABLES WHERE Table_type = 'VIEW'"]),
        ("\\l", ["SHOW DATABASES"]),
        ("\\d T", ["DESCRIBE `T`", INDEXES.format("LOWER(DATABASE())", "'t'")]),
        ("\\d shop.t", ["DESCRIBE `shop`.`t`", INDEXES.format("'shop'", "'t'")]),
        ("\\di `it's\\`", [INDEXES.format("LOWER(DATABASE())", "'it''s\\\\'")]),
        ("\\u my`db", ["USE `my``db`"]),
    ],
)
def test_catalog_commands_are_sql(bench: Bench, line: str, sql: list[str]) -> None:
    run_command(bench.runner, line)
    assert bench.fake.executed == sql


def test_show_create_is_printed_as_it_is(bench: Bench) -> None:
    bench.fake.answers["show create table `t`"] = Answer([column("t"), column("c")], [("t", "CREATE TABLE `t` (\n)")])
    run_command(bench.runner, "\\d+ t")
    assert bench.printed == "CREATE TABLE `t` (\n);\n"


@pytest.mark.parametrize(
    "line", ["\\nope", "\\g", "\\G", "\\f xml", "\\x maybe", "\\u", "\\i", "\\d a.b.c", "\\w x", "\\w", "\\w 0", "\\e"]
)
def test_wrong_commands(bench: Bench, line: str) -> None:
    bench.runner.last = None if line == "\\w" else Statement("select 1")
    with pytest.raises(ShellError):
        run_command(bench.runner, line)


def test_switches(bench: Bench) -> None:
    assert bench.run("\\x\n\\timing on\n\\f json\nselect 1;\n\\x off\nselect 1;\n")
    assert "a: 1" in bench.printed
    assert bench.printed.endswith('[\n{"a": 1}\n]\n')


def test_warnings_are_kept_for_a_command(bench: Bench) -> None:
    bench.fake.answers["w"] = Answer(warnings=[("Warning", 1265, "Data\x1b truncated")])
    assert bench.run("w;\n\\W\nselect 1;\n\\W\n")
    assert "Warning 1265: Data\\x1b truncated\n" in bench.printed
    assert bench.printed.endswith("no warnings\n")


def test_connect_elsewhere(bench: Bench) -> None:
    before = bench.session
    assert bench.run("\\c other.db\n")
    assert bench.runner.session.path == "other.db"
    assert before.connection.closed  # type: ignore[attr-defined]


def test_status(bench: Bench) -> None:
    assert bench.run("begin;\n\\s\n")
    assert "database:    test" in bench.printed
    assert "transaction: open" in bench.printed


def test_help_on_sql(bench: Bench) -> None:
    assert bench.run("\\h select\n\\h begin\n\\h\n\\h nonsense\n")
    assert "FOR UPDATE" in bench.printed
    assert "OPTIMISTIC" in bench.printed
    assert "no help on 'nonsense'" in bench.printed


def test_interrupt_stops_the_statement_and_the_script(bench: Bench) -> None:
    bench.fake.answers["sleep"] = sleeping
    connection = bench.session.connection

    def press() -> None:
        wait_until(connection.running.is_set)  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    bench.runner.settings.force = True
    assert not bench.run("sleep; select 1")
    presser.join()
    assert bench.complained.startswith("ERROR 1317 (70100): Query execution was interrupted\n")
    assert bench.fake.executed == ["sleep"]
    assert bench.runner.interrupted
    assert bench.run("select 1")


def test_standard_output_cannot_be_spoken_to_by_values(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    StandardOutput().text().write("a\x1b]0;title\x07\x9b2J\u202e\rb\r\n\tc\n")
    stream.seek(0)
    assert stream.read() == "a\\x1b]0;title\\x07\\x9b2J\\u202e\\rb\r\n\tc\n"


@pytest.mark.parametrize(
    ("argument", "name"),
    [("t", ("", "t")), ("a.b", ("a", "b")), ("`a.b`.`c``d`", ("a.b", "c`d")), ("a.`b c`", ("a", "b c"))],
)
def test_table_name(argument: str, name: tuple[str, str]) -> None:
    assert table_name(argument) == name


def test_decimal_columns_are_numbers(bench: Bench) -> None:
    bench.fake.answers["d"] = Answer([column("a", DECIMAL, 2), column("b")], [])
    bench.runner.settings.format = "markdown"
    assert bench.run("d")
    assert "| ---: | --- |" in bench.printed
