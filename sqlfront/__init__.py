"""sqlfront: an embedded HTAP database. MySQL transactions and DuckDB analytics on the same live rows.

    import sqlfront

    with sqlfront.connect("shop.db") as con:
        con.execute("CREATE TABLE item (id BIGINT PRIMARY KEY, name VARCHAR(40), price DECIMAL(8, 2))")
        con.execute("INSERT INTO item VALUES (?, ?, ?)", (1, "pen", "1.20"))
        print(con.execute("SELECT name, price FROM item WHERE id = ?", (1,)).fetchone())

This package is PEP 249's module; see docs/python-api.md. Importing it loads neither DuckDB nor Arrow nor the store.
"""

from sqlfront.cursor import Cursor
from sqlfront.dbapi import Connection, apilevel, connect, paramstyle, threadsafety
from sqlfront.dbapi_types import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
    Date,
    DateFromTicks,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
)
from sqlfront.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    QueryInterrupted,
    Warning,
)

__version__ = "0.1.0"

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "QueryInterrupted",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "__version__",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]
