"""The rows of a copy of a table: from packed records of one form to the records and index entries of another.

Columns that stay are copied as they are stored. Others are converted as an assignment in strict mode would: in bulk
where only their type changes and Arrow's values say all of them, else value by value. New columns get their default,
AUTO_INCREMENT numbers, or what they are computed by; STORED generated columns are computed again when others change.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coprocessor import functions as fn
from coprocessor.env import Env
from coprocessor.evaluate import compile_expr
from coprocessor.expr import Column as Ref
from coprocessor.types import FieldType, Tp
from sqlfront.catalog.alter import converts_in_bulk
from sqlfront.errors import error

if TYPE_CHECKING:
    from kvstore.client.api import CancelToken, Ingest, PackedBatch
    from sqlfront.catalog.model import Table


@dataclass(frozen=True, slots=True)
class Terms:
    """How values are converted: the session's zone and what its expressions read, and what stops it."""

    tz: dt.tzinfo | None
    cancel: CancelToken | None
    env: Env


class Conversion:
    """Converts batches of the rows of one table, or of its partitions."""

    def __init__(self, source: Table, target: Table, terms: Terms, first_id: int = 1) -> None:
        """A new AUTO_INCREMENT column begins with `first_id`."""
        from coprocessor.codec.vector import BatchDecoder
        from coprocessor.codec.vector_encode import BatchEncoder
        from sqlfront.bind.partitions import partitioning_of
        from sqlfront.exec.filler import ColumnFiller

        self._source, self._target = source, target
        self._tz, self._env = terms.tz, terms.env
        self._filler = ColumnFiller(target, terms.env.tz, strict=True)
        places = {column.id: column.offset for column in source.columns}
        self._from = {column.offset: places[column.id] for column in target.columns if column.id in places}
        self._new = [column for column in target.columns if column.id not in places]
        changed = [o for o, place in self._from.items() if source.columns[place].type != target.columns[o].type]
        generated = [c.offset for c in target.generated]
        remade = [o for o in generated if o not in self._from or self._expr_of(o) != target.columns[o].generated]
        self._computed = {o for o in generated if target.columns[o].stored} if changed or remade else set()
        """The STORED generated columns, when they are computed again, and new ones whose DEFAULT reads others."""
        self._late = [column.offset for column in self._new if column.offset in self._filler.late]
        self._computed.update(self._late)
        changed = [offset for offset in changed if offset not in self._computed]
        kept = [o for o in self._from if o not in changed and o not in self._computed]
        # What stays is read in UTC, as it is stored; what changes in the session's zone, as a person reads it.
        self._plain = (kept, BatchDecoder(source.schema, [self._from[o] for o in kept]))
        self._moved = (changed, BatchDecoder(source.schema, [self._from[o] for o in changed], terms.tz))
        reads = sorted(set(self._from) - self._computed) if self._computed else []
        self._read = (reads, BatchDecoder(source.schema, [self._from[o] for o in reads], terms.tz))
        self._converted = {o: self._converter(o) for o in changed}
        self._hidden = source.codec.is_hidden_handle
        self._gets_ids = target.codec.is_hidden_handle and not self._hidden
        self.last_row_id = 0
        """The greatest id of a row that had none of its own."""
        self._partitioning = partitioning_of(target)
        self._encoders = [BatchEncoder(part.codec, terms.tz) for part in target.physical]
        self.counts = dict.fromkeys((part.id for part in target.physical), 0)
        """How many rows each partition got, by its id."""
        auto = target.auto_increment
        before = None if auto is None or auto.offset not in self._from else source.columns[self._from[auto.offset]]
        self._numbers = None if auto is None or (before is not None and before.auto_increment) else auto.offset
        self._first_id = first_id
        self.last_id = 0
        """The greatest number in a column that becomes AUTO_INCREMENT."""

    def _expr_of(self, offset: int) -> str | None:
        return self._source.columns[self._from[offset]].generated

    def _type_before(self, offset: int) -> FieldType:
        return self._source.columns[self._from[offset]].type

    def _converter(self, offset: int) -> Any:
        """The function from a value as it was to what is assigned; None where a column is converted in bulk."""
        before, after = self._type_before(offset), self._target.columns[offset].type
        if converts_in_bulk(before, after):
            return None
        return compile_expr(fn.for_column(Ref(0, before), after), {0: 0})

    def add(self, packed: PackedBatch, ingest: Ingest, first_row: int) -> None:
        """Adds the rows of a batch as sorted runs."""
        import numpy as np

        from coprocessor.codec.vector import decode_handles
        from coprocessor.codec.vector_encode import sort_run

        columns: list[Any] = [None] * len(self._target.columns)
        offsets, decoder = self._plain
        for offset, column in zip(offsets, decoder.decode(packed).columns, strict=True):
            columns[offset] = column
        offsets, decoder = self._moved
        for offset, column in zip(offsets, decoder.decode(packed).columns, strict=True):
            columns[offset] = self._changed(offset, column, first_row)
        for new in self._new:
            if new.offset not in self._computed:
                columns[new.offset] = self._filled(new.offset, packed.count)
        if self._numbers is not None:
            columns[self._numbers] = self._numbered(columns[self._numbers], self._numbers)
        if self._computed:
            self._complete(columns, packed, first_row)
        for offset, schema in enumerate(self._target.schema.columns):
            if schema.not_null and columns[offset].null_count:
                raise error(1138, "Invalid use of NULL value")
        handles = decode_handles(packed) if self._hidden else None
        if self._gets_ids:
            handles = np.arange(self.last_row_id + 1, self.last_row_id + packed.count + 1)
            self.last_row_id += packed.count
        for number, rows in self._spread(columns, packed.count):
            mine = columns if rows is None else [column.take(rows) for column in columns]
            ids = handles if handles is None or rows is None else handles[rows]
            size = packed.count if rows is None else len(rows)
            self.counts[self._target.physical[number].id] += size
            encoded = self._encoders[number].encode_columns(mine, size, ids)
            ingest.add_run(*sort_run(encoded.keys, encoded.values))
            for run in encoded.indexes:
                ingest.add_run(*sort_run(run.keys, run.values))

    def _changed(self, offset: int, column: Any, first_row: int) -> Any:
        """A column whose type changes."""
        from coprocessor.arrow import column_values
        from coprocessor.codec.columns import cast_column

        convert, schema = self._converted[offset], self._target.schema.columns[offset]
        if convert is None:
            return cast_column(column, schema, self._tz, first_row=first_row)
        cast, env = self._filler.casters[offset], self._env
        values = column_values(column, self._type_before(offset))
        return self._array(
            [None if v is None else cast(convert((v,), env), row) for row, v in enumerate(values, first_row)], offset
        )

    def _array(self, values: Sequence[Any], offset: int) -> Any:
        """Values in the session's zone as a column that can be stored."""
        from coprocessor.arrow import column_array
        from coprocessor.codec.temporal import vector_to_utc

        type_ = self._target.columns[offset].type
        made = column_array(values, type_, inside=True)
        return vector_to_utc(made, self._tz) if type_.tp == Tp.TIMESTAMP else made

    def _filled(self, offset: int, size: int) -> Any:
        """A new column: what rows that are there have in it."""
        from coprocessor.codec.vector import absent

        column = self._target.columns[offset]
        if column.default.kind == "expr":
            return self._array([self._filler.default(offset, self._env) for _ in range(size)], offset)
        schema = self._target.schema.columns[offset]
        return absent(schema, None, size, is_null=column.generated is not None or column.auto_increment)

    def _numbered(self, column: Any, offset: int) -> Any:
        """A column that becomes AUTO_INCREMENT: NULL and 0 are the next number."""
        values = column.to_pylist()
        for place, value in enumerate(values):
            if not value:
                values[place] = self._filler.casters[offset](max(self.last_id + 1, self._first_id), place + 1)
            self.last_id = max(self.last_id, values[place])
        return self._array(values, offset)

    def _complete(self, columns: list[Any], packed: PackedBatch, first_row: int) -> None:
        """Computes columns from the others, as the session reads them."""
        from coprocessor.arrow import column_values

        schema, size = self._target.columns, packed.count
        local: list[Sequence[Any]] = [[None] * size for _ in columns]
        offsets, decoder = self._read
        for offset, column in zip(offsets, decoder.decode(packed).columns, strict=True):
            local[offset] = column_values(column, self._type_before(offset))
        for offset in {*self._moved[0], *(c.offset for c in self._new)} - self._computed:
            local[offset] = self._local_values(columns[offset], schema[offset].type)
        if self._numbers is not None:
            local[self._numbers] = columns[self._numbers].to_pylist()
        from sqlfront.exec.filler import LATE

        filler, env = self._filler, self._env
        made: dict[int, list[Any]] = {offset: [] for offset in self._computed}
        for place in range(size):
            row = [values[place] for values in local]
            for offset in self._late:
                row[offset] = LATE
            filler.complete_late(row, env)
            if filler.generated is not None:
                filler.generated.complete(row, filler, env, first_row + place)
            for offset, out in made.items():
                out.append(row[offset])
        for offset, out in made.items():
            columns[offset] = self._array(out, offset)

    def _local_values(self, column: Any, type_: FieldType) -> list[Any]:
        """A column that is to be stored, as the session reads it."""
        from coprocessor.arrow import column_values
        from coprocessor.codec.temporal import from_utc

        values = column_values(column, type_)
        return [None if v is None else from_utc(v, self._tz) for v in values] if type_.tp == Tp.TIMESTAMP else values

    def _spread(self, columns: Sequence[Any], size: int) -> Iterator[tuple[int, Any]]:
        """The partitions that rows of a batch belong to, with their places in it; None for all of them."""
        import numpy as np

        from coprocessor.arrow import column_values

        if self._partitioning is None:
            yield 0, None
            return
        schema, offsets = self._target.schema.columns, self._partitioning.offsets
        values = [column_values(columns[offset], schema[offset].type) for offset in offsets]
        env = Env(tz=dt.UTC)  # the columns are in it too
        places = np.empty(size, np.int64)
        for row in range(size):
            mapping = {offset: column[row] for offset, column in zip(offsets, values, strict=True)}
            places[row] = self._partitioning.locate(mapping, env)
        for number in np.unique(places).tolist():
            yield number, np.nonzero(places == number)[0]
