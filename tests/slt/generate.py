"""`python -m tests.slt.generate DIRECTORY`: random queries in the manner of sqlite's random suites, always the same.

Every file has three small tables with NULLs, then queries of one kind made by a seeded generator. The result is a
draft; `tests.slt.record` fills in what MariaDB answers. Expressions are typed (integers, decimals, strings, truth
values), so that they stay inside what MySQL and MariaDB agree on: no number is compared with a string, and a division
is never an operand, because its hidden digits are each server's own.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

QUERIES_PER_FILE = 250
FILES = {
    "expressions": 4,
    "aggregates": 2,
    "group_by": 3,
    "joins": 3,
    "subqueries": 2,
    "set_operations": 1,
    "ordered": 2,
    "signs": 2,
}
DEPTH_MAX = 3
WORDS = ("ant", "bee", "cat", "dog", "Eel", "fox", "", "gnu gnu", "hen_1", "50%")

SCHEMA = """create table t1 (id int primary key, a int, b int, c int, s varchar(10), d decimal(8,2));
create table t2 (id int primary key, a int, b int, c int, s varchar(10), d decimal(8,2), key (a), key (s));
create table t3 (a int, b int, c int, s varchar(10), d decimal(8,2));"""


@dataclass(slots=True)
class Generator:
    """Makes random SQL; `tables` are the aliases whose columns expressions may use."""

    rng: random.Random
    tables: tuple[str, ...] = ("t1",)

    def rows(self) -> list[str]:
        out = []
        for table, count in (("t1", 14), ("t2", 11), ("t3", 9)):
            for i in range(count):
                key = [] if table == "t3" else [str(i + 1)]
                values = [*key, self.small(), self.small(), self.small(), self.word(), self.money()]
                out.append(f"insert into {table} values ({', '.join(values)});")
        return out

    def maybe_null(self, text: str) -> str:
        return "null" if self.rng.random() < 0.15 else text

    def small(self) -> str:
        return self.maybe_null(str(self.rng.randint(-4, 9)))

    def word(self) -> str:
        return self.maybe_null(f"'{self.rng.choice(WORDS)}'")

    def money(self) -> str:
        return self.maybe_null(f"{self.rng.randint(-999, 2999) / 100:.2f}")

    def column(self, names: str) -> str:
        name, table = self.rng.choice(names), self.rng.choice(self.tables)
        return f"{table}.{name}" if len(self.tables) > 1 or self.rng.random() < 0.3 else name

    def pick(self, *choices: Callable[[], str]) -> str:
        return self.rng.choice(choices)()

    def integer(self, depth: int = DEPTH_MAX) -> str:
        """An expression of integers."""
        if depth == 0 or self.rng.random() < 0.3:
            return self.column("abc") if self.rng.random() < 0.75 else str(self.rng.randint(-9, 40))

        def i() -> str:
            return self.integer(depth - 1)

        def b() -> str:
            return self.truth(depth - 1)

        return self.pick(
            lambda: f"({i()} {self.rng.choice('+-*')} {i()})",
            lambda: f"({i()} {self.rng.choice('+-')} {i()})",
            lambda: f"- {self.column('abc')}",
            lambda: f"({i()} {self.rng.choice(('div', '%'))} {i()})",
            lambda: f"abs({i()})",
            lambda: f"coalesce({i()}, {i()})",
            lambda: f"ifnull({i()}, {i()})",
            lambda: f"nullif({i()}, {i()})",
            lambda: f"case when {b()} then {i()} when {b()} then {i()} else {i()} end",
            lambda: f"case {i()} when {i()} then {i()} when {i()} then {i()} end",
            lambda: f"if({b()}, {i()}, {i()})",
            lambda: f"sign({i()})",
            lambda: f"{self.rng.choice(('greatest', 'least'))}({i()}, {i()})",
            lambda: f"char_length({self.string(depth - 1)})",
        )

    def decimal(self, depth: int = 2) -> str:
        """An expression of DECIMAL(8, 2) columns."""
        if depth == 0 or self.rng.random() < 0.4:
            return self.column("d") if self.rng.random() < 0.7 else f"{self.rng.randint(-99, 999) / 10}"

        def d() -> str:
            return self.decimal(depth - 1)

        return self.pick(
            lambda: f"({d()} {self.rng.choice('+-*')} {d()})",
            lambda: f"({d()} {self.rng.choice('+-')} {self.column('abc')})",
            lambda: f"abs({d()})",
            lambda: f"coalesce({d()}, {d()})",
            lambda: f"round({self.column('d')}, 1)",
            lambda: f"if({self.truth(1)}, {d()}, {d()})",
        )

    def string(self, depth: int = 2) -> str:
        if depth == 0 or self.rng.random() < 0.5:
            return self.column("s") if self.rng.random() < 0.75 else f"'{self.rng.choice(WORDS)}'"

        def s() -> str:
            return self.string(depth - 1)

        return self.pick(
            lambda: f"concat({s()}, {s()})",
            lambda: f"{self.rng.choice(('upper', 'lower', 'reverse', 'trim'))}({s()})",
            lambda: f"{self.rng.choice(('left', 'right'))}({s()}, {self.rng.randint(0, 4)})",
            lambda: f"substring({s()}, {self.rng.randint(1, 3)}, {self.rng.randint(0, 3)})",
            lambda: f"coalesce({s()}, {s()})",
            lambda: f"replace({s()}, '{self.rng.choice('aeno')}', '{self.rng.choice(('', 'X', '..'))}')",
            lambda: f"case when {self.truth(1)} then {s()} else {s()} end",
        )

    def truth(self, depth: int = DEPTH_MAX) -> str:
        """A condition."""
        if depth == 0:
            return f"{self.column('abc')} {self.comparison()} {self.rng.randint(-4, 12)}"

        def i() -> str:
            return self.integer(depth - 1)

        def b() -> str:
            return self.truth(depth - 1)

        no = self.rng.choice(("", "", "not "))
        return self.pick(
            lambda: f"{i()} {self.comparison()} {i()}",
            lambda: f"{self.decimal(1)} {self.comparison()} {self.decimal(1)}",
            lambda: f"{self.string(1)} {self.comparison()} {self.string(1)}",
            lambda: f"{i()} {no}between {i()} and {i()}",
            lambda: f"{i()} {no}in ({i()}, {i()}, {self.small()})",
            lambda: f"{self.column('s')} {no}like '{self.rng.choice(('%a%', '_e%', '%n', 'gnu%', '%', '', '%g_u%'))}'",
            lambda: f"{self.rng.choice((self.column('abcds'), i()))} is {no}null",
            lambda: f"({b()} and {b()})",
            lambda: f"({b()} or {b()})",
            lambda: f"({b()} xor {b()})",
            lambda: f"not ({b()})",
            lambda: f"({b()}) is {self.rng.choice(('true', 'false', 'not true', 'not false', 'unknown'))}",
        )

    def comparison(self) -> str:
        return self.rng.choice(("=", "<>", "<", "<=", ">", ">=", "<=>"))

    def value(self) -> str:
        quotient = f"{self.column('abc')} / {self.divisor()}"
        return self.pick(self.integer, self.integer, self.decimal, self.string, self.truth, lambda: quotient)

    def divisor(self) -> str:
        return self.rng.choice((self.column("abc"), "3", "7", "0", "2.5"))

    def where(self) -> str:
        return f" where {self.truth()}" if self.rng.random() < 0.7 else ""

    def aggregate(self) -> str:
        distinct = self.rng.choice(("", "", "", "distinct "))
        return self.pick(
            lambda: "count(*)",
            lambda: f"count({distinct}{self.integer(1)})",
            lambda: f"sum({distinct}{self.integer(2)})",
            lambda: f"sum({distinct}{self.decimal(1)})",
            lambda: f"avg({distinct}{self.integer(1)})",
            lambda: f"avg({self.column('d')})",
            lambda: f"{self.rng.choice(('min', 'max'))}({self.integer(2)})",
            lambda: f"{self.rng.choice(('min', 'max'))}({self.string(1)})",
            lambda: f"{self.rng.choice(('min', 'max'))}({self.decimal(1)})",
            lambda: f"count(case when {self.truth(1)} then 1 end)",
            lambda: f"sum(if({self.truth(1)}, {self.column('abc')}, 0))",
        )

    def some(self, make: Callable[[], str], low: int, high: int) -> str:
        return ", ".join(make() for _ in range(self.rng.randint(low, high)))

    def expressions(self) -> str:
        self.tables = (self.rng.choice(("t1", "t2")),)
        distinct = self.rng.choice(("", "", "", "distinct "))
        return f"select {distinct}{self.some(self.value, 1, 4)} from {self.tables[0]}{self.where()}"

    def aggregates(self) -> str:
        self.tables = (self.rng.choice(("t1", "t2", "t3")),)
        having = f" having {self.aggregate_condition()}" if self.rng.random() < 0.2 else ""
        return f"select {self.some(self.aggregate, 1, 4)} from {self.tables[0]}{self.where()}{having}"

    def aggregate_condition(self) -> str:
        return f"count(*) {self.comparison()} {self.rng.randint(0, 4)}"

    def group_by(self) -> str:
        self.tables = (self.rng.choice(("t1", "t2", "t3")),)
        keys = [self.pick(lambda: self.column("abcds"), lambda: self.integer(1)) for _ in range(self.rng.randint(1, 2))]
        named = ", ".join(f"{key} as k{i}" for i, key in enumerate(keys))
        having = f" having {self.aggregate_condition()}" if self.rng.random() < 0.4 else ""
        groups = ", ".join(f"k{i}" for i in range(len(keys)))
        source = f"{self.tables[0]}{self.where()}"
        return f"select {named}, {self.some(self.aggregate, 1, 3)} from {source} group by {groups}{having}"

    def joins(self) -> str:
        names = self.rng.sample(("t1", "t2", "t3"), self.rng.choice((2, 2, 3)))
        source = names[0]
        for i, name in enumerate(names[1:], 1):
            self.tables = tuple(names[: i + 1])
            kind = self.rng.choice(("join", "join", "left join", "right join", "cross join"))
            other, column = self.rng.choice(names[:i]), self.rng.choice("abcs")
            extra = f" and {self.truth(1)}" if self.rng.random() < 0.4 else ""
            condition = "" if kind == "cross join" else f" on {other}.{column} = {name}.{column}{extra}"
            source += f" {kind} {name}{condition}"
        self.tables = tuple(names)
        if self.rng.random() < 0.4:
            return f"select {self.some(self.aggregate, 1, 3)} from {source}{self.where()}"
        return f"select {self.some(self.value, 1, 3)} from {source}{self.where()}"

    def subqueries(self) -> str:
        self.tables = ("x",)
        outer, inner = self.rng.choice(("t1", "t2", "t3")), self.rng.choice(("t1", "t2", "t3"))
        inside = Generator(self.rng, ("y",))
        both = Generator(self.rng, ("x", "y"))
        no = self.rng.choice(("", "not "))
        link = f"x.{self.rng.choice('abc')} = y.{self.rng.choice('abc')}"
        column = inside.column("abc")
        one = f"{self.rng.choice(('min', 'max', 'count', 'sum'))}({column})"
        every = self.rng.choice(("any", "all"))
        where = f"select {self.some(self.value, 1, 2)} from {outer} x where"
        compared = f"{where} {self.integer(1)} {self.comparison_plain()}"
        return self.pick(
            lambda: f"{where} {no}exists (select 1 from {inner} y where {both.truth(2)})",
            lambda: f"{where} {no}exists (select 1 from {inner} y where {link} and {inside.truth(1)})",
            lambda: f"{where} {self.integer(1)} {no}in (select {column} from {inner} y{inside.where()})",
            lambda: f"{where} {self.integer(1)} {no}in (select {column} from {inner} y where {link})",
            lambda: f"select {self.value()}, (select {one} from {inner} y where {link}) from {outer} x",
            lambda: f"{compared} (select {one} from {inner} y{inside.where()})",
            lambda: f"{compared} {every} (select {column} from {inner} y where {inside.truth(1)})",
            lambda: (
                f"select q.k, q.n from (select {self.integer(1)} as k, count(*) as n from {outer} x{self.where()} "
                f"group by k) q where q.n > 1"
            ),
            lambda: (
                f"with q as (select {self.integer(1)} as k, {self.column('s')} as s from {outer} x{self.where()}) "
                f"select count(*), min(q.k), max(q.s) from q"
            ),
        )

    def signed(self, depth: int = 2) -> str:
        """Arithmetic in the spelling of sqlite's random suites: many signs, many parentheses."""
        sign = self.rng.choice(("", "+ ", "- ", "+ + ", "- - ", "- + "))
        if depth == 0 or self.rng.random() < 0.4:
            return sign + self.pick(
                lambda: self.column("abc"),
                lambda: str(self.rng.randint(0, 99)),
                lambda: f"( {self.column('abc')} )",
                lambda: "CAST( NULL AS SIGNED )",
                lambda: f"CAST( {self.column('abc')} AS SIGNED )",
            )
        operator = self.rng.choice(("+", "-", "*", "DIV"))
        return f"{sign}{self.signed(depth - 1)} {operator} {self.signed(depth - 1)}"

    def signed_aggregate(self) -> str:
        word = self.rng.choice(("", "ALL ", "DISTINCT "))
        name = self.rng.choice(("COUNT", "SUM", "MIN", "MAX", "COUNT"))
        sign = self.rng.choice(("", "- ", "+ + ", "- - "))
        call = f"{name}( {word}{self.signed(1)} )" if self.rng.random() < 0.7 else "COUNT( * )"
        return f"{sign}{call} {self.rng.choice('+-*')} {sign}{self.rng.randint(0, 99)}"

    def signed_condition(self) -> str:

        def v() -> str:
            return self.signed(1)

        no = self.rng.choice(("", "NOT "))
        return self.pick(
            lambda: f"{no}{v()} IS {self.rng.choice(('', 'NOT '))}NULL",
            lambda: f"NOT ( {v()} ) {self.comparison_plain()} {v()}",
            lambda: f"{v()} {no}IN ( {v()}, {v()}, {v()} )",
            lambda: f"( NOT {v()} ) {no}BETWEEN ( {v()} ) AND NULL",
            lambda: f"{v()} {no}BETWEEN {v()} AND {v()}",
            lambda: f"( NULL ) {no}IN ( {v()}, {self.column('abc')} )",
            lambda: f"NULL {self.comparison_plain()} {v()} OR {v()} {self.comparison_plain()} {v()}",
        )

    def signs(self) -> str:
        word = self.rng.choice(("", "ALL ", "DISTINCT "))
        a, b = self.rng.choice(("t1", "t2", "t3")), self.rng.choice(("t1", "t2", "t3"))
        self.tables = ("cor0",)
        source, where = f"{a} AS cor0", ""
        if self.rng.random() < 0.3:
            source = self.rng.choice((f"( {a} AS cor0 CROSS JOIN {b} cor1 )", f"{a} AS cor0, {b} AS cor1"))
            self.tables = ("cor0", "cor1")
        if self.rng.random() < 0.5:
            where = f" WHERE {self.signed_condition()}"
        make = self.signed_aggregate if self.rng.random() < 0.4 else self.signed
        values = [make() for _ in range(self.rng.randint(1, 2))]
        named = ", ".join(v + self.rng.choice(("", f" AS c{i}", f" c{i}")) for i, v in enumerate(values))
        return f"SELECT {word}{named} FROM {source}{where}"

    def comparison_plain(self) -> str:
        return self.rng.choice(("=", "<>", "<", "<=", ">", ">="))

    def set_operations(self) -> str:
        parts = []
        count = self.rng.randint(1, 2)
        for i in range(self.rng.choice((2, 2, 3))):
            self.tables = (self.rng.choice(("t1", "t2", "t3")),)
            word = "" if i == 0 else self.rng.choice(("union", "union all", "union", "except", "intersect")) + " "
            columns = ", ".join(self.integer(1) for _ in range(count))
            parts.append(f"{word}select {columns} from {self.tables[0]}{self.where()}")
        return " ".join(parts)

    def ordered(self) -> str:
        self.tables = (self.rng.choice(("t1", "t2")),)
        keys = [self.pick(lambda: self.integer(1), lambda: self.column("abcds")) for _ in range(2)]
        keys = [("a" if key.lstrip("-").isdigit() else key) + self.rng.choice(("", " desc")) for key in keys]
        limit = f" limit {self.rng.randint(0, 9)}" if self.rng.random() < 0.6 else ""
        if limit and self.rng.random() < 0.4:
            limit += f" offset {self.rng.randint(0, 9)}"
        source = f"{self.tables[0]}{self.where()}"
        return f"select id, {self.some(self.value, 1, 2)} from {source} order by {', '.join(keys)}, id{limit}"


def draft(kind: str, number: int) -> str:
    """Returns one file's draft."""
    generator = Generator(random.Random(f"{kind}-{number}"))
    lines = [f"# random {kind}, file {number}; made by tests.slt.generate", SCHEMA, *generator.rows()]
    lines += [f"{getattr(generator, kind)()};" for _ in range(QUERIES_PER_FILE)]
    return "\n".join(lines) + "\n"


def main(directory: str) -> None:
    for kind, count in FILES.items():
        for number in range(count):
            (Path(directory) / f"{kind}_{number}.sql").write_text(draft(kind, number), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
