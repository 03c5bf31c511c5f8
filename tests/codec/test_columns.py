"""Whole columns are cast to what their values are cast to one by one."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from coprocessor.codec.columns import cast_column, decimals_of_text
from coprocessor.errors import CoprocessorError
from coprocessor.schema import ColumnSchema
from coprocessor.types import FieldType, Tp
from coprocessor.values import compile_caster

SCALES = st.integers(0, 30)
DOUBLES = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(10**6), 10**6).map(lambda n: n / 1000),
    st.sampled_from([0.005, -0.005, 1.005, 2.675, -0.0, 1e22, 1e-7, 5e-324, 0.1 + 0.2, 123456789012345680.0]),
)


def equal_casts(array: pa.Array, column: ColumnSchema) -> None:
    """Either way gives the same values, or the same error."""
    cast = compile_caster(column, strict=True)
    outcomes: list[object] = []
    for way in (
        lambda: [cast(value, row) for row, value in enumerate(array.to_pylist(), 1)],
        lambda: cast_column(array, column, None).to_pylist(),
    ):
        try:
            outcomes.append(way())
        except CoprocessorError as exc:
            outcomes.append((exc.code, str(exc)))
    assert outcomes[0] == outcomes[1]


@example([0.005, 2.675, -0.0], 10, 2)
@given(st.lists(DOUBLES, min_size=1, max_size=6), st.integers(1, 38), st.integers(0, 20))
def test_doubles_become_decimals(values: list[float | None], precision: int, scale: int) -> None:
    type_ = FieldType(Tp.NEWDECIMAL, max(precision, scale), scale)
    equal_casts(pa.array(values, pa.float64()), ColumnSchema(1, "c", type_))


@example([1], 1, 29)
@example([4273275678194205275], 38, 30)
@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6), st.integers(1, 38), SCALES)
def test_integers_become_decimals(values: list[int | None], precision: int, scale: int) -> None:
    type_ = FieldType(Tp.NEWDECIMAL, max(precision, scale), scale)
    equal_casts(pa.array(values, pa.int64()), ColumnSchema(1, "c", type_))


@given(
    st.lists(st.none() | st.decimals(-(10**15), 10**15, places=12), min_size=1, max_size=6), st.integers(1, 38), SCALES
)
def test_decimals_become_other_decimals(values: list[Decimal | None], precision: int, scale: int) -> None:
    type_ = FieldType(Tp.NEWDECIMAL, max(precision, scale), scale)
    equal_casts(pa.array(values, pa.decimal128(38, 12)), ColumnSchema(1, "c", type_))


@given(st.text("0123456789.-+eE ", max_size=45), st.integers(0, 30))
def test_decimals_of_text_are_right_or_refused(text: str, scale: int) -> None:
    try:
        found = decimals_of_text(pa.array([text]), scale)[0].as_py()
    except pa.ArrowInvalid:
        return
    assert found == Decimal(text)
