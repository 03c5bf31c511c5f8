"""What happens to a scan's rows, printed as one DuckDB query over the relation `scan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from coprocessor.dag.plan import (
    Aggregation,
    Limit,
    Projection,
    Selection,
    Step,
    TopN,
    partial_types,
    sum_of,
    types_after,
)
from coprocessor.duck_expr import Printer
from coprocessor.expr import Agg, Call, Column
from coprocessor.types import UBIGINT, FieldType, Tp

RELATION = "scan"
COUNTED = "counted"
"""The name of the column that tells how many rows went into each group."""


@dataclass(slots=True)
class PrintedSteps:
    """A query's text and UDFs; columns are called c0, c1, … (and COUNTED behind them, if asked for)."""

    sql: str
    udfs: dict[str, Call] = field(default_factory=dict)


def print_steps(
    types: Sequence[FieldType],
    steps: Sequence[Step],
    *,
    not_null: Sequence[int] = (),
    desc: bool = False,
    wide: bool = False,
    counted: bool = False,
) -> PrintedSteps:
    """Prints `steps` over rows of `types`.

    `not_null` are offsets of columns without NULLs, `desc` tells that the rows come in descending order; `wide` is
    `Printer`'s, for decimals that overflow. `counted` adds to the first aggregation how many rows each group has.
    """
    printer = _StepPrinter(types, not_null, desc, wide, counted)
    for step in steps:
        printer.add(step)
    return PrintedSteps(printer.query(), printer.udfs)


class _StepPrinter:
    def __init__(
        self, types: Sequence[FieldType], not_null: Sequence[int], desc: bool, wide: bool, counted: bool
    ) -> None:
        self.udfs: dict[str, Call] = {}
        self._types = tuple(types)
        self._not_null = tuple(not_null)
        self._desc = desc
        self._wide = wide
        self._counted = counted
        self._carried = ""
        self._sql = ""
        # CHAR has no trailing spaces in the store
        self._trimmed = {i for i, ft in enumerate(types) if ft.tp in (Tp.STRING, Tp.ENUM, Tp.SET)}

    def query(self) -> str:
        return self._sql or f"SELECT * FROM {RELATION}"

    def add(self, step: Step) -> None:
        source = f"({self._sql}) AS q" if self._sql else RELATION
        printer = Printer(pad_safe=True, wide=self._wide, not_null=self._not_null)
        printer.trimmed = self._trimmed
        match step:
            case Selection():
                conditions = " AND ".join(f"({printer.condition(c)})" for c in step.conditions) or "TRUE"
                self._sql = f"SELECT * FROM {source} WHERE {conditions}"
            case Projection():
                items = [f"{printer.value(e)} AS c{i}" for i, e in enumerate(step.exprs)]
                self._trimmed = {i for i, e in enumerate(step.exprs) if e.type.is_string and printer.is_trimmed(e)}
                self._not_null = ()
                self._sql = f"SELECT {', '.join(items + self._rest()) or '1 AS one'} FROM {source}"
            case Aggregation():
                self._sql = self._aggregation(step, printer, source)
            case TopN():
                keys = ", ".join(printer.order_key(k.expr, k.desc) for k in step.keys)
                order = f" ORDER BY {keys}" if keys else ""
                self._sql = f"SELECT * FROM {source}{order} LIMIT {step.limit}"
            case Limit():
                self._sql = f"SELECT * FROM {source} LIMIT {step.limit}"
            case _:
                assert_never(step)
        self._types = types_after(step, self._types)
        self.udfs |= printer.udfs

    def _rest(self) -> list[str]:
        return [self._carried] if self._carried else []

    def _aggregation(self, step: Aggregation, printer: Printer, source: str) -> str:
        items = [text for agg in step.aggs for text in _aggregates(printer, agg, step.partial)]
        keys = [printer.group_key(e) for e in step.groups]
        for expr, key in zip(step.groups, keys, strict=True):
            value = printer.value(expr)
            # Where strings that differ are equal to the collation, any of the group's may stand for it.
            items.append(value if value == key else f"any_value({value})")
        named = [f"{text} AS c{i}" for i, text in enumerate(items)]
        if self._counted and not self._carried:
            named.append(f"count(*) AS {COUNTED}")
            self._carried = COUNTED
        text = f"SELECT {', '.join(named) or '1 AS one'} FROM {source}"
        if keys:
            text += f" GROUP BY {', '.join(keys)}"
        elif not named:
            text += " LIMIT 1"
        first = sum(len(partial_types(a)) if step.partial else 1 for a in step.aggs)
        trimmed = {first + i for i, e in enumerate(step.groups) if e.type.is_string and printer.is_trimmed(e)}
        if step.streamed and step.groups:
            order = [
                printer.order_key(Column(first + i, e.type), self._desc) for i, e in enumerate(step.groups)
            ]  # fmt: skip
            text = f"SELECT * FROM ({text}) AS q ORDER BY {', '.join(order)}"
        self._trimmed, self._not_null = trimmed, ()
        return text


def _aggregates(printer: Printer, agg: Agg, partial: bool) -> list[str]:
    """The texts of an aggregate's columns."""
    if agg.func == "any_value":
        return [f"first({printer.value(agg.args[0])})"]
    if not partial or agg.func != "avg":
        return [printer.value(agg)]
    return [printer.value(Agg("count", agg.args, UBIGINT)), printer.value(sum_of(agg))]
