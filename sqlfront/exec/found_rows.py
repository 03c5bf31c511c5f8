"""SQL_CALC_FOUND_ROWS: a query that is run without its LIMIT, so that FOUND_ROWS() can tell how many rows there are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlfront import parse
from sqlfront.bind.query import QueryBinder
from sqlfront.exec.context import environment, rows_of_limit
from sqlfront.exec.query import compile_query
from sqlfront.exec.statement import plan_query
from sqlfront.result import ListSource, Result, Row

if TYPE_CHECKING:
    from sqlfront.bind.scope import BindContext
    from sqlfront.session import Session


class FoundRows:
    """All rows are made, those that LIMIT leaves are given."""

    any_integer = False

    def __init__(self, session: Session, ctx: BindContext, statement: parse.Query) -> None:
        tree = statement.ast.copy()
        count, offset = QueryBinder(ctx).take_limit(tree)
        plan = plan_query(session, ctx, replace(statement, ast=tree))
        if plan.lock is not None:
            from sqlfront.exec.locking import LockingQuery

            self._query: Any = LockingQuery(plan, session.variables.zone)
        else:
            self._query = compile_query(plan, session.variables.zone)
        self._count, self._offset = count, offset

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        env = environment(session, params)
        first = 0 if self._offset is None else rows_of_limit(self._offset, env)
        last = None if self._count is None else first + rows_of_limit(self._count, env)
        result: Result = self._query.run(session, params)
        kept: list[Row] = []
        total = 0
        try:
            for batch in result.fetch():
                start = max(first - total, 0)
                stop = None if last is None else max(last - total, 0)
                kept += env.quota.rows(batch[start:stop])
                total += len(batch)
                session.check_cancelled()
        finally:
            result.close()
        session.found_rows = total
        assert result.columns is not None
        return Result(result.columns, ListSource(result.columns, kept))
