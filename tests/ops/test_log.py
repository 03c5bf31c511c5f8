"""The log: its lines by TiDB's format, the level at run time, and that nobody's data is in it."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.ops import log

LINE = re.compile(
    r"\[\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d:\d\d\] \[(DEBUG|INFO|WARN|ERROR|FATAL)\] "
    r"\[([\w.-]+:\d+|<unknown>)\] \[(?:[^\]\"]+|\"(?:[^\"\\]|\\.)*\")\]( \[.*\])*"
)


class Log:
    """A log that goes to memory."""

    def __init__(self, **options: Any) -> None:
        self.stream = io.StringIO()
        self.control = log.set_up(stream=self.stream, **options)

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def make_log() -> Iterator[Callable[..., Log]]:
    made: list[Log] = []
    root = logging.getLogger().level

    def make(**options: Any) -> Log:
        made.append(Log(**options))
        return made[-1]

    yield make
    for one in made:
        one.control.close()
    logging.getLogger().setLevel(root)


MakeLog = Callable[..., Log]


def test_a_line_is_in_the_unified_format(make_log: MakeLog) -> None:
    out = make_log()
    log.get_logger("kvstore.x").info("region split", region_id=7, text='a "b"', plain="c")
    (line,) = out.lines()
    assert LINE.fullmatch(line)
    assert "[INFO] [test_log.py:" in line
    assert line.endswith('["region split"] [region_id=7] [text="a \\"b\\""] [plain=c]')


def test_lines_of_libraries_have_the_same_form(make_log: MakeLog) -> None:
    out = make_log()
    logging.getLogger("aiohttp.server").warning("slow %s", "client", extra={"peer": "127.0.0.1"})
    (line,) = out.lines()
    assert LINE.fullmatch(line)
    assert "[WARN] [test_log.py:" in line
    assert line.endswith('["slow client"] [peer=127.0.0.1]')


def test_an_exception_stays_on_its_line(make_log: MakeLog) -> None:
    out = make_log()
    try:
        raise OSError("disk gone")
    except OSError:
        log.get_logger("x").exception("apply failed", region_id=1)
    (line,) = out.lines()
    assert LINE.fullmatch(line)
    assert "OSError: disk gone" in line
    assert "[ERROR]" in line


def test_json_lines(make_log: MakeLog) -> None:
    out = make_log(format="json")
    log.get_logger("x").warning("slow", took_ms=12.5, key=b"\x01", level_name="x", message="other")
    (line,) = out.lines()
    found = json.loads(line)
    assert found.pop("time")
    assert found.pop("caller").startswith("test_log.py:")
    assert found == {
        "level": "WARN", "message": "slow", "took_ms": 12.5, "key": "?", "level_name": "x", "field_message": "other",
    }  # fmt: skip


def test_the_level_moves_while_the_process_runs(make_log: MakeLog) -> None:
    out = make_log(level="warn")
    logger = log.get_logger("x")
    logger.info("one")
    out.control.set_level("debug")
    assert out.control.level == "debug"
    logger.debug("two")
    out.control.set_level("error")
    logger.warning("three")
    with pytest.raises(log.LevelError, match="'loud' is none of the levels debug, info"):
        out.control.set_level("loud")
    assert [line.rpartition("[")[2] for line in out.lines()] == ["two]"]


@pytest.mark.parametrize(
    ("redact", "key", "name"),
    [("on", "?", "?"), ("off", "7A01", "Ada"), ("marker", "‹7A01›", "‹Ada›")],
)
def test_what_is_the_users_is_redacted(make_log: MakeLog, redact: str, key: str, name: str) -> None:
    out = make_log(redact=redact)
    log.get_logger("x").info(
        "write", key=b"z\x01", name=log.UserData("Ada"), both=[(b"z\x01", 3)], fields={"k": b"z\x01"}
    )
    (line,) = out.lines()
    assert f"[key={key}] [name={name}]" in line
    assert f"[[{key!r}, 3]]" in line
    assert repr({"k": key}) in line


@pytest.mark.parametrize("name", ["password", "Authorization", "api_token", "tls_private_key"])
def test_secrets_are_never_printed(make_log: MakeLog, name: str) -> None:
    out = make_log(redact="off")
    log.get_logger("x").info("connect", **{name: "hunter2"})
    assert out.lines()[0].endswith(f"[{name}=***]")


def test_a_long_field_is_cut(make_log: MakeLog) -> None:
    out = make_log()
    log.get_logger("x").info("big", field="x" * 100_000)
    assert len(out.lines()[0]) < 2 * log.FIELD_CHARS_MAX
    assert "(100000 characters)" in out.lines()[0]


@given(st.text())
def test_quoting_can_be_undone(text: str) -> None:
    shown = log.quoted(text)
    assert "\n" not in shown
    assert (json.loads(shown) if shown.startswith('"') else shown) == text


def test_text_that_is_no_unicode_does_not_break_a_line(make_log: MakeLog) -> None:
    out = make_log()
    log.get_logger("x").info("file", path="a\udcff")
    assert out.lines()[0].endswith(r"[path=a\udcff]")


def test_files_are_rotated(make_log: MakeLog, tmp_path: Path) -> None:
    make_log(file=str(tmp_path / "kv.log"), file_mib_max=1, files_max=2)
    logger = log.get_logger("x")
    for _ in range(800):
        logger.info("fill", field="x" * 4000)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["kv.log", "kv.log.1"]
    assert all(path.stat().st_size <= 1 << 20 for path in tmp_path.iterdir())
