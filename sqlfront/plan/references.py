"""Foreign keys as plans have them: with the tables at both ends, and the way to the rows that belong together.

A *reference* is a foreign key of a child table, resolved in one schema. Which tables a statement touches by way of
references is decided when it is planned; a table that has no part in any costs its statements nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import itemgetter
from typing import Any

from coprocessor.codec.datum import key_encoder
from coprocessor.codec.index_row import RecordKeyOf
from kvstore.client.api import Reader
from sqlfront.catalog.constraints import CHANGING, ForeignKey
from sqlfront.catalog.model import Index, Schema, Table
from sqlfront.errors import error

Values = tuple[Any, ...]
"""Those of a key's columns in one row, none of them NULL; TIMESTAMPs in UTC."""


class KeyPlace:
    """Finds the rows of a table by the values of some columns: by their key, an index, or as a last resort all rows."""

    def __init__(self, table: Table, offsets: Sequence[int]) -> None:
        self.table = table
        self.offsets = tuple(offsets)
        self._codec = table.codec
        self._encoders = [key_encoder(table.columns[offset].type) for offset in offsets]
        self._index = self._choose_index()
        self.record_key = self._record_key_maker()
        """The key of the only record that can have such values; None where these do not tell."""

    def identity(self, values: Sequence[Any]) -> bytes:
        """What values have in common that compare as equal."""
        return b"".join([encode(value) for encode, value in zip(self._encoders, values, strict=True)])

    def values_of(self, row: Sequence[Any]) -> Values | None:
        """The values in a row; None when one is NULL."""
        values = tuple([row[offset] for offset in self.offsets])
        return None if None in values else values

    def records(
        self, reader: Reader, wanted: Collection[Values], most: int | None = None, *, at_once: bool = False
    ) -> dict[Values, list[bytes]]:
        """The keys of the records that have these values, `most` for each; those that nothing has are left out.

        With `at_once` an index is read from the first value to the last, not value by value.
        """
        if self.record_key is not None:
            keys = {values: self.record_key(values) for values in wanted}
            there = reader.batch_get(keys.values())
            return {values: [key] for values, key in keys.items() if key in there}
        index = self._index
        if index is None:
            return self._by_scan(reader, wanted)
        record_of = self._codec.index_record_key(index.schema)
        if index.unique and len(index.columns) == len(self.offsets):
            entries = {values: self._codec.unique_key(index.schema, values) for values in wanted}
            found = reader.batch_get([key for key in entries.values() if key is not None])
            return {v: [record_of(key, found[key])] for v, key in entries.items() if key is not None and key in found}
        out: dict[Values, list[bytes]] = {}
        ranges = [(*self._codec.index_range(index.schema, values), values) for values in wanted]
        ranges = sorted((r for r in ranges if r[0] < r[1]), key=itemgetter(0))
        if at_once and len(ranges) > 1:
            return self._merged(reader, ranges, record_of, most)
        for start, end, values in ranges:
            pairs = islice(reader.scan(start, end), most)
            records = [record_of(key, value) for key, value in pairs]
            if records:
                out[values] = records
        return out

    def _merged(
        self, reader: Reader, ranges: Sequence[tuple[bytes, bytes, Values]], record_of: RecordKeyOf, most: int | None
    ) -> dict[Values, list[bytes]]:
        """Reads the entries of all ranges (ascending, disjoint or the same) by one scan."""
        out: dict[Values, list[bytes]] = {}
        at = 0
        for key, value in reader.scan(ranges[0][0], ranges[-1][1]):
            while key >= ranges[at][1]:
                at += 1
            for start, end, values in islice(ranges, at, None):
                if key < start or end != ranges[at][1]:
                    break
                found = out.setdefault(values, [])
                if most is None or len(found) < most:
                    found.append(record_of(key, value))
        return out

    def _by_scan(self, reader: Reader, wanted: Collection[Values]) -> dict[Values, list[bytes]]:
        by_identity: dict[bytes, list[Values]] = {}
        for values in wanted:
            by_identity.setdefault(self.identity(values), []).append(values)
        out: dict[Values, list[bytes]] = {}
        decode = self._codec.key_decoder(self.offsets)
        for key, value in reader.scan(*self._codec.record_range):
            there = decode(key, value)
            for values in () if None in there else by_identity.get(self.identity(there), ()):
                out.setdefault(values, []).append(key)
        return out

    def _choose_index(self) -> Index | None:
        wanted = list(self.offsets)
        fits = [
            index
            for index in self.table.indexes
            if [part.offset for part in index.columns[: len(wanted)]] == wanted
            and all(part.prefix < 0 for part in index.columns[: len(wanted)])
        ]
        return min(fits, key=lambda index: (not index.unique, len(index.columns)), default=None)

    def _record_key_maker(self) -> Callable[[Values], bytes] | None:
        table, codec = self.table, self._codec
        if self.offsets == (table.handle_offset,):
            return lambda values: codec.record_key(int(values[0]))
        parts = table.common_handle
        if parts and tuple(part.offset for part in parts) == self.offsets and all(part.prefix < 0 for part in parts):
            return lambda values: codec.record_key(codec.common_handle(values))
        return None


class Reference:
    """One foreign key with its tables. `parent` is None when there is nothing that it points to."""

    def __init__(self, schema: Schema, child: Table, key: ForeignKey) -> None:
        self.key = key
        self.child = child
        self.told = key.told(child.db, child.name)
        self.child_place = KeyPlace(child, _offsets(child, key.columns) or ())
        parent = schema.table(key.parent_db, key.parent)
        offsets = None if parent is None or parent.unreadable is not None else _offsets(parent, key.parent_columns)
        self.parent = None if offsets is None else parent
        self.parent_place = None if parent is None or offsets is None else KeyPlace(parent, offsets)


def _offsets(table: Table, names: Iterable[str]) -> list[int] | None:
    columns = [table.column(name) for name in names]
    found = [column.offset for column in columns if column is not None]
    return found if len(found) == len(columns) else None


@dataclass(frozen=True)
class TableReferences:
    """The references of one table: to the rows that its own refer to, and from those that refer to its own."""

    outgoing: tuple[Reference, ...]
    incoming: tuple[Reference, ...]

    def __bool__(self) -> bool:
        return bool(self.outgoing or self.incoming)

    @cached_property
    def by_parent(self) -> tuple[tuple[Reference, KeyPlace], ...]:
        return tuple((r, r.parent_place) for r in self.incoming if r.parent_place is not None)


_NO_REFERENCES = TableReferences((), ())


class ReferenceGraph:
    """The references of a schema that matter to a statement, found as they are asked for."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._known: dict[int, TableReferences] = {}

    def of(self, table: Table) -> TableReferences:
        if table.temporary:  # whatever has its name besides
            return _NO_REFERENCES
        found = self._known.get(table.id)
        if found is None:
            outgoing = tuple(Reference(self._schema, table, key) for key in table.foreign_keys)
            referring = self._schema.referring(table.db, table.name)
            for child, key in referring:
                if _offsets(child, key.columns) is None:
                    what = f"it is referenced by '{child.db}.{child.name}', which cannot be read here"
                    raise error(1036, f"Table '{table.db}.{table.name}' is read only here: {what}")
            incoming = tuple(Reference(self._schema, child, key) for child, key in referring)
            found = self._known[table.id] = TableReferences(outgoing, incoming)
        return found

    def tables(self, changed: Iterable[Table]) -> list[Table]:
        """The tables with all whose rows may be looked at, or change, when rows of them do."""
        out: dict[int, Table] = {}
        left = list(changed)
        seen: set[int] = set()
        while left:
            table = left.pop()
            if table.id in seen:
                continue
            seen.add(table.id)
            out[table.id] = table
            references = self.of(table)
            for reference in references.outgoing:
                if reference.parent is not None:
                    out.setdefault(reference.parent.id, reference.parent)
            for reference in references.incoming:
                out.setdefault(reference.child.id, reference.child)
                if CHANGING & {reference.key.on_delete, reference.key.on_update}:
                    left.append(reference.child)
        return list(out.values())


def references_of(schema: Schema, tables: Sequence[Table], checks: bool) -> ReferenceGraph | None:
    """The references that a statement that changes these tables has to keep; None when there are none."""
    tables = [table for table in tables if not table.temporary]
    if not checks or not any(table.info.fk_info or schema.referring(table.db, table.name) for table in tables):
        return None
    graph = ReferenceGraph(schema)
    return graph if any(graph.of(table) for table in tables) else None
