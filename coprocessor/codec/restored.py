"""Restored data: what an index entry's value keeps of text that the entry's key does not tell (as TiDB has it).

The key of a VARCHAR is its sort key, the text without its trailing spaces. So that an index alone can show the text,
the entry's value holds a row (version 2) by column ids, which has

int handle      all of the index's columns, cut as the index cuts them, when one of them is such text
common handle   of each such column of the index or of the primary key, how many spaces were cut

Queries here take text from the row always. TiDB asks for it out of an index alone (`text_restorer`), and would show it
without its spaces if they were not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coprocessor.codec.collation import is_bin_collation, needs_restored_data
from coprocessor.codec.datum import value_decoder
from coprocessor.errors import CodecError
from coprocessor.schema import ColumnSchema, IndexColumn, IndexSchema, TableSchema
from coprocessor.types import BLOB_TPS, FieldType, Tp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Slices = Mapping[int, bytes | None]
"""The bytes of a row's values by column id, None for NULL."""
_NULLS_STAY = 0
"""A default of any value has rows say that a column is NULL."""
_SPACES_OF_INDEX = FieldType(Tp.LONGLONG, unsigned=True)
_SPACES_OF_KEY = FieldType(Tp.LONGLONG)


@dataclass(frozen=True, slots=True)
class RestoredPart:
    """One column of restored data: where its value is, cut to `prefix` characters (-1: whole), and whether the spaces
    at its end are counted instead (none in NULL)."""

    offset: int
    prefix: int
    counted: bool


@dataclass(frozen=True, slots=True)
class RestoredData:
    """The restored data of one index: `rows` is the schema of the rows that hold one value for each of `parts`."""

    parts: tuple[RestoredPart, ...]
    rows: TableSchema


def restored_data(schema: TableSchema, index: IndexSchema) -> RestoredData | None:
    """What the entries of an index keep; None where their keys tell all."""
    if schema.handle_offset < 0 and schema.common_handle:
        found = list(_beside_common_handle(schema, index))
    elif any(_is_restored(schema.columns[part.offset].type) for part in index.columns):
        found = [
            (RestoredPart(part.offset, part.prefix, False), schema.columns[part.offset].type) for part in index.columns
        ]
    else:
        return None
    if not found:
        return None
    columns = tuple(
        ColumnSchema(schema.columns[part.offset].id, "", type_, default=_NULLS_STAY) for part, type_ in found
    )
    return RestoredData(tuple(part for part, _ in found), TableSchema(schema.table_id, schema.name, columns))


def entry_offsets(schema: TableSchema, index: IndexSchema) -> frozenset[int]:
    """The columns on whose values an index entry depends besides its handle."""
    restored = restored_data(schema, index)
    of_value = () if restored is None else restored.parts
    return frozenset(part.offset for part in index.columns) | frozenset(part.offset for part in of_value)


def count_spaces(text: str | None) -> int:
    """How many spaces the text ends in."""
    return 0 if text is None else len(text) - len(text.rstrip(" "))


def text_restorer(column_id: int, type_: FieldType, *, common: bool) -> Callable[[bytes | None, Slices], str | None]:
    """Returns (what the entry's key has of a text, its restored data by column ids) -> the text.

    Where there is none of the column, the key has all: the index is of a cluster without new collations, or no space
    was cut. Raises CodecError for a key that holds weights and no text.
    """
    read_count, read_text = value_decoder(_SPACES_OF_INDEX), value_decoder(type_)
    counted = common and is_bin_collation(type_.collate)

    def restore(in_key: bytes | None, slices: Slices) -> str | None:
        if in_key is None:
            return None
        kept = slices.get(column_id)
        if kept is not None and not counted:
            text: str = read_text(kept)
            return text
        try:
            text = in_key.decode()
        except UnicodeDecodeError as error:
            raise CodecError(f"the key of an index entry does not tell the text of column {column_id}") from error
        return text if kept is None else text + " " * int(read_count(kept))

    return restore


def _is_restored(type_: FieldType) -> bool:
    return needs_restored_data(type_) and not (type_.tp in BLOB_TPS and is_bin_collation(type_.collate))


def _beside_common_handle(schema: TableSchema, index: IndexSchema) -> Iterator[tuple[RestoredPart, FieldType]]:
    primary = {part.offset for part in schema.common_handle}
    for part in index.columns:
        type_ = schema.columns[part.offset].type
        if part.offset not in primary and _is_restored(type_):
            yield _part(part.offset, part.prefix, type_, _SPACES_OF_INDEX)
    for part in schema.common_handle:
        type_ = schema.columns[part.offset].type
        if _is_restored(type_):
            yield _part(part.offset, _longer(part, index), type_, _SPACES_OF_KEY)


def _part(offset: int, prefix: int, type_: FieldType, counts: FieldType) -> tuple[RestoredPart, FieldType]:
    counted = is_bin_collation(type_.collate)
    return RestoredPart(offset, prefix, counted), counts if counted else type_


def _longer(part: IndexColumn, index: IndexSchema) -> int:
    """Of a column of the primary key as much as key or index hold."""
    of_index = next((column.prefix for column in index.columns if column.offset == part.offset), part.prefix)
    return -1 if min(part.prefix, of_index) < 0 else max(part.prefix, of_index)
