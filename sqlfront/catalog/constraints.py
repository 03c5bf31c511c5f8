"""CHECK and FOREIGN KEY of a stored table, as statements use them: immutable, made from its record (`info.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlfront.catalog.info import FKInfo, ReferAction, State, TableInfo

WRITTEN = frozenset({State.WRITE_ONLY, State.WRITE_REORG, State.PUBLIC})
"""The states in which writers keep to a constraint: also while rows that are there are looked through."""
CHANGING = frozenset({ReferAction.CASCADE, ReferAction.SET_NULL})


@dataclass(frozen=True, slots=True)
class Check:
    """A CHECK; `columns` are those it names."""

    id: int
    name: str
    text: str
    enforced: bool
    columns: tuple[str, ...]
    state: State


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of a table (its *child* table): `columns` are to be NULL, or those of a row of the *parent*."""

    id: int
    name: str
    columns: tuple[str, ...]
    parent_db: str
    parent: str
    parent_columns: tuple[str, ...]
    on_delete: ReferAction
    on_update: ReferAction
    state: State

    def points_to(self, db: str, table: str) -> bool:
        return (self.parent_db.lower(), self.parent.lower()) == (db.lower(), table.lower())

    def definition(self, db: str) -> str:
        """As SHOW CREATE TABLE prints it, of a table in `db`."""
        other = "" if self.parent_db.lower() == db.lower() else f"{_quoted(self.parent_db)}."
        text = (
            f"CONSTRAINT {_quoted(self.name)} FOREIGN KEY ({_listed(self.columns)}) "
            f"REFERENCES {other}{_quoted(self.parent)} ({_listed(self.parent_columns)})"
        )
        for when, action in (("DELETE", self.on_delete), ("UPDATE", self.on_update)):
            if action is not ReferAction.NONE:
                text += f" ON {when} {action.text}"
        return text

    def told(self, db: str, table: str) -> str:
        """As errors name it, of the table `table` in `db`."""
        return f"{_quoted(db)}.{_quoted(table)}, {self.definition(db)}"


def checks_of(info: TableInfo) -> tuple[Check, ...]:
    """The CHECKs of a table, those that are being added among them."""
    return tuple(
        Check(c.id, c.name, c.expr_string, c.enforced, tuple(c.columns), State(c.state))
        for c in info.constraint_info
        if c.state in WRITTEN
    )


def foreign_keys_of(info: TableInfo, db: str) -> tuple[ForeignKey, ...]:
    """The foreign keys of a table in the database `db` that writers keep to."""
    return tuple(_foreign_key(key, db) for key in info.fk_info if is_enforced(key))


def is_enforced(key: FKInfo) -> bool:
    return bool(key.version) and key.state in WRITTEN


def check_text(check: Check) -> str:
    """As SHOW CREATE TABLE prints it."""
    text = f"CONSTRAINT {_quoted(check.name)} CHECK (({check.text}))"
    return text if check.enforced else f"{text} /*!80016 NOT ENFORCED */"


def _foreign_key(key: FKInfo, db: str) -> ForeignKey:
    return ForeignKey(
        key.id,
        key.name,
        tuple(key.cols),
        key.ref_schema or db,
        key.ref_table,
        tuple(key.ref_cols),
        _action(key.on_delete),
        _action(key.on_update),
        State(key.state),
    )


def _action(number: int) -> ReferAction:
    """An action that is not known here changes nothing: what it would change stays."""
    return ReferAction(number) if number in ReferAction.__members__.values() else ReferAction.RESTRICT


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(_quoted, names))
