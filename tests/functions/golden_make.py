"""Writes the golden files from a MariaDB server: `python -m tests.functions.golden_make SOCKET`.

Each line of golden/*.txt is an expression, a tab and the text that MariaDB 10.11 (strict mode, utf8mb4) gives for it;
NULL is \\N, an error is ERROR and its number. Where MariaDB means something else than MySQL 8, `differences.py` has the
text that MySQL gives and why.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
INTS = ["0", "1", "-1", "7", "-7", "3", "9223372036854775807", "-9223372036854775808", "NULL"]
DECIMALS = ["0.00", "1.5", "-1.5", "2.45", "-2.455", "100.05", "0.0001", "12345678901234567890.12"]
REALS = ["0e0", "1.5e0", "-2.5e0", "1e10", "1e-3"]
STRINGS = ["''", "'a'", "'A'", "'abc'", "'a  '", "'12'", "'-1.5e1x'", "' 7'", "'äöü'", "'日本語'", "'x_y%z'"]
DATES = ["DATE '2024-02-29'", "DATE '2023-12-31'", "DATE '1999-01-01'", "DATE '2000-03-01'"]
STAMPS = ["TIMESTAMP '2024-02-29 23:59:59'", "TIMESTAMP '2023-01-01 00:00:00'", "TIMESTAMP '2020-06-15 12:34:56.789'"]
TIMES = ["TIME '12:34:56'", "TIME '-01:02:03'", "TIME '838:59:59'", "TIME '10:20:30.456'"]


def fill(templates: Iterable[str], *pools: list[str]) -> list[str]:
    return [t.format(*values) for t in templates for values in itertools.product(*pools)]


def operators() -> list[str]:
    few = ["0", "7", "-3", "1.5", "-2.455", "2.5e0", "'12'", "NULL"]
    out = fill(["{0} + {1}", "{0} - {1}", "{0} * {1}", "{0} / {1}", "{0} DIV {1}", "{0} % {1}"], few, few)
    out += fill(["{0} = {1}", "{0} < {1}", "{0} >= {1}", "{0} <=> {1}"], few, few)
    out += fill(["{0} = {1}", "{0} < {1}", "{0} <=> {1}"], STRINGS[:8], STRINGS[:8])
    out += fill(["{0} AND {1}", "{0} OR {1}", "{0} XOR {1}"], ["0", "1", "2.5", "NULL", "'a'"], ["0", "1", "NULL"])
    out += fill(["NOT {0}", "{0} IS NULL", "{0} IS TRUE", "{0} IS NOT FALSE", "-{0}"], ["0", "1", "0.5", "NULL"])
    out += fill(
        ["{0} & {1}", "{0} | {1}", "{0} ^ {1}", "{0} << {1}", "{0} >> {1}"], ["0", "5", "-1"], ["1", "3", "63", "64"]
    )
    out += ["~0", "~5", "~(-1)", "1.5 & 3", "1 + 2 * 3", "(1 + 2) * 3", "7 DIV 2.5", "-7 DIV 2", "-7 % 3", "7 % -3"]
    out += ["-7.5 % 2", "9223372036854775807 + 0", "9223372036854775807 + 1", "18446744073709551615 + 0", "0.1 + 0.2"]
    out += [
        "18446744073709551615 - 1",
        "1 - 18446744073709551615",
        "1.10 * 1.10",
        "10 / 4",
        "1 / 3",
        "2 / 3",
        "1.00 / 7",
    ]
    out += [
        "5 BETWEEN 1 AND 10",
        "5 NOT BETWEEN 1 AND 4",
        "'b' BETWEEN 'a' AND 'c'",
        "NULL BETWEEN 1 AND 2",
        "1 BETWEEN NULL AND 0",
    ]
    out += [
        "1 IN (1, 2)",
        "3 IN (1, 2)",
        "3 IN (1, NULL)",
        "NULL IN (1)",
        "'a' IN ('A', 'b')",
        "1.0 IN (1, 2)",
        "'1' IN (1)",
    ]
    out += ["'a ' = 'a'", "'a' = 'A'", "'10' > 9", "'10' > '9'", "'a' = 0", "1 = '1.0'", "18446744073709551615 > -1"]
    out += fill(
        ["'{0}' LIKE '{1}'"], ["abc", "a_c", "a%c", "ABC", ""], ["abc", "a%", "%c", "_b_", "a\\_c", "a\\%c", "%", ""]
    )
    out += [
        "'a%c' LIKE 'a|%c' ESCAPE '|'",
        "'a ' LIKE 'a'",
        "'abc' NOT LIKE 'b%'",
        "'abc' REGEXP 'b'",
        "'abc' REGEXP '^b'",
    ]
    out += [
        f"DATE '2024-01-10' {op} {v}"
        for op in ("=", "<", ">")
        for v in ("'2024-01-10'", "'2024-1-10'", "'2024-01-10 00:00:01'", "20240110", "TIMESTAMP '2024-01-10 00:00:00'")
    ]
    out += [
        "TIME '10:00:00' = '10:00'",
        "DATE '2024-01-10' BETWEEN '2024-01-01' AND '2024-01-31'",
        "DATE '2024-01-10' + 0",
    ]
    return out


def control() -> list[str]:
    out = fill(
        ["IF({0}, 1, 2)", "IFNULL({0}, 5)", "NULLIF({0}, 1)", "COALESCE({0}, NULL, 3)"], ["0", "1", "NULL", "0.5"]
    )
    out += [
        "CASE WHEN 1 THEN 'a' ELSE 'b' END",
        "CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' END",
        "CASE 3 WHEN 1 THEN 'a' END",
    ]
    out += [
        "CASE WHEN NULL THEN 1 ELSE 2.5 END",
        "CASE WHEN 1 THEN 1 ELSE 2.50 END",
        "IF(1, 1, 'a')",
        "COALESCE(NULL, 1.5, 2)",
    ]
    out += [
        "GREATEST(1, 2, 3)",
        "LEAST(1, 2.5, -3)",
        "GREATEST('a', 'B')",
        "GREATEST(1, NULL)",
        "LEAST('10', '9')",
        "GREATEST(1.5, 2)",
    ]
    out += [
        "INTERVAL(23, 1, 15, 17, 30, 44, 200)",
        "INTERVAL(10, 1, 10, 100)",
        "INTERVAL(NULL, 1)",
        "NULLIF('a', 'a ')",
    ]
    out += [
        "FIELD('b', 'a', 'b')",
        "FIELD(NULL, 1)",
        "FIELD(2, 1, 2)",
        "ELT(2, 'a', 'b')",
        "ELT(3, 'a')",
        "ELT(0, 'a')",
    ]
    return out


def casts() -> list[str]:
    values = ["0", "-1", "1.5", "-2.5", "2.5e0", "1e20", "'12abc'", "'  42'", "''", "'-1.5'", "'1e3'", "NULL"]
    out = fill(
        ["CAST({0} AS SIGNED)", "CAST({0} AS UNSIGNED)", "CAST({0} AS DECIMAL(10,2))", "CAST({0} AS CHAR)"], values
    )
    out += fill(["CAST({0} AS DOUBLE)"], [*values, "1234567.891", "'1e-7'"])
    out += fill(
        ["CAST({0} AS CHAR)"],
        ["1e15", "1e14", "123456789012345678e0", "0.1e0", "1e-5", "1e-16", "100e0", *DATES[:1], *STAMPS, *TIMES],
    )
    texts = [
        "'2024-02-29'",
        "'2023-02-29'",
        "'20240131'",
        "'24-1-5'",
        "'2024-01-05 10:20:30.5'",
        "'abc'",
        "20240131",
        "240131",
        "'2024/1/5'",
    ]
    out += fill(["CAST({0} AS DATE)", "CAST({0} AS DATETIME)", "CAST({0} AS DATETIME(3))"], texts)
    out += fill(
        ["CAST({0} AS TIME)"], ["'10:20:30'", "'102030'", "102030", "'1 10:20'", "'-1:2:3'", "'10:20:30.9'", *STAMPS]
    )
    out += fill(["CAST({0} AS SIGNED)", "CAST({0} AS DECIMAL(20,3))", "{0} + 0"], [*DATES[:2], *STAMPS, *TIMES[:2]])
    out += [
        "CAST('abc' AS CHAR(2))",
        "CAST(123 AS CHAR(2))",
        "HEX(CAST('a' AS BINARY(3)))",
        "CAST(9.999 AS DECIMAL(3,2))",
    ]
    out += [
        "CAST(12345.678 AS DECIMAL(10,1))",
        "CAST(18446744073709551615 AS SIGNED)",
        "CAST(-1 AS UNSIGNED)",
        "CAST(1.005 AS DECIMAL(10,2))",
    ]
    return out


STRING_CALLS = [
    "TRIM('  bar  ')",
    "LTRIM('  bar')",
    "RTRIM('bar  ')",
    "TRIM(LEADING 'x' FROM 'xxxbarxxx')",
    "TRIM(BOTH 'x' FROM 'xxxbarxxx')",
    "TRIM(TRAILING 'xyz' FROM 'barxxyz')",
    "CONCAT('a', 1, 2.50)",
    "CONCAT('a', NULL)",
    "CONCAT_WS(',', 'a', NULL, 'b')",
    "CONCAT_WS(NULL, 'a')",
    "REPLACE('www.x', 'w', 'Ww')",
    "REPLACE('abc', '', 'x')",
    "INSTR('foobarbar', 'bar')",
    "LOCATE('', 'abc')",
    "LOCATE('x', 'abc')",
    "INSTR('abc', 'B')",
    "STRCMP('a', 'b')",
    "STRCMP('b', 'a')",
    "STRCMP('a', 'a ')",
    "SPACE(3)",
    "CHAR(77, 121, 83)",
    "HEX(255)",
    "HEX(-1)",
    "HEX(UNHEX('4D7953514C'))",
    "UNHEX('GG')",
    "BIN(12)",
    "OCT(12)",
    "CONV('a', 16, 2)",
    "CONV('6E', 18, 8)",
    "CONV(-17, 10, -18)",
    "CONV('zz', 36, 10)",
    "FIND_IN_SET('b', 'a,b,c')",
    "FIND_IN_SET('', '')",
    "FIND_IN_SET('x', 'a,b')",
    "FORMAT(12332.123456, 4)",
    "FORMAT(12332.1, 4)",
    "FORMAT(12332.2, 0)",
    "FORMAT(-1234567.891, 2)",
    "MAKE_SET(5, 'a', 'b', 'c')",
    "EXPORT_SET(5, 'Y', 'N', ',', 4)",
    "SOUNDEX('Hello')",
    "SOUNDEX('Quadratically')",
    "INET_ATON('10.0.5.9')",
    "INET_NTOA(167773449)",
    "INET_ATON('x')",
    "HEX(INET6_ATON('::1'))",
    "IS_IPV4('1.2.3.4')",
    "IS_IPV6('::1')",
    "SHA2('abc', 256)",
    "SHA2('abc', 1)",
    "FROM_BASE64('YWJj')",
    "FROM_BASE64('!')",
    "BIT_COUNT(29)",
    "BIT_COUNT(-1)",
    "REGEXP_REPLACE('a b c', 'b', 'X')",
    "REGEXP_SUBSTR('abc def ghi', '[a-z]+')",
    "REGEXP_INSTR('dog cat dog', 'cat')",
    "LEFT('日本語', 2)",
    "UPPER('straße')",
]
"""Those that need no combinations."""


def strings() -> list[str]:
    out = fill(
        [
            "LENGTH({0})",
            "CHAR_LENGTH({0})",
            "UPPER({0})",
            "LOWER({0})",
            "REVERSE({0})",
            "HEX({0})",
            "ASCII({0})",
            "ORD({0})",
            "QUOTE({0})",
            "TO_BASE64({0})",
            "MD5({0})",
            "SHA1({0})",
            "CRC32({0})",
            "BIT_LENGTH({0})",
        ],
        [*STRINGS, "NULL"],
    )
    out += fill(
        [
            "SUBSTRING('abcdef', {0})",
            "SUBSTRING('äbcdéf', {0}, 2)",
            "LEFT('abcdef', {0})",
            "RIGHT('abcdef', {0})",
            "SUBSTRING('abcdef', 2, {0})",
            "REPEAT('ab', {0})",
        ],
        ["-7", "-3", "-1", "0", "1", "3", "6", "7", "NULL"],
    )
    out += fill(
        [
            "SUBSTRING_INDEX('www.mysql.com', '.', {0})",
            "LPAD('hi', {0}, '?!')",
            "RPAD('hi', {0}, '?!')",
            "INSERT('Quadratic', {0}, 4, 'What')",
            "LOCATE('a', 'banana', {0})",
        ],
        ["-2", "-1", "0", "1", "2", "3", "5", "20"],
    )
    return [*out, *STRING_CALLS]


def mathematics() -> list[str]:
    numbers = [
        "0",
        "1",
        "-1",
        "2.5",
        "-2.5",
        "3.5",
        "1.298",
        "-1.55",
        "2.5e0",
        "-3.5e0",
        "1234.567e0",
        "NULL",
        "'3.7x'",
        "123456789",
    ]
    out = fill(
        [
            "ABS({0})",
            "SIGN({0})",
            "CEIL({0})",
            "FLOOR({0})",
            "ROUND({0})",
            "ROUND({0}, 1)",
            "ROUND({0}, -1)",
            "TRUNCATE({0}, 1)",
            "TRUNCATE({0}, -1)",
            "ROUND({0}, 2)",
        ],
        numbers,
    )
    out += fill(
        [
            "SQRT({0})",
            "EXP({0})",
            "LN({0})",
            "LOG2({0})",
            "LOG10({0})",
            "LOG({0})",
            "SIN({0})",
            "COS({0})",
            "TAN({0})",
            "ASIN({0})",
            "ACOS({0})",
            "ATAN({0})",
            "DEGREES({0})",
            "RADIANS({0})",
        ],
        ["0", "1", "-1", "0.5", "2", "10", "NULL"],
    )
    out += [
        "POW(2, 10)",
        "POW(2, -2)",
        "POW(2, 0.5)",
        "LOG(2, 65536)",
        "LOG(10, 100)",
        "LOG(1, 100)",
        "ATAN2(1, 2)",
        "ATAN(-2, 2)",
        "PI()",
    ]
    out += [
        "MOD(29, 9)",
        "MOD(-29, 9)",
        "MOD(34.5, 3)",
        "MOD(5, 0)",
        "ROUND(150.000, 2)",
        "ROUND(23.298, -1)",
        "ROUND(.12345678901234567890, 5)",
    ]
    out += [
        "ROUND(9.9)",
        "ROUND(99.95, 1)",
        "ROUND(-9.995, 2)",
        "ROUND(12345, -2)",
        "ROUND(15000, -4)",
        "CRC32('MariaDB')",
        "COT(12)",
    ]
    return out


UNITS = [
    "YEAR",
    "MONTH",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "YEAR_MONTH",
    "DAY_HOUR",
    "HOUR_MINUTE",
    "DAY_SECOND",
    "QUARTER",
    "WEEK",
]
TEMPORAL_CALLS = [
    "STR_TO_DATE('01,5,2013', '%d,%m,%Y')",
    "STR_TO_DATE('May 1, 2013', '%M %d,%Y')",
    "STR_TO_DATE('a09:30:17', 'a%h:%i:%s')",
    "STR_TO_DATE('2013-01-01 10:11:12', '%Y-%m-%d %H:%i:%s')",
    "STR_TO_DATE('abc', '%Y')",
    "STR_TO_DATE('09:30:17', '%H:%i:%s')",
    "FROM_DAYS(730669)",
    "MAKEDATE(2011, 31)",
    "MAKEDATE(2011, 366)",
    "MAKEDATE(2011, 0)",
    "MAKETIME(12, 15, 30)",
    "MAKETIME(12, 60, 1)",
    "SEC_TO_TIME(2378)",
    "SEC_TO_TIME(-90.5)",
    "TIME_TO_SEC('22:23:00')",
    "PERIOD_ADD(200801, 2)",
    "PERIOD_DIFF(200802, 200703)",
    "ADDTIME('2007-12-31 23:59:59.999999', '1 1:1:1.000002')",
    "ADDTIME('01:59:59', '02:00:00.999998')",
    "SUBTIME('10:00:00', '11:30')",
    "TIMEDIFF('2008-12-31 23:59:59', '2008-12-30 01:01:01')",
    "TIMEDIFF('10:00:00', '11:30:00')",
    "TIME('2003-12-31 01:02:03')",
    "UNIX_TIMESTAMP('2015-11-13 10:20:19')",
    "UNIX_TIMESTAMP('2015-11-13 10:20:19.012')",
    "FROM_UNIXTIME(1447430881)",
    "FROM_UNIXTIME(1447430881.5)",
    "FROM_UNIXTIME(1447430881, '%Y %D')",
    "CONVERT_TZ('2004-01-01 12:00:00', '+00:00', '+10:00')",
    "DATE_ADD('9999-12-31', INTERVAL 1 DAY)",
    "LAST_DAY('2023-02-10')",
    "TIME_FORMAT('100:00:00', '%H %k %h %I %l')",
    "DATE('2003-12-31 01:02:03')",
    "TIMESTAMP('2003-12-31')",
    "TIMESTAMP('2003-12-31 12:00:00', '12:00:00')",
    "DAYNAME('2007-02-03')",
]
"""The same for dates and times."""


def temporal() -> list[str]:
    out = fill(
        [
            "YEAR({0})",
            "MONTH({0})",
            "DAY({0})",
            "QUARTER({0})",
            "WEEKDAY({0})",
            "DAYOFWEEK({0})",
            "DAYOFYEAR({0})",
            "DAYNAME({0})",
            "MONTHNAME({0})",
            "LAST_DAY({0})",
            "TO_DAYS({0})",
            "HOUR({0})",
            "MINUTE({0})",
            "WEEKOFYEAR({0})",
            "YEARWEEK({0})",
            "DATE({0})",
            "TO_SECONDS({0})",
        ],
        [*DATES, *STAMPS, "'2024-05-06'", "'bad'", "NULL"],
    )
    out += fill(["HOUR({0})", "SECOND({0})", "MICROSECOND({0})", "TIME_TO_SEC({0})"], [*STAMPS, *TIMES, "'10:11:12.5'"])
    out += fill(["WEEK({0}, {1})", "YEARWEEK({0}, {1})"], [*DATES, "DATE '2000-01-01'"], [str(m) for m in range(8)])
    out += fill(
        ["DATE_ADD({0}, INTERVAL {1})", "DATE_SUB({0}, INTERVAL {1})"],
        [DATES[0], STAMPS[0], STAMPS[2], "'2024-01-31'"],
        [
            "1 DAY",
            "1 MONTH",
            "-1 YEAR",
            "2 QUARTER",
            "3 WEEK",
            "36 HOUR",
            "90 SECOND",
            "1.5 SECOND",
            "'1:30' HOUR_MINUTE",
            "'1 2' DAY_HOUR",
            "'1-2' YEAR_MONTH",
            "500 MICROSECOND",
            "'2 3:4:5' DAY_SECOND",
        ],
    )
    out += fill(["EXTRACT({1} FROM {0})"], [*STAMPS, "'2024-05-06 07:08:09'"], UNITS)
    out += fill(
        ["TIMESTAMPDIFF({1}, {0}, '2024-03-31 12:00:00')"],
        [*STAMPS, *DATES],
        ["SECOND", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR"],
    )
    out += [
        "DATEDIFF('2007-12-31 23:59:59', '2007-12-30')",
        "DATEDIFF('2010-11-30', '2010-12-31')",
        "TIMESTAMPADD(MINUTE, 1, '2003-01-02')",
    ]
    formats = [
        "%Y-%m-%d",
        "%W %M %e %Y",
        "%H:%i:%s.%f",
        "%d/%m/%y",
        "%j %U %u %V %v %w",
        "%a %b %D %r %T",
        "%h:%i %p %% x %k %l",
        "%X %x",
    ]
    out += [f"DATE_FORMAT({d}, '{f}')" for d in (*DATES, *STAMPS) for f in formats]
    return [*out, *TEMPORAL_CALLS]


def jsons() -> list[str]:
    doc = '\'{"a": 1, "b": [1, 2, {"c": "x"}], "n": null}\''
    paths = ["$", "$.a", "$.b", "$.b[0]", "$.b[2].c", "$.zz", "$.b[*]", "$.*", "$**.c", "$.n"]
    out = [f"JSON_EXTRACT({doc}, '{p}')" for p in paths]
    out += [f"JSON_LENGTH({doc}, '{p}')" for p in paths[:6]]
    out += [
        "JSON_VALID('{}')",
        "JSON_VALID('x')",
        "JSON_VALID(NULL)",
        "JSON_UNQUOTE('\"abc\"')",
        "JSON_UNQUOTE('abc')",
        "JSON_ARRAY(1, 'a', NULL, 2.5)",
    ]
    out += [
        "JSON_OBJECT('id', 87, 'name', 'carrot')",
        f"JSON_KEYS({doc})",
        "JSON_DEPTH('[1, [2]]')",
        "JSON_QUOTE('a\"b')",
        "JSON_TYPE('[1]')",
    ]
    out += [
        "JSON_CONTAINS('[1, 2, 3]', '2')",
        "JSON_CONTAINS('[1, 2]', '[1, 3]')",
        "JSON_CONTAINS('{\"a\": 1}', '1', '$.a')",
    ]
    out += [
        "JSON_TYPE('1')",
        "JSON_TYPE('\"x\"')",
        "JSON_TYPE('{}')",
        "JSON_TYPE('true')",
        "JSON_TYPE('null')",
        "JSON_TYPE('1.5')",
    ]
    out += [
        "JSON_SET('{\"a\": 1}', '$.b', 2)",
        "JSON_INSERT('{\"a\": 1}', '$.a', 2)",
        "JSON_REPLACE('{\"a\": 1}', '$.a', 2)",
    ]
    out += [
        "JSON_REMOVE('[1, 2, 3]', '$[1]')",
        'JSON_MERGE_PATCH(\'{"a": 1}\', \'{"b": 2, "a": null}\')',
        "JSON_MERGE_PRESERVE('[1]', '{\"b\": 2}')",
    ]
    return out


def quotients() -> list[str]:
    """Divisions within expressions: MySQL computes with more digits of a quotient than it shows."""
    few = ["1 / 3", "2 / 3", "-2 / 3", "10.00 / 7.00", "1.00001 / 3", "22 / 7.000"]
    out = fill(
        ["{0}", "{0} * 3", "3.00 * ({0})", "{0} + 1", "1 - {0}", "-({0}) * 3", "{0} / 3", "{0} / 3 / 7 * 3",
         "ABS({0}) * 3", "IF(1, {0}, 0) * 3", "IFNULL({0}, 0) * 3", "COALESCE({0}, 1.5) * 3", "NULLIF({0}, 0) * 3",
         "CASE WHEN 0 THEN 1.5 ELSE {0} END * 3", "GREATEST({0}, -5) * 3", "LEAST({0}, 5) * 3", "({0}) % 0.1",
         "({0}) DIV 0.1", "ROUND({0}, 6)", "ROUND({0}, 2)", "ROUND({0})", "TRUNCATE({0}, 7)", "FLOOR({0} * 3)",
         "CEIL({0} * 3)", "CAST({0} AS DECIMAL(14, 10))", "CAST(CAST({0} AS DECIMAL(10, 4)) * 3 AS CHAR)",
         "CAST({0} AS DOUBLE)", "CAST({0} AS SIGNED)", "CONCAT({0})", "{0} * 2e0", "SQRT(ABS({0}))",
         "({0}) * 3 = 2"],
        few,
    )  # fmt: skip
    out += fill(["({0}) * ({1})", "({0}) / ({1})", "({0}) + ({1})", "({0}) - ({1})", "({0}) % ({1})"], few, few)
    out += [
        "1 / 3 + 1 / 3 + 1 / 3",
        "1 / 3 * 1 / 3",
        "10 / 3 / 7 * 11",
        "1 / 7 / 7 / 7 / 7",
        "1 / 3 * (1 / 3) * (1 / 3)",
    ]
    return out


def main(socket: str) -> None:
    import pymysql  # type: ignore[import-untyped]

    connection = pymysql.connect(unix_socket=socket, user="root", charset="utf8mb4")
    connection.decoders = {}
    cursor = connection.cursor()
    cursor.execute("SET NAMES utf8mb4 COLLATE utf8mb4_bin")
    cursor.execute("SET time_zone = '+00:00'")
    cursor.execute("SET sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO'")
    GOLDEN.mkdir(exist_ok=True)
    for make in (operators, control, casts, strings, mathematics, temporal, jsons, quotients):
        lines = []
        for text in dict.fromkeys(make()):
            try:
                cursor.execute("SELECT " + text)
                value = cursor.fetchone()[0]
            except pymysql.err.Error as e:
                lines.append(f"{text}\tERROR {e.args[0]}")
                continue
            raw = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
            shown = "\\N" if raw is None else str(raw)
            lines.append(f"{text}\t{shown}")
        (GOLDEN / f"{make.__name__}.txt").write_text("\n".join(lines) + "\n")
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
