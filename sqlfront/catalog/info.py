# ruff: noqa: RUF009 - the fields are declared through functions that make dataclass fields
"""What is stored of the schema: TiDB's JSON objects, field for field (`pkg/meta/model`,
`pkg/parser/types/field_type.go`).

These are mutable records for schema changes and for reading and writing `m` keys; `model.py` makes the immutable
objects that statements use from them. A field this version does not know is kept and written back as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, ClassVar, TypeVar

TABLE_INFO_VERSION = 5
COLUMN_INFO_VERSION = 2
COMMON_HANDLE_VERSION = 1
SEPARATE_AUTO_IDS = 1


class State(IntEnum):
    """F1's states of a schema object, with TiDB's numbers."""

    NONE = 0
    DELETE_ONLY = 1
    WRITE_ONLY = 2
    WRITE_REORG = 3
    DELETE_REORG = 4
    PUBLIC = 5


class Flag:
    """Bits of a column's `Flag` (`pkg/parser/mysql/type.go`)."""

    NOT_NULL = 1
    PRI_KEY = 2
    UNIQUE_KEY = 4
    MULTIPLE_KEY = 8
    UNSIGNED = 32
    ZEROFILL = 64
    BINARY = 128
    AUTO_INCREMENT = 512
    NO_DEFAULT = 4096
    ON_UPDATE_NOW = 8192


R = TypeVar("R", bound="Record")


class Record:
    """Base of the JSON records: fields carry their tag, unknown ones are kept in `extra`."""

    extra: dict[str, Any]
    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset()

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, tag, encode, _ in _plan(type(self)):
            value = getattr(self, name)
            if value or tag not in self.OMIT_EMPTY:
                out[tag] = encode(value)
        out.update(self.extra)
        return out

    def dumps(self) -> bytes:
        return json.dumps(self.to_json(), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")

    @classmethod
    def from_json(cls: type[R], data: dict[str, Any]) -> R:
        rest = dict(data)
        values = {}
        for name, tag, _, decode in _plan(cls):
            if tag in rest:
                values[name] = decode(rest.pop(tag))
        record = cls(**values)
        record.extra = rest
        return record

    @classmethod
    def loads(cls: type[R], data: bytes) -> R:
        return cls.from_json(json.loads(data.decode("utf-8", "surrogateescape")))

    def copy(self: R) -> R:
        """A deep copy, by way of JSON."""
        return type(self).from_json(json.loads(json.dumps(self.to_json())))


Encode = Callable[[Any], Any]


_plans: dict[str, tuple[tuple[str, str, Encode, Encode], ...]] = {}


def _plan(cls: type[Record]) -> tuple[tuple[str, str, Encode, Encode], ...]:
    plan = _plans.get(cls.__name__)
    if plan is None:
        plan = _plans[cls.__name__] = tuple(
            (f.name, f.metadata["tag"], f.metadata["encode"], f.metadata["decode"])
            for f in fields(cls)  # type: ignore[arg-type]
            if "tag" in f.metadata
        )
    return plan


def _same(value: Any) -> Any:
    return value


def _tag(tag: str, default: Any, encode: Encode = _same, decode: Encode = _same) -> Any:
    metadata = {"tag": tag, "encode": encode, "decode": decode}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _name(tag: str) -> Any:
    """A CIStr: `O` as written, `L` lower-cased. In memory only the original is kept."""
    return _tag(tag, "", lambda s: {"O": s, "L": s.lower()}, lambda d: d["O"])


def _records(tag: str, cls: type[Record]) -> Any:
    return _tag(
        tag, list, lambda items: [i.to_json() for i in items], lambda items: [cls.from_json(i) for i in items or ()]
    )


def _records_or_null(tag: str, cls: type[Record]) -> Any:
    """Records of which TiDB writes null when there are none."""
    return _tag(
        tag,
        list,
        lambda items: [i.to_json() for i in items] or None,
        lambda items: [cls.from_json(i) for i in items or ()],
    )


def _names(tag: str) -> Any:
    """Names as `_name` has them, in memory the originals."""
    return _tag(
        tag, list, lambda names: [{"O": s, "L": s.lower()} for s in names], lambda items: [d["O"] for d in items or ()]
    )


def _optional(tag: str, cls: type[Record]) -> Any:
    """A record that may be null."""
    return _tag(
        tag, None, lambda r: None if r is None else r.to_json(), lambda d: None if d is None else cls.from_json(d)
    )


def _extra() -> Any:
    return field(default_factory=dict)


@dataclass
class TypeInfo(Record):
    """A column's type; `elems` None where the type has none. `flag` holds `Flag` bits."""

    tp: int = _tag("Tp", 0)
    flag: int = _tag("Flag", 0)
    flen: int = _tag("Flen", -1)
    decimal: int = _tag("Decimal", -1)
    charset: str = _tag("Charset", "")
    collate: str = _tag("Collate", "")
    elems: list[str] | None = _tag("Elems", None)
    elems_is_binary_lit: list[bool] | None = _tag("ElemsIsBinaryLit", None)
    array: bool = _tag("Array", False)
    extra: dict[str, Any] = _extra()


def _new_type(data: dict[str, Any]) -> TypeInfo:
    return TypeInfo.from_json(data)


@dataclass
class ColumnInfo(Record):
    """One column. Defaults are text (or None); of BIT also base64 of the bytes, of TIMESTAMP in UTC."""

    id: int = _tag("id", 0)
    name: str = _name("name")
    offset: int = _tag("offset", 0)
    origin_default: Any = _tag("origin_default", None)
    origin_default_bit: str | None = _tag("origin_default_bit", None)
    default: Any = _tag("default", None)
    default_bit: str | None = _tag("default_bit", None)
    default_is_expr: bool = _tag("default_is_expr", False)
    generated_expr_string: str = _tag("generated_expr_string", "")
    generated_stored: bool = _tag("generated_stored", False)
    dependences: dict[str, Any] | None = _tag("dependences", None)
    type: TypeInfo = _tag("type", TypeInfo, Record.to_json, _new_type)
    state: int = _tag("state", int(State.PUBLIC))
    comment: str = _tag("comment", "")
    hidden: bool = _tag("hidden", False)
    change_state_info: Any = _tag("change_state_info", None)
    version: int = _tag("version", COLUMN_INFO_VERSION)
    extra: dict[str, Any] = _extra()

    def has(self, flag: int) -> bool:
        return bool(self.type.flag & flag)

    def set_flag(self, flag: int, on: bool) -> None:
        self.type.flag = self.type.flag | flag if on else self.type.flag & ~flag


@dataclass
class IndexColumnInfo(Record):
    """A column of an index: `length` is the prefix in characters (bytes of binary types), -1 the whole."""

    name: str = _name("name")
    offset: int = _tag("offset", 0)
    length: int = _tag("length", -1)
    extra: dict[str, Any] = _extra()


@dataclass
class IndexInfo(Record):
    """One index; `index_type` 1 is BTREE. `complete_ts` is ours: snapshots from then on find all rows in it."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"complete_ts"})

    id: int = _tag("id", 0)
    name: str = _name("idx_name")
    table: str = _name("tbl_name")
    columns: list[IndexColumnInfo] = _records("idx_cols", IndexColumnInfo)
    state: int = _tag("state", int(State.PUBLIC))
    backfill_state: int = _tag("backfill_state", 0)
    comment: str = _tag("comment", "")
    index_type: int = _tag("index_type", 1)
    unique: bool = _tag("is_unique", False)
    primary: bool = _tag("is_primary", False)
    invisible: bool = _tag("is_invisible", False)
    is_global: bool = _tag("is_global", False)
    mv_index: bool = _tag("mv_index", False)
    vector_index: Any = _tag("vector_index", None)
    complete_ts: int = _tag("complete_ts", 0)
    extra: dict[str, Any] = _extra()


class ReferAction(IntEnum):
    """What becomes of a row whose parent row goes, or gets another key (`pkg/parser/ast`, ReferOptionType)."""

    NONE = 0
    RESTRICT = 1
    CASCADE = 2
    SET_NULL = 3
    NO_ACTION = 4
    SET_DEFAULT = 5

    @property
    def text(self) -> str:
        return "" if self is ReferAction.NONE else self.name.replace("_", " ")

    @property
    def rule(self) -> str:
        """As the information schema says it."""
        return self.text or ReferAction.NO_ACTION.text


@dataclass
class FKInfo(Record):
    """One foreign key. Those of `version` 0 are from before TiDB enforced them, and are only written down."""

    id: int = _tag("id", 0)
    name: str = _name("fk_name")
    ref_schema: str = _name("ref_schema")
    ref_table: str = _name("ref_table")
    ref_cols: list[str] = _names("ref_cols")
    cols: list[str] = _names("cols")
    on_delete: int = _tag("on_delete", 0)
    on_update: int = _tag("on_update", 0)
    state: int = _tag("state", int(State.PUBLIC))
    version: int = _tag("version", 1)
    extra: dict[str, Any] = _extra()


@dataclass
class ConstraintInfo(Record):
    """One CHECK. `in_column` tells that it was written behind a column."""

    id: int = _tag("id", 0)
    name: str = _name("constraint_name")
    table: str = _name("tbl_name")
    columns: list[str] = _names("constraint_cols")
    enforced: bool = _tag("enforced", True)
    in_column: bool = _tag("in_column", False)
    expr_string: str = _tag("expr_string", "")
    state: int = _tag("state", int(State.PUBLIC))
    extra: dict[str, Any] = _extra()


@dataclass
class ReplicaInfo(Record):
    """What a table's columnar replica should be; `count` 0 is none. A table without this record has one."""

    count: int = _tag("Count", 0)
    location_labels: list[str] | None = _tag("LocationLabels", None)
    available: bool = _tag("Available", False)
    available_partition_ids: list[int] | None = _tag("AvailablePartitionIDs", None)
    extra: dict[str, Any] = _extra()


@dataclass
class UserIdentity(Record):
    """An account, as the definer of a view."""

    username: str = _tag("Username", "")
    hostname: str = _tag("Hostname", "")
    current_user: bool = _tag("CurrentUser", False)
    auth_username: str = _tag("AuthUsername", "")
    auth_hostname: str = _tag("AuthHostname", "")
    auth_plugin: str = _tag("AuthPlugin", "")
    extra: dict[str, Any] = _extra()


@dataclass
class ViewInfo(Record):
    """What makes a table a view. `select` is its query with all names spelled out.

    `algorithm` is 0 UNDEFINED, 1 MERGE, 2 TEMPTABLE; `security` 0 DEFINER, 1 INVOKER; `check_option` 0 LOCAL,
    1 CASCADED. The view's columns are named as the table's are; `columns`, which only TiDB before 3.0 has stored, are
    the names that the query gives.
    """

    algorithm: int = _tag("view_algorithm", 0)
    definer: UserIdentity | None = _optional("view_definer", UserIdentity)
    security: int = _tag("view_security", 0)
    select: str = _tag("view_select", "")
    check_option: int = _tag("view_checkoption", 1)
    columns: list[dict[str, str]] | None = _tag("view_cols", None)
    extra: dict[str, Any] = _extra()


@dataclass
class TableInfo(Record):
    """One table as stored. `revision` is the schema version at which what writers must maintain last changed.

    `complete_ts` is ours: snapshots before it do not find the rows under this id.
    """

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"old_schema_id", "complete_ts"})

    id: int = _tag("id", 0)
    name: str = _name("name")
    charset: str = _tag("charset", "utf8mb4")
    collate: str = _tag("collate", "utf8mb4_bin")
    columns: list[ColumnInfo] = _records("cols", ColumnInfo)
    indexes: list[IndexInfo] = _records("index_info", IndexInfo)
    constraint_info: list[ConstraintInfo] = _records_or_null("constraint_info", ConstraintInfo)
    fk_info: list[FKInfo] = _records_or_null("fk_info", FKInfo)
    state: int = _tag("state", int(State.PUBLIC))
    pk_is_handle: bool = _tag("pk_is_handle", False)
    is_common_handle: bool = _tag("is_common_handle", False)
    common_handle_version: int = _tag("common_handle_version", 0)
    comment: str = _tag("comment", "")
    auto_inc_id: int = _tag("auto_inc_id", 0)
    auto_id_cache: int = _tag("auto_id_cache", SEPARATE_AUTO_IDS)
    auto_rand_id: int = _tag("auto_rand_id", 0)
    max_col_id: int = _tag("max_col_id", 0)
    max_idx_id: int = _tag("max_idx_id", 0)
    max_fk_id: int = _tag("max_fk_id", 0)
    max_cst_id: int = _tag("max_cst_id", 0)
    update_timestamp: int = _tag("update_timestamp", 0)
    old_schema_id: int = _tag("old_schema_id", 0)
    shard_row_id_bits: int = _tag("ShardRowIDBits", 0)
    max_shard_row_id_bits: int = _tag("max_shard_row_id_bits", 0)
    auto_random_bits: int = _tag("auto_random_bits", 0)
    auto_random_range_bits: int = _tag("auto_random_range_bits", 0)
    pre_split_regions: int = _tag("pre_split_regions", 0)
    partition: Any = _tag("partition", None)
    compression: str = _tag("compression", "")
    view: ViewInfo | None = _optional("view", ViewInfo)
    sequence: Any = _tag("sequence", None)
    lock: Any = _tag("Lock", None)
    version: int = _tag("version", TABLE_INFO_VERSION)
    tiflash_replica: ReplicaInfo | None = _optional("tiflash_replica", ReplicaInfo)
    is_columnar: bool = _tag("is_columnar", False)
    temp_table_type: int = _tag("temp_table_type", 0)
    cache_table_status: int = _tag("cache_table_status", 0)
    policy_ref_info: Any = _tag("policy_ref_info", None)
    stats_options: Any = _tag("stats_options", None)
    exchange_partition_info: Any = _tag("exchange_partition_info", None)
    ttl_info: Any = _tag("ttl_info", None)
    revision: int = _tag("revision", 0)
    complete_ts: int = _tag("complete_ts", 0)
    extra: dict[str, Any] = _extra()

    def column(self, name: str) -> ColumnInfo | None:
        low = name.lower()
        return next((c for c in self.columns if c.name.lower() == low), None)

    def index(self, name: str) -> IndexInfo | None:
        low = name.lower()
        return next((i for i in self.indexes if i.name.lower() == low), None)

    @property
    def clustered(self) -> bool:
        return self.pk_is_handle or self.is_common_handle


@dataclass
class DBInfo(Record):
    """One database as stored."""

    id: int = _tag("id", 0)
    name: str = _name("db_name")
    charset: str = _tag("charset", "utf8mb4")
    collate: str = _tag("collate", "utf8mb4_bin")
    state: int = _tag("state", int(State.PUBLIC))
    policy_ref_info: Any = _tag("policy_ref_info", None)
    extra: dict[str, Any] = _extra()


@dataclass
class AffectedOption(Record):
    """One more table that a schema version changed (`RENAME TABLE a TO b, c TO d`)."""

    schema_id: int = _tag("schema_id", 0)
    table_id: int = _tag("table_id", 0)
    old_table_id: int = _tag("old_table_id", 0)
    old_schema_id: int = _tag("old_schema_id", 0)
    extra: dict[str, Any] = _extra()


@dataclass
class SchemaDiff(Record):
    """What one schema version changed; `action` is TiDB's ActionType number."""

    version: int = _tag("version", 0)
    action: int = _tag("type", 0)
    schema_id: int = _tag("schema_id", 0)
    table_id: int = _tag("table_id", 0)
    sub_action_types: Any = _tag("sub_action_types", None)
    old_table_id: int = _tag("old_table_id", 0)
    old_schema_id: int = _tag("old_schema_id", 0)
    regenerate_schema_map: bool = _tag("regenerate_schema_map", False)
    affected_options: list[AffectedOption] = _records("affected_options", AffectedOption)
    extra: dict[str, Any] = _extra()


class Action(IntEnum):
    """Kinds of schema change (`pkg/meta/model/job.go`)."""

    CREATE_SCHEMA = 1
    DROP_SCHEMA = 2
    CREATE_TABLE = 3
    DROP_TABLE = 4
    ADD_COLUMN = 5
    DROP_COLUMN = 6
    ADD_INDEX = 7
    DROP_INDEX = 8
    ADD_FOREIGN_KEY = 9
    DROP_FOREIGN_KEY = 10
    TRUNCATE_TABLE = 11
    MODIFY_COLUMN = 12
    REBASE_AUTO_ID = 13
    RENAME_TABLE = 14
    SET_DEFAULT_VALUE = 15
    MODIFY_TABLE_COMMENT = 17
    RENAME_INDEX = 18
    ADD_TABLE_PARTITION = 19
    DROP_TABLE_PARTITION = 20
    CREATE_VIEW = 21
    DROP_VIEW = 24
    MODIFY_SCHEMA_CHARSET = 26
    SET_TIFLASH_REPLICA = 41
    ADD_CHECK_CONSTRAINT = 43
    DROP_CHECK_CONSTRAINT = 44
    ALTER_CHECK_CONSTRAINT = 45
    RENAME_TABLES = 47
    MULTI_SCHEMA_CHANGE = 61
    REORGANIZE_PARTITION = 64
    ALTER_TABLE_PARTITIONING = 71
    REMOVE_PARTITIONING = 72
