"""Names in scope: the relations of a FROM clause, the scopes around it, and what one statement's binding shares."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coprocessor.types import FieldType
from sqlfront.errors import ER_BAD_FIELD, ER_NON_UNIQ, DatabaseError, error, near_match
from sqlfront.plan.nodes import Cte, PlanColumn
from sqlfront.variables import READ_ENGINES

if TYPE_CHECKING:
    from coprocessor.expr import Agg, Column, Expr
    from sqlfront.bind.engines import StorageHints
    from sqlfront.bind.expr import ExprBinder
    from sqlfront.bind.view_text import DefinitionText
    from sqlfront.catalog.model import Column as CatalogColumn
    from sqlfront.catalog.model import Schema, Table


@dataclass(slots=True)
class Relation:
    """One item of a FROM clause. `view` is the name of the view that it is, "" for others; `stored` are the columns of
    the table that it is, as `cols`.
    """

    alias: str
    db: str
    cols: tuple[PlanColumn, ...]
    by_name: dict[str, list[PlanColumn]] = field(default_factory=dict)
    invisible: tuple[PlanColumn, ...] = ()
    view: str = ""
    stored: tuple[CatalogColumn, ...] = ()

    def __post_init__(self) -> None:
        for col in (*self.cols, *self.invisible):
            self.by_name.setdefault(col.name.casefold(), []).append(col)


@dataclass(slots=True)
class BindContext:
    """What the binding of one statement shares: the schema, parameter types, and facts for the plan cache.

    `variables` answers @@name, `user_variables` types @name; reading either makes the plan good for one execution
    (`cacheable` False). `read_engines` are the storage engines that may be read; `locking` says that the statement
    locks what it reads. `warnings` (code, message) are to be told at each execution. `max_execution_ms` is what a hint
    says of the time, None without one. `assigned` takes the types of what `@name := value` gives, None where that is
    refused.

    `written` is the definition of a view that is being bound to be stored. `views` are those (database, name) whose
    queries are being bound, one within the other. `beneath` has the aliases of what a view reads, by its own.
    """

    schema: Schema
    current_db: str
    param_types: Mapping[object, FieldType]
    registered: Mapping[str, Sequence[tuple[str, FieldType]]]
    full_group_by: bool = True
    variables: Mapping[str, object] = field(default_factory=dict)
    user_variables: Mapping[str, tuple[object, FieldType]] = field(default_factory=dict)
    next_id: int = 1
    next_cte: int = 1
    tables: dict[int, Table] = field(default_factory=dict)
    cacheable: bool = True
    params: dict[object, int] = field(default_factory=dict)
    read_engines: frozenset[str] = READ_ENGINES
    locking: bool = False
    warnings: list[tuple[int, str]] = field(default_factory=list)
    max_execution_ms: int | None = None
    written: DefinitionText | None = None
    views: tuple[tuple[str, str], ...] = ()
    beneath: dict[str, tuple[str, ...]] = field(default_factory=dict)
    assigned: dict[str, FieldType] | None = None

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id

    def column(self, name: str, type: FieldType, *, nullable: bool = True, table: str = "", db: str = "") -> PlanColumn:
        return PlanColumn(self.new_id(), name, type, nullable, table, db)

    def database_of(self, db: str) -> str:
        name = db or self.current_db
        if not name:
            raise error(1046, "No database selected")
        return name

    def find_table(self, db: str, name: str, position: int = -1) -> Table:
        """Returns a stored table; raises 1146 with a near match."""
        table = self.schema.need_table(self.database_of(db), name, position=position)
        self.tables[table.id] = table
        return table

    def find_relation(self, db: str, name: str, position: int = -1) -> Table:
        """Returns a stored table or a view; raises 1146 with a near match."""
        relation = self.schema.need_relation(self.database_of(db), name, position=position)
        if relation.view is None:
            self.tables[relation.id] = relation
        return relation

    def check_writable(self, table: Table, position: int = -1) -> None:
        """Raises 1036 for a table whose rows must not be changed here."""
        self.schema.check_writable(table, position=position)


class Scope:
    """Relations visible to expressions; `parent` is the query around a subquery.

    `shown` is what names without a qualifier mean and `*` stands for, in its order: a column that USING or NATURAL made
    of two is there once. `merged` has the ids of such columns.

    `binder` is what binds the expression of this query in which a subquery is being bound. `aggregates` are those of
    this query that stand in its subqueries, by the ids of the columns that the subqueries read them as; `named` are the
    items of its select list that its subqueries name. `compares_row` tells that the query is no one's own, but made to
    compare a row of the query around it: the aggregates in that row are not its own.
    """

    def __init__(self, parent: Scope | None = None) -> None:
        self.parent = parent
        self.relations: list[Relation] = []
        self.merged: set[int] = set()
        self.ctes: dict[str, Cte] = dict(parent.ctes) if parent is not None else {}
        self.outer: set[int] = set()
        self.storage: StorageHints | None = None
        self.binder: ExprBinder | None = None
        self.aggregates: dict[int, tuple[Agg, PlanColumn]] = {}
        self.named: dict[Expr, PlanColumn] = {}
        self.compares_row = False
        self._shown: list[PlanColumn] = []
        self._by_name: dict[str, list[PlanColumn]] | None = None

    @property
    def shown(self) -> Sequence[PlanColumn]:
        return self._shown

    def show(self, columns: Iterable[PlanColumn], start: int = 0) -> None:
        """Puts columns in the place of what is shown from `start` on."""
        self._shown[start:] = columns
        self._by_name = None

    def add(self, relation: Relation, position: int = -1, *, hidden: Collection[str] = ()) -> None:
        """Adds a relation; raises 1066 for a name that is there. `hidden` are those of its columns, in lower case, that
        only a qualifier tells.
        """
        key = (relation.alias.casefold(), relation.db.casefold())
        if relation.alias and any((r.alias.casefold(), r.db.casefold()) == key for r in self.relations):
            raise error(1066, f"Not unique table/alias: '{relation.alias}'", position=position)
        self.relations.append(relation)
        self.show((c for c in relation.cols if c.name.casefold() not in hidden), len(self._shown))

    def part(self, relations: int, shown: int) -> Scope:
        """A scope in the same surroundings, of what was added after so many relations and columns."""
        out = Scope(self.parent)
        out.ctes = self.ctes
        out.relations = self.relations[relations:]
        out.merged = self.merged
        out.show(self._shown[shown:])
        return out

    def ids(self) -> set[int]:
        """All columns of this scope's relations."""
        return {c.id for r in self.relations for c in (*r.cols, *r.invisible)}

    def has(self) -> set[int]:
        """All that subqueries read of this scope."""
        return self.ids() | self.aggregates.keys() | {c.id for c in self.named.values()}

    def read_outer(self, id_: int, of: Scope) -> None:
        """Notes that a query within another reads a column of it."""
        scope: Scope | None = self
        while scope is not None and scope is not of:
            scope.outer.add(id_)
            scope = scope.parent

    def local(
        self, db: str, table: str, name: str, position: int = -1, clause: str = "field list"
    ) -> PlanColumn | None:
        """Finds a column among this scope's relations alone; raises 1052 when it is ambiguous."""
        found = self._named(table, db, name.casefold()) if table else self._unqualified(name.casefold())
        if len({c.id for c in found}) > 1:
            raise self.ambiguous(name, position, clause)
        return found[0] if found else None

    @staticmethod
    def ambiguous(name: str, position: int, clause: str) -> DatabaseError:
        """The error 1052 of a name that several columns have."""
        return error(ER_NON_UNIQ, f"Column '{name}' in {clause} is ambiguous", position=position)

    def is_ambiguous(self, name: str) -> bool:
        """Whether several columns of this scope's relations are called so."""
        return len({c.id for c in self._unqualified(name.casefold())}) > 1

    def _named(self, table: str, db: str, key: str) -> list[PlanColumn]:
        found: list[PlanColumn] = []
        for relation in self.relations:
            if relation.alias.casefold() == table.casefold() and (
                not db or not relation.db or relation.db.casefold() == db.casefold()
            ):
                found.extend(relation.by_name.get(key, ()))
        return found

    def _unqualified(self, key: str) -> Sequence[PlanColumn]:
        if self._by_name is None:
            self._by_name = {}
            for col in (*self._shown, *(c for r in self.relations for c in r.invisible)):
                self._by_name.setdefault(col.name.casefold(), []).append(col)
        return self._by_name.get(key, ())

    def resolve(
        self, db: str, table: str, name: str, position: int = -1, clause: str = "field list"
    ) -> PlanColumn | None:
        """Finds a column here or in the scopes around; notes references to outer columns on the way."""
        found = self.local(db, table, name, position, clause)
        return found if found is not None else self.around(db, table, name, position, clause)

    def around(self, db: str, table: str, name: str, position: int, clause: str) -> PlanColumn | None:
        """Finds a column in the scopes around alone."""
        around = self.parent
        if around is None:
            return None
        found = around.local(db, table, name, position, clause)
        if found is None and not table and around.binder is not None:
            found = around.binder.item(name, position, clause)
        if found is None:
            found = around.around(db, table, name, position, clause)
        if found is not None:
            self.outer.add(found.id)
        return found

    def first_item(self, name: str) -> PlanColumn | None:
        """What a name in a compared row means where the row stands, before any column is looked for."""
        of: Scope = self
        while of.compares_row and of.parent is not None:
            of = of.parent
        found = None if of is self or of.binder is None else of.binder.first_item(name)
        if found is not None:
            self.read_outer(found.id, of)
        return found

    def stored_column(self, column: PlanColumn) -> CatalogColumn | None:
        """The column of a table that a column of a relation, here or in the scopes around, is; None for others."""
        for relation in self.relations:
            for col, stored in zip(relation.cols, relation.stored, strict=False):
                if col.id == column.id:
                    return stored
        return None if self.parent is None else self.parent.stored_column(column)

    def qualifiers(self, name: str, column: PlanColumn | Column) -> tuple[str, ...]:
        """What tells a column that `resolve` found by its name alone from others; nothing when no qualifier does."""
        scope: Scope | None = self
        while scope is not None:
            if column.id in scope.merged:
                return ()
            for relation in scope.relations:
                if relation.alias and column.id in {c.id for c in relation.by_name.get(name.casefold(), ())}:
                    qualifiers = scope._qualifiers(relation)
                    db, alias = ("", *qualifiers)[-2:]
                    if not db and len(qualifiers) > 1:
                        return ()
                    there = self.resolve(db, alias, name)
                    return qualifiers if there is not None and there.id == column.id else ()
            scope = scope.parent
        return ()

    def _qualifiers(self, relation: Relation) -> tuple[str, ...]:
        """As many names of a relation as tell it from the others here."""
        alias = relation.alias.casefold()
        unique = sum(r.alias.casefold() == alias for r in self.relations) == 1
        return (relation.alias,) if unique else (relation.db, relation.alias)

    def unknown(self, table: str, name: str, position: int, clause: str) -> Exception:
        """The error for a name that nothing here is called."""
        known: list[str] = []
        scope: Scope | None = self
        while scope is not None:
            for relation in scope.relations:
                if table and relation.alias.casefold() != table.casefold():
                    continue
                known.extend(c.name for c in relation.cols)
            scope = scope.parent
        shown = f"{table}.{name}" if table else name
        return error(
            ER_BAD_FIELD, f"Unknown column '{shown}' in '{clause}'{near_match(name, known)}", position=position
        )

    def qualified(self) -> list[tuple[str, ...]]:
        """What `*` stands for, each column with as many qualifiers as tell it from others."""
        of = {c.id: self._qualifiers(relation) for relation in self.relations for c in relation.cols}
        alone = {c.id for c in self._shown if c.id in self.merged and len(self._unqualified(c.name.casefold())) == 1}
        return [(c.name,) if c.id in alone else (*of[c.id], c.name) for c in self._shown]
