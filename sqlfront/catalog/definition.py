"""What a DDL statement asks for, after its text was read and before the catalog was consulted.

`sqlfront/bind/ddl.py` makes these from text; `ddl.py` and `alter.py` carry them out. Values are literals as written;
whether they fit is decided where the types are known. `position` is the place in the statement's text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class TableName:
    db: str | None
    name: str
    position: int = -1


@dataclass(frozen=True, slots=True)
class TypeSpec:
    """A type as written: upper-cased name (synonyms resolved to one word), its arguments and attributes."""

    name: str
    args: tuple[int, ...] = ()
    elems: tuple[str, ...] = ()
    unsigned: bool = False
    zerofill: bool = False
    charset: str = ""
    collate: str = ""
    binary: bool = False
    position: int = -1


@dataclass(frozen=True, slots=True)
class DefaultSpec:
    """`kind` is const (`value`: str, bytes, int, Decimal, float, bool or None; bits as `Bits`), now (`value`: the fsp)
    or expr (`value`: its text). `text` is what stood in parentheses.
    """

    kind: str
    value: str | bytes | int | float | Decimal | None = None
    position: int = -1
    text: str = ""


@dataclass(frozen=True, slots=True)
class GeneratedSpec:
    """A column's value as an expression over the row's other columns; `text` is its source."""

    text: str
    stored: bool
    position: int = -1


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """CHECK (`text`). `name` empty: one is chosen. `column` is the one that it was written behind, if it was."""

    name: str
    text: str
    enforced: bool = True
    column: str = ""
    position: int = -1


@dataclass(frozen=True, slots=True)
class ForeignKeySpec:
    """FOREIGN KEY (`columns`) REFERENCES `parent` (`parent_columns`). The actions are words, "" when not given."""

    name: str
    columns: tuple[str, ...]
    parent: TableName
    parent_columns: tuple[str, ...]
    on_delete: str = ""
    on_update: str = ""
    if_not_exists: bool = False
    position: int = -1


@dataclass(slots=True)
class ColumnSpec:
    name: str
    type: TypeSpec
    position: int = -1
    not_null: bool | None = None
    default: DefaultSpec | None = None
    auto_increment: bool = False
    on_update: int | None = None
    comment: str = ""
    primary: bool = False
    clustered: bool | None = None
    unique: bool = False
    generated: GeneratedSpec | None = None
    checks: list[CheckSpec] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KeyPart:
    """A column of a key, or an expression as its text, then without `column`; `length` its prefix, -1 for whole."""

    column: str
    length: int = -1
    position: int = -1
    expr: str = ""


@dataclass(frozen=True, slots=True)
class KeySpec:
    """`kind` is primary, unique or plain. `name` empty: one is chosen."""

    kind: str
    name: str
    parts: tuple[KeyPart, ...]
    comment: str = ""
    clustered: bool | None = None
    if_not_exists: bool = False
    position: int = -1


@dataclass(frozen=True, slots=True)
class PartitionSpec:
    """One partition. `less_than` are the bounds of a RANGE (one for each column), `values` the rows of a LIST, both as
    the text of constants; MAXVALUE stands for itself."""

    name: str
    less_than: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    comment: str = ""
    position: int = -1


@dataclass(frozen=True, slots=True)
class PartitionBy:
    """`kind` is range, list, hash or key; over `columns` (RANGE COLUMNS, LIST COLUMNS, KEY) or over an expression, as
    text. KEY without columns is over those of the primary key, which are `implied`.
    `number` is that of hashed partitions without definitions, 0 when it was not given."""

    kind: str
    expr: str = ""
    columns: tuple[str, ...] = ()
    partitions: tuple[PartitionSpec, ...] = ()
    number: int = 0
    position: int = -1
    implied: bool = False


@dataclass(slots=True)
class TableOptions:
    """None is: not given."""

    charset: str | None = None
    collate: str | None = None
    auto_increment: int | None = None
    comment: str | None = None
    replica_count: int | None = None


@dataclass(slots=True)
class CreateDatabase:
    name: str
    if_not_exists: bool
    options: TableOptions
    position: int = -1


@dataclass(slots=True)
class AlterDatabase:
    name: str | None
    options: TableOptions
    position: int = -1


@dataclass(slots=True)
class DropDatabase:
    name: str
    if_exists: bool
    position: int = -1


@dataclass(slots=True)
class CreateTable:
    """`temporary`: for the session alone; `like` is another table to copy; `query` the text of an AS SELECT, at its
    place in the statement's, or empty; `duplicates` (ignore, replace or empty) says what becomes of its rows whose
    unique keys are taken.
    """

    table: TableName
    if_not_exists: bool
    columns: list[ColumnSpec] = field(default_factory=list)
    keys: list[KeySpec] = field(default_factory=list)
    checks: list[CheckSpec] = field(default_factory=list)
    foreign_keys: list[ForeignKeySpec] = field(default_factory=list)
    options: TableOptions = field(default_factory=TableOptions)
    like: TableName | None = None
    query: str = ""
    duplicates: str = ""
    partition: PartitionBy | None = None
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class CreateView:
    """CREATE VIEW, and ALTER VIEW, which is for a view that is there (`alter`).

    `query` is the text of its query, at its place in the statement; `definer` (user, host) is None for who creates it.
    `columns` are the names given to its columns, none where the query names them.
    """

    view: TableName
    query: str
    columns: tuple[str, ...] = ()
    algorithm: str = "UNDEFINED"
    definer: tuple[str, str] | None = None
    security: str = "DEFINER"
    check_option: str = "CASCADED"
    or_replace: bool = False
    alter: bool = False


@dataclass(slots=True)
class DropView:
    views: list[TableName]
    if_exists: bool


@dataclass(slots=True)
class DropTable:
    """`temporary`: of the session's own tables alone."""

    tables: list[TableName]
    if_exists: bool
    temporary: bool = False


@dataclass(slots=True)
class TruncateTable:
    table: TableName


@dataclass(slots=True)
class RenameTables:
    pairs: list[tuple[TableName, TableName]]


@dataclass(slots=True)
class AddColumn:
    """`after` is a column's name, "" for FIRST, None for the end."""

    column: ColumnSpec
    after: str | None = None
    if_not_exists: bool = False


@dataclass(slots=True)
class DropColumn:
    name: str
    if_exists: bool = False
    position: int = -1


@dataclass(slots=True)
class ChangeColumn:
    """MODIFY (`old` is the column's own name) and CHANGE."""

    old: str
    column: ColumnSpec
    after: str | None = None
    position: int = -1


@dataclass(slots=True)
class RenameColumn:
    old: str
    new: str
    position: int = -1


@dataclass(slots=True)
class SetDefault:
    """ALTER COLUMN SET DEFAULT, or DROP DEFAULT when `default` is None."""

    column: str
    default: DefaultSpec | None
    position: int = -1


@dataclass(slots=True)
class AddKey:
    key: KeySpec


@dataclass(slots=True)
class DropKey:
    """`name` PRIMARY is the primary key."""

    name: str
    if_exists: bool = False
    position: int = -1


@dataclass(slots=True)
class RenameKey:
    old: str
    new: str
    position: int = -1


@dataclass(slots=True)
class RenameTo:
    table: TableName


@dataclass(slots=True)
class SetOptions:
    options: TableOptions


@dataclass(slots=True)
class ConvertText:
    """CONVERT TO CHARACTER SET."""

    options: TableOptions
    position: int = -1


@dataclass(slots=True)
class SetReplica:
    """SET TIFLASH REPLICA: how many columnar copies; `labels` say where a cluster would put them."""

    count: int
    labels: tuple[str, ...] = ()
    position: int = -1


@dataclass(slots=True)
class AddCheck:
    check: CheckSpec


@dataclass(slots=True)
class AlterCheck:
    """Whether a CHECK is enforced from now on."""

    name: str
    enforced: bool
    position: int = -1


@dataclass(slots=True)
class AddForeignKey:
    key: ForeignKeySpec


@dataclass(slots=True)
class DropConstraint:
    """`kind` is check, foreign key, or any: whatever constraint has the name."""

    kind: str
    name: str
    if_exists: bool = False
    position: int = -1


@dataclass(slots=True)
class AddPartitions:
    """`number` is how many, where they are not described."""

    partitions: tuple[PartitionSpec, ...]
    number: int | None = None
    position: int = -1


@dataclass(slots=True)
class ClearPartitions:
    """DROP PARTITION, or TRUNCATE PARTITION when they are to be `kept`; no names are ALL."""

    names: tuple[str, ...]
    kept: bool
    position: int = -1


@dataclass(slots=True)
class ReorganizePartitions:
    """REORGANIZE PARTITION: other partitions in the place of some; no names is MySQL's form without parameters."""

    names: tuple[str, ...]
    partitions: tuple[PartitionSpec, ...]
    position: int = -1


@dataclass(slots=True)
class CoalescePartitions:
    """COALESCE PARTITION: so many partitions fewer."""

    number: int
    position: int = -1


@dataclass(slots=True)
class PartitionTable:
    """PARTITION BY, or REMOVE PARTITIONING for None."""

    by: PartitionBy | None
    position: int = -1


AlterAction: TypeAlias = (
    AddColumn | DropColumn | ChangeColumn | RenameColumn | SetDefault | AddKey | DropKey | RenameKey | RenameTo
    | SetOptions | ConvertText | SetReplica | AddPartitions | ClearPartitions | AddCheck | AlterCheck | AddForeignKey
    | DropConstraint | ReorganizePartitions | CoalescePartitions | PartitionTable
)  # fmt: skip


@dataclass(slots=True)
class AlterTable:
    table: TableName
    actions: list[AlterAction]


Definition: TypeAlias = (
    CreateDatabase | AlterDatabase | DropDatabase | CreateTable | DropTable | TruncateTable | RenameTables | AlterTable
    | CreateView | DropView
)  # fmt: skip
