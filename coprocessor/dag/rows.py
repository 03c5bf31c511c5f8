"""The steps of a request row by row, by the closures of the function catalogue: for few rows, and for what DuckDB
cannot hold.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, assert_never

import pyarrow as pa

from coprocessor.arrow import batch_to_rows, rows_to_batch
from coprocessor.dag.plan import Aggregation, Limit, Projection, Selection, Step, TopN, sum_of, types_after
from coprocessor.env import Env
from coprocessor.evaluate import compile_agg, compile_expr, compile_predicate, compile_row
from coprocessor.expr import Agg, Column, Expr, OrderKey
from coprocessor.functions.aggregates import order_value
from coprocessor.functions.collation import sort_key
from coprocessor.types import UBIGINT, FieldType

Row = tuple[Any, ...]


def run_rows(
    batches: Iterable[pa.RecordBatch],
    types: Sequence[FieldType],
    steps: Sequence[Step],
    env: Env,
    counts: list[int],
    *,
    desc: bool = False,
) -> pa.RecordBatch:
    """Runs `steps` over batches of `types`; `counts` takes how many rows each step gave.

    `desc` tells that the rows come in descending order. Raises EvalError for what cannot be computed.
    """
    rows = [row for batch in batches for row in batch_to_rows(batch, types)]
    after = tuple(types)
    for i, step in enumerate(steps):
        rows = run_step(rows, after, step, env, desc=desc)
        after = types_after(step, after)
        counts[i] += len(rows)
    return rows_to_batch(rows, [f"c{i}" for i in range(len(after))], after, inside=True)


def run_step(rows: list[Row], types: Sequence[FieldType], step: Step, env: Env, *, desc: bool = False) -> list[Row]:
    """Returns the rows that a step makes of `rows`."""
    layout = {i: i for i in range(len(types))}
    match step:
        case Selection():
            tests = [compile_predicate(condition, layout) for condition in step.conditions]
            return [row for row in rows if all(test(row, env) for test in tests)]
        case Projection():
            make = compile_row(step.exprs, layout)
            return [make(row, env) for row in rows]
        case Aggregation():
            return _aggregated(rows, step, layout, env, desc=desc)
        case TopN():
            return _sorted(rows, step.keys, layout, env)[: step.limit]
        case Limit():
            return rows[: step.limit]
    assert_never(step)


def _sorted(rows: list[Row], keys: Sequence[OrderKey], layout: dict[int, int], env: Env) -> list[Row]:
    for key in reversed(keys):
        rows = sorted(rows, key=_place(key.expr, layout, env), reverse=key.desc)
    return rows


def _place(expr: Expr, layout: dict[int, int], env: Env) -> Callable[[Row], Any]:
    """Tells a row's place in the order of an expression's values."""
    value_of, rank = compile_expr(expr, layout), order_value(expr.type)
    return lambda row: rank(value_of(row, env))


class _First:
    """The first row's value, also NULL."""

    def __init__(self, value_of: Callable[[Row, Env], Row]) -> None:
        self._value_of = value_of
        self._found: Row | None = None

    def add(self, row: Row, env: Env) -> None:
        if self._found is None:
            self._found = self._value_of(row, env)

    def result(self) -> Any:
        return None if self._found is None else self._found[0]


def _states(agg: Agg, partial: bool, layout: dict[int, int]) -> list[Callable[[], Any]]:
    """The factories of the running states of an aggregate's columns."""
    if agg.func == "any_value":
        return [functools.partial(_First, compile_row(agg.args, layout))]
    if partial and agg.func == "avg":
        return [compile_agg(Agg("count", agg.args, UBIGINT), layout), compile_agg(sum_of(agg), layout)]
    return [compile_agg(agg, layout)]


def _group_key(exprs: Sequence[Expr]) -> Callable[[Row], Any]:
    keys = [sort_key(e.type) for e in exprs]
    if not any(keys):
        return lambda values: values
    return lambda values: tuple(
        v if k is None or v is None else k(v) for v, k in zip(values, keys, strict=True)
    )  # fmt: skip


def _aggregated(rows: list[Row], step: Aggregation, layout: dict[int, int], env: Env, *, desc: bool) -> list[Row]:
    make = list(itertools.chain.from_iterable(_states(agg, step.partial, layout) for agg in step.aggs))
    values_of = compile_row(step.groups, layout)
    key_of = _group_key(step.groups)
    groups: dict[Any, tuple[Row, list[Any]]] = {}
    if not step.groups:
        groups[()] = ((), [new() for new in make])
    for row in rows:
        values = values_of(row, env)
        key = key_of(values)
        found = groups.get(key)
        if found is None:
            found = groups[key] = (values, [new() for new in make])
        for state in found[1]:
            state.add(row, env)
    out = [(*(state.result() for state in states), *values) for values, states in groups.values()]
    if not step.streamed:
        return out
    first = len(make)
    order = [OrderKey(Column(first + i, e.type), desc) for i, e in enumerate(step.groups)]
    return _sorted(out, order, {i: i for i in range(first + len(step.groups))}, env)
