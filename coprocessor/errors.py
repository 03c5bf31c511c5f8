"""Errors of the typed layer; the SQL layer gives each its MySQL code.

CoprocessorError
├── EvalError               evaluating an expression or storing a value; deterministic, the statement fails
│   ├── OutOfRange          1264 storing, 1690 computing
│   ├── DataTooLong         1406
│   ├── Truncated           1265 or 1292: not a valid value of the type
│   ├── DivisionByZero      1365 (only while writing in strict mode)
│   └── InvalidArgument     3141 JSON, 1210 ... (`code`)
├── ResolveError            no such function (1305), wrong argument count (1582), wrong argument (1210)
├── Unsupported             1235: known, but not there yet
├── OverQuota               8175: the execution holds more memory than it may
├── BadRequest              a coprocessor request that makes no sense
└── CodecError              bytes that are not what they must be: corruption or a bug
"""

from __future__ import annotations


class CoprocessorError(Exception):
    """Root of the typed layer's errors. `code` is MySQL's error number, `sqlstate` its SQLSTATE."""

    code: int = 1105
    sqlstate: str = "HY000"


class EvalError(CoprocessorError):
    """A value could not be computed or stored."""


class OutOfRange(EvalError):
    code = 1264
    sqlstate = "22003"

    def __init__(self, message: str, *, code: int = 1264) -> None:
        self.code = code
        super().__init__(message)


class DataTooLong(EvalError):
    code = 1406
    sqlstate = "22001"


class Truncated(EvalError):
    code = 1265
    sqlstate = "01000"

    def __init__(self, message: str, *, code: int = 1265) -> None:
        self.code = code
        self.sqlstate = {1265: "01000", 1292: "22007", 1366: "HY000"}.get(code, "HY000")
        super().__init__(message)


class OverQuota(CoprocessorError):
    """An execution holds more memory than it may."""

    code = 8175

    def __init__(self, owner: int) -> None:
        super().__init__(
            "Your query has been cancelled due to exceeding the allowed memory limit for a single SQL query. Please "
            f"try narrowing your query scope or increase the tidb_mem_quota_query limit and try again.[conn={owner}]"
        )


class DivisionByZero(EvalError):
    code = 1365
    sqlstate = "22012"


class InvalidArgument(EvalError):
    def __init__(self, message: str, *, code: int = 1210, sqlstate: str = "HY000") -> None:
        self.code = code
        self.sqlstate = sqlstate
        super().__init__(message)


class ResolveError(CoprocessorError):
    def __init__(self, message: str, *, code: int = 1305, sqlstate: str = "42000") -> None:
        self.code = code
        self.sqlstate = sqlstate
        super().__init__(message)


class Unsupported(CoprocessorError):
    code = 1235
    sqlstate = "0A000"


class BadRequest(CoprocessorError):
    pass


class CodecError(CoprocessorError):
    pass
