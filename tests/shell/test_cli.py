"""The command as a user runs it: a process, a real database, real files and pipes."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shell.cli import main

HEAVY = ("duckdb", "pyarrow", "rich", "prompt_toolkit", "pygments", "numpy", "pandas")
COMMAND = [sys.executable, "-m", "shell.cli"]


def run(
    *arguments: str, stdin: str | bytes | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    if data is None:
        return subprocess.run(
            [*COMMAND, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, cwd=cwd, check=False
        )
    return subprocess.run([*COMMAND, *arguments], input=data, capture_output=True, timeout=60, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small database."""
    path = str(tmp_path_factory.mktemp("cli") / "shop.db")
    script = """
        CREATE TABLE item (id BIGINT PRIMARY KEY, name VARCHAR(40), price DECIMAL(8, 2), KEY by_name (name));
        INSERT INTO item VALUES (1, 'pen', 1.20), (2, '東京', NULL), (3, 'a, "b"', 1000.00);
        CREATE TABLE numbers (n BIGINT PRIMARY KEY);
    """
    values = ", ".join(f"({n})" for n in range(3000))
    done = run(path, stdin=f"{script} INSERT INTO numbers VALUES {values};")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return path


SELECT = "SELECT id, name, price FROM item ORDER BY id"
FORMATS = {
    "table": (
        "+----+--------+---------+\n| id | name   | price   |\n".replace("price   |", "  price |")
        + "+----+--------+---------+\n|  1 | pen    |    1.20 |\n|  2 | 東京   |    NULL |\n"
        '|  3 | a, "b" | 1000.00 |\n+----+--------+---------+\n'
    ),
    "csv": 'id,name,price\r\n1,pen,1.20\r\n2,東京,\r\n3,"a, ""b""",1000.00\r\n',
    "tsv": 'id\tname\tprice\n1\tpen\t1.20\n2\t東京\t\\N\n3\ta, "b"\t1000.00\n',
    "jsonl": (
        '{"id": 1, "name": "pen", "price": 1.20}\n{"id": 2, "name": "東京", "price": null}\n'
        '{"id": 3, "name": "a, \\"b\\"", "price": 1000.00}\n'
    ),
    "markdown": (
        "| id | name | price |\n| ---: | --- | ---: |\n| 1 | pen | 1.20 |\n| 2 | 東京 | NULL |\n"
        '| 3 | a, "b" | 1000.00 |\n'
    ),
}


@pytest.mark.parametrize("form", FORMATS)
def test_formats(shop: str, form: str) -> None:
    done = run("-e", SELECT, "--format", form, shop)
    assert done.stderr == b""
    assert done.stdout.decode() == FORMATS[form]
    assert done.returncode == 0


def test_json_and_vertical(shop: str) -> None:
    assert json.loads(run("-e", SELECT, "-f", "json", shop).stdout)[1] == {"id": 2, "name": "東京", "price": None}
    assert b"2. row" in run("-e", SELECT + "\\G", shop).stdout


def test_several_statements(shop: str) -> None:
    done = run("-e", "SELECT 1 AS a; SELECT 2 AS b", "-e", "SELECT 3 AS c", "-f", "csv", "--no-header", shop)
    assert done.stdout == b"1\r\n\r\n2\r\n\r\n3\r\n"


def test_standard_input(shop: str) -> None:
    done = run("-f", "tsv", shop, stdin="\ufeffSELECT name\nFROM item\nWHERE id = 1; -- done\n")
    assert (done.returncode, done.stdout) == (0, b"name\npen\n")


def test_output_file(shop: str, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    done = run("-e", SELECT, "-f", "csv", "-o", str(path), shop)
    assert (done.returncode, done.stdout) == (0, b"")
    assert len(list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))) == 4


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_binary(shop: str, tmp_path: Path, form: str) -> None:
    path = tmp_path / "out"
    assert run("-e", SELECT, "-f", form, "-o", str(path), shop).returncode == 0
    piped = run("-e", SELECT, "-f", form, shop)
    assert piped.returncode == 0
    for source in (pa.BufferReader(path.read_bytes()), pa.BufferReader(piped.stdout)):
        table = pa.ipc.open_stream(source).read_all() if form == "arrow" else pq.read_table(source)
        assert table.column("name").to_pylist() == ["pen", "東京", 'a, "b"']
        assert table.schema.field("price").type == pa.decimal128(8, 2)


def test_many_rows_stream_through(shop: str) -> None:
    done = run("-e", "SELECT n FROM numbers ORDER BY n", "-f", "csv", "--no-header", shop)
    assert [int(line) for line in done.stdout.split()] == list(range(3000))


def test_an_error_has_a_place_and_stops(shop: str) -> None:
    done = run(shop, stdin="SELECT 1 AS a;\nSELECT *\nFROM itm;\nSELECT 2 AS b;")
    assert done.returncode == 1
    assert b"b" not in done.stdout.split()
    first, second, *_ = done.stderr.decode().splitlines()
    assert first.startswith("ERROR 1146 (42S02): Table 'test.itm' doesn't exist")
    assert second in ("LINE 3: FROM itm", "LINE 2: SELECT *")


def test_force(shop: str) -> None:
    done = run("--force", "-f", "csv", "-e", "SELECT nope FROM item; SELECT 2 AS b", shop)
    assert (done.returncode, done.stdout) == (1, b"b\r\n2\r\n")
    assert done.stderr.startswith(b"ERROR 1054 (42S22): Unknown column 'nope'")


def test_syntax_error(shop: str) -> None:
    done = run("-e", "SELEKT 1", shop)
    assert done.returncode == 1
    assert done.stderr.startswith(b"ERROR 1064 (42000): ")


def test_init_timing_and_echo(shop: str, tmp_path: Path) -> None:
    script = tmp_path / "init.sql"
    script.write_text("SELECT 1 AS first;")
    done = run("--init", str(script), "--timing", "--echo", "-f", "tsv", "-e", "SELECT 2 AS second", shop)
    assert done.stdout == b"SELECT 1 AS first;\nfirst\n1\nSELECT 2 AS second;\n\nsecond\n2\n"
    assert done.stderr.count(b"1 row in set (") == 2
    missing = run("--init", str(tmp_path / "missing"), "-e", "SELECT 1", shop)
    assert (missing.returncode, missing.stdout) == (1, b"")


def test_commands_work_in_scripts(shop: str) -> None:
    done = run("-f", "tsv", "-e", "\\dt", shop)
    assert done.returncode == 0
    assert done.stdout.split(b"\n")[1:] == [b"item\tBASE TABLE", b"numbers\tBASE TABLE", b""]
    assert run("-e", "\\nope", shop).returncode == 1


def test_transactions_span_statements(shop: str) -> None:
    done = run("-f", "tsv", "--no-header", shop, stdin="BEGIN; DELETE FROM item; SELECT COUNT(*) FROM item; ROLLBACK;")
    assert done.stdout == b"0\n"
    assert run("-f", "tsv", "--no-header", "-e", "SELECT COUNT(*) FROM item", shop).stdout == b"3\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing"),
        (["--format", "xml", ":memory:"], "none of table"),
        (["--nope", ":memory:"], "--nope"),
        (["a", "b"], "b"),
        (["serve"], "./serve"),
        (["-e", "SELECT 1", "demo"], "./demo"),
        ([""], "empty"),
    ],
)
def test_wrong_usage(arguments: list[str], complaint: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert complaint in done.stderr.decode()


def test_a_path_named_like_a_subcommand(tmp_path: Path) -> None:
    assert run("-e", "CREATE TABLE t (a INT)", "./demo", cwd=tmp_path).returncode in (0, 1)
    assert (tmp_path / "demo").is_dir()


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith(b"sqlfront 0.")
    for arguments in (["--help"], ["demo", "--help"]):
        done = run(*arguments)
        assert done.returncode == 0
        assert b"Usage: sqlfront" in done.stdout


def test_main_returns_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--format", "xml", ":memory:"]) == 2
    assert main(["--version"]) == 0


def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = run("-e", "SELECT 1", str(tmp_path / "file"))
    assert done.returncode == 1
    assert done.stderr.startswith(b"ERROR ")
    assert (tmp_path / "file").read_text() == "x"


def test_input_that_is_not_text(shop: str) -> None:
    done = run(shop, stdin=b"SELECT \xff;")
    assert done.returncode == 1
    assert b"ERROR 1300" in done.stderr


def test_a_closed_pipe_ends_quietly(shop: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "-f", "csv", "-e", "SELECT a.n, b.n FROM numbers a, numbers b", shop],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        complaint = process.stderr.read()
    assert complaint == b""
    assert process.returncode == 141


def test_ctrl_c_stops_a_statement(shop: str) -> None:
    sql = "SELECT COUNT(*) FROM numbers a, numbers b, numbers c WHERE a.n + b.n * c.n = -1"
    process = subprocess.Popen([*COMMAND, "-e", sql, shop], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()
    assert complaint.startswith(b"ERROR 1317 (70100)")
    assert process.returncode == 130


def test_start_up_loads_nothing_heavy(shop: str) -> None:
    probe = (
        "import sys; from shell.cli import main; code = main(sys.argv[1:]);"
        f"print(code, [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, "-e", "select 1", shop],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert done.stdout.decode().splitlines()[-1] == "0 []"


def test_stdin_statement_runs_when_it_is_complete(shop: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "-f", "tsv", shop], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"SELECT 1 AS a;\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"a\n"
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_memory_database() -> None:
    done = run(
        "-f", "csv", "-e", "CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1); SELECT * FROM t", ":memory:"
    )
    assert done.stderr == b""
    assert list(csv.reader(io.StringIO(done.stdout.decode(), newline=""))) == [["a"], ["1"]]


def test_views_are_listed_and_described(shop: str) -> None:
    made = run("-e", "CREATE VIEW cheap (what) AS SELECT name FROM item WHERE name <> ''", shop)
    assert made.returncode == 0
    try:
        listed = run("-f", "tsv", "--no-header", "-e", "\\dt", shop)
        assert b"cheap\tVIEW" in listed.stdout.split(b"\n")
        assert run("-f", "tsv", "--no-header", "-e", "\\dv", shop).stdout == b"cheap\tVIEW\n"
        described = run("-f", "tsv", "--no-header", "-e", "\\d cheap", shop)
        assert described.stdout.startswith(b"what\tvarchar(")
        assert b"VIEW `cheap` (`what`) AS SELECT `item`.`name`" in run("-e", "\\d+ cheap", shop).stdout
    finally:
        run("-e", "DROP VIEW cheap", shop)
