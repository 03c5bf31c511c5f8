"""PEP 249's constructors, type objects and codes."""

import datetime as dt
import time

import pytest

import sqlfront
from coprocessor import types as t
from sqlfront.dbapi_types import type_code, type_name


def test_module():
    assert (sqlfront.apilevel, sqlfront.threadsafety, sqlfront.paramstyle) == ("2.0", 1, "qmark")


def test_constructors():
    assert sqlfront.Date(2002, 12, 25) == dt.date(2002, 12, 25)
    assert sqlfront.Time(13, 45, 30) == dt.time(13, 45, 30)
    assert sqlfront.Timestamp(2002, 12, 25, 13, 45, 30) == dt.datetime(2002, 12, 25, 13, 45, 30)
    ticks = time.mktime((2002, 12, 25, 13, 45, 30, 0, 0, 0))
    assert sqlfront.TimestampFromTicks(ticks) == dt.datetime(2002, 12, 25, 13, 45, 30)
    assert sqlfront.DateFromTicks(ticks) == dt.date(2002, 12, 25)
    assert sqlfront.TimeFromTicks(ticks) == dt.time(13, 45, 30)
    assert sqlfront.Binary(b"x") == b"x"
    assert sqlfront.Binary(bytearray(b"x")) == b"x"


KINDS = [
    (t.BIGINT, "NUMBER", "BIGINT"),
    (t.decimal_type(10, 2), "NUMBER", "DECIMAL"),
    (t.DOUBLE, "NUMBER", "DOUBLE"),
    (t.FieldType(t.Tp.YEAR), "NUMBER", "YEAR"),
    (t.FieldType(t.Tp.BIT, 3), "NUMBER", "BIT"),
    (t.varchar(10), "STRING", "VARCHAR"),
    (t.FieldType(t.Tp.STRING, 3, charset="utf8mb4"), "STRING", "CHAR"),
    (t.FieldType(t.Tp.BLOB, charset="utf8mb4"), "STRING", "TEXT"),
    (t.FieldType(t.Tp.ENUM, elems=("a",)), "STRING", "ENUM"),
    (t.JSON, "STRING", "JSON"),
    (t.BYTES, "BINARY", "VARBINARY"),
    (t.FieldType(t.Tp.STRING, 3, charset="binary"), "BINARY", "BINARY"),
    (t.FieldType(t.Tp.LONG_BLOB, charset="binary"), "BINARY", "LONGBLOB"),
    (t.DATE, "DATETIME", "DATE"),
    (t.DATETIME, "DATETIME", "DATETIME"),
    (t.DURATION, "DATETIME", "TIME"),
]


@pytest.mark.parametrize(("type_", "kind", "name"), KINDS)
def test_every_type_is_of_one_kind(type_, kind, name):
    code = type_code(type_)
    equal = [k for k in ("STRING", "BINARY", "NUMBER", "DATETIME", "ROWID") if getattr(sqlfront, k) == code]
    assert equal == [kind]
    assert code == getattr(sqlfront, kind)
    assert type_name(code) == name


def test_type_objects_are_values():
    kinds = [sqlfront.STRING, sqlfront.BINARY, sqlfront.NUMBER, sqlfront.DATETIME, sqlfront.ROWID]
    assert len(set(kinds)) == 5
    assert sqlfront.STRING != "STRING"
    assert repr(sqlfront.NUMBER) == "sqlfront.NUMBER"
