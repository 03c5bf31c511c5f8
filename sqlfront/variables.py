"""System variables: which there are, who may set them, what values they take, and the session's copy of them.

`GlobalVariables` holds one database's global values; every session has `Variables`, a copy made when it began. What
statements ask for all the time (autocommit, strictness, time zone, limits) is kept in plain attributes of `Variables`,
which a change updates. Values are Python's: 0 and 1 for switches, int, float or str; `text_of` gives them as SHOW
VARIABLES does.

A variable of MySQL's or TiDB's that clients and object mappers set as a matter of course is in the table even where
the only value that makes sense here is its default; a value that would have to change what statements do, and doesn't,
is refused.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from kvstore.client.api import ReadFrom
from sqlfront.catalog.charsets import STORED_AS, compared_as
from sqlfront.errors import DatabaseError, error, near_match, unsupported

ER_LOCAL_VARIABLE = 1228
ER_GLOBAL_VARIABLE = 1229
ER_WRONG_VALUE_FOR_VAR = 1231
ER_WRONG_TYPE_FOR_VAR = 1232
ER_VAR_READONLY = 1238
ER_TRUNCATED_WRONG_VALUE = 1292
ER_UNKNOWN_TIME_ZONE = 1298

SESSION, GLOBAL, BOTH, NONE = "session", "global", "both", "none"

Value = int | float | str
Notes = list[tuple[str, int, str]]

SERVER_VERSION = "8.0.11-sqlfront-0.1.0"
STRICT_MODES = frozenset({"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES"})
_STRICT_ZERO = "NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
DEFAULT_SQL_MODE = f"ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,{_STRICT_ZERO}"
_SQL_MODES = (
    *DEFAULT_SQL_MODE.split(","),
    "STRICT_ALL_TABLES",
    "NO_AUTO_VALUE_ON_ZERO",
    "NO_AUTO_CREATE_USER",
    "NO_DIR_IN_CREATE",
    "IGNORE_SPACE",
    "ANSI_QUOTES",
)
_TRADITIONAL = f"STRICT_TRANS_TABLES,STRICT_ALL_TABLES,{_STRICT_ZERO}"
# Modes that would change what statements mean.
_SQL_MODES_REFUSED = frozenset(
    {
        "ALLOW_INVALID_DATES",
        "ANSI",
        "HIGH_NOT_PRECEDENCE",
        "NO_BACKSLASH_ESCAPES",
        "NO_UNSIGNED_SUBTRACTION",
        "PAD_CHAR_TO_FULL_LENGTH",
        "PIPES_AS_CONCAT",
        "REAL_AS_FLOAT",
        "TIME_TRUNCATE_FRACTIONAL",
    }
)
_ISOLATIONS = ("READ-UNCOMMITTED", "READ-COMMITTED", "REPEATABLE-READ", "SERIALIZABLE")
_CHARSETS = ("utf8mb4", "utf8", "utf8mb3", "ascii", "latin1", "binary")
_DEFAULT_COLLATIONS = {
    "utf8mb4": "utf8mb4_bin",
    "utf8": "utf8_bin",
    "utf8mb3": "utf8_bin",
    "ascii": "ascii_bin",
    "latin1": "latin1_bin",
    "binary": "binary",
}
_COLLATIONS = tuple(STORED_AS)
_U31, _U32, _I63 = (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1
_U64 = (1 << 64) - 1
_YEAR_S = 31536000
READ_ENGINES = frozenset({"tikv", "tiflash", "tidb"})
SERVER_MEMORY_MIN = 512 << 20
_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


class _Default:
    """What SET x = DEFAULT assigns."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = _Default()
Check = Callable[["Variable", object, Notes], Value]


@dataclass(frozen=True, slots=True)
class Variable:
    """One system variable. `only` is the one value of a variable that exists for the clients' sake."""

    name: str
    scope: str
    default: Value
    check: Check
    low: int = 0
    high: int = 0
    members: tuple[str, ...] = ()
    read_only: bool = False
    switch: bool = False
    only: bool = False

    def accept(self, value: object, notes: Notes) -> Value:
        """Returns the value to store, or raises 1231, 1232 and their kin; `notes` takes the warnings."""
        if value is DEFAULT:
            return self.default
        checked = self.check(self, value, notes)
        if self.only and checked != self.default:
            raise unsupported(f"{self.name} = {value}")
        return checked


def wrong_value(name: str, value: object) -> DatabaseError:
    shown = "NULL" if value is None else value
    return error(ER_WRONG_VALUE_FOR_VAR, f"Variable '{name}' can't be set to the value of '{shown}'")


def _switch(var: Variable, value: object, notes: Notes) -> Value:
    if isinstance(value, str):
        word = value.strip().upper()
        if word in ("ON", "TRUE", "1", "YES"):
            return 1
        if word in ("OFF", "FALSE", "0", "NO"):
            return 0
    elif isinstance(value, int) and value in (0, 1):
        return int(value)
    raise wrong_value(var.name, value)


def _integer(var: Variable, value: object, notes: Notes) -> Value:
    """An int within the range; what is outside is cut to it, with a warning, as in MySQL."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value):
        value = int(value)
    if not isinstance(value, int):
        raise error(ER_WRONG_TYPE_FOR_VAR, f"Incorrect argument type to variable '{var.name}'")
    number = min(max(int(value), var.low), var.high)
    if number != value:
        notes.append(("Warning", ER_TRUNCATED_WRONG_VALUE, f"Truncated incorrect {var.name} value: '{value}'"))
    return number


def _enum(var: Variable, value: object, notes: Notes) -> Value:
    if isinstance(value, str):
        for member in var.members:
            if member.lower() == value.strip().lower():
                return member
    elif isinstance(value, int) and 0 <= value < len(var.members):
        return var.members[value]
    raise wrong_value(var.name, value)


def _string(var: Variable, value: object, notes: Notes) -> Value:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise error(ER_WRONG_TYPE_FOR_VAR, f"Incorrect argument type to variable '{var.name}'")


def _memory() -> int:
    """The machine's memory in bytes; 4 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


QUERY_MEMORY = max(1 << 30, _memory() // 4)
"""What one query may take: TiDB's 1 GiB, or a quarter of the memory where that is more."""


def _memory_limit(var: Variable, value: object, notes: Notes) -> Value:
    text = str(value).strip()
    try:
        memory_limit(text)
    except ValueError:
        raise error(ER_WRONG_VALUE_FOR_VAR, f"Variable '{var.name}' can't be set to the value of '{value}'") from None
    return text


def memory_limit(text: str) -> int | None:
    """The bytes that tidb_server_memory_limit names: a share of the memory, a size, or 0 (None) for no limit.

    Raises ValueError when it is none of these, or less than 512 MB.
    """
    share = re.fullmatch(r"([1-9]\d?)%", text)
    if share is not None:
        return _memory() * int(share[1]) // 100
    size = re.fullmatch(r"(\d+)\s*([KMGT]?)B?", text, re.IGNORECASE)
    if size is None:
        raise ValueError(text)
    total = int(size[1]) << 10 * " KMGT".index(size[2].upper() or " ")
    if 0 < total < SERVER_MEMORY_MIN:
        raise ValueError(text)
    return total or None


def _sql_mode(var: Variable, value: object, notes: Notes) -> Value:
    if not isinstance(value, str):
        if value == 0:
            return ""
        raise wrong_value(var.name, value)
    modes: dict[str, None] = {}
    for part in value.upper().split(","):
        mode = part.strip()
        if mode == "TRADITIONAL":
            modes.update(dict.fromkeys(_TRADITIONAL.split(",")))
        elif mode in _SQL_MODES:
            modes[mode] = None
        elif mode in _SQL_MODES_REFUSED:
            raise unsupported(f"sql_mode {mode}")
        elif mode:
            raise wrong_value(var.name, mode)
    return ",".join(modes)


def _isolation(var: Variable, value: object, notes: Notes) -> Value:
    level = str(_enum(var, value, notes))
    if level in ("READ-UNCOMMITTED", "SERIALIZABLE"):
        raise error(8048, f"The isolation level '{level}' is not supported; use REPEATABLE READ or READ COMMITTED")
    return level


def _read_engines(var: Variable, value: object, notes: Notes) -> Value:
    """A list of storage engines, at least one."""
    engines = [part.strip().lower() for part in str(_string(var, value, notes)).split(",")]
    if not set(engines) <= READ_ENGINES:
        raise wrong_value(var.name, value)
    return ",".join(engines)


def _charset(var: Variable, value: object, notes: Notes) -> Value:
    if value is None:
        raise wrong_value(var.name, value)
    name = str(value).strip().lower()
    if name not in _CHARSETS:
        raise error(1115, f"Unknown character set: '{value}'{near_match(name, _CHARSETS)}")
    return "utf8mb4" if name in ("utf8", "utf8mb3") else name


def _results_charset(var: Variable, value: object, notes: Notes) -> Value:
    """Empty for NULL: results as they are."""
    return "" if value is None or value == "" else _charset(var, value, notes)


def _collation(var: Variable, value: object, notes: Notes) -> Value:
    if value is None:
        raise wrong_value(var.name, value)
    name = str(value).strip().lower()
    if name not in _COLLATIONS:
        raise error(1273, f"Unknown collation: '{value}'{near_match(name, _COLLATIONS)}")
    return name


def _time_zone(var: Variable, value: object, notes: Notes) -> Value:
    if value is None:
        raise wrong_value(var.name, value)
    if not isinstance(value, str):
        raise error(ER_UNKNOWN_TIME_ZONE, f"Unknown or incorrect time zone: '{value}'")
    zone_of(value)
    return "SYSTEM" if value.strip().upper() == "SYSTEM" else value.strip()


def _timestamp(var: Variable, value: object, notes: Notes) -> Value:
    """Seconds since 1970; 0 for the clock."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise error(ER_WRONG_TYPE_FOR_VAR, f"Incorrect argument type to variable '{var.name}'")
    if not 0 <= value <= _U31:
        raise wrong_value(var.name, value)
    return round(float(value), 6)


def _duration(var: Variable, value: object, notes: Notes) -> Value:
    """A Go duration such as 10m0s."""
    if isinstance(value, str) and re.fullmatch(r"(\d+(\.\d+)?(h|m|s|ms))+", value.strip()):
        return value.strip()
    raise wrong_value(var.name, value)


def duration_ms(text: str) -> int:
    """Returns the milliseconds of a Go duration such as "10m0s"."""
    unit_ms = {"h": 3600000.0, "m": 60000.0, "s": 1000.0, "ms": 1.0}
    return int(sum(float(n) * unit_ms[u] for n, u in re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)))


_OFFSET = re.compile(r"([+-])(\d{1,2}):(\d{2})")


def zone_of(name: str) -> dt.tzinfo:
    """Returns the time zone that `time_zone` names: SYSTEM, an offset (-13:59 to +14:00) or a name; 1298 if none."""
    text = name.strip()
    if text.upper() == "SYSTEM":
        return system_zone()
    match = _OFFSET.fullmatch(text)
    if match is not None:
        minutes = int(match[2]) * 60 + int(match[3])
        if int(match[3]) < 60 and (minutes <= 14 * 60 if match[1] == "+" else minutes < 14 * 60):
            return dt.timezone(dt.timedelta(minutes=minutes if match[1] == "+" else -minutes)) if minutes else dt.UTC
    elif text.upper() in ("UTC", "GMT", "Z"):
        return dt.UTC
    elif text:
        import zoneinfo

        try:
            return zoneinfo.ZoneInfo(text)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise error(ER_UNKNOWN_TIME_ZONE, f"Unknown or incorrect time zone: '{name}'")


def system_zone() -> dt.tzinfo:
    """Returns the machine's time zone, with its summer time where that can be found out."""
    import zoneinfo

    name = os.environ.get("TZ", "").lstrip(":")
    if not name:
        target = os.path.realpath("/etc/localtime")
        name = target.partition("zoneinfo/")[2]
    if name:
        try:
            found = zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            pass
        else:
            return dt.UTC if name in ("UTC", "Etc/UTC", "Etc/UCT", "GMT") else found
    offset = time.localtime().tm_gmtoff
    return dt.timezone(dt.timedelta(seconds=offset)) if offset else dt.UTC


def _sw(name: str, default: int, scope: str = BOTH, *, only: bool = False, read_only: bool = False) -> Variable:
    return Variable(name, scope, default, _switch, switch=True, only=only, read_only=read_only)


def _int(name: str, default: int, low: int, high: int, scope: str = BOTH, *, only: bool = False) -> Variable:
    return Variable(name, scope, default, _integer, low, high, only=only)


def _en(name: str, default: str, members: tuple[str, ...], scope: str = BOTH, *, only: bool = False) -> Variable:
    return Variable(name, scope, default, _enum, members=members, only=only)


def _str(name: str, default: str, scope: str = BOTH, check: Check = _string, *, only: bool = False) -> Variable:
    return Variable(name, scope, default, check, only=only)


def _fixed(name: str, default: Value) -> Variable:
    """A variable that only tells."""
    return Variable(name, NONE, default, _string, read_only=True)


_AES_MODES = tuple(f"aes-{bits}-{mode}" for bits in (128, 192, 256) for mode in ("ecb", "cbc", "cfb128", "ofb"))
_ONLY_VALUES = {"lc_messages": "en_US", "lc_time_names": "en_US", "default_tmp_storage_engine": "InnoDB"}
_NO_MATTER = {"innodb_strict_mode": 1, "optimizer_search_depth": 62, "low_priority_updates": 0, "long_query_time": 10,
              "bulk_insert_buffer_size": 8 * _MIB, "myisam_sort_buffer_size": 8 * _MIB}  # fmt: skip
_TOLD = {"innodb_version": SERVER_VERSION, "gtid_mode": "OFF", "secure_file_priv": "", "basedir": "", "tmpdir": "/tmp",
         "pid_file": "", "default_authentication_plugin": "mysql_native_password"}  # fmt: skip

VARIABLES: dict[str, Variable] = {
    v.name: v
    for v in (
        # Transactions.
        _sw("autocommit", 1),
        Variable("transaction_isolation", BOTH, "REPEATABLE-READ", _isolation, members=_ISOLATIONS),
        _sw("transaction_read_only", 0),
        _int("innodb_lock_wait_timeout", 50, 1, 3600),
        _int("lock_wait_timeout", _YEAR_S, 1, _YEAR_S),
        _en("completion_type", "NO_CHAIN", ("NO_CHAIN", "CHAIN", "RELEASE"), only=True),
        _en("tidb_txn_mode", "pessimistic", ("", "pessimistic", "optimistic")),
        _str("tidb_snapshot", "", SESSION),
        _en("tidb_replica_read", "leader", ("leader", "follower", "leader-and-follower")),
        _int("tidb_read_staleness", 0, -2_147_483_648, 0),
        _sw("tidb_constraint_check_in_place", 0, only=True),
        _sw("tidb_disable_txn_auto_retry", 1, only=True),
        _int("tidb_retry_limit", 10, -1, _I63),
        _sw("tidb_enable_async_commit", 1),
        _sw("tidb_enable_1pc", 1),
        _str("tidb_gc_life_time", "10m0s", GLOBAL, _duration),
        _str("tidb_gc_run_interval", "10m0s", GLOBAL, _duration),
        _sw("tidb_gc_enable", 1, GLOBAL),
        # What statements mean.
        _str("sql_mode", DEFAULT_SQL_MODE, BOTH, _sql_mode),
        _str("time_zone", "SYSTEM", BOTH, _time_zone),
        Variable("timestamp", SESSION, 0.0, _timestamp),
        _int("div_precision_increment", 4, 0, 30),
        _int("group_concat_max_len", 1024, 4, _U64),
        _int("default_week_format", 0, 0, 7, only=True),
        _int("auto_increment_increment", 1, 1, 65535, only=True),
        _int("auto_increment_offset", 1, 1, 65535, only=True),
        _sw("sql_safe_updates", 0, only=True),
        _int("sql_select_limit", _U64, 0, _U64),
        _sw("sql_auto_is_null", 0, only=True),
        _sw("foreign_key_checks", 1),
        _sw("unique_checks", 1),
        _sw("explicit_defaults_for_timestamp", 1, only=True),
        _sw("old_alter_table", 0, only=True),
        _en("default_storage_engine", "InnoDB", ("InnoDB",)),
        _sw("sql_require_primary_key", 0, only=True),
        _en("block_encryption_mode", "aes-128-ecb", _AES_MODES),
        _int("cte_max_recursion_depth", 1000, 0, _U32),
        # Character sets: text is Unicode inside, so these only tell what a client is told.
        _str("character_set_client", "utf8mb4", BOTH, _charset),
        _str("character_set_connection", "utf8mb4", BOTH, _charset),
        _str("character_set_results", "utf8mb4", BOTH, _results_charset),
        _str("character_set_server", "utf8mb4", BOTH, _charset, only=True),
        _str("character_set_database", "utf8mb4", BOTH, _charset, only=True),
        _fixed("character_set_system", "utf8mb4"),
        _en("character_set_filesystem", "binary", ("binary",)),
        _str("collation_connection", "utf8mb4_bin", BOTH, _collation),
        _str("collation_server", "utf8mb4_bin", BOTH, _collation, only=True),
        _str("collation_database", "utf8mb4_bin", BOTH, _collation, only=True),
        _str("default_collation_for_utf8mb4", "utf8mb4_bin", BOTH, _collation, only=True),
        # Limits.
        _int("max_execution_time", 0, 0, _U31),
        _int("tidb_mem_quota_query", QUERY_MEMORY, -1, _I63),
        _int("tidb_tmp_table_max_size", 64 * _MIB, _MIB, 128 * _GIB),
        _str("tidb_server_memory_limit", "80%", GLOBAL, _memory_limit),
        _int("max_allowed_packet", 64 * _MIB, _KIB, _GIB),
        _int("max_connections", 0, 0, 100000, GLOBAL),
        _int("max_prepared_stmt_count", -1, -1, 1048576, GLOBAL),
        _int("max_sort_length", 1024, 4, 8388608),
        _int("max_error_count", 64, 0, 65535),
        _int("wait_timeout", 28800, 0, _YEAR_S),
        _int("interactive_timeout", 28800, 1, _YEAR_S),
        _int("net_read_timeout", 30, 1, _YEAR_S),
        _int("net_write_timeout", 60, 1, _YEAR_S),
        _int("net_buffer_length", 16 * _KIB, _KIB, _MIB),
        _int("connect_timeout", 10, 2, _YEAR_S, GLOBAL),
        _int("tmp_table_size", 16 * _MIB, _KIB, _I63),
        _int("max_heap_table_size", 16 * _MIB, 16 * _KIB, _I63),
        _int("sort_buffer_size", 256 * _KIB, 32 * _KIB, _I63),
        _int("join_buffer_size", 256 * _KIB, 128, _I63),
        # Plans.
        _str("tidb_isolation_read_engines", "tikv,tiflash,tidb", BOTH, _read_engines),
        _sw("tidb_enable_clustered_index", 1, only=True),
        _int("tidb_max_chunk_size", 1024, 32, _U31),
        _int("tidb_init_chunk_size", 32, 1, 32),
        _int("tidb_distsql_scan_concurrency", 15, 1, 256),
        _int("tidb_index_lookup_concurrency", -1, -1, 256),
        _int("tidb_index_lookup_size", 20000, 1, _U31),
        _sw("tidb_enable_paging", 1),
        _int("tidb_min_paging_size", 128, 1, _U31),
        _int("tidb_executor_concurrency", 5, 1, 256),
        _en("tidb_ddl_reorg_priority", "PRIORITY_LOW", ("PRIORITY_LOW", "PRIORITY_NORMAL", "PRIORITY_HIGH")),
        _sw("tidb_allow_mpp", 1),
        _sw("tidb_enforce_mpp", 0),
        _sw("tidb_enable_prepared_plan_cache", 1),
        _sw("tidb_enable_auto_analyze", 1, GLOBAL),
        _str("optimizer_switch", "index_merge=off"),
        _int("tidb_slow_log_threshold", 300, -1, _I63, GLOBAL),
        _sw("slow_query_log", 1, GLOBAL),
        _sw("general_log", 0, GLOBAL, only=True),
        _sw("profiling", 0, only=True),
        _sw("sql_log_bin", 1, SESSION),
        _sw("sql_notes", 1),
        _sw("sql_warnings", 0),
        _sw("sql_quote_show_create", 1, only=True),
        _sw("sql_big_selects", 1, only=True),
        _int("information_schema_stats_expiry", 86400, 0, _YEAR_S),
        _str("init_connect", "", GLOBAL, only=True),
        # What clients and dumps set, and has no meaning here, or only this one.
        *(_str(name, value, only=True) for name, value in _ONLY_VALUES.items()),
        *(_int(name, value, 0, _I63) for name, value in _NO_MATTER.items()),
        _str("gtid_purged", "", GLOBAL),
        # The session's last statement.
        _int("last_insert_id", 0, 0, _U64, SESSION),
        _int("insert_id", 0, 0, _U64, SESSION, only=True),
        _int("pseudo_thread_id", 0, 0, _U64, SESSION),
        _fixed("tidb_current_ts", 0),
        _fixed("tidb_last_txn_info", ""),
        _fixed("warning_count", 0),
        _fixed("error_count", 0),
        # What a client asks about the server.
        _fixed("version", SERVER_VERSION),
        _fixed("version_comment", "sqlfront, MySQL 8.0 compatible"),
        _fixed("version_compile_os", "Linux"),
        _fixed("version_compile_machine", "x86_64"),
        _fixed("protocol_version", 10),
        *(_fixed(name, value) for name, value in _TOLD.items()),
        _fixed("license", "Apache License 2.0"),
        _fixed("hostname", "localhost"),
        _fixed("port", 0),
        _fixed("socket", ""),
        _fixed("datadir", ""),
        _fixed("server_id", 1),
        _fixed("server_uuid", ""),
        _fixed("system_time_zone", "UTC"),
        _fixed("lower_case_table_names", 2),
        _fixed("lower_case_file_system", 1),
        _sw("read_only", 0, GLOBAL, only=True),
        _sw("super_read_only", 0, GLOBAL, only=True),
        _sw("innodb_read_only", 0, NONE, read_only=True),
        _sw("have_ssl", 0, NONE, read_only=True),
        _sw("have_openssl", 0, NONE, read_only=True),
        _sw("performance_schema", 0, NONE, read_only=True),
        _sw("log_bin", 0, NONE, read_only=True),
        _sw("skip_networking", 1, NONE, read_only=True),
        _sw("event_scheduler", 0, GLOBAL, only=True),
        _sw("query_cache_type", 0, BOTH, only=True),
        _int("query_cache_size", 0, 0, 0, GLOBAL),
    )
}

ALIASES = {
    "tx_isolation": "transaction_isolation",
    "tx_read_only": "transaction_read_only",
    "identity": "last_insert_id",
    "storage_engine": "default_storage_engine",
}
# The older name is listed too.
_LISTED_ALIASES = ("tx_isolation", "tx_read_only")


def find(name: str) -> Variable:
    """Returns the variable of that name (any case, alias or not); 1193 with a near match if there is none."""
    folded = name.lower()
    found = VARIABLES.get(ALIASES.get(folded, folded))
    if found is None:
        raise error(1193, f"Unknown system variable '{name}'{near_match(name, VARIABLES)}")
    return found


def text_of(name: str, value: Value) -> str:
    """Returns a value as SHOW VARIABLES shows it: ON and OFF for switches."""
    if find(name).switch:
        return "ON" if value else "OFF"
    return str(value)


class GlobalVariables:
    """The global values of one database. Any thread may use them."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._values: dict[str, Value] = {name: var.default for name, var in VARIABLES.items()}
        self._callbacks: dict[str, list[Callable[[Value], None]]] = {}
        self.on_set: Callable[[str, Value], None] | None = None
        """Called with each value that a user sets, before it holds; what it raises refuses it."""

    def get(self, name: str) -> Value:
        var = find(name)
        if var.scope == SESSION:
            raise error(ER_VAR_READONLY, f"Variable '{var.name}' is a SESSION variable")
        with self._mutex:
            return self._values[var.name]

    def set(self, name: str, value: object) -> Notes:
        """Sets a global value for the sessions to come; returns warnings."""
        var = find(name)
        _refuse_read_only(var)
        if var.scope == SESSION:
            message = f"Variable '{var.name}' is a SESSION variable and can't be used with SET GLOBAL"
            raise error(ER_LOCAL_VARIABLE, message)
        notes: Notes = []
        checked = var.accept(value, notes)
        for callback in tuple(self._callbacks.get(var.name, ())):
            callback(checked)
        if self.on_set is not None:
            self.on_set(var.name, checked)
        with self._mutex:
            self._values[var.name] = checked
        return notes

    def take(self, values: Mapping[str, Value]) -> None:
        """Takes over values that another server has checked; those of variables that are not known here are left."""
        for name, value in values.items():
            if name in VARIABLES and self._values[name] != value:
                for callback in tuple(self._callbacks.get(name, ())):
                    callback(value)
                with self._mutex:
                    self._values[name] = value

    def fix(self, name: str, value: Value) -> None:
        """Gives a read-only variable its value (data directory, host name); for who composes the database."""
        with self._mutex:
            self._values[find(name).name] = value

    def on_change(self, name: str, callback: Callable[[Value], None]) -> None:
        """Calls `callback(value)` before a change takes effect; what it raises refuses the change."""
        self._callbacks.setdefault(find(name).name, []).append(callback)

    def copy(self) -> dict[str, Value]:
        with self._mutex:
            return dict(self._values)


def _refuse_read_only(var: Variable) -> None:
    if var.read_only:
        raise error(ER_VAR_READONLY, f"Variable '{var.name}' is a read only variable")


@dataclass(slots=True)
class Variables:
    """A session's variables, the hot ones as attributes. One thread uses them at a time.

    `lock_wait_ms`, `max_execution_ms` (0: no limit), `mem_quota` (bytes, -1: no limit), `tmp_table_max_size`
    (bytes), `select_limit` (None: no limit).
    """

    globals: GlobalVariables = field(default_factory=GlobalVariables)
    autocommit: bool = True
    strict: bool = True
    sql_modes: frozenset[str] = frozenset()
    ansi_quotes: bool = False
    only_full_group_by: bool = True
    error_for_division_by_zero: bool = True
    no_zero_date: bool = True
    no_auto_value_on_zero: bool = False
    zone: dt.tzinfo = dt.UTC
    timestamp_ns: int = 0
    """What the time is for NOW() and its like; 0: what the clock says."""
    isolation: str = "REPEATABLE-READ"
    read_only: bool = False
    pessimistic: bool = True
    lock_wait_ms: int = 50000
    max_execution_ms: int = 0
    mem_quota: int = QUERY_MEMORY
    tmp_table_max_size: int = 64 * _MIB
    select_limit: int | None = None
    div_precision_increment: int = 4
    literal_collation: str = "utf8mb4_bin"
    """By which literals are compared with each other."""
    group_concat_max_len: int = 1024
    notes: bool = True
    recursion_depth_max: int = 1000
    foreign_key_checks: bool = True
    read_engines: frozenset[str] = frozenset()
    replica_read: ReadFrom = ReadFrom.LEADER
    staleness_s: int = 0
    """How many seconds ago queries outside transactions read."""
    _values: dict[str, Value] = field(default_factory=dict)
    _callbacks: dict[str, list[Callable[[Value], None]]] = field(default_factory=dict)
    _told: dict[str, Callable[[], Value]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._values = self.globals.copy()
        for name, apply in _HOT.items():
            apply(self, self._values[name])

    def get(self, name: str, scope: str = "") -> Value:
        """Returns a value: the session's, or the global one for variables that only have that; `scope` "global" or
        "session" asks for one (1238 when the variable has none)."""
        var = find(name)
        if scope == GLOBAL:
            return self.globals.get(name)
        if var.scope == GLOBAL:
            if scope == SESSION:
                raise error(ER_VAR_READONLY, f"Variable '{var.name}' is a GLOBAL variable")
            return self.globals.get(name)
        told = self._told.get(var.name)
        if told is not None:
            return told()
        if var.scope == NONE:
            return self.globals.get(name)
        if var.name == "timestamp" and not self.timestamp_ns:
            return round(time.time(), 6)
        return self._values[var.name]

    def set(self, name: str, value: object, scope: str = SESSION) -> Notes:
        """Sets a variable (`DEFAULT` for its default) and returns the warnings that came with it.

        `scope` is "session" or "global"; the name "names" is SET NAMES. A session variable's default is the global
        value. Raises 1193, 1228, 1229, 1231, 1232, 1238; nothing has changed then.
        """
        if name.lower() == "names":
            self.set_names(value)
            return []
        if scope == GLOBAL:
            return self.globals.set(name, value)
        var = find(name)
        _refuse_read_only(var)
        if var.scope == GLOBAL:
            message = f"Variable '{var.name}' is a GLOBAL variable and should be set with SET GLOBAL"
            raise error(ER_GLOBAL_VARIABLE, message)
        notes: Notes = []
        if value is DEFAULT and var.scope == BOTH:
            value = self.globals.get(var.name)
        checked = var.accept(value, notes)
        for callback in tuple(self._callbacks.get(var.name, ())):
            callback(checked)
        self._values[var.name] = checked
        apply = _HOT.get(var.name)
        if apply is not None:
            apply(self, checked)
        if var.name == "character_set_connection":
            self.set("collation_connection", _DEFAULT_COLLATIONS[str(checked)])
        elif var.name == "collation_connection":
            charset = VARIABLES["character_set_connection"]
            self._values[charset.name] = charset.accept(str(checked).partition("_")[0], [])
        return notes

    def check(self, name: str, value: object) -> Value:
        """Returns the value that setting would store, without setting it (SET TRANSACTION for the next one)."""
        return find(name).accept(value, [])

    def tell(self, name: str, source: Callable[[], Value]) -> None:
        """Has a variable tell what the session knows (warning_count, last_insert_id, tidb_current_ts)."""
        self._told[find(name).name] = source

    def set_names(self, charset: object, collation: object | None = None) -> None:
        """SET NAMES: the client's character sets and the connection's collation."""
        if charset is DEFAULT or (isinstance(charset, str) and charset.lower() == "default"):
            charset = self.globals.get("character_set_client")
        name = str(VARIABLES["character_set_client"].accept(charset, []))
        picked = (
            _DEFAULT_COLLATIONS[name]
            if collation is None
            else str(VARIABLES["collation_connection"].accept(collation, []))
        )
        if picked.partition("_")[0] not in (name, "utf8" if name == "utf8mb4" else name):
            raise error(1253, f"COLLATION '{picked}' is not valid for CHARACTER SET '{name}'")
        for variable in ("character_set_client", "character_set_connection", "character_set_results"):
            self.set(variable, name)
        self.set("collation_connection", picked)

    def on_change(self, name: str, callback: Callable[[Value], None]) -> None:
        """Calls `callback(value)` before a session change takes effect; what it raises refuses the change."""
        self._callbacks.setdefault(find(name).name, []).append(callback)

    def all(self, scope: str = SESSION) -> Iterator[tuple[str, str]]:
        """Yields (name, shown value) in order of name, as SHOW [GLOBAL] VARIABLES."""
        for name in sorted((*VARIABLES, *_LISTED_ALIASES)):
            var = find(name)
            if scope == GLOBAL and var.scope == SESSION:
                continue
            yield name, text_of(name, self.get(name, GLOBAL if scope == GLOBAL else ""))


_REPLICAS = {
    "leader": ReadFrom.LEADER,
    "follower": ReadFrom.FOLLOWER,
    "leader-and-follower": ReadFrom.MIXED,
}


def _apply_sql_mode(variables: Variables, value: Value) -> None:
    modes = frozenset(str(value).split(",")) - {""}
    variables.sql_modes = modes
    variables.strict = bool(modes & STRICT_MODES)
    variables.only_full_group_by = "ONLY_FULL_GROUP_BY" in modes
    variables.error_for_division_by_zero = "ERROR_FOR_DIVISION_BY_ZERO" in modes
    variables.no_zero_date = "NO_ZERO_DATE" in modes
    variables.no_auto_value_on_zero = "NO_AUTO_VALUE_ON_ZERO" in modes
    variables.ansi_quotes = "ANSI_QUOTES" in modes


def _apply_time_zone(variables: Variables, value: Value) -> None:
    variables.zone = zone_of(str(value))


def _apply_select_limit(variables: Variables, value: Value) -> None:
    variables.select_limit = None if value == _U64 else int(value)


def _apply_read_engines(variables: Variables, value: Value) -> None:
    variables.read_engines = frozenset(str(value).split(","))


def _attribute(name: str, convert: Callable[[Value], object]) -> Callable[[Variables, Value], None]:
    return lambda variables, value: setattr(variables, name, convert(value))


_HOT: dict[str, Callable[[Variables, Value], None]] = {
    "autocommit": _attribute("autocommit", bool),
    "sql_mode": _apply_sql_mode,
    "time_zone": _apply_time_zone,
    "timestamp": _attribute("timestamp_ns", lambda v: int(float(v) * 1_000_000) * 1000),
    "transaction_isolation": _attribute("isolation", str),
    "transaction_read_only": _attribute("read_only", bool),
    "tidb_txn_mode": _attribute("pessimistic", lambda v: v != "optimistic"),
    "innodb_lock_wait_timeout": _attribute("lock_wait_ms", lambda v: int(v) * 1000),
    "max_execution_time": _attribute("max_execution_ms", int),
    "tidb_mem_quota_query": _attribute("mem_quota", int),
    "tidb_tmp_table_max_size": _attribute("tmp_table_max_size", int),
    "sql_select_limit": _apply_select_limit,
    "div_precision_increment": _attribute("div_precision_increment", int),
    "collation_connection": _attribute("literal_collation", lambda v: compared_as(str(v))),
    "group_concat_max_len": _attribute("group_concat_max_len", int),
    "sql_notes": _attribute("notes", bool),
    "cte_max_recursion_depth": _attribute("recursion_depth_max", int),
    "foreign_key_checks": _attribute("foreign_key_checks", bool),
    "tidb_isolation_read_engines": _apply_read_engines,
    "tidb_replica_read": _attribute("replica_read", lambda v: _REPLICAS[str(v)]),
    "tidb_read_staleness": _attribute("staleness_s", lambda v: -int(v)),
}
