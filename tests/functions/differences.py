"""Where a form legitimately differs, and why. Each reason is for the entries above which it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coprocessor.expr import Expr

_ROUNDS = "MySQL rounds fractional seconds that are cast away, MariaDB cuts them"
_WHOLE = "MySQL's TIME_TO_SEC gives whole seconds, MariaDB's keeps the fraction"
_TEXT = "MySQL prints six digits of a fraction in date arithmetic on strings"

MYSQL_DIFFERS: dict[str, tuple[str, str]] = {
    "CAST('2024-01-05 10:20:30.5' AS DATETIME)": ("2024-01-05 10:20:31", _ROUNDS),
    "CAST('10:20:30.9' AS TIME)": ("10:20:31", _ROUNDS),
    "CAST(TIMESTAMP '2020-06-15 12:34:56.789' AS TIME)": ("12:34:57", _ROUNDS),
    "CAST(TIMESTAMP '2020-06-15 12:34:56.789' AS SIGNED)": ("20200615123457", _ROUNDS),
    "TIME_TO_SEC(TIMESTAMP '2020-06-15 12:34:56.789')": ("45296", _WHOLE),
    "TIME_TO_SEC(TIME '10:20:30.456')": ("37230", _WHOLE),
    "TIME_TO_SEC('10:11:12.5')": ("36672", _WHOLE),
    "DATE_ADD('2024-01-31', INTERVAL 1.5 SECOND)": ("2024-01-31 00:00:01.500000", _TEXT),
    "DATE_SUB('2024-01-31', INTERVAL 1.5 SECOND)": ("2024-01-30 23:59:58.500000", _TEXT),
    "PI()": ("3.141592653589793", "MySQL shows six digits of PI() but computes with all; we show all"),
    "MINUTE('2024-05-06')": ("0", "MariaDB reads the year as minutes and seconds; the text is a date, at midnight"),
    "(2 / 3) * 3 = 2": ("0", "MariaDB compares quotients as they are shown, MySQL and TiDB with all their digits"),
    "-3 % 1.5": ("0.0", "MariaDB prints a negative zero"),
    "-2.455 % -2.455": ("0.000", "MariaDB prints a negative zero"),
}
DUCK_DIFFERS: dict[str, str] = {
    "UPPER('straße')": "DuckDB has the capital sharp s, MySQL leaves the letter",
}


FORM_DIFFERS: dict[str, Callable[[Sequence[Expr]], bool]] = {}
