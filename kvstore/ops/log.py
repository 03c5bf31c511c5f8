"""The log of a server's process: structured lines in TiDB's unified log format, or JSON, with nobody's data in them.

A line is `[2026/11/26 10:00:00.000 +00:00] [INFO] [node.py:70] ["store started"] [store_id=1]` (tikv/rfcs,
2018-12-19-unified-log-format). Code logs by `get_logger(__name__).info("region split", region_id=7, key=key)`; what
libraries write to the standard `logging` comes out in the same form. Keys and values of users are `bytes`, or text
inside `UserData`, and are printed as `redact` says; fields that are named like a secret are never printed.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TextIO, cast, get_args

import structlog

Level = Literal["debug", "info", "warn", "error", "fatal"]
Redact = Literal["on", "off", "marker"]

FIELD_CHARS_MAX = 4096
"""A longer field is cut, so that one line cannot fill the log."""

_LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
_NAMES = {number: name for name, number in _LEVELS.items()}
_QUOTED = frozenset(map(chr, range(0x21))) | frozenset('"=[]')
_SECRETS = ("password", "passwd", "secret", "token", "authorization", "private_key", "key_pem")
_HIDDEN = "***"
_INTERNAL = ("_record", "_from_structlog", "filename", "lineno")

Logger = structlog.stdlib.BoundLogger


@dataclass(frozen=True, slots=True)
class UserData:
    """Text that is the user's: printed as the log's `redact` says."""

    text: str


class LevelError(ValueError):
    """Not the name of a level."""


def get_logger(name: str) -> Logger:
    """A logger; the names of its lines' fields are keyword arguments."""
    return cast(Logger, structlog.get_logger(name))


class LogControl:
    """The level of a running process' log."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler

    @property
    def level(self) -> str:
        return _NAMES[logging.getLogger().level]

    def set_level(self, level: str) -> None:
        """Raises LevelError."""
        if level not in _LEVELS:
            raise LevelError(f"{level!r} is none of the levels {', '.join(_LEVELS)}")
        logging.getLogger().setLevel(_LEVELS[level])

    def close(self) -> None:
        """Takes the log away from the process; for tests that set up several."""
        logging.getLogger().removeHandler(self._handler)
        self._handler.close()
        structlog.reset_defaults()


def set_up(
    level: Level = "info",
    format: Literal["text", "json"] = "text",
    redact: Redact = "on",
    file: str = "",
    file_mib_max: int = 300,
    files_max: int = 10,
    stream: TextIO | None = None,
) -> LogControl:
    """Directs the log to a file that is rotated, or to `stream` (standard error). Raises OSError, LevelError."""
    handler: logging.Handler
    if file:
        handler = logging.handlers.RotatingFileHandler(
            file, maxBytes=file_mib_max << 20, backupCount=files_max - 1, encoding="utf-8"
        )
    else:
        handler = logging.StreamHandler(stream or sys.stderr)
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt=None, utc=True),
        structlog.processors.CallsiteParameterAdder(
            {structlog.processors.CallsiteParameter.FILENAME, structlog.processors.CallsiteParameter.LINENO}
        ),
        structlog.processors.format_exc_info,
    ]
    render = render_text if format == "text" else render_json
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _drop_formatted],
            processors=[Redaction(redact), render],
        )
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    logging.getLogger().addHandler(handler)
    control = LogControl(handler)
    control.set_level(level)
    # every request is not worth a line
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    return control


def _drop_formatted(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Removes what other handlers' formatters left in a record of the standard library."""
    event.pop("message", None)
    event.pop("asctime", None)
    return event


class Redaction:
    """Replaces what is the user's and what is secret by what may be printed."""

    def __init__(self, mode: Redact) -> None:
        if mode not in get_args(Redact):
            raise ValueError(f"{mode!r} is none of {', '.join(get_args(Redact))}")
        self._mode = mode

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in event.items():
            if name in _INTERNAL:
                continue
            if any(secret in name.lower() for secret in _SECRETS):
                event[name] = _HIDDEN
            else:
                event[name] = self.redacted(value)
        return event

    def redacted(self, value: object) -> object:
        """The value as it may be printed; looks into lists, tuples and mappings."""
        match value:
            case bytes() | bytearray() | memoryview():
                return self._user(bytes(value).hex().upper())
            case UserData(text):
                return self._user(text)
            case list() | tuple():
                return [self.redacted(one) for one in value]
            case dict():
                return {str(name): self.redacted(one) for name, one in value.items()}
            case _:
                return value

    def _user(self, text: str) -> str:
        match self._mode:
            case "on":
                return "?"
            case "marker":
                return f"‹{text.replace('‹', '‹‹').replace('›', '››')}›"
            case "off":
                return text


def render_text(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    """One line of TiDB's unified log format."""
    when, level, place, message, fields = _parts(event)
    stamp = when.strftime("%Y/%m/%d %H:%M:%S.") + f"{when.microsecond // 1000:03d} " + _offset(when)
    head = f"[{stamp}] [{level.upper()}] [{place}] [{quoted(message)}]"
    return " ".join([head, *(f"[{quoted(name)}={quoted(_text(value))}]" for name, value in fields.items())])


def render_json(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    """One line of JSON, with the names TiDB's JSON log has."""
    when, level, place, message, fields = _parts(event)
    line = {
        "time": when.isoformat(timespec="milliseconds"),
        "level": level.upper(),
        "caller": place,
        "message": message,
    }
    for name, value in fields.items():
        plain = value is None or isinstance(value, (bool, int, float))
        line[f"field_{name}" if name in line else name] = value if plain else _text(value)
    return json.dumps(line, ensure_ascii=False)


def _parts(event: MutableMapping[str, Any]) -> tuple[datetime, str, str, str, dict[str, Any]]:
    fields = dict(event)
    when = datetime.fromtimestamp(float(fields.pop("timestamp"))).astimezone()
    level = {"warning": "warn", "critical": "fatal"}.get(fields["level"], fields["level"])
    file, line = fields.pop("filename", None), fields.pop("lineno", None)
    message = _text(fields.pop("event", ""))
    for name in (*_INTERNAL, "level"):
        fields.pop(name, None)
    return when, level, f"{file}:{line}" if file else "<unknown>", message, fields


def _offset(when: datetime) -> str:
    text = when.strftime("%z")
    return f"{text[:3]}:{text[3:5]}"


def _text(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    if len(text) > FIELD_CHARS_MAX:
        text = f"{text[:FIELD_CHARS_MAX]}...({len(text)} characters)"
    # what is not text (a lone surrogate of a file's name) must not break the line
    return text.encode("utf-8", "backslashreplace").decode()


def quoted(text: str) -> str:
    """The text as the format has it: bare, or as a JSON string when it has a space, a control character or `"=[]`."""
    if text and _QUOTED.isdisjoint(text):
        return text
    return json.dumps(text, ensure_ascii=False)
