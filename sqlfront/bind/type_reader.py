"""Reads the type of a column as definitions write it."""

from __future__ import annotations

from dataclasses import replace

from sqlfront.bind.ddl_tokens import TokenCursor
from sqlfront.catalog import definition as d
from sqlfront.catalog.column_types import NAMES, REFUSED_NAMES

_TYPE_NAMES = NAMES | REFUSED_NAMES | {"NCHAR", "NVARCHAR"}


class TypeReader(TokenCursor):
    """Reads types."""

    def type_spec(self) -> d.TypeSpec:
        """A type with its length, members, character set and collation."""
        position = self.position
        if self.kind() != "word":
            raise self.wrong()
        name = self.take().upper
        if name == "NATIONAL":
            name = self.take().upper
        if name not in _TYPE_NAMES:
            self.at -= 1
            raise self.wrong()
        name = {"NCHAR": "CHAR", "NVARCHAR": "VARCHAR"}.get(name, name)
        if name == "DOUBLE":
            self.accept("PRECISION")
        if name in ("CHAR", "CHARACTER"):
            if self.accept("VARYING"):
                name = "VARCHAR"
            elif self.accept("BYTE"):
                name = "BINARY"
        if name == "LONG":
            name = "MEDIUMBLOB" if self.accept("VARBINARY") else "MEDIUMTEXT"
            self.accept("VARCHAR")
        args: list[int] = []
        elems: list[str] = []
        if self.accept("("):
            while True:
                if name in ("ENUM", "SET"):
                    elems.append(self.string())
                else:
                    args.append(self.integer())
                if not self.accept(","):
                    break
            self.expect(")")
        spec = d.TypeSpec(name, tuple(args), tuple(elems), position=position)
        return self._type_attributes(spec)

    def _type_attributes(self, spec: d.TypeSpec) -> d.TypeSpec:
        while not self.ended:
            if self.accept("UNSIGNED"):
                spec = replace(spec, unsigned=True)
            elif self.accept("ZEROFILL"):
                spec = replace(spec, zerofill=True)
            elif self.accept("BINARY"):
                spec = replace(spec, binary=True)
            elif self.accept("CHARACTER", "SET") or self.accept("CHAR", "SET") or self.accept("CHARSET"):
                spec = replace(spec, charset=self.charset_name())
            elif self.accept("COLLATE"):
                spec = replace(spec, collate=self.charset_name())
            elif self.accept("ASCII"):
                spec = replace(spec, charset="latin1")
            elif self.accept("UNICODE"):
                spec = replace(spec, charset="ucs2")
            elif self.accept("BYTE"):
                spec = replace(spec, charset="binary")
            elif not self.accept("SIGNED"):
                break
        return spec

    def charset_name(self) -> str:
        """A name, as it is or as a string."""
        return self.string() if self.kind() == "string" else self.name()
