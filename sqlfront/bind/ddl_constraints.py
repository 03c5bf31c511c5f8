"""The constraints of a table's definition: CHECK and FOREIGN KEY, and what ALTER TABLE does to them; parts of keys."""

from __future__ import annotations

from typing import TypeAlias, assert_never

from sqlfront.bind.restored import restored
from sqlfront.bind.type_reader import TypeReader
from sqlfront.catalog import definition as d
from sqlfront.errors import error

Constraint: TypeAlias = d.KeySpec | d.CheckSpec | d.ForeignKeySpec
_ACTIONS = ("RESTRICT", "CASCADE", "SET NULL", "NO ACTION", "SET DEFAULT")


def added(found: Constraint) -> d.AlterAction:
    """What ALTER TABLE ... ADD of a key or constraint asks for."""
    match found:
        case d.KeySpec():
            return d.AddKey(found)
        case d.CheckSpec():
            return d.AddCheck(found)
        case d.ForeignKeySpec():
            return d.AddForeignKey(found)
        case _:
            assert_never(found)


class ConstraintReader(TypeReader):
    """Reads constraints."""

    def check(self, name: str, position: int, column: str = "") -> d.CheckSpec:
        """CHECK (expression) [[NOT] ENFORCED]"""
        self.expect("CHECK")
        text = self.parenthesised()
        return d.CheckSpec(name, restored(text), self._enforced(), column, position)

    def column_check(self, column: str) -> d.CheckSpec:
        """[CONSTRAINT [name]] CHECK ..., behind a column."""
        position = self.position
        name = ""
        if self.accept("CONSTRAINT") and self.word() != "CHECK":
            name = self.name()
        return self.check(name, position, column)

    def _enforced(self) -> bool:
        if self.accept("NOT", "ENFORCED"):
            return False
        self.accept("ENFORCED")
        return True

    def foreign_key(self, symbol: str, position: int) -> d.ForeignKeySpec:
        """FOREIGN KEY [IF NOT EXISTS] [name] (columns) REFERENCES ..."""
        self.expect("FOREIGN", "KEY")
        exists = self.if_not_exists()
        name = symbol
        if self.word() != "(":
            name = symbol or self.name()
            if symbol:
                self.name()
        columns = self._names()
        parent, parent_columns, actions = self.references()
        on_delete, on_update = actions.get("DELETE", ""), actions.get("UPDATE", "")
        return d.ForeignKeySpec(name, columns, parent, parent_columns, on_delete, on_update, exists, position)

    def references(self) -> tuple[d.TableName, tuple[str, ...], dict[str, str]]:
        """REFERENCES table (columns) [MATCH ...] [ON DELETE ...] [ON UPDATE ...]"""
        self.expect("REFERENCES")
        parent = self.table()
        columns = self._names() if self.word() == "(" else ()
        if self.accept("MATCH"):
            if not self.accept_any("FULL", "PARTIAL", "SIMPLE"):
                raise self.wrong()
        actions: dict[str, str] = {}
        while self.word() == "ON" and self.word(1) in ("DELETE", "UPDATE") and self.word(1) not in actions:
            self.take()
            when = self.take().upper
            actions[when] = next((words for words in _ACTIONS if self.accept(*words.split())), "")
            if not actions[when]:
                raise self.wrong()
        return parent, columns, actions

    def key_parts(self) -> tuple[d.KeyPart, ...]:
        """(column [(length)] | (expression) [ASC | DESC], ...)"""
        self.expect("(")
        parts = []
        while True:
            parts.append(self._key_part())
            self.accept_any("ASC", "DESC")  # keys lie in one direction, and are read in both
            if not self.accept(","):
                break
        self.expect(")")
        return tuple(parts)

    def _key_part(self) -> d.KeyPart:
        """column [(length)], or (expression)"""
        position = self.position
        if self.word() == "(":
            return d.KeyPart("", -1, position, self.parenthesised())
        name = self.name()
        length = -1
        if self.accept("("):
            length = self.integer()
            self.expect(")")
        return d.KeyPart(name, length, position)

    def column_names(self) -> tuple[str, ...]:
        """The columns that decide on a row's partition."""
        parts = self.key_parts()
        if any(part.expr for part in parts):
            raise self.wrong()
        return tuple(part.column for part in parts)

    def _names(self) -> tuple[str, ...]:
        self.expect("(")
        names = []
        while True:
            names.append(self.name())
            if self.word() == "(":
                raise error(1239, "Incorrect foreign key definition: a key part has a length", position=self.position)
            if not self.accept(","):
                break
        self.expect(")")
        return tuple(names)

    def dropped_constraint(self) -> d.DropConstraint:
        """CONSTRAINT | CHECK | FOREIGN KEY name, behind DROP."""
        kind = {"CONSTRAINT": "any", "CHECK": "check", "FOREIGN": "foreign key"}[self.take().upper]
        if kind == "foreign key":
            self.expect("KEY")
        exists = self.if_exists()
        position = self.position
        return d.DropConstraint(kind, self.name(), exists, position)

    def altered_check(self) -> d.AlterCheck:
        """CHECK | CONSTRAINT name [NOT] ENFORCED, behind ALTER."""
        self.take()
        position = self.position
        name = self.name()
        if self.word() not in ("NOT", "ENFORCED"):
            raise self.wrong()
        return d.AlterCheck(name, self._enforced(), position)

    def parenthesised(self) -> str:
        """The text between two parentheses that belong together."""
        self.expect("(")
        first, depth = self.position, 1
        while depth:
            end, depth = self.position, depth + {"(": 1, ")": -1}.get(self.word(), 0)
            self.take()
        text = self.text[first:end].strip()
        if not text:
            raise self.wrong()
        return text
