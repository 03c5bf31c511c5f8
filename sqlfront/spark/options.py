"""The options of a read: where the table is, at which timestamp, in how many partitions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from kvstore.client.api import LOGICAL_BITS
from sqlfront.cluster import ClusterTarget
from sqlfront.dbapi import DEFAULT_DATABASE, read_target
from sqlfront.errors import InterfaceError, near_match

NAMES = ("path", "dbtable", "snapshot", "partitions", "columns", "hold_s", "pushdown")
HOLD_S = 1800
"""How long versions are kept for a read after it was last heard of."""
HOLD_S_MIN = 30
PARTITIONS_MAX = 100_000
_SWITCH = {"true": True, "false": False, "on": True, "off": False}


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """`snapshot` 0 is a fresh timestamp, `partitions` 0 one for each region, no `columns` all of them."""

    target: ClusterTarget
    db: str
    table: str
    snapshot: int = 0
    partitions: int = 0
    columns: tuple[str, ...] = ()
    hold_s: int = HOLD_S
    pushdown: bool | None = None


def read_options(given: Mapping[str, str]) -> ReadOptions:
    """Reads a data source's options, whose names have no case. Raises InterfaceError."""
    options = {name.lower(): value for name, value in given.items()}
    for name in options:
        if name not in NAMES:
            raise InterfaceError(f"unknown option {name!r}{near_match(name, NAMES)}")
    for name, what in (("path", "the URL of the cluster: tikv://HOST:PORT"), ("dbtable", "the table: DATABASE.TABLE")):
        if not options.get(name):
            raise InterfaceError(f"the option {name!r} is missing, {what}")
    found: dict[str, object] = {"autocommit": True, "synchronous": True, "database": DEFAULT_DATABASE}
    target = read_target(options["path"], found)
    if not isinstance(target, ClusterTarget):
        raise InterfaceError(
            f"{options['path']!r} is a directory, which one process owns; Spark's executors are others and read "
            "a cluster (tikv://HOST:PORT)"
        )
    db, table = _names(options["dbtable"], str(found["database"]))
    return ReadOptions(
        target,
        db,
        table,
        _timestamp(options.get("snapshot", "")),
        _number(options, "partitions", 0, 0, PARTITIONS_MAX),
        tuple(name.strip().strip("`") for name in options.get("columns", "").split(",") if name.strip()),
        _number(options, "hold_s", HOLD_S, HOLD_S_MIN, 1 << 31),
        _switch(options, "pushdown"),
    )


def _names(dbtable: str, database: str) -> tuple[str, str]:
    """Splits `db.t`, either name perhaps in backticks."""
    parts = dbtable.strip().split(".")
    if "`" in dbtable:
        parts = [part for part in dbtable.strip().replace("`.`", "`.").split("`") if part]
        parts = [part.strip(".") for part in parts]
    if len(parts) > 2 or not all(parts):
        raise InterfaceError(f"{dbtable!r} is no DATABASE.TABLE")
    return (parts[0], parts[1]) if len(parts) == 2 else (database, parts[0])


def _timestamp(text: str) -> int:
    """A TSO as a number, or a time in ISO 8601; one without a zone is UTC. 0 where nothing is said."""
    if not text:
        return 0
    if text.isdigit():
        return int(text)
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InterfaceError(f"'snapshot' is a timestamp of the cluster or a time, not {text!r}") from None
    when = when.replace(tzinfo=dt.UTC) if when.tzinfo is None else when
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (when - epoch) // dt.timedelta(milliseconds=1) << LOGICAL_BITS


def _number(options: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = options.get(name, "")
    if not text:
        return default
    if not text.isdigit() or not least <= int(text) <= most:
        raise InterfaceError(f"{name!r} is a number from {least} to {most}, not {text!r}")
    return int(text)


def _switch(options: Mapping[str, str], name: str) -> bool | None:
    text = options.get(name, "").lower()
    if text and text not in _SWITCH:
        raise InterfaceError(f"{name!r} is true or false, not {text!r}")
    return _SWITCH.get(text)
