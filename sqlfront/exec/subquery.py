"""Scalar expressions with subqueries outside of a query (SET @x = (SELECT ...))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coprocessor.expr import Expr
from sqlfront.exec.query import ResidualQuery, result_columns
from sqlfront.plan.nodes import ONE_ROW, Project, QueryPlan
from sqlfront.plan.optimize import optimize

if TYPE_CHECKING:
    from sqlfront.bind.scope import BindContext
    from sqlfront.session import Session


def evaluate_scalar(session: Session, ctx: BindContext, expr: Expr, params: tuple[Any, ...]) -> object:
    """Returns the value of an expression by running it as SELECT expression."""
    root = optimize(Project(ONE_ROW, (ctx.column("", expr.type),), (expr,)), session.database.statistics)
    plan = QueryPlan(root, ("",))
    result = ResidualQuery(plan, result_columns(plan), session.variables.zone).run(session, params)
    try:
        return result.fetch_all()[0][0]
    finally:
        result.close()
