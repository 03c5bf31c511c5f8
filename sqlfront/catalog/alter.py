"""ALTER TABLE: from a table's record and a list of actions to its next record, and the steps that lead there.

`plan_alter` is pure: it applies the actions in order and says which new indexes must be filled and which columns must
be proven free of NULLs first. `online.py` carries the plan out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from coprocessor.types import BLOB_TPS, INTEGER_TPS, FieldType, Tp
from sqlfront.catalog import definition as d
from sqlfront.catalog.charsets import check_charset
from sqlfront.catalog.column_types import type_text
from sqlfront.catalog.constraint_rules import (
    Around,
    add_check,
    add_foreign_key,
    check_actions,
    check_column_not_needed,
    check_index_not_needed,
    check_no_checks,
    check_null_not_needed,
    check_type_not_needed,
    find_check,
    rename_key_columns,
)
from sqlfront.catalog.info import ColumnInfo, Flag, IndexInfo, ReplicaInfo, State, TableInfo
from sqlfront.catalog.model import NOW_TEXT, PRIMARY, field_type
from sqlfront.catalog.partitions import check_keys, kind_of
from sqlfront.catalog.repartition import PartitionAction, change_partitions
from sqlfront.catalog.table_builder import (
    COLUMNS_MAX,
    TABLE_COMMENT_MAX,
    build_column,
    build_index,
    check_auto_increment,
    check_comment,
    check_default_columns,
    check_dependences,
    check_name,
    check_no_defaults,
    check_no_dependents,
    check_numbered_apart,
    column_keys,
    constant_text,
    hidden_columns,
    key_columns,
    make_not_null,
    new_index,
    partition_columns,
    set_default,
    set_key_flags,
)
from sqlfront.errors import DatabaseError, error, near_match, unsupported

Note = Callable[[int, str], None]

FSP_MAX = 6
_WIDTH = {Tp.TINY: 1, Tp.SHORT: 2, Tp.INT24: 3, Tp.LONG: 4, Tp.LONGLONG: 8}


@dataclass
class AlterPlan:
    """The record to arrive at. `new_indexes` are ids of indexes to fill, `not_null` ids of columns that become NOT
    NULL.

    `rename` is the table's new name, `auto_increment` the next value asked for, `rows` how many the way there counted.
    `rewrite` asks for a copy of the rows; `replaced` are then the ids of the table and its partitions that are gone,
    `rows_of_parts` how many rows its new partitions got. `replica` tells that
    the columnar replica is all that changes: writers notice nothing.
    """

    final: TableInfo
    new_indexes: list[int] = field(default_factory=list)
    not_null: list[int] = field(default_factory=list)
    dropped_indexes: list[int] = field(default_factory=list)
    rename: d.TableName | None = None
    auto_increment: int | None = None
    rows: int | None = None
    rewrite: bool = False
    moved: list[int] | None = None
    """Ids of the partitions whose rows are copied, where the others stay; None where the whole table is."""
    replaced: list[int] = field(default_factory=list)
    rows_of_parts: dict[int, int] = field(default_factory=dict)
    replica: bool = False
    changed: bool = False
    cleared: list[int] = field(default_factory=list)
    """Ids of partitions whose rows go."""
    new_checks: list[int] = field(default_factory=list)
    """Ids of CHECKs that rows which are there have to satisfy."""
    new_keys: list[int] = field(default_factory=list)
    """Ids of foreign keys that rows which are there have to satisfy."""
    renamed: dict[str, str] = field(default_factory=dict)
    """The new names of columns by those that they had, in lower case."""

    @property
    def asks_of_rows(self) -> bool:
        """Whether something has to be built, or proven of the rows that are there."""
        return bool(self.new_indexes or self.not_null or self.new_checks or self.new_keys)


class Emptiness:
    """Whether the table has rows, asked once and only when a rule depends on it."""

    def __init__(self, has_rows: Callable[[], bool]) -> None:
        self._has_rows = has_rows
        self._known: bool | None = None

    def has_rows(self) -> bool:
        if self._known is None:
            self._known = self._has_rows()
        return self._known


def plan_alter(
    base: TableInfo,
    actions: list[d.AlterAction],
    tz: dt.tzinfo | None,
    now: dt.datetime,
    rows: Emptiness,
    note: Note,
    columnar_servers: Callable[[], int],
    around: Around,
) -> AlterPlan:
    """Applies the actions in order to a copy of the record. `now` (UTC) is the time that DEFAULT CURRENT_TIMESTAMP
    gives, `columnar_servers` says how many columnar replicas there can be of a table, `around` what points to it.
    """
    apart = next((a for a in actions if isinstance(a, PartitionAction)), None)
    if apart is not None and len(actions) > 1:
        raise unsupported("changes of partitions together with other changes", position=apart.position)
    replica = next((a for a in actions if isinstance(a, d.SetReplica)), None)
    if replica is not None and len(actions) > 1:
        raise unsupported("SET TIFLASH REPLICA together with other changes", position=replica.position)
    plan = AlterPlan(base.copy(), replica=replica is not None)
    step = _Step(plan, tz, now, rows, note, columnar_servers, around)
    # what needs an index or a column may go together with it, and new keys are over the columns that there are then
    for action in sorted(actions, key=_turn):
        step.apply(action)
    final = plan.final
    if not any(c.state == State.PUBLIC and not c.hidden for c in final.columns):
        raise error(1090, "You can't delete all columns with ALTER TABLE; use DROP TABLE instead")
    fix_offsets(final)
    check_auto_increment(final)
    check_numbered_apart(final)
    check_default_columns(final)
    check_actions(final)
    for index, position in step.removed:
        check_index_not_needed(final, index, around.referrers, position)
    set_key_flags(final)
    if kind_of(final) is not None:
        check_keys(final, partition_columns(final))
    plan.not_null = [i for i in plan.not_null if any(c.id == i for c in final.columns)]
    if plan.rewrite and any(plan.renamed.keys() & map(str.lower, key.parent_columns) for _, _, key in around.referrers):
        raise unsupported("renaming what foreign keys point to together with what rewrites rows")
    if plan.renamed and (plan.new_checks or plan.new_keys):
        raise unsupported("renaming a column together with adding constraints")
    if plan.rewrite and plan.rename is not None:
        raise unsupported("what rewrites rows together with RENAME")
    return plan


def _turn(action: d.AlterAction) -> int:
    """When an action is applied, whatever its place in the statement."""
    match action:
        case d.DropConstraint():
            return 0
        case d.AddKey():
            return 2
        case d.AddForeignKey():
            return 3
    return 1


def fix_offsets(info: TableInfo) -> None:
    """Makes the offsets of columns and index columns follow the columns' order."""
    for offset, column in enumerate(info.columns):
        column.offset = offset
    for index in info.indexes:
        for part in index.columns:
            found = info.column(part.name)
            assert found is not None, part.name
            part.name, part.offset = found.name, found.offset


def need_column(info: TableInfo, name: str, position: int = -1, code: int = 1054) -> ColumnInfo:
    found = info.column(name)
    if found is None or found.state != State.PUBLIC or found.hidden:
        hint = near_match(name, [c.name for c in info.columns if not c.hidden])
        message = f"Unknown column '{name}' in '{info.name}'" if code == 1054 else _cannot_drop(name)
        raise error(code, message + hint, position=position)
    return found


def _cannot_drop(name: str) -> str:
    return f"Can't DROP '{name}'; check that column/key exists"


class _Step:
    """Applies one action after the other to the plan's record."""

    def __init__(
        self,
        plan: AlterPlan,
        tz: dt.tzinfo | None,
        now: dt.datetime,
        rows: Emptiness,
        note: Note,
        columnar_servers: Callable[[], int],
        around: Around,
    ) -> None:
        self.plan = plan
        self.around = around
        self.removed: list[tuple[IndexInfo, int]] = []
        """The indexes that were dropped by their names, and where."""
        self.info = plan.final
        self.known = frozenset(column.id for column in plan.final.columns)
        self.tz = tz
        self.now = now
        self.rows = rows
        self.note = note
        self.columnar_servers = columnar_servers

    def apply(self, action: d.AlterAction) -> None:
        match action:
            case d.AddColumn():
                self.add_column(action)
            case d.DropColumn():
                self.drop_column(action)
            case d.ChangeColumn():
                self.change_column(action)
            case d.RenameColumn():
                self.rename_column(action)
            case d.SetDefault():
                self.plan.changed = True
                column = self._there(action.column, action.position)
                if column.generated_expr_string:
                    raise error(1221, "Incorrect usage of DEFAULT and generated column", position=action.position)
                set_default(column, action.default, self.tz)
                if action.default is None:
                    column.set_flag(Flag.NO_DEFAULT, on=True)
            case d.AddKey():
                self.add_key(action.key)
            case d.DropKey():
                self.drop_key(action)
            case d.RenameKey():
                self.rename_key(action)
            case d.RenameTo():
                self.plan.rename = action.table
            case d.SetOptions():
                self.set_options(action.options)
            case d.ConvertText():
                self.convert_text(action)
            case d.SetReplica():
                self.set_replica(action)
            case _ if isinstance(action, PartitionAction):
                change_partitions(self.plan, action, self.around)
            case d.AddCheck():
                self.add_check(action.check)
            case d.AlterCheck():
                self.alter_check(action)
            case d.AddForeignKey():
                self.add_foreign_key(action.key)
            case d.DropConstraint():
                self.drop_constraint(action)
            case _:
                assert_never(action)

    def set_options(self, options: d.TableOptions) -> None:
        if options.charset or options.collate:
            self._set_default_collation(options)
        if options.auto_increment is not None:
            self.plan.auto_increment = options.auto_increment
        if options.comment is not None:
            check_comment(options.comment, TABLE_COMMENT_MAX, 1628, f"table '{self.info.name}'")
            self.info.comment = options.comment
            self.plan.changed = True

    def _set_default_collation(self, options: d.TableOptions) -> None:
        """Of columns that are added from now on."""
        old = self.info.charset, self.info.collate
        self.info.charset, self.info.collate = check_charset(options.charset, options.collate, old)
        self.plan.changed |= old != (self.info.charset, self.info.collate)

    def convert_text(self, action: d.ConvertText) -> None:
        """CONVERT TO CHARACTER SET: every text column gets the collation."""
        self._set_default_collation(action.options)
        if self.info.charset == "binary":
            raise unsupported("CONVERT TO CHARACTER SET binary", position=action.position)
        fix_offsets(self.info)
        for at, column in enumerate(self.info.columns):
            ft = field_type(column.type)
            if not (ft.is_text or ft.elems) or ft.tp == Tp.JSON or ft.collate == self.info.collate:
                continue
            if column.generated_expr_string:
                raise _unsupported_on_generated("Changing a generated column", action.position)
            check_no_dependents(self.info, column, action.position)
            type_ = replace(column.type, charset=self.info.charset, collate=self.info.collate)
            changed = replace(column, type=type_)
            check_type_not_needed(self.info, column, changed, self.around.referrers, action.position)
            self.plan.rewrite |= self._needs_rewrite(column, changed, action.position)
            self.info.columns[at] = changed
            self.plan.changed = True
        self._check_key_lengths()

    def set_replica(self, action: d.SetReplica) -> None:
        servers = self.columnar_servers() if action.count else 0
        if action.count > servers:
            message = (
                f"the tiflash replica count: {action.count} should be less than the total tiflash server count: "
                f"{servers}"
            )
            raise error(1105, message, position=action.position)
        old = self.info.tiflash_replica
        labels = list(action.labels) or None
        if old is not None and (old.count, old.location_labels or None) == (action.count, labels):
            return
        self.info.tiflash_replica = ReplicaInfo(action.count, labels)
        self.plan.changed = True

    # Columns

    def add_column(self, action: d.AddColumn) -> None:
        spec = action.column
        if self.info.column(spec.name) is not None:
            message = f"Duplicate column name '{spec.name}'"
            if action.if_not_exists:
                self.note(1060, message)
                return
            raise error(1060, message, position=spec.position)
        if len(self.info.columns) >= COLUMNS_MAX:
            raise error(1117, f"Too many columns (max = {COLUMNS_MAX})", position=spec.position)
        column = build_column(spec, self.tz, (self.info.charset, self.info.collate))
        self.info.max_col_id += 1
        column.id = self.info.max_col_id
        # rows that are there have to get values of their own
        if column.has(Flag.AUTO_INCREMENT) or column.default_is_expr or column.generated_stored:
            self.plan.rewrite = True
        elif spec.generated is None:
            self._set_origin_default(column)
        self._place(column, action.after, spec.position)
        check_dependences(self.info, column, spec.position)
        self.plan.changed = True
        for key in column_keys(spec):
            self.add_key(key)

    def _set_origin_default(self, column: ColumnInfo) -> None:
        """What rows that are there already have in a new column."""
        ft = field_type(column.type)
        if isinstance(column.default, str) and column.default.startswith(NOW_TEXT):
            column.origin_default = _now_text(self.now, ft, self.tz)
            return
        column.origin_default, column.origin_default_bit = column.default, column.default_bit
        if column.has(Flag.NOT_NULL) and column.default is None and column.default_bit is None:
            if ft.tp in (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP):
                if self.rows.has_rows():
                    zero = "0000-00-00" if ft.tp == Tp.DATE else "0000-00-00 00:00:00"
                    label = "date" if ft.tp == Tp.DATE else "datetime"
                    raise error(1292, f"Incorrect {label} value: '{zero}' for column '{column.name}' at row 1")
                return
            column.origin_default, column.origin_default_bit = constant_text(_zero(ft), ft)

    def _place(self, column: ColumnInfo, after: str | None, position: int) -> None:
        columns = self.info.columns
        if after is None:
            at = len(columns)
        elif after == "":
            at = 0
        else:
            at = columns.index(need_column(self.info, after, position)) + 1
        columns.insert(at, column)

    def drop_column(self, action: d.DropColumn) -> None:
        column = self.info.column(action.name)
        if column is None or column.hidden or self._is_new(action.name):
            message = _cannot_drop(action.name)
            if action.if_exists:
                self.note(1091, message)
                return
            hint = near_match(action.name, [c.name for c in self.info.columns if not c.hidden and c is not column])
            raise error(1091, message + hint, position=action.position)
        check_no_dependents(self.info, column, action.position)
        check_no_defaults(self.info, column, action.position)
        check_column_not_needed(self.info, column, self.around.referrers, action.position)
        check_no_checks(self.info, column, action.position, alone=True)
        low = column.name.lower()
        if column.has(Flag.PRI_KEY) and self.info.clustered:
            self._keep_apart_from_key()
        self.info.constraint_info = [c for c in self.info.constraint_info if low not in map(str.lower, c.columns)]
        shorter: list[d.KeySpec] = []
        for index in list(self.info.indexes):
            names = [c.name.lower() for c in index.columns]
            if low not in names:
                continue
            if len(names) > 1 and hidden_columns(self.info, index):
                message = f"DROP COLUMN of '{column.name}', which is in the index '{index.name}' over several columns"
                raise unsupported(message, position=action.position)
            parts = tuple(d.KeyPart(c.name, c.length) for c in index.columns if c.name.lower() != low)
            if parts:  # the index goes on without it
                kind = "primary" if index.primary else "unique" if index.unique else "plain"
                shorter.append(d.KeySpec(kind, index.name, parts, index.comment))
            for part in index.columns if index.primary else ():
                need_column(self.info, part.name).set_flag(Flag.PRI_KEY, on=False)
            self._remove_index(index)
        self.info.columns.remove(column)
        self.plan.changed = True
        for key in shorter:
            self.add_key(key)

    def _is_new(self, name: str) -> bool:
        """Whether a column has come to this name by the statement itself, which then means another one, or none."""
        column = self.info.column(name)
        return (column is not None and column.id not in self.known) or name.lower() in map(
            str.lower, self.plan.renamed.values()
        )

    def _there(self, name: str, position: int) -> ColumnInfo:
        """A column by the name that it had before the statement. Raises 1054."""
        column = need_column(self.info, name, position)
        if self._is_new(name):
            raise error(1054, f"Unknown column '{name}' in '{self.info.name}'", position=position)
        return column

    def rename_column(self, action: d.RenameColumn) -> None:
        column = self._there(action.old, action.position)
        self._rename(column, action.new, action.position)

    def _rename(self, column: ColumnInfo, name: str, position: int) -> None:
        check_name(name, 1166, "column", position)
        taken = self.info.column(name)
        if taken is not None and taken is not column:
            raise error(1060, f"Duplicate column name '{name}'", position=position)
        low = column.name.lower()
        if name.lower() != low:
            check_no_dependents(self.info, column, position)
            check_no_defaults(self.info, column, position)
            check_no_checks(self.info, column, position)
        for index in self.info.indexes:
            for part in index.columns:
                if part.name.lower() == low:
                    part.name = name
        if name != column.name:
            rename_key_columns(self.info, column.name, name, self.around)
            first = next((old for old, then in self.plan.renamed.items() if then == column.name), low)
            self.plan.renamed[first] = name
        column.name = name
        self.plan.changed = True

    def change_column(self, action: d.ChangeColumn) -> None:
        spec = action.column
        column = self._there(action.old, action.position)
        changed = build_column(spec, self.tz, (self.info.charset, self.info.collate))
        if field_type(changed.type) != field_type(column.type):
            self._check_type_is_free(column, action.position)
        check_type_not_needed(self.info, column, changed, self.around.referrers, action.position)
        key_part = column.has(Flag.PRI_KEY)
        if key_part:
            if spec.not_null is False:
                message = "All parts of a PRIMARY KEY must be NOT NULL; if you need NULL in a key, use UNIQUE instead"
                raise error(1171, message, position=action.position)
            make_not_null(changed, spec.default)
        rewrite = self._needs_rewrite(column, changed, action.position)
        rewrite |= changed.has(Flag.AUTO_INCREMENT) and not column.has(Flag.AUTO_INCREMENT)
        if column.generated_expr_string or changed.generated_expr_string:
            rewrite |= self._changes_generated(column, changed, action.position)
        self.plan.rewrite |= rewrite
        if changed.has(Flag.NOT_NULL) and not column.has(Flag.NOT_NULL):
            self.plan.not_null.append(column.id)
        self._rename(column, spec.name, action.position)
        changed.id, changed.name = column.id, column.name
        if not rewrite:  # rewritten rows have all columns
            changed.origin_default, changed.origin_default_bit = column.origin_default, column.origin_default_bit
        changed.set_flag(Flag.PRI_KEY, key_part)
        columns = self.info.columns
        at = columns.index(column)
        columns[at] = changed
        if action.after is not None:
            if action.after.lower() == changed.name.lower():
                raise error(1054, f"Unknown column '{action.after}' in '{self.info.name}'", position=action.position)
            columns.remove(changed)
            self._place(changed, action.after, action.position)
        if changed.generated_expr_string:
            check_dependences(self.info, changed, action.position)
        self._check_key_lengths()
        for key in column_keys(spec):
            if not (key.kind == "primary" and key_part):
                self.add_key(key)

    def _needs_rewrite(self, old: ColumnInfo, new: ColumnInfo, position: int) -> bool:
        """Whether rows and index entries must be written anew; refuses types between which there is no conversion."""
        a, b = field_type(old.type), field_type(new.type)
        checked = any(c.enforced and old.name.lower() in map(str.lower, c.columns) for c in self.info.constraint_info)
        if not (old.has(Flag.PRI_KEY) or checked) and not any(
            part.offset == old.offset for i in self.info.indexes for part in i.columns
        ):
            a = a.with_(collate=b.collate) if a.charset == b.charset else a  # a row has the text, a key its weights
        if _bytes_stay(a, b):
            return False
        of_key = old.has(Flag.PRI_KEY) and self.info.clustered and not self._handle_stays(b)
        of_bits = Tp.BIT in (a.tp, b.tp) and (a.is_string or b.is_string or bool(a.elems or b.elems))
        if of_key or of_bits:
            what = f"changing column '{old.name}' from {type_text(a)} to {type_text(b)}"
            raise unsupported(what + " in the primary key" * of_key, position=position)
        return True

    def _handle_stays(self, new: FieldType) -> bool:
        """Whether a clustered primary key with a column of another type is of the same kind: a number, or not."""
        number = new.tp in INTEGER_TPS and new.tp not in (Tp.YEAR, Tp.BIT)
        alone = sum(column.has(Flag.PRI_KEY) for column in self.info.columns) == 1
        return number if self.info.pk_is_handle else not (number and alone)

    def _check_type_is_free(self, column: ColumnInfo, position: int) -> None:
        """Has what is computed from a column of another type computed again; refuses where that is not enough."""
        low = column.name.lower()
        dependents = [other for other in self.info.columns if low in (other.dependences or ())]
        if any(other.hidden for other in dependents) or not dependents:
            check_no_dependents(self.info, column, position)
        self.plan.rewrite |= bool(dependents)

    def _changes_generated(self, old: ColumnInfo, new: ColumnInfo, position: int) -> bool:
        """Whether rows or index entries hold what a generated column was. Raises 3106 where it would have to go into
        rows, or out of them."""
        before, after = (
            "" if not column.generated_expr_string else "STORED" if column.generated_stored else "VIRTUAL"
            for column in (old, new)
        )
        if before != after and "VIRTUAL" in (before, after):
            raise _unsupported_on_generated("Changing the STORED status", position)
        if (old.generated_expr_string, old.type) == (new.generated_expr_string, new.type) or not after:
            return False
        virtual = {c.name.lower() for c in self.info.columns if c.generated_expr_string and not c.generated_stored}
        indexed = any(part.name.lower() in virtual for index in self.info.indexes for part in index.columns)
        return after == "STORED" or indexed or any(c.generated_stored for c in self.info.columns)

    def _check_key_lengths(self) -> None:
        fix_offsets(self.info)
        for index in self.info.indexes:
            parts = tuple(d.KeyPart(c.name, c.length) for c in index.columns)
            hidden = {column.name for column in hidden_columns(self.info, index)}
            key_columns(self.info, d.KeySpec("plain", index.name, parts), hidden)

    # Keys

    def add_key(self, key: d.KeySpec) -> None:
        fix_offsets(self.info)
        if key.kind == "primary":
            index = self._add_primary(key)
        else:
            if key.if_not_exists and key.name and self.info.index(key.name) is not None:
                self.note(1061, f"Duplicate key name '{key.name}'")
                return
            index = build_index(self.info, key)
        self.info.indexes.append(index)
        self.plan.new_indexes.append(index.id)
        self.plan.changed = True

    def _add_primary(self, key: d.KeySpec) -> IndexInfo:
        if self.info.clustered or any(i.primary for i in self.info.indexes):
            raise error(1068, "Multiple primary key defined", position=key.position)
        if key.clustered:
            raise unsupported("adding a CLUSTERED primary key to a table", position=key.position)
        columns = key_columns(self.info, replace(key, name=PRIMARY))
        for part in columns:
            column = self.info.columns[part.offset]
            if not column.has(Flag.NOT_NULL):
                check_null_not_needed(self.info, column.name, key.position)
                make_not_null(column, None)
                self.plan.not_null.append(column.id)
            column.set_flag(Flag.PRI_KEY, on=True)
        index = new_index(self.info, PRIMARY, columns, unique=True, comment=key.comment)
        index.primary = True
        return index

    def drop_key(self, action: d.DropKey) -> None:
        primary = action.name.upper() == PRIMARY
        if primary and self.info.clustered:
            self._keep_apart_from_key()
        index = self.info.index(action.name)
        if index is None:
            message = _cannot_drop(action.name)
            if action.if_exists:
                self.note(1091, message)
                return
            hint = near_match(action.name, [i.name for i in self.info.indexes])
            raise error(1091, message + hint, position=action.position)
        for part in index.columns if primary else ():
            need_column(self.info, part.name).set_flag(Flag.PRI_KEY, on=False)
        self.removed.append((index, action.position))
        self._remove_index(index)

    def _keep_apart_from_key(self) -> None:
        """Has rows lie under ids of their own, not under their primary key, which is an index until it is dropped."""
        info = self.info
        if info.pk_is_handle:
            part = next(d.KeyPart(column.name) for column in info.columns if column.has(Flag.PRI_KEY))
            columns = key_columns(info, d.KeySpec("primary", PRIMARY, (part,)))
            index = new_index(info, PRIMARY, columns, unique=True)
            index.primary = True
            info.indexes.append(index)
        info.pk_is_handle = info.is_common_handle = False
        self.plan.rewrite = True

    def _remove_index(self, index: IndexInfo) -> None:
        self.info.indexes.remove(index)
        for column in hidden_columns(self.info, index):
            self.info.columns.remove(column)
        self.plan.changed = True
        if index.id in self.plan.new_indexes:
            self.plan.new_indexes.remove(index.id)
        else:
            self.plan.dropped_indexes.append(index.id)

    # Constraints

    def add_check(self, spec: d.CheckSpec) -> None:
        made = add_check(self.info, spec)
        self.plan.changed = True
        if made.enforced:
            self.plan.new_checks.append(made.id)

    def alter_check(self, action: d.AlterCheck) -> None:
        check = find_check(self.info, action.name, action.position)
        if check.enforced == action.enforced:
            return
        check.enforced = action.enforced
        self.plan.changed = True
        if action.enforced:
            self.plan.new_checks.append(check.id)

    def add_foreign_key(self, spec: d.ForeignKeySpec) -> None:
        known = {key.name.lower() for key in self.info.fk_info}
        if spec.if_not_exists and spec.name.lower() in known:
            self.note(1826, f"Duplicate foreign key constraint name '{spec.name}'")
            return
        fix_offsets(self.info)
        key, index = add_foreign_key(self.info, spec, self.around)
        self.plan.changed = True
        if index is not None:
            self.info.indexes.append(index)
            self.plan.new_indexes.append(index.id)
        if self.around.checks:
            self.plan.new_keys.append(key.id)

    def drop_constraint(self, action: d.DropConstraint) -> None:
        """A CHECK or a foreign key by its name; DROP CONSTRAINT may mean a unique key too."""
        plan, info, low = self.plan, self.info, action.name.lower()
        checks = [c for c in info.constraint_info if c.name.lower() == low] if action.kind != "foreign key" else []
        keys = [k for k in info.fk_info if k.name.lower() == low] if action.kind != "check" else []
        index = info.index(low) if action.kind == "any" else None
        if index is not None and (index.unique or index.primary) and not (checks or keys):
            self.drop_key(d.DropKey(action.name, position=action.position))
            return
        if not checks and not keys:
            code, message = {
                "check": (3821, f"Check constraint '{action.name}' is not found in the table."),
                "foreign key": (1091, _cannot_drop(action.name)),
                "any": (3940, f"Constraint '{action.name}' does not exist."),
            }[action.kind]
            if action.if_exists:
                self.note(code, message)
                return
            raise error(code, message, position=action.position)
        plan.changed = True
        for check in checks:
            info.constraint_info.remove(check)
            plan.new_checks = [i for i in plan.new_checks if i != check.id]
        for key in keys:
            info.fk_info.remove(key)
            plan.new_keys = [i for i in plan.new_keys if i != key.id]

    def rename_key(self, action: d.RenameKey) -> None:
        index = self.info.index(action.old)
        if index is None or index.primary:
            hint = near_match(action.old, [i.name for i in self.info.indexes])
            message = f"Key '{action.old}' doesn't exist in table '{self.info.name}'{hint}"
            raise error(1176, message, position=action.position)
        check_name(action.new, 1280, "index", action.position)
        taken = self.info.index(action.new)
        if (taken is not None and taken is not index) or action.new.upper() == PRIMARY:
            raise error(1061, f"Duplicate key name '{action.new}'", position=action.position)
        self._rename_hidden(index, action.new)
        index.name = action.new
        self.plan.changed = True

    def _rename_hidden(self, index: IndexInfo, name: str) -> None:
        """What stands for the expressions of an index is called like it."""
        from sqlfront.bind.key_parts import hidden_name

        columns = {column.name: column for column in hidden_columns(self.info, index)}
        for number, part in enumerate(index.columns):
            column = columns.get(part.name)
            if column is not None:
                column.name = part.name = hidden_name(name, number)


def _unsupported_on_generated(what: str, position: int) -> DatabaseError:
    return error(3106, f"'{what}' is not supported for generated columns.", position=position)


def _is_number(ft: FieldType) -> bool:
    return (ft.tp in INTEGER_TPS and ft.tp != Tp.YEAR) or ft.is_decimal or ft.is_real


def converts_in_bulk(a: FieldType, b: FieldType) -> bool:
    """Whether a whole column of type `a` can be assigned to `b` with MySQL's meaning by its Arrow values alone."""
    days = (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP)
    members = (Tp.ENUM, Tp.SET)
    if Tp.JSON in (a.tp, b.tp) or (a.tp in days and b.is_text and 0 < a.decimal < FSP_MAX):
        return False
    if a.tp in members or b.tp in members:
        return (a.is_text or a.tp in members) and (b.is_text or b.tp in members)
    if a.is_text:
        return b.is_text or _is_number(b) or b.tp in days
    if b.is_text:
        return _is_number(a) or a.tp in days
    if a.is_binary and b.is_binary:
        return a.tp != Tp.STRING and b.tp != Tp.STRING
    return (_is_number(a) and _is_number(b)) or (a.tp in days and b.tp in days)


def _bytes_stay(a: FieldType, b: FieldType) -> bool:
    if a == b:
        return True
    if (a.charset, a.collate) != (b.charset, b.collate) or a.unsigned != b.unsigned:
        return False
    if a.tp in INTEGER_TPS and b.tp in INTEGER_TPS:
        return _WIDTH[a.tp] <= _WIDTH[b.tp]
    if a.is_real and b.is_real and b.decimal >= 0:
        return a.tp == b.tp and a.decimal == b.decimal and a.flen <= b.flen
    if (a.tp, b.tp) == (Tp.FLOAT, Tp.DOUBLE):
        return True
    if a.tp in BLOB_TPS and b.tp in BLOB_TPS:
        return a.flen <= b.flen
    if a.tp != b.tp:
        return False
    if a.tp in (Tp.ENUM, Tp.SET):
        return b.elems[: len(a.elems)] == a.elems
    if a.tp in (Tp.VARCHAR, Tp.BIT):
        return a.flen <= b.flen
    if a.tp == Tp.STRING:
        return a.is_text and a.flen <= b.flen
    if a.tp in (Tp.DATETIME, Tp.TIMESTAMP, Tp.DURATION):
        return a.decimal <= b.decimal
    return a.tp in (Tp.FLOAT, Tp.DOUBLE)


def _zero(ft: FieldType) -> Any:
    """MySQL's implicit default of a NOT NULL column."""
    if ft.is_integer or ft.is_real:
        return 0
    if ft.is_decimal:
        from decimal import Decimal

        return Decimal(0).scaleb(-max(ft.decimal, 0))
    if ft.tp == Tp.DURATION:
        return dt.timedelta()
    if ft.tp == Tp.ENUM:
        return ft.elems[0]
    if ft.tp == Tp.JSON:
        return "null"
    if ft.is_binary:
        return b"\0" * ft.flen if ft.tp == Tp.STRING else b""
    return ""


def _now_text(now: dt.datetime, ft: FieldType, tz: dt.tzinfo | None) -> str:
    """The time of the statement as a stored constant: TIMESTAMP in UTC, DATETIME in the session's zone."""
    from coprocessor.codec.temporal import from_utc
    from coprocessor.convert import to_text

    value = now.replace(tzinfo=None)
    if ft.tp == Tp.DATETIME:
        value = from_utc(value, tz)
    unit = 10 ** (6 - max(ft.decimal, 0))
    return to_text(value.replace(microsecond=value.microsecond // unit * unit), ft)
