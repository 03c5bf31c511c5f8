"""Partitioned tables: the expressions and constants of their records, bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sqlglot import exp

from coprocessor.env import Env
from coprocessor.errors import EvalError
from coprocessor.evaluate import compile_expr
from coprocessor.expr import Call, Column, Expr, walk
from coprocessor.functions.collation import is_ci
from coprocessor.schema import ColumnSchema
from coprocessor.types import BLOB_TPS, FieldType, Tp
from coprocessor.values import cast_for_column
from sqlfront.bind.generated import bind_over
from sqlfront.catalog import definition as d
from sqlfront.catalog.charsets import check_charset
from sqlfront.catalog.column_types import quote_text, type_info
from sqlfront.catalog.model import Table, field_type
from sqlfront.catalog.partitions import (
    COLUMNS_TPS,
    HASHED,
    KEY_TPS,
    MAXVALUE,
    definitions,
    find_definitions,
    kind_of,
)
from sqlfront.catalog.table_builder import column_keys, columns_in
from sqlfront.errors import DatabaseError, error, unsupported
from sqlfront.parse import FUNCTION_MARK, parse_expression
from sqlfront.plan.partitions import MAX, NULL, Key, Partitioning, fold_of

Columns = Sequence[tuple[str, FieldType]]

_FUNCTIONS = frozenset(
    "abs ceil ceiling datediff day dayofmonth dayofweek dayofyear floor hour microsecond minute mod month quarter"
    " second time_to_sec to_days to_seconds unix_timestamp weekday year yearweek".split()
)
_OPERATORS = (exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Paren, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Mod,
              exp.IntDiv, exp.Extract, exp.Var)  # fmt: skip
"""What else a partitioning function may consist of."""


@lru_cache(maxsize=512)
def partitioning_of(table: Table) -> Partitioning | None:
    """How the rows of a table are spread over its partitions; None for a table that has none."""
    kind = kind_of(table.info)
    if kind is None or table.partition:
        return None
    exprs, specs = _stored(table)
    return _partitioning(kind, exprs, specs, bool(table.info.partition["columns"]))


def _stored(table: Table) -> tuple[list[Expr], list[d.PartitionSpec]]:
    """What a table's record says: the expressions and the partitions."""
    record = table.info.partition
    names = tuple(name["O"] for name in record["columns"] or ())
    exprs = _exprs([(c.name, c.type) for c in table.columns], record["expr"], names, -1)
    specs = [
        d.PartitionSpec(p["name"]["O"], tuple(p["less_than"] or ()), tuple(map(tuple, p["in_values"] or ())))
        for p in definitions(table.info)
    ]
    return exprs, specs


def checked(by: d.PartitionBy, columns: Columns, env: Env) -> d.PartitionBy:
    """A new table's partitions with their constants computed; refuses what cannot be a partitioning of its columns."""
    exprs = _exprs(columns, by.expr, by.columns, by.position)
    if not by.columns:
        check_function(by.expr, exprs[0], by.position)
    allowed = KEY_TPS if by.kind == "key" else COLUMNS_TPS
    for expr in exprs:
        if by.kind == "key" and expr.type.tp in BLOB_TPS | {Tp.JSON}:
            raise error(1502, "A BLOB field is not allowed in partition function", position=by.position)
        named = isinstance(expr, Column) and by.kind not in HASHED
        if not by.columns and not named and not expr.type.is_integer:
            raise error(1491, f"The PARTITION function returns the wrong type ({by.expr})", position=by.position)
        if (expr.type.tp not in allowed) if by.columns else not expr.type.is_integer:
            column = expr.name if isinstance(expr, Column) else by.expr
            message = f"Field '{column}' is of a not allowed type for this type of partitioning"
            raise error(1659, message, position=by.position)
    if by.kind not in HASHED and not by.partitions:
        raise _undefined(by.kind, by.position)
    if by.number and by.partitions and by.number != len(by.partitions):
        raise error(1484, "Wrong number of partitions defined, mismatch with previous setting", position=by.position)
    return replace(by, partitions=checked_specs(by.kind, exprs, by.partitions, env))


def check_action(table: Table, action: d.AlterAction, env: Env) -> None:
    """Computes the constants of the partitions that ALTER TABLE asks for, and refuses what they cannot be."""
    kind = kind_of(table.info)
    match action:
        case d.PartitionTable(by=by) if by is not None:
            primary = [[table.columns[offset].name for offset in table.primary_key]] if table.primary_key else []
            unique = [
                [table.columns[part.offset].name for part in index.columns]
                for index in table.indexes
                if index.unique and all(table.columns[part.offset].not_null for part in index.columns)
            ]
            columns = [(c.name, c.type) for c in table.visible]
            virtual = [c.name for c in table.visible if not c.stored]
            action.by = _checked_over(columns, virtual, [*primary, *unique], by, env)
        case d.AddPartitions() if kind:
            action.partitions = _checked_more(table, kind, action, env)
        case d.ReorganizePartitions() if kind:
            action.partitions = _checked_others(table, kind, action, env)


def _checked_more(table: Table, kind: str, action: d.AddPartitions, env: Env) -> tuple[d.PartitionSpec, ...]:
    specs = action.partitions
    if kind in HASHED:
        return checked_specs(kind, (), specs, env)
    if not specs:
        raise _undefined(kind, action.position)
    exprs, there = _stored(table)
    if kind == "range" and there[-1].less_than == (MAXVALUE,) * len(exprs):
        raise error(1481, "MAXVALUE can only be used in last partition definition", position=specs[0].position)
    return checked_specs(kind, exprs, [*there, *specs], env)[len(there) :]


def _checked_others(table: Table, kind: str, action: d.ReorganizePartitions, env: Env) -> tuple[d.PartitionSpec, ...]:
    """Those that come in the place of others that follow each other: RANGE partitions with the same bounds, but for the
    last one's, which may be higher."""
    specs, position = action.partitions, action.position
    if not specs:
        return specs
    found = find_definitions(table.info, action.names, position, 1507, "REORGANIZE")
    if kind in HASHED:
        if len(found) != len(specs):
            message = "REORGANIZE PARTITION can only be used to reorganize partitions not to change their numbers"
            raise error(1510, message, position=position)
        return checked_specs(kind, (), specs, env)
    exprs, there = _stored(table)
    stored = definitions(table.info)
    places = sorted(stored.index(one) for one in found)
    first, last = places[0], places[-1]
    if places != list(range(first, last + 1)):
        message = "When reorganizing a set of partitions they must be in consecutive order"
        raise error(1519, message, position=position)
    if kind == "list":
        left = [*there[:first], *there[last + 1 :]]
        return checked_specs(kind, exprs, [*left, *specs], env)[len(left) :]
    ends = checked_specs(kind, exprs, specs, env)[-1].less_than, there[last].less_than
    bound, before = (_key(texts, exprs) for texts in ends)
    if bound < before or (bound > before and last + 1 < len(there)):
        message = (
            "Reorganize of range partitions cannot change total ranges except for last partition where it can extend "
            "the range"
        )
        raise error(1520, message, position=position)
    made = checked_specs(kind, exprs, [*there[:first], *specs, *there[last + 1 :]], env)
    return made[first : first + len(specs)]


def checked_specs(
    kind: str, exprs: Sequence[Expr], specs: Sequence[d.PartitionSpec], env: Env
) -> tuple[d.PartitionSpec, ...]:
    """Partitions with their constants computed, in the form in which they are stored."""
    wanted = {"range": ("LESS THAN", "less_than"), "list": ("IN", "values")}.get(kind, ("", ""))
    out: list[d.PartitionSpec] = []
    for spec in specs:
        given = [name for name in ("less_than", "values") if getattr(spec, name)]
        if given != [wanted[1]] * bool(wanted[1]):
            if not given:
                message = (
                    f"Syntax error: {kind.upper()} PARTITIONING requires definition of VALUES {wanted[0]} for each"
                )
                raise error(1479, f"{message} partition", position=spec.position)
            what = "RANGE" if given == ["less_than"] else "LIST"
            words = "LESS THAN" if given == ["less_than"] else "IN"
            message = f"Only {what} PARTITIONING can use VALUES {words} in partition definition"
            raise error(1480, message, position=spec.position)
        bound = spec.less_than
        if bound == ("MAXVALUE",):
            bound *= len(exprs)
        for row in [bound] if bound else spec.values:
            if len(row) != len(exprs):
                raise error(1653, "Inconsistency in usage of column lists for partitioning", position=spec.position)
        out.append(
            replace(
                spec,
                less_than=tuple(_constant(text, e, env, spec) for text, e in zip(bound, exprs, strict=bool(bound))),
                values=tuple(
                    tuple(_constant(text, e, env, spec, null=True) for text, e in zip(row, exprs, strict=True))
                    for row in spec.values
                ),
            )
        )
    _partitioning(kind, exprs, out, by_columns=False)
    return tuple(out)


def check_function(text: str, expr: Expr, position: int) -> None:
    """Raises 1564 for what MySQL does not take in a partitioning function, 1486 for one that reads no column or depends
    on the time zone."""
    for node in parse_expression(text).walk():
        named = isinstance(node, exp.Anonymous) and node.name.removeprefix(FUNCTION_MARK).lower() in _FUNCTIONS
        if not named and not isinstance(node, _OPERATORS):
            raise _not_allowed(position)
    times = [part for part in walk(expr) if isinstance(part, Call) and part.func == "unix_timestamp_of"]
    apart = {id(arg) for call in times for arg in call.args}
    read = [part for part in walk(expr) if isinstance(part, Column)]
    if not read or any(part.type.tp == Tp.TIMESTAMP and id(part) not in apart for part in read):
        message = "Constant, random or timezone-dependent expressions in (sub)partitioning function are not allowed"
        raise error(1486, message, position=position)


def _not_allowed(position: int) -> DatabaseError:
    return error(1564, "This partition function is not allowed", position=position)


def _undefined(kind: str, position: int) -> DatabaseError:
    return error(1492, f"For {kind.upper()} partitions each partition must be defined", position=position)


def _exprs(columns: Columns, text: str, names: Sequence[str], position: int) -> list[Expr]:
    if not names:
        try:
            return [bind_over(columns, "", text, position, "partition function")]
        except DatabaseError as exc:
            if exc.code != 3102:
                raise
            raise _not_allowed(position) from exc
    places = {name.lower(): (place, type_) for place, (name, type_) in enumerate(columns)}
    for name in names:
        if name.lower() not in places:
            raise error(1488, "Field in list of fields for partition function not found in table", position=position)
    return [Column(*places[name.lower()], name) for name in names]


def _partitioning(kind: str, exprs: Sequence[Expr], specs: Sequence[d.PartitionSpec], by_columns: bool) -> Partitioning:
    """Raises 1493 when bounds do not rise, 1495 when a value is in two lists."""
    bounds: list[Key] = []
    lists: dict[Key, int] = {}
    for number, spec in enumerate(specs):
        if kind == "range":
            bounds.append(_key(spec.less_than, exprs))
            if number and bounds[-2] >= bounds[-1]:
                if bounds[-2] == (MAX,) * len(exprs):
                    message = "MAXVALUE can only be used in last partition definition"
                    raise error(1481, message, position=spec.position)
                message = "VALUES LESS THAN value must be strictly increasing for each partition"
                raise error(1493, message, position=spec.position)
        for row in spec.values if kind == "list" else ():
            key = _key(row, exprs)
            if key in lists:
                message = "Multiple definition of same constant in list partitioning"
                raise error(1495, message, position=spec.position)
            lists[key] = number
    return Partitioning(kind, exprs, by_columns, len(specs), bounds, lists)


def _key(texts: Sequence[str], exprs: Sequence[Expr]) -> Key:
    out: list[tuple[int, Any]] = []
    for text, expr in zip(texts, exprs, strict=True):
        if text == MAXVALUE:
            out.append(MAX)
        else:
            value = _value(text, expr, Env(), None)
            out.append(NULL if value is None else (1, fold_of(expr.type)(value)))
    return tuple(out)


def _value(text: str, expr: Expr, env: Env, spec: d.PartitionSpec | None) -> Any:
    """A constant as a value of the expression; error 1654 when it is none."""
    value = compile_expr(bind_over((), "", text, clause="partition function"), {})((), env)
    column = ColumnSchema(0, text, expr.type)
    try:
        return None if value is None else cast_for_column(value, column)
    except EvalError as exc:
        position = -1 if spec is None else spec.position
        raise error(1654, "Partition column values of incorrect type", position=position) from exc


def _constant(text: str, expr: Expr, env: Env, spec: d.PartitionSpec, *, null: bool = False) -> str:
    """A constant's text as it is stored."""
    if text.upper() == MAXVALUE and not null:
        return MAXVALUE
    value = _value(text, expr, env, spec)
    if value is None:
        if not null:
            raise error(1566, "Not allowed to use NULL value in VALUES LESS THAN", position=spec.position)
        return "NULL"
    if isinstance(value, bytes):
        raise unsupported("partitions by binary values", position=spec.position)
    return str(value) if expr.type.is_integer else quote_text(str(value))


def check_partitions(spec: d.CreateTable, by: d.PartitionBy, env: Env) -> None:
    """Checks a new table's partitions and computes their constants."""
    virtual = [c.name for c in spec.columns if c.generated is not None and not c.generated.stored]
    default = check_charset(spec.options.charset, spec.options.collate, position=spec.table.position)
    columns = [
        (c.name, field_type(type_info(c.type, c.name, default))) for c in spec.columns if c.type.name != "SERIAL"
    ]
    keys = [key for column in spec.columns for key in column_keys(column)] + spec.keys
    filled = {c.name.lower() for c in spec.columns if c.not_null}
    found = [
        [part.column for part in key.parts]
        for key in sorted(keys, key=lambda key: key.kind != "primary")
        if key.kind == "primary"
        or (key.kind == "unique" and filled.issuperset(part.column.lower() for part in key.parts))
    ]
    spec.partition = _checked_over(columns, virtual, found, by, env)


def _checked_over(
    columns: Columns, virtual: Sequence[str], keys: Sequence[Sequence[str]], by: d.PartitionBy, env: Env
) -> d.PartitionBy:
    """Partitions of a table of these columns. `keys` are those that KEY () may be by: the primary key, then unique ones
    of columns that are not NULL."""
    if by.kind == "key" and not by.columns:
        if not keys:
            message = "Field in list of fields for partition function not found in table"
            raise error(1488, message, position=by.position)
        by = replace(by, columns=tuple(keys[0]), implied=True)
    if {name.lower() for name in virtual}.intersection([name.lower() for name in by.columns] or columns_in(by.expr)):
        raise unsupported("partitions by a virtual generated column", position=by.position)
    if by.kind == "key" and any(
        is_ci(ft.collate) for name, ft in columns if name.lower() in map(str.lower, by.columns)
    ):
        raise unsupported("PARTITION BY KEY over text that is compared by weights", position=by.position)
    return checked(by, columns, env)
