"""Which partition by KEY a row belongs to: TiDB's CRC-32 of the values' texts."""

from __future__ import annotations

import zlib

import pytest

from sqlfront.dbapi import connect

NUMBER = 1021


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        ("int", -7, b"-7"),
        ("bigint unsigned", (1 << 64) - 1, b"18446744073709551615"),
        ("tinyint", True, b"1"),
        ("decimal(8, 2)", "1.5", b"1.50"),
        ("double", 1e21, b"1000000000000000000000"),
        ("double", -2.5e-7, b"-0.00000025"),
        ("double", 3.0, b"3"),
        ("float", 0.1, b"0.1"),
        ("year", 0, b"0"),
        ("date", "2024-02-29", b"2024-02-29"),
        ("datetime(3)", "2024-02-29 01:02:03.5", b"2024-02-29 01:02:03.500"),
        ("time(1)", "-01:02:03.5", b"-01:02:03.5"),
        ("varchar(9)", "a  ", b"a"),
        ("char(9)", "ä", "ä".encode()),
        ("varbinary(9)", b"a ", b"a "),
        ("enum('x', 'y')", "y", b"y"),
        ("set('x', 'y')", "x,y", b"x,y"),
        ("int", None, b"\0"),
    ],
)
def test_what_is_hashed(type_: str, value: object, text: bytes) -> None:
    with connect(":memory:", autocommit=True) as con:
        con.execute("create database d")
        con.execute("use d")
        con.execute(f"create table t (v {type_}, n int) partition by key (v, n) partitions {NUMBER}")
        con.execute("insert into t values (?, 5)", (value,))
        number = zlib.crc32(text + b"5") % NUMBER
        assert con.execute(f"select n from t partition (p{number})").fetchall() == [(5,)]
