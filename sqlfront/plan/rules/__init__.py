"""Rewrite rules, one a file, in the order they run. Each is a function from plan to plan that keeps the meaning."""

from __future__ import annotations

from collections.abc import Callable

from sqlfront.plan.nodes import Node
from sqlfront.plan.rules.factor_alternatives import factor_alternatives
from sqlfront.plan.rules.fold_constants import fold_constants
from sqlfront.plan.rules.group_by_key import group_by_key
from sqlfront.plan.rules.inline_ctes import inline_ctes
from sqlfront.plan.rules.outer_to_inner import outer_to_inner
from sqlfront.plan.rules.prune_columns import prune_columns
from sqlfront.plan.rules.push_filters import push_filters

RULES: tuple[Callable[[Node], Node], ...] = (
    inline_ctes,
    fold_constants,
    factor_alternatives,
    outer_to_inner,
    push_filters,
    group_by_key,
    prune_columns,
)
