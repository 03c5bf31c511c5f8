"""Random tables of every SQL type, their rows, and statements that change them; from a seed."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Make = Callable[[random.Random], Any]

TEXTS = ("", " ", "a", "a ", "a  ", "A", "ä", "Ä", "z\0z", "日本", "😀", "ß", "'\"\\", "\t", "\n", "NULL", "a" * 15)
DATES = (dt.date(1, 1, 1), dt.date(1969, 12, 31), dt.date(2024, 2, 29), dt.date(9999, 12, 31), dt.date(1000, 1, 1))
MOMENTS = (
    dt.datetime(1970, 1, 1, 14, 0, 1),
    dt.datetime(2024, 3, 30, 23, 59, 59, 999999),
    dt.datetime(2024, 10, 26, 23, 30),
    dt.datetime(2024, 7, 1, 12, 0, 0, 123456),
    dt.datetime(2037, 12, 31, 3, 14, 7),
)
"""TIMESTAMPs that every zone of the tests can name, whichever one they are written in."""
SPANS = (dt.timedelta(0), dt.timedelta(hours=838, minutes=59, seconds=59), -dt.timedelta(hours=838, minutes=59),
         dt.timedelta(microseconds=1), -dt.timedelta(seconds=1, microseconds=500000))  # fmt: skip
DOCUMENTS = ("null", "true", "1", "-1.5", '""', '"a "', "[]", "{}", '{"a": [1, {"b": null}], "ä": "日本"}', "1e300")


def integers(bits: int, *, unsigned: bool = False) -> Make:
    low, high = (0, (1 << bits) - 1) if unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return lambda rng: rng.choice((low, high, min(high, 9), rng.randint(low, high), rng.randint(0, 20)))


def decimals(digits: int, scale: int) -> Make:
    def make(rng: random.Random) -> Decimal | str:
        whole = rng.choice((10**digits - 1, rng.randrange(10**digits), rng.randrange(50), 0))
        text = str(whole).rjust(scale + 1, "0")
        point = len(text) - scale
        value = rng.choice(("", "-")) + text[:point] + "." + text[point:]
        return Decimal(value) if digits <= 28 else value

    return make


def among(*values: Any) -> Make:
    return lambda rng: rng.choice(values)


def texts(length: int) -> Make:
    return lambda rng: rng.choice((*TEXTS, str(rng.randint(0, 30))))[:length]


def octets(length: int) -> Make:
    return lambda rng: rng.choice((b"", b"\0", b"\xff", b"a", b"a ", b"a\0", b"\xc3", rng.randbytes(length)))[:length]


TYPES: dict[str, Make] = {
    "tinyint": integers(8),
    "smallint unsigned": integers(16, unsigned=True),
    "mediumint": integers(24),
    "int": integers(32),
    "int unsigned": integers(32, unsigned=True),
    "bigint": integers(64),
    "bigint unsigned": integers(64, unsigned=True),
    "boolean": among(0, 1),
    "bit(1)": among(0, 1),
    "bit(64)": integers(64, unsigned=True),
    "float": among(0.0, -0.0, 1.5, -2.25e30, 1e-30, 0.1),
    "double": among(0.0, -0.0, 1.5, 1.7976931348623157e308, -5e-324, 0.1),
    "decimal(10,2)": decimals(10, 2),
    "decimal(38,0)": decimals(38, 0),
    "decimal(38,19)": decimals(38, 19),
    "decimal(30,30)": decimals(30, 30),
    "date": among(*DATES),
    "datetime": among(*(m.replace(microsecond=0) for m in MOMENTS), dt.datetime(1000, 1, 1), dt.datetime(9999, 12, 31)),
    "datetime(6)": among(*MOMENTS, dt.datetime(9999, 12, 31, 23, 59, 59, 999999)),
    "timestamp": among(*(m.replace(microsecond=0) for m in MOMENTS)),
    "timestamp(3)": among(*(m.replace(microsecond=m.microsecond // 1000 * 1000) for m in MOMENTS)),
    "timestamp(6)": among(*MOMENTS),
    "time": among(*(s - dt.timedelta(microseconds=s.microseconds) for s in SPANS)),
    "time(6)": among(*SPANS),
    "year": among(1901, 2024, 2155),
    "char(10)": texts(10),
    "varchar(20)": texts(20),
    "varchar(20) collate utf8mb4_general_ci": texts(20),
    "varchar(20) collate utf8mb4_0900_ai_ci": texts(20),
    "varchar(20) character set ascii": among("", "a", "a ", "A", "~"),
    "text": lambda rng: rng.choice((*TEXTS, "x" * 5000)),
    "binary(4)": octets(4),
    "varbinary(20)": octets(20),
    "blob": lambda rng: rng.choice((b"", b"\0\xff", rng.randbytes(3000))),
    "enum('a','B','ä','')": among("a", "B", "ä", ""),
    "set('x','y','ü')": among("", "x", "x,y", "x,y,ü"),
    "json": among(*DOCUMENTS),
}

KEYS: dict[str, tuple[tuple[str, Make], ...]] = {
    "integer": (("int", integers(5)),),
    "big": (("bigint", integers(64)),),
    "unsigned": (("bigint unsigned", integers(64, unsigned=True)),),
    "hidden": (),
    "two integers": (("int", integers(4)), ("int", integers(4))),
    "text and integer": (("varchar(10)", texts(10)), ("int", integers(4))),
    "text": (("varchar(10)", texts(10)),),
    "date and decimal": (("date", among(*DATES)), ("decimal(10,2)", decimals(10, 2))),
    "octets": (("varbinary(8)", octets(8)),),
    "padded": (("char(5)", texts(5)), ("binary(3)", octets(3))),
    "double": (("double", among(0.0, -0.0, 1.5, -1e300, 0.1, 3.0, 5e-324)),),
    "moment": (("datetime(6)", among(*MOMENTS)), ("timestamp(6)", among(*MOMENTS))),
    "span and year": (("time(6)", among(*SPANS)), ("year", among(1901, 2000, 2155))),
    "members": (("enum('a','B','ä')", among("a", "B", "ä")), ("set('x','y')", among("", "x", "x,y"))),
    "bits": (("bit(20)", integers(20, unsigned=True)), ("bigint unsigned", integers(64, unsigned=True))),
}

NO_DEFAULT = {"text", "blob", "json"}


@dataclass
class Column:
    name: str
    type: str
    make: Make
    nullable: bool = True

    def value(self, rng: random.Random) -> Any:
        return None if self.nullable and rng.random() < 0.15 else self.make(rng)


class RandomTable:
    """One table of random columns, and statements over it as (SQL, parameters)."""

    def __init__(self, rng: random.Random, name: str, key: str, columns: int) -> None:
        self.rng = rng
        self.name = name
        self._number = 0
        self.key = [Column(f"k{i}", type_, make, nullable=False) for i, (type_, make) in enumerate(KEYS[key])]
        self.columns = [self._column(type_) for type_ in rng.sample(sorted(TYPES), columns)]
        self.partition = self._partition() if rng.random() < 0.4 else ""
        self.generated = [self._generated(kind) for kind in ("stored", "virtual") if rng.random() < 0.4]
        """What no statement may assign: columns, and what stands behind their types."""

    def _column(self, type_: str) -> Column:
        self._number += 1
        return Column(f"c{self._number}", type_, TYPES[type_])

    def _partition(self) -> str:
        """PARTITION BY over the first column of the key, for some types of it."""
        first = self.key[0].type if self.key else ""
        if first in ("int", "bigint"):
            ranges = (
                "range (k0) (partition a values less than (0), partition b values less than (7), partition c values"
            )
            return self.rng.choice(("hash (k0) partitions 3", f"{ranges} less than maxvalue)"))
        if first == "varchar(10)":
            return "range columns (k0) (partition a values less than ('a '), partition b values less than (maxvalue))"
        return ""

    def _generated(self, kind: str) -> tuple[Column, str]:
        """A column that repeats another, or tells which are NULL."""
        one, two = self.rng.choice(self.columns), self.rng.choice(self.columns)
        if self.rng.random() < 0.5:
            return Column(f"{kind}_copy", one.type, one.make), f"({one.name}) {kind}"
        nulls = f"({one.name} is null) * 2 + ({two.name} is null)"
        return Column(f"{kind}_nulls", "int", integers(2, unsigned=True)), f"({nulls}) {kind}"

    @property
    def all(self) -> list[Column]:
        return [*self.key, *self.columns]

    def create(self) -> str:
        parts = [f"{c.name} {c.type}{' not null' if not c.nullable else ' null'}" for c in self.all]
        parts += [f"{c.name} {c.type} generated always as {rest}" for c, rest in self.generated]
        if self.key:
            parts.append(f"primary key ({', '.join(c.name for c in self.key)})")
        self.rng.shuffle(parts)
        spread = f" partition by {self.partition}" if self.partition else ""
        return f"create table {self.name} ({', '.join(parts)}){spread}"

    def insert(self, verb: str = "insert", rows: int | None = None) -> tuple[str, list[Any]]:
        count = self.rng.randint(1, 4) if rows is None else rows
        names = ", ".join(c.name for c in self.all)
        marks = ", ".join(["(" + ", ".join("?" * len(self.all)) + ")"] * count)
        values = [c.value(self.rng) for _ in range(count) for c in self.all]
        return f"{verb} into {self.name} ({names}) values {marks}", values

    def upsert(self) -> tuple[str, list[Any]]:
        sql, values = self.insert()
        column = self.rng.choice(self.columns)
        return f"{sql} on duplicate key update {column.name} = ?", [*values, column.value(self.rng)]

    def where(self) -> tuple[str, list[Any]]:
        """A condition that holds for a few rows, or for many."""
        known = [*self.all, *(column for column, _ in self.generated)]
        column = self.rng.choice([c for c in known if not c.type.startswith(("json", "float"))] or self.all)
        form = self.rng.choice(("{} = ?", "{} is null", "{} is not null", "{} > ?", "{} <= ?"))
        values = [column.make(self.rng)] if "?" in form else []
        return form.format(column.name), values

    def update(self) -> tuple[str, list[Any]]:
        column = self.rng.choice(self.all)
        where, values = self.where()
        sql = f"update {self.name} set {column.name} = ? where {where} limit {self.rng.randint(1, 5)}"
        return sql, [column.value(self.rng), *values]

    def delete(self) -> tuple[str, list[Any]]:
        where, values = self.where()
        return f"delete from {self.name} where {where} limit {self.rng.randint(1, 5)}", values

    def change(self) -> tuple[str, list[Any]]:
        """Any statement that changes rows."""
        kind = self.rng.choice(("insert", "insert", "insert", "update", "update", "delete", "replace", "upsert"))
        if kind in ("insert", "replace"):
            return self.insert(kind)
        return {"update": self.update, "delete": self.delete, "upsert": self.upsert}[kind]()

    # Definitions: the statement, and what to do with the columns here once it has succeeded

    def alter(self, literal: Callable[[Any], str]) -> tuple[str, Callable[[], None]]:
        kind = self.rng.choice(("add", "add", "drop", "rename", "modify", "modify", "move", "default"))
        if kind == "drop" and len(self.columns) < 3:
            kind = "add"
        column = self.rng.choice(self.columns)
        head = f"alter table {self.name}"
        if kind == "add":
            new = self._column(self.rng.choice(sorted(TYPES)))
            rest = ""
            if new.type not in NO_DEFAULT and self.rng.random() < 0.8:
                rest = f" {self.rng.choice(('not null', 'null'))} default {literal(new.make(self.rng))}"
                new.nullable = " not null" not in rest
            place = self.rng.choice(("", " first", f" after {column.name}"))
            return f"{head} add {new.name} {new.type}{rest}{place}", lambda: self.columns.append(new)
        if kind == "drop":
            return f"{head} drop column {column.name}", lambda: self.columns.remove(column)
        if kind == "rename":
            self._number += 1
            name = f"c{self._number}"
            return f"{head} rename column {column.name} to {name}", lambda: setattr(column, "name", name)
        null = "null" if column.nullable else "not null"
        if kind == "move":
            return f"{head} modify {column.name} {column.type} {null} first", lambda: None
        if kind == "default" and column.type not in NO_DEFAULT:
            return f"{head} alter {column.name} set default {literal(column.make(self.rng))}", lambda: None
        to = self.rng.choice(sorted(TYPES))

        def modified() -> None:
            column.type, column.make = to, TYPES[to]

        return f"{head} modify {column.name} {to} {null}", modified
