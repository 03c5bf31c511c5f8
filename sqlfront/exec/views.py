"""Views, as a session makes and describes them: their queries are bound by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlfront import parse
from sqlfront.bind.query import QueryBinder
from sqlfront.bind.view_text import DefinitionText
from sqlfront.bind.views import ER_VIEW_RECURSIVE, bind_query, check_query, columns_of
from sqlfront.catalog import definition as d
from sqlfront.catalog.model import NO_DEFAULT, NULL_DEFAULT, Column
from sqlfront.catalog.table_builder import NAME_LENGTH_MAX, check_name
from sqlfront.catalog.views import check_new_view, create_view
from sqlfront.errors import DatabaseError, error, unsupported
from sqlfront.exec.statement import bind_context

if TYPE_CHECKING:
    from sqlfront.catalog.catalog import Catalog
    from sqlfront.catalog.model import Table
    from sqlfront.plan.nodes import Node
    from sqlfront.session import Session


def define_view(session: Session, catalog: Catalog, spec: d.CreateView) -> None:
    """Carries out CREATE and ALTER VIEW: binds the query, and stores it with its names spelled out."""
    database, _ = check_new_view(catalog.schema, spec, session.current_db)
    parsed = parse.parse(spec.query)
    statement = parsed.statement
    if not isinstance(statement, parse.Query):
        raise error(1064, "You have an error in your SQL syntax: a view is a query", position=spec.view.position)
    check_query(statement)
    ctx = bind_context(session, parsed, ())
    ctx.views = ((database.name.lower(), spec.view.name.lower()),)
    ctx.written = DefinitionText()
    try:
        plan = QueryBinder(ctx).query(statement.ast, None, statement.item_texts)
    except DatabaseError as exc:
        if exc.code == ER_VIEW_RECURSIVE and exc.message.startswith(f"`{database.name}`.`{spec.view.name}` "):
            # No view of that name is there for its own query, whatever stands between.
            message = f"Table '{database.name}.{spec.view.name}' doesn't exist"
            raise error(1146, message, position=exc.position) from exc
        raise
    names = _names(spec, plan)
    select = ctx.written.write(spec.query, statement.ast)
    _check_stored(session, select, plan)
    variables = session.variables
    charset = str(variables.get("character_set_connection")), str(variables.get("collation_connection"))
    create_view(catalog, spec, session.current_db, select, names, charset)


def _names(spec: d.CreateView, plan: Node) -> Sequence[str]:
    position = spec.view.position
    given = spec.columns
    if given and len(given) != len(plan.cols):
        message = (
            "In definition of view, derived table or common table expression, SELECT list and column names list have "
            "different column counts"
        )
        raise error(1353, message, position=position)
    names = given or [c.name if len(c.name) <= NAME_LENGTH_MAX else f"name_exp_{i}" for i, c in enumerate(plan.cols, 1)]
    seen: set[str] = set()
    for name in names:
        check_name(name, 1166, "column", position)
        if name.casefold() in seen:
            raise error(1060, f"Duplicate column name '{name}'", position=position)
        seen.add(name.casefold())
    return names


def _check_stored(session: Session, select: str, plan: Node) -> None:
    """Sees that the stored text gives what the user's text gives."""
    parsed = parse.parse(select)
    assert isinstance(parsed.statement, parse.Query), select
    ctx = bind_context(session, parsed, ())
    ctx.current_db, ctx.registered = "", {}
    again = QueryBinder(ctx).query(parsed.statement.ast, None)
    if [c.type for c in again.cols] != [c.type for c in plan.cols]:
        raise unsupported("a view of this query, whose text would be stored as " + select)


def view_columns(session: Session, view: Table) -> tuple[Column, ...]:
    """The columns of a view as its query gives them now. Raises 1356 when it cannot be bound."""
    ctx = bind_context(session, parse.Parsed(parse.Commit(), ""), ())
    plan = bind_query(QueryBinder(ctx), view)
    columns = zip(view.info.columns, columns_of(view, plan), strict=True)
    return tuple(
        Column(
            id=stored.id,
            name=name,
            offset=offset,
            type=found.type,
            not_null=not found.nullable,
            default=NULL_DEFAULT if found.nullable else NO_DEFAULT,
            comment=stored.comment,
        )
        for offset, (stored, (name, found)) in enumerate(columns)
    )
