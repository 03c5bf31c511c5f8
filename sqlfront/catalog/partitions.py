"""Partitions in a table's record, as TiDB stores them, and the rules for their definitions.

The record has the kind, the expression or the columns, and for each partition its own table id, its name and its values
as the text of constants. Rows and index entries of a partition lie under its id; row ids and counters are the table's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coprocessor.types import Tp
from sqlfront.catalog.definition import PartitionBy, PartitionSpec
from sqlfront.catalog.info import Flag, TableInfo
from sqlfront.errors import error, near_match

KINDS = {1: "range", 2: "hash", 3: "list", 4: "key"}
HASHED = frozenset({"hash", "key"})
"""Kinds whose partitions have a number and no values."""
COLUMNS_TPS = frozenset(
    {Tp.TINY, Tp.SHORT, Tp.INT24, Tp.LONG, Tp.LONGLONG, Tp.DATE, Tp.DATETIME, Tp.STRING, Tp.VARCHAR}
)
"""Types of RANGE COLUMNS and LIST COLUMNS."""
KEY_TPS = COLUMNS_TPS | {Tp.NEWDECIMAL, Tp.FLOAT, Tp.DOUBLE, Tp.YEAR, Tp.DURATION, Tp.ENUM, Tp.SET}
"""Types of KEY. A TIMESTAMP would be in another partition in another time zone."""
_NUMBERS = {kind: number for number, kind in KINDS.items()}
PARTITIONS_MAX = 8192
MAXVALUE = "MAXVALUE"


def kind_of(info: TableInfo) -> str | None:
    """range, list, hash or key; None for a table that is not partitioned, "" for one whose kind is not known here."""
    found = info.partition
    if not found or not found.get("enable"):
        return None
    return KINDS.get(found["type"], "")


def reason_against(info: TableInfo) -> str | None:
    """Why a partitioned table cannot be read here."""
    if kind_of(info) == "":
        return "is partitioned in a way that is not known here"
    found = info.partition
    changing = ("adding_definitions", "dropping_definitions", "states", "ddl_state", "ddl_action", "new_table_id")
    if found and found.get("enable") and any(found.get(tag) for tag in changing):
        return "has partitions that are being changed"
    return None


def definitions(info: TableInfo) -> list[dict[str, Any]]:
    """The stored partitions; none of a table that has none."""
    return list(info.partition["definitions"]) if kind_of(info) is not None else []


def forget_ids(info: TableInfo) -> None:
    """Has the partitions get new ids when the record is stored: they are to have no rows."""
    for one in definitions(info):
        one["id"] = 0


def partition_record(by: PartitionBy) -> dict[str, Any]:
    """The record of new partitions; their ids are given when it is stored."""
    specs = by.partitions
    if by.kind in HASHED:
        specs = specs or tuple(PartitionSpec(f"p{i}") for i in range(by.number or 1))
    return {
        "type": _NUMBERS[by.kind],
        "expr": by.expr,
        "columns": [_name(column) for column in by.columns] or None,
        "enable": True,
        "is_empty_columns": by.implied,
        "definitions": [definition(spec) for spec in specs],
        "adding_definitions": None,
        "dropping_definitions": None,
        "states": None,
        "num": len(specs),
        "ddl_state": 0,
    }


def definition(spec: PartitionSpec) -> dict[str, Any]:
    """The record of one new partition."""
    out: dict[str, Any] = {
        "id": 0,
        "name": _name(spec.name),
        "less_than": list(spec.less_than) or None,
        "in_values": [list(row) for row in spec.values] or None,
        "policy_ref_info": None,
    }
    return out | ({"comment": spec.comment} if spec.comment else {})


def _name(name: str) -> dict[str, str]:
    return {"O": name, "L": name.lower()}


def check_names(names: Sequence[str], position: int = -1) -> None:
    """Raises 1517 for a name that is there twice, 1499 for too many partitions."""
    if len(names) > PARTITIONS_MAX:
        raise error(1499, "Too many partitions (including subpartitions) were defined", position=position)
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise error(1517, f"Duplicate partition name {name}", position=position)
        seen.add(name.lower())


def check_keys(info: TableInfo, columns: Sequence[str], position: int = -1) -> None:
    """Every unique key has all columns that decide on the partition (1503): no two partitions share a key."""
    wanted = {name.lower() for name in columns}
    keys = [("PRIMARY KEY" if i.primary else "UNIQUE INDEX", {c.name.lower() for c in i.columns}) for i in info.indexes
            if i.primary or i.unique]  # fmt: skip
    if info.pk_is_handle:
        keys.append(("PRIMARY KEY", {c.name.lower() for c in info.columns if c.has(Flag.PRI_KEY)}))
    for what, names in keys:
        if not wanted <= names:
            message = f"A {what} must include all columns in the table's partitioning function"
            raise error(1503, message, position=position)


def find_definitions(
    info: TableInfo, names: Sequence[str], position: int, code: int = 1735, to: str = "DROP"
) -> list[dict[str, Any]]:
    """The partitions of these names, all for none; 1735 for an unknown one, 1507 where they are `to` be gone."""
    there = definitions(info)
    if not names:
        return there
    by_name = {d["name"]["L"]: d for d in there}
    unknown = [name for name in names if name.lower() not in by_name]
    if unknown:
        hint = near_match(unknown[0], [d["name"]["O"] for d in there])
        message = f"Unknown partition '{unknown[0]}' in table '{info.name}'{hint}"
        if code == 1507:
            message = f"Error in list of partitions to {to}: there is no '{unknown[0]}' in table '{info.name}'{hint}"
        raise error(code, message, position=position)
    return [by_name[name] for name in dict.fromkeys(n.lower() for n in names)]


def need_partitioned(info: TableInfo, position: int = -1) -> None:
    if kind_of(info) is None:
        raise error(1505, "Partition management on a not partitioned table is not possible", position=position)
