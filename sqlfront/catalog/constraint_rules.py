"""MySQL's rules for CHECK and FOREIGN KEY: from their definitions to stored records, and what they forbid of other
changes. Pure, over the records of the tables that are concerned.

That a CHECK's expression can be one is said where it is bound (`sqlfront/bind/constraints.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from coprocessor.types import STRING_TPS, FieldType, Tp
from sqlfront.catalog import definition as d
from sqlfront.catalog.constraints import CHANGING, ForeignKey
from sqlfront.catalog.info import ColumnInfo, ConstraintInfo, FKInfo, Flag, IndexInfo, ReferAction, State, TableInfo
from sqlfront.catalog.model import field_type
from sqlfront.catalog.table_builder import build_index, check_name, columns_in
from sqlfront.errors import DatabaseError, error

Referrer = tuple[str, str, ForeignKey]
"""A table that points to another: its database, its name, and by which key."""
ACTIONS = {action.text: action for action in ReferAction}


@dataclass(frozen=True, slots=True)
class Around:
    """What there is around a table: the record of any other, and the keys that point to it.

    `checks` is `foreign_key_checks`: without them a key may point to what is not there.
    """

    db: str
    find: Callable[[str, str], TableInfo | None]
    referrers: Sequence[Referrer] = ()
    checks: bool = True


# CHECK


def named_checks(table: str, taken: Iterable[str], specs: Sequence[d.CheckSpec]) -> list[d.CheckSpec]:
    """Gives names to CHECKs without one, in the order of the text. Raises 3822 for a name that is there twice."""
    used = {name.lower() for name in taken}
    for spec in specs:
        if spec.name:
            check_name(spec.name, 3822, "check constraint", spec.position)
            if spec.name.lower() in used:
                raise error(3822, f"Duplicate check constraint name '{spec.name}'.", position=spec.position)
            used.add(spec.name.lower())
    out, number = [], 1
    for spec in sorted(specs, key=lambda spec: spec.position):
        if not spec.name:
            while f"{table}_chk_{number}".lower() in used:
                number += 1
            spec = replace(spec, name=f"{table}_chk_{number}")
            used.add(spec.name.lower())
        out.append(spec)
    return out


def add_check(info: TableInfo, spec: d.CheckSpec) -> ConstraintInfo:
    """Adds a CHECK, which has a name and was bound, to a table's record."""
    if any(c.name.lower() == spec.name.lower() for c in info.constraint_info):
        raise error(3822, f"Duplicate check constraint name '{spec.name}'.", position=spec.position)
    info.max_cst_id += 1
    columns = [column.name for name in columns_in(spec.text) if (column := info.column(name)) is not None]
    made = ConstraintInfo(
        id=info.max_cst_id,
        name=spec.name,
        table=info.name,
        columns=columns,
        enforced=spec.enforced,
        in_column=bool(spec.column),
        expr_string=spec.text,
    )
    info.constraint_info.append(made)
    return made


def find_check(info: TableInfo, name: str, position: int = -1) -> ConstraintInfo:
    """The CHECK of that name, or error 3821."""
    found = next((c for c in info.constraint_info if c.name.lower() == name.lower()), None)
    if found is None:
        raise error(3821, f"Check constraint '{name}' is not found in the table.", position=position)
    return found


def check_no_checks(info: TableInfo, column: ColumnInfo, position: int = -1, *, alone: bool = False) -> None:
    """Raises 3959 when CHECKs name a column that is to go or to be called otherwise; with `alone` only those that name
    others too."""
    low = column.name.lower()
    for check in info.constraint_info:
        names = [name.lower() for name in check.columns]
        if low in names and not (alone and len(names) == 1):
            what = f"Check constraint '{check.name}' uses column '{column.name}'"
            raise error(3959, f"{what}, hence column cannot be dropped or renamed.", position=position)


# FOREIGN KEY


def add_foreign_key(
    info: TableInfo, spec: d.ForeignKeySpec, around: Around, reserved: Iterable[str] = ()
) -> tuple[FKInfo, IndexInfo | None]:
    """Adds a foreign key to a table's record, and an index over its columns when there is none: returns both.

    The index is not among the record's yet. `reserved` are names that others of the statement have.
    """
    key = FKInfo(
        name=spec.name or _free_name(info, reserved),
        ref_schema=spec.parent.db or around.db,
        ref_table=spec.parent.name,
        ref_cols=list(spec.parent_columns),
        cols=list(spec.columns),
        on_delete=int(ACTIONS[spec.on_delete]),
        on_update=int(ACTIONS[spec.on_update]),
    )
    check_name(key.name, 1280, "foreign key", spec.position)
    if any(known.name.lower() == key.name.lower() for known in info.fk_info):
        raise error(1826, f"Duplicate foreign key constraint name '{key.name}'", position=spec.position)
    if len(key.cols) != len(key.ref_cols):
        message = f"Incorrect foreign key definition for '{key.name}': Key reference and table reference don't match"
        raise error(1239, message, position=spec.position)
    _check_child(info, key, spec.position)
    itself = (key.ref_schema.lower(), key.ref_table.lower()) == (around.db.lower(), info.name.lower())
    parent = info if itself else around.find(key.ref_schema, key.ref_table)
    if parent is not None:
        key.ref_table = parent.name
        check_parent(info, key, parent, spec.position)
    elif around.checks:
        raise error(1824, f"Failed to open the referenced table '{key.ref_table}'", position=spec.position)
    info.max_fk_id += 1
    key.id = info.max_fk_id
    info.fk_info.append(key)
    if has_leading_index(info, key.cols):
        return key, None
    parts = tuple(d.KeyPart(name, position=spec.position) for name in key.cols)
    name = key.name if info.index(key.name) is None else ""
    return key, build_index(info, d.KeySpec("plain", name, parts, position=spec.position))


def _free_name(info: TableInfo, reserved: Iterable[str]) -> str:
    used = {name.lower() for name in (*reserved, *(key.name for key in info.fk_info))}
    number = info.max_fk_id + 1
    while f"fk_{number}" in used:
        number += 1
    return f"fk_{number}"


def _check_child(info: TableInfo, key: FKInfo, position: int) -> None:
    """Raises what is wrong with a key by the columns of its own table; gives the columns the names they have there."""
    if info.partition:
        raise on_partitions(position)
    for at, name in enumerate(key.cols):
        column = info.column(name)
        if column is None or column.state != State.PUBLIC:
            raise error(1072, f"Key column '{name}' doesn't exist in table", position=position)
        key.cols[at] = column.name
        if name.lower() in {other.lower() for other in key.cols[:at]}:
            raise error(1060, f"Duplicate column name '{name}'", position=position)
        _refuse_virtual(key, column, position)
        for when, action in (("ON DELETE", key.on_delete), ("ON UPDATE", key.on_update)):
            changes = action == ReferAction.SET_NULL or (when == "ON UPDATE" and action == ReferAction.CASCADE)
            if column.generated_expr_string and (changes or action == ReferAction.SET_DEFAULT):
                clause = f"{when} {ReferAction(action).text}"
                message = f"Cannot define foreign key with {clause} clause on a generated column."
                raise error(3104, message, position=position)
            if changes:
                _refuse_checked(info, key, column, position)
            if action == ReferAction.SET_NULL and column.has(Flag.NOT_NULL):
                raise _not_null(column.name, key.name, position)


def on_partitions(position: int = -1) -> DatabaseError:
    return error(1506, "Foreign keys are not yet supported in conjunction with partitioning", position=position)


def _not_null(column: str, key: str, position: int) -> DatabaseError:
    message = f"Column '{column}' cannot be NOT NULL: needed in a foreign key constraint '{key}' SET NULL"
    return error(1830, message, position=position)


def _refuse_virtual(key: FKInfo, column: ColumnInfo, position: int) -> None:
    if column.generated_expr_string and not column.generated_stored:
        message = f"Foreign key '{key.name}' uses virtual column '{column.name}' which is not supported."
        raise error(3733, message, position=position)


def _refuse_checked(info: TableInfo, key: FKInfo, column: ColumnInfo, position: int) -> None:
    """A column that a key's action changes is in no CHECK."""
    for check in info.constraint_info:
        if column.name.lower() in {name.lower() for name in check.columns}:
            message = (
                f"Column '{column.name}' cannot be used in a check constraint '{check.name}': needed in a foreign key "
                f"constraint '{key.name}' referential action."
            )
            raise error(3823, message, position=position)


def check_actions(info: TableInfo) -> None:
    """Raises 3823 when an action of a foreign key changes a column that a CHECK names."""
    for key in info.fk_info:
        if CHANGING & {key.on_update} or key.on_delete == ReferAction.SET_NULL:
            for name in key.cols:
                column = info.column(name)
                if column is not None:
                    _refuse_checked(info, key, column, -1)


def check_parent(child: TableInfo, key: FKInfo, parent: TableInfo, position: int = -1) -> None:
    """Raises what keeps a key from pointing to a table; gives the columns the names that they have there."""
    if parent.partition:
        raise on_partitions(position)
    for at, (name, ref_name) in enumerate(zip(key.cols, key.ref_cols, strict=True)):
        column, ref = child.column(name), parent.column(ref_name)
        if ref is None or ref.state != State.PUBLIC or column is None:
            message = (
                f"Failed to add the foreign key constraint. Missing column '{ref_name}' for constraint '{key.name}' in "
                f"the referenced table '{parent.name}'"
            )
            raise error(3734, message, position=position)
        key.ref_cols[at] = ref.name
        _refuse_virtual(key, ref, position)
        if not is_comparable(field_type(column.type), field_type(ref.type)):
            message = (
                f"Referencing column '{column.name}' and referenced column '{ref.name}' in foreign key constraint "
                f"'{key.name}' are incompatible."
            )
            raise error(3780, message, position=position)
    if not has_leading_index(parent, key.ref_cols):
        message = (
            f"Failed to add the foreign key constraint. Missing index for constraint '{key.name}' in the referenced "
            f"table '{parent.name}'"
        )
        raise error(1822, message, position=position)


def is_comparable(child: FieldType, parent: FieldType) -> bool:
    """Whether columns of these types can be of one key: texts and bytes of any length, all else of one size."""
    if (child.charset, child.collate, child.unsigned) != (parent.charset, parent.collate, parent.unsigned):
        return False
    if child.tp in STRING_TPS and parent.tp in STRING_TPS:
        return not child.is_binary or child.tp == parent.tp or Tp.STRING not in (child.tp, parent.tp)
    if child.tp != parent.tp:
        return False
    same_size = not child.is_decimal or (child.flen, child.decimal) == (parent.flen, parent.decimal)
    return same_size and child.elems == parent.elems


def has_leading_index(info: TableInfo, columns: Sequence[str]) -> bool:
    """Whether an index, or the key of the records, begins with these columns, whole and in this order."""
    if info.pk_is_handle and len(columns) == 1:
        column = info.column(columns[0])
        if column is not None and column.has(Flag.PRI_KEY):
            return True
    return any(_leads(index, columns) for index in info.indexes)


def _leads(index: IndexInfo, columns: Sequence[str]) -> bool:
    parts = index.columns[: len(columns)]
    same = [part.name.lower() for part in parts] == [name.lower() for name in columns]
    return same and all(part.length < 0 for part in parts)


# What keys forbid of other changes


def check_index_not_needed(
    info: TableInfo, index: IndexInfo, referrers: Sequence[Referrer], position: int = -1
) -> None:
    """Raises 1553 when a key needs an index that the table has no more, and no other that it has does instead."""
    needed = [key.cols for key in info.fk_info] + [list(key.parent_columns) for _, _, key in referrers]
    for columns in needed:
        if _leads(index, columns) and not has_leading_index(info, columns):
            message = f"Cannot drop index '{index.name}': needed in a foreign key constraint"
            raise error(1553, message, position=position)


def check_column_not_needed(
    info: TableInfo, column: ColumnInfo, referrers: Sequence[Referrer], position: int = -1
) -> None:
    """Raises 1828 or 1829 when a key needs a column that is to be dropped."""
    low = column.name.lower()
    what = f"Cannot drop column '{column.name}': needed in a foreign key constraint"
    for key in info.fk_info:
        if low in {name.lower() for name in key.cols}:
            raise error(1828, f"{what} '{key.name}'", position=position)
    for _, table, referring in referrers:
        if low in {name.lower() for name in referring.parent_columns}:
            raise error(1829, f"{what} '{referring.name}' of table '{table}'", position=position)


def check_type_not_needed(
    info: TableInfo, old: ColumnInfo, new: ColumnInfo, referrers: Sequence[Referrer], position: int = -1
) -> None:
    """Raises 1832 or 1833 when a column of a key is to have another type (texts may get longer), 1830 when its action
    sets NULL and it is not to be NULL."""
    low = old.name.lower()
    if new.has(Flag.NOT_NULL):
        check_null_not_needed(info, old.name, position)
    before, after = field_type(old.type), field_type(new.type)
    longer = before.tp not in STRING_TPS or (before.tp == after.tp and before.flen <= after.flen)
    stays = is_comparable(before, after) and longer
    what = f"Cannot change column '{old.name}': used in a foreign key constraint"
    for key in info.fk_info:
        if not stays and low in {name.lower() for name in key.cols}:
            raise error(1832, f"{what} '{key.name}'", position=position)
    for _, table, referring in referrers:
        if not stays and low in {name.lower() for name in referring.parent_columns}:
            raise error(1833, f"{what} '{referring.name}' of table '{table}'", position=position)


def check_null_not_needed(info: TableInfo, column: str, position: int = -1) -> None:
    """Raises 1830 when an action of a foreign key sets a column NULL that is to be NOT NULL."""
    for key in info.fk_info:
        if ReferAction.SET_NULL in (key.on_delete, key.on_update) and column.lower() in {c.lower() for c in key.cols}:
            raise _not_null(column, key.name, position)


def rename_key_columns(info: TableInfo, old: str, new: str, around: Around) -> None:
    """Has a table's foreign keys call a column of it otherwise, those that point to the table itself at both ends."""
    for key in info.fk_info:
        key.cols = [new if name.lower() == old.lower() else name for name in key.cols]
        if (key.ref_schema.lower(), key.ref_table.lower()) == (around.db.lower(), info.name.lower()):
            rename_parent_columns(key, {old.lower(): new})


def rename_parent_columns(key: FKInfo, names: Mapping[str, str]) -> None:
    """`names` are the new ones by the old, in lower case."""
    key.ref_cols = [names.get(name.lower(), name) for name in key.ref_cols]
