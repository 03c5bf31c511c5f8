"""Tables as the benchmarks describe them, once for every engine; each engine prints its own DDL from this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One NOT NULL column; `type` is MySQL's type text, which the other engines read or map."""

    name: str
    type: str
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its primary key and its secondary indexes, each a tuple of column names."""

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...] = ()

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]


def create_table(table: Table, type_of: Callable[[Column], str], *, inline_key: bool = False, suffix: str = "") -> str:
    """Returns CREATE TABLE; `inline_key` puts a one-column key beside its column, where SQLite wants it."""
    single = table.primary_key[0] if inline_key and len(table.primary_key) == 1 else None
    lines = []
    for column in table.columns:
        line = f"{column.name} {type_of(column)} NOT NULL"
        if column.default is not None:
            line += f" DEFAULT {column.default}"
        lines.append(line + (" PRIMARY KEY" if column.name == single else ""))
    if single is None:
        lines.append(f"PRIMARY KEY ({', '.join(table.primary_key)})")
    return f"CREATE TABLE {table.name} (\n  " + ",\n  ".join(lines) + f"\n){suffix}"


def create_indexes(table: Table) -> list[str]:
    """Returns one CREATE INDEX for each secondary index."""
    return [f"CREATE INDEX {'_'.join(columns)}_idx ON {table.name} ({', '.join(columns)})" for columns in table.indexes]


def insert(table: Table, placeholder: str) -> str:
    """Returns INSERT with one placeholder a column."""
    marks = ", ".join([placeholder] * len(table.columns))
    return f"INSERT INTO {table.name} ({', '.join(table.column_names)}) VALUES ({marks})"
