"""FieldTypes, Arrow types and DuckDB types name the same thing, and Python rows survive the way through Arrow."""

from __future__ import annotations

import datetime as dt
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coprocessor.arrow import (
    arrow_type,
    as_table,
    batch_to_rows,
    duckdb_type,
    field_type,
    rows_to_batch,
    to_edge,
)
from coprocessor.errors import Unsupported
from coprocessor.types import Tp
from tests.codec.samples import TYPES, values_of


@given(st.data(), st.booleans())
@settings(max_examples=200)
def test_rows_survive(data: st.DataObject, inside: bool) -> None:
    name = data.draw(st.sampled_from(sorted(TYPES)))
    type_ = TYPES[name]
    rows = [(v,) for v in data.draw(st.lists(st.none() | values_of(type_), max_size=4))]
    batch = rows_to_batch(rows, [name], [type_], inside=inside)
    assert batch.schema.field(0).type == arrow_type(type_, inside=inside)
    assert batch_to_rows(batch, [type_]) == rows
    assert batch_to_rows(to_edge(batch, [name], [type_]), [type_]) == rows
    assert batch_to_rows(pa.Table.from_batches([batch, batch.slice(1)]), [type_]) == rows + rows[1:]


@pytest.mark.parametrize("name", sorted(TYPES))
def test_duckdb_takes_and_gives_the_type(name: str) -> None:
    type_ = TYPES[name]
    if type_.tp == Tp.NEWDECIMAL and type_.flen > 38:
        with pytest.raises(Unsupported):
            duckdb_type(type_)
        return
    con = duckdb.connect()
    con.execute(f"create table t (v {duckdb_type(type_)})")
    source = pa.table({"v": pa.nulls(1, arrow_type(type_, inside=True))})
    con.register("source", source)
    assert (
        con.execute("select typeof(v) from source").fetchone()
        == con.execute("select column_type from (describe t)").fetchone()
    )
    con.close()


@pytest.mark.parametrize("name", sorted(set(TYPES) - {"enum", "set", "json", "year", "bit", "int24", "timestamp"}))
def test_types_inferred_from_arrow_hold_the_values(name: str) -> None:
    type_ = TYPES[name]
    assert arrow_type(field_type(arrow_type(type_))) == arrow_type(type_)


def test_nested_types_are_refused() -> None:
    with pytest.raises(Unsupported):
        field_type(pa.list_(pa.int64()))


@pytest.mark.parametrize("kind", ["table", "batch", "reader", "pandas", "polars", "dict"])
def test_as_table(kind: str) -> None:
    table = pa.table({"a": [1, 2]})
    sources: dict[str, Any] = {
        "table": table,
        "batch": table.to_batches()[0],
        "reader": table.to_reader(),
        "dict": {"a": [1, 2]},
    }
    if kind == "pandas":
        sources[kind] = table.to_pandas()
    if kind == "polars":
        sources[kind] = pytest.importorskip("polars").DataFrame({"a": [1, 2]})
    assert as_table(sources[kind]).to_pydict() == {"a": [1, 2]}


def test_what_is_not_arrow_is_refused() -> None:
    with pytest.raises(TypeError):
        as_table(5)


def test_coming_near_is_enough() -> None:
    batch = pa.table(
        {
            "big": pa.array([1, None], pa.decimal128(38, 0)),
            "text": pa.array(["a", None], pa.large_string()),
            "span": pa.array([1_000_000, None], pa.int64()),
            "moment": pa.array([dt.datetime(2024, 1, 1), None], pa.timestamp("ns")),
        }
    )
    types = [TYPES["bigint"], TYPES["varchar"], TYPES["time"], TYPES["datetime6"]]
    assert batch_to_rows(batch, types) == [
        (1, "a", dt.timedelta(seconds=1), dt.datetime(2024, 1, 1)),
        (None, None, None, None),
    ]
