"""The exceptions a user sees: PEP 249's tree, each with MySQL's error code and SQLSTATE.

    Warning
    Error
    ├── InterfaceError             misuse of the Python API (closed cursor, wrong parameter count)
    └── DatabaseError
        ├── DataError              22xxx: out of range, too long, not a valid value
        ├── OperationalError       the store, locks, limits: deadlock, lock wait timeout, directory in use, disk full
        │   └── QueryInterrupted   1317: the user or a limit stopped the statement
        ├── IntegrityError         23000: duplicate key, NOT NULL
        ├── InternalError          a bug or damaged data
        ├── ProgrammingError       42xxx: syntax, unknown names
        └── NotSupportedError      0A000: known SQL that is not there yet

`error(code, message)` picks the class from the code. `position` is the character offset in the statement's text where
the error is, -1 when there is no such place; `retryable` tells that running the whole transaction again may succeed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Warning(Exception):
    """Important warnings (PEP 249)."""


class Error(Exception):
    """Base of all errors. `code` is MySQL's number, `sqlstate` five characters."""

    def __init__(self, message: str = "", code: int = 1105, sqlstate: str = "HY000", position: int = -1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.sqlstate = sqlstate
        self.position = position

    def __str__(self) -> str:
        return f"({self.code}, {self.sqlstate}) {self.message}"

    @property
    def retryable(self) -> bool:
        return self.code in RETRYABLE_CODES


class InterfaceError(Error):
    """Misuse of the Python API."""


class DatabaseError(Error):
    """Errors of the database."""


class DataError(DatabaseError):
    """A value does not fit."""


class OperationalError(DatabaseError):
    """The store, a lock or a limit."""


class QueryInterrupted(OperationalError):
    """The statement was stopped."""


class IntegrityError(DatabaseError):
    """A constraint refused the change."""


class InternalError(DatabaseError):
    """A bug, or damaged data."""


class ProgrammingError(DatabaseError):
    """Wrong SQL."""


class NotSupportedError(DatabaseError):
    """SQL that is known but not there yet."""


ER_DB_CREATE_EXISTS = 1007
ER_DB_DROP_EXISTS = 1008
ER_DISK_FULL = 1021
ER_DUP_KEYNAME = 1061
ER_DUP_FIELDNAME = 1060
ER_BAD_NULL = 1048
ER_BAD_DB = 1049
ER_TABLE_EXISTS = 1050
ER_BAD_TABLE = 1051
ER_NON_UNIQ = 1052
ER_BAD_FIELD = 1054
ER_WRONG_FIELD_WITH_GROUP = 1055
ER_DUP_ENTRY = 1062
ER_PARSE = 1064
ER_NONUNIQ_TABLE = 1066
ER_MULTIPLE_PRI_KEY = 1068
ER_KEY_COLUMN_DOES_NOT_EXIST = 1072
ER_CANT_DROP_FIELD_OR_KEY = 1091
ER_INVALID_GROUP_FUNC_USE = 1111
ER_WRONG_VALUE_COUNT_ON_ROW = 1136
ER_NO_SUCH_TABLE = 1146
ER_UNKNOWN_ERROR = 1105
ER_UNKNOWN_SYSTEM_VARIABLE = 1193
ER_LOCK_WAIT_TIMEOUT = 1205
ER_LOCK_DEADLOCK = 1213
ER_WRONG_VALUE_FOR_VAR = 1231
ER_NOT_SUPPORTED_YET = 1235
ER_OPERAND_COLUMNS = 1241
ER_SUBQUERY_NO_1_ROW = 1242
ER_WARN_DATA_OUT_OF_RANGE = 1264
ER_OPTION_PREVENTS_STATEMENT = 1290
ER_QUERY_INTERRUPTED = 1317
ER_QUERY_TIMEOUT = 3024
ER_NO_DEFAULT_FOR_FIELD = 1364
ER_DATA_TOO_LONG = 1406
ER_TABLE_DEF_CHANGED = 1412
ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION = 1792
ER_LOCK_NOWAIT = 3572
ER_TXN_TOO_LARGE = 8004
ER_TXN_RETRYABLE = 8022
ER_ENTRY_TOO_LARGE = 8025
ER_SCHEMA_CHANGED = 8028
ER_MEM_EXCEED = 8175
ER_RESULT_UNDETERMINED = 8501
ER_PD_SERVER_TIMEOUT = 9001
ER_RESOLVE_LOCK_TIMEOUT = 9004
ER_REGION_UNAVAILABLE = 9005
ER_GC_TOO_EARLY = 9006
ER_WRITE_CONFLICT = 9007

RETRYABLE_CODES = frozenset(
    {
        ER_LOCK_WAIT_TIMEOUT,
        ER_LOCK_DEADLOCK,
        ER_TABLE_DEF_CHANGED,
        ER_TXN_RETRYABLE,
        ER_SCHEMA_CHANGED,
        ER_PD_SERVER_TIMEOUT,
        ER_RESOLVE_LOCK_TIMEOUT,
        ER_REGION_UNAVAILABLE,
        ER_WRITE_CONFLICT,
    }
)

# code -> (class, SQLSTATE); what is not here is a ProgrammingError with 42000 below 1800 and OperationalError HY000
# above.
_CODES: dict[int, tuple[type[DatabaseError], str]] = {
    1007: (ProgrammingError, "HY000"),
    1008: (ProgrammingError, "HY000"),
    1021: (OperationalError, "HY000"),
    1034: (InternalError, "HY000"),
    1036: (OperationalError, "HY000"),
    1046: (ProgrammingError, "3D000"),
    1048: (IntegrityError, "23000"),
    1049: (ProgrammingError, "42000"),
    1050: (ProgrammingError, "42S01"),
    1051: (ProgrammingError, "42S02"),
    1052: (ProgrammingError, "23000"),
    1054: (ProgrammingError, "42S22"),
    1060: (ProgrammingError, "42S21"),
    1062: (IntegrityError, "23000"),
    1105: (InternalError, "HY000"),
    1109: (ProgrammingError, "42S02"),
    1111: (ProgrammingError, "HY000"),
    1114: (OperationalError, "HY000"),
    1136: (ProgrammingError, "21S01"),
    1138: (DataError, "22004"),
    1146: (ProgrammingError, "42S02"),
    1176: (ProgrammingError, "42000"),
    1193: (ProgrammingError, "HY000"),
    1205: (OperationalError, "HY000"),
    1210: (ProgrammingError, "HY000"),
    1213: (OperationalError, "40001"),
    1222: (ProgrammingError, "21000"),
    1235: (NotSupportedError, "0A000"),
    1238: (ProgrammingError, "HY000"),
    1241: (ProgrammingError, "21000"),
    1242: (ProgrammingError, "21000"),
    1243: (ProgrammingError, "HY000"),
    1260: (DataError, "HY000"),
    1261: (DataError, "01000"),
    1262: (DataError, "01000"),
    1264: (DataError, "22003"),
    1265: (DataError, "01000"),
    1290: (OperationalError, "HY000"),
    1292: (DataError, "22007"),
    1305: (ProgrammingError, "42000"),
    1317: (QueryInterrupted, "70100"),
    1347: (ProgrammingError, "HY000"),
    1351: (ProgrammingError, "HY000"),
    1352: (ProgrammingError, "HY000"),
    1353: (ProgrammingError, "HY000"),
    1356: (ProgrammingError, "HY000"),
    1364: (IntegrityError, "HY000"),
    1365: (DataError, "22012"),
    1366: (DataError, "HY000"),
    1406: (DataError, "22001"),
    1411: (DataError, "HY000"),
    1412: (OperationalError, "HY000"),
    1451: (IntegrityError, "23000"),
    1462: (ProgrammingError, "HY000"),
    1452: (IntegrityError, "23000"),
    1525: (DataError, "HY000"),
    1553: (ProgrammingError, "HY000"),
    1582: (ProgrammingError, "42000"),
    1690: (DataError, "22003"),
    1792: (OperationalError, "25006"),
    3024: (QueryInterrupted, "HY000"),
    3140: (DataError, "22032"),
    3141: (DataError, "22032"),
    3572: (OperationalError, "HY000"),
    3819: (IntegrityError, "HY000"),
    **dict.fromkeys(range(3730, 3735), (ProgrammingError, "HY000")),
    **dict.fromkeys((1822, 1824, 1826, 1828, 1829, 1830, 1832, 1833, 3104, 3780), (ProgrammingError, "HY000")),
    **dict.fromkeys((*range(3812, 3819), *range(3820, 3824), 3940, 3959), (ProgrammingError, "HY000")),
    8003: (InternalError, "HY000"),
    8055: (DataError, "HY000"),
    8157: (NotSupportedError, "HY000"),
    8158: (ProgrammingError, "HY000"),
    8163: (ProgrammingError, "HY000"),
    8164: (ProgrammingError, "HY000"),
    8165: (ProgrammingError, "HY000"),
    8166: (ProgrammingError, "HY000"),
}


def error(code: int, message: str, *, position: int = -1, sqlstate: str | None = None) -> DatabaseError:
    """Returns the exception for a MySQL error code: the class and, unless given, the SQLSTATE come from one table."""
    default: tuple[type[DatabaseError], str] = (
        (ProgrammingError, "42000") if code < 1800 else (OperationalError, "HY000")
    )
    cls, state = _CODES.get(code, default)
    return cls(message, code, sqlstate or state, position)


def unsupported(what: str, *, position: int = -1) -> DatabaseError:
    """Returns the refusal of something that is known but not there yet (1235, 0A000)."""
    return error(ER_NOT_SUPPORTED_YET, f"This version of sqlfront doesn't yet support '{what}'", position=position)


def near_match(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the closest known name, or an empty string."""
    by_folded = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.6)
    return f"; did you mean '{by_folded[close[0]]}'?" if close else ""
