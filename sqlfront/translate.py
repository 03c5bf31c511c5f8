"""Errors of the layers below, made into what a user sees: PEP 249's class, MySQL's code, a message in names.

`translate` is the one place for this: the session calls it for what a statement raised, the cursor for what reading
its rows raised. What it does not know is a bug and becomes an InternalError that carries the original as its cause.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from coprocessor.errors import CodecError, CoprocessorError, EvalError
from coprocessor.schema import IndexColumn
from kvstore import errors as kv
from sqlfront import errors
from sqlfront.errors import DatabaseError, DataError, Error, InternalError, OperationalError, error

if TYPE_CHECKING:
    from coprocessor.codec.keys import Handle
    from coprocessor.schema import IndexSchema
    from coprocessor.table import TableCodec
    from coprocessor.types import FieldType

PRIMARY = "PRIMARY"
SHOWN_VALUE_CHARS_MAX = 64


class KeyedTable(Protocol):
    """What of a catalog's table names a duplicate."""

    @property
    def name(self) -> str: ...

    @property
    def codec(self) -> TableCodec: ...


FindTable = Callable[[int], KeyedTable | None]


def translate(exc: Exception, find_table: FindTable | None = None) -> Error:
    """Returns the user's error for `exc`; errors that already are one come back as they are.

    `find_table` gives the table of a physical table id (None when there is none), to name the key of a conflict.
    """
    if isinstance(exc, Error):
        return exc
    if isinstance(exc, kv.KvError):
        return _from_store(exc, find_table)
    if isinstance(exc, CoprocessorError):
        return _from_coprocessor(exc)
    if _module_of(exc) in ("duckdb", "_duckdb"):
        return _from_duckdb(exc)
    if isinstance(exc, UnicodeError):
        return error(1366, f"Incorrect string value: {exc}")
    if isinstance(exc, MemoryError):
        return error(errors.ER_MEM_EXCEED, "Out Of Memory: the statement needs more memory than there is")
    if isinstance(exc, OSError):
        return _from_os(exc)
    return InternalError(f"{type(exc).__name__}: {exc}", 1105, "HY000")


def _module_of(exc: Exception) -> str:
    return type(exc).__module__.partition(".")[0]


def _from_store(exc: kv.KvError, find_table: FindTable | None) -> Error:
    match exc:
        case kv.KeyExists():
            return _duplicate(exc, find_table)
        case kv.WriteConflict():
            where = _place(exc.key, find_table)
            return error(
                errors.ER_WRITE_CONFLICT,
                f"Write conflict, txnStartTS={exc.start_ts}, conflictStartTS={exc.conflict_start_ts}, "
                f"conflictCommitTS={exc.conflict_commit_ts}, key={where} [try again later]",
            )
        case kv.Corruption():
            return InternalError(f"The database is damaged: {exc}", 1034, "HY000")
        case kv.PushFailed():
            return _push_failed(exc)
        case kv.DiskFull():
            return error(errors.ER_DISK_FULL, f"Disk full; nothing of the change was applied ({exc})")
        case _:
            pass
    for kind, (code, message) in _STORE_CODES.items():
        if isinstance(exc, kind):
            return error(code, message or str(exc))
    if isinstance(exc, kv.StoreError):
        return OperationalError(str(exc), _DIRECTORY_CODES.get(type(exc), 1030), "HY000")
    return _from_cluster(exc) or InternalError(f"{type(exc).__name__}: {exc}", 1105, "HY000")


def _from_cluster(exc: kv.KvError) -> Error | None:
    """An error of a cluster's client, by TiDB's code for it; None for others."""
    # not imported above: an embedded database loads nothing of a cluster's client
    from kvstore.client.cluster import errors as cluster

    match exc:
        case cluster.UndeterminedResult():
            return error(errors.ER_RESULT_UNDETERMINED, f"Execution result undetermined: {exc}")
        case cluster.PdUnavailable():
            return error(errors.ER_PD_SERVER_TIMEOUT, f"PD server timeout: {exc}")
        case cluster.RegionUnavailable():
            return error(errors.ER_REGION_UNAVAILABLE, f"Region is unavailable: {exc}")
        case cluster.LocksUnresolved():
            return error(errors.ER_RESOLVE_LOCK_TIMEOUT, f"Resolve lock timeout: {exc}")
        case cluster.TxnAborted():
            return error(errors.ER_TXN_RETRYABLE, f"The transaction was rolled back: {exc} [try again later]")
        case cluster.RaftEntryTooLarge():
            return error(errors.ER_ENTRY_TOO_LARGE, f"Entry too large: {exc}")
        case cluster.ClusterMismatch():
            return OperationalError(str(exc), 1105, "HY000")
        case _:
            return None


def _push_failed(exc: kv.PushFailed) -> Error:
    """What a store met when it evaluated a request; without a code it refused the request, which is a bug here."""
    if not exc.code:
        return error(errors.ER_UNKNOWN_ERROR, f"other error: {exc}")
    return _of_value(error(exc.code, str(exc)))


def _of_value(found: DatabaseError) -> DatabaseError:
    """An error of a value that could not be computed: DataError, whatever class its code has elsewhere."""
    if isinstance(found, DataError | errors.IntegrityError):
        return found
    return DataError(found.message, found.code, found.sqlstate)


# An empty message stands for the store's own.
_STORE_CODES: dict[type[kv.KvError], tuple[int, str]] = {
    kv.Deadlock: (errors.ER_LOCK_DEADLOCK, "Deadlock found when trying to get lock; try restarting transaction"),
    kv.LockWaitTimeout: (errors.ER_LOCK_WAIT_TIMEOUT, "Lock wait timeout exceeded; try restarting transaction"),
    kv.LockNowait: (
        errors.ER_LOCK_NOWAIT,
        "Statement aborted because lock(s) could not be acquired immediately and NOWAIT is set.",
    ),
    kv.KeyIsLocked: (errors.ER_RESOLVE_LOCK_TIMEOUT, "Resolve lock timeout"),
    kv.TxnNotFound: (
        errors.ER_TXN_RETRYABLE,
        "The transaction was rolled back by another one or by the store [try again later]",
    ),
    kv.TxnTooLarge: (errors.ER_TXN_TOO_LARGE, ""),
    kv.SnapshotTooOld: (errors.ER_GC_TOO_EARLY, ""),
    kv.CommitRejected: (
        errors.ER_SCHEMA_CHANGED,
        "Information schema is changed during the execution of the statement [try again later]",
    ),
    kv.ReadOnlyTxn: (
        errors.ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION,
        "Cannot execute statement in a READ ONLY transaction.",
    ),
    kv.Cancelled: (errors.ER_QUERY_INTERRUPTED, "Query execution was interrupted"),
}

# MySQL's nearest: cannot lock the file, not one of our files, file of another version, shut down.
_DIRECTORY_CODES: dict[type[kv.KvError], int] = {
    kv.DirectoryInUse: 1015,
    kv.NotOurDirectory: 1033,
    kv.FormatTooNew: 1033,
    kv.StoreClosed: 1053,
}


def _from_coprocessor(exc: CoprocessorError) -> Error:
    if isinstance(exc, CodecError):
        return InternalError(f"Stored bytes cannot be read: {exc}", 1105, "HY000")
    found = error(exc.code, str(exc), sqlstate=exc.sqlstate)
    return _of_value(found) if isinstance(exc, EvalError) else found


def _from_duckdb(exc: Exception) -> Error:
    names = {kind.__name__ for kind in type(exc).__mro__}
    text = str(exc)
    if "InterruptException" in names:
        return error(errors.ER_QUERY_INTERRUPTED, "Query execution was interrupted")
    if "OutOfMemoryException" in names:
        return error(errors.ER_MEM_EXCEED, f"Out Of Memory Quota! {text}")
    if names & {"OutOfRangeException", "ConversionException", "InvalidInputException"}:
        from coprocessor.duck_expr import translate_error

        return _from_coprocessor(translate_error(exc))
    if "IOException" in names and "No space left" in text:
        return error(errors.ER_DISK_FULL, f"Disk full while the statement spilled: {text}")
    return InternalError(f"the analytic engine failed: {text}", 1105, "HY000")


def _from_os(exc: OSError) -> Error:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return error(errors.ER_DISK_FULL, f"Disk full: {exc}")
    return OperationalError(str(exc), 1030, "HY000")


def _duplicate(exc: kv.KeyExists, find_table: FindTable | None) -> DatabaseError:
    named = duplicate_key(exc.key, exc.value, find_table) if find_table is not None else None
    if named is None:
        return error(errors.ER_DUP_ENTRY, f"Duplicate entry for key {exc.key.hex()}")
    values, key_name = named
    return duplicate_entry(values, key_name)


def duplicate_entry(values: Sequence[object], key_name: str) -> DatabaseError:
    """Returns error 1062; `key_name` is `table.INDEX` (or `table.PRIMARY`)."""
    shown = "-".join(shown_value(v) for v in values)[:SHOWN_VALUE_CHARS_MAX]
    return error(errors.ER_DUP_ENTRY, f"Duplicate entry '{shown}' for key '{key_name}'")


def taken(table: KeyedTable, row: Sequence[Any], index: IndexSchema | None) -> DatabaseError:
    """Returns error 1062 of a new row one of whose unique keys another has: an index's, else the clustered one."""
    schema = table.codec.schema
    parts = index.columns if index else schema.common_handle or (IndexColumn(schema.handle_offset),)
    computed = table.codec.computed
    if computed is not None and index is not None:
        row = computed.row(row, computed.of_index(index))
    values = [row[p.offset] if p.prefix < 0 or row[p.offset] is None else row[p.offset][: p.prefix] for p in parts]
    return duplicate_entry(values, f"{table.name}.{index.name if index else PRIMARY}")


def duplicate_key(key: bytes, value: bytes, find_table: FindTable) -> tuple[Sequence[object], str] | None:
    """Returns the values and the name of the unique key that `key` is an entry of, None when no table has it."""
    from coprocessor.codec import keys

    table = _table_of(key, find_table)
    if table is None:
        return None
    codec = table.codec
    if keys.is_record_key(key):
        return _primary_values(codec, codec.handle_of_key(key), key, value), f"{table.name}.{PRIMARY}"
    index = _index_of(codec, key)
    if index is None:
        return None
    values = _entry_values(codec, index, key, value)
    if index.unique and None not in values:
        return values, f"{table.name}.{index.name}"
    # such an entry holds the handle, so it is there twice only when the handle is
    handle = keys.handle_from_index_key(key, len(index.columns), common=codec.is_common_handle)
    return _primary_values(codec, handle, b"", b""), f"{table.name}.{PRIMARY}"


def _entry_values(codec: TableCodec, index: IndexSchema, key: bytes, value: bytes) -> Sequence[object]:
    """Returns the values of an index entry; a string of weights is told by its value alone, if that is at hand."""
    from coprocessor.codec import keys
    from coprocessor.codec.datum import value_decoder
    from coprocessor.codec.row import row_slices

    values = list(codec.index_values(index, key))
    kept = keys.restored_in(value)
    slices = row_slices(kept) if kept is not None else {}
    for i, part in enumerate(index.columns):
        column = codec.schema.columns[part.offset]
        if values[i] is not None and _is_weighed(column.type):
            text = slices.get(column.id)
            values[i] = "?" if text is None else value_decoder(column.type)(text)
    return values


def _is_weighed(type_: FieldType) -> bool:
    from coprocessor.codec.collation import is_bin_collation
    from coprocessor.types import STRING_TPS

    return type_.tp in STRING_TPS and type_.is_text and not is_bin_collation(type_.collate)


def _primary_values(codec: TableCodec, handle: Handle, key: bytes, value: bytes) -> Sequence[object]:
    """Returns a record's primary key values; from the row if it is at hand: collated strings lie only there."""
    if isinstance(handle, int):
        return (handle & (1 << 64) - 1 if codec.schema.unsigned_handle else handle,)
    if value:
        row = codec.decode(key, value)
        return [row[part.offset] for part in codec.schema.common_handle]
    return _key_values(codec, handle)


def _key_values(codec: TableCodec, handle: bytes) -> Sequence[object]:
    """Returns the values that a common handle itself tells; of a string under a folding collation it tells none."""
    from coprocessor.codec.datum import decode_key_datum

    values: list[object] = []
    pos = 0
    for part in codec.schema.common_handle:
        type_ = codec.schema.columns[part.offset].type
        value, pos = decode_key_datum(type_, handle, pos)
        values.append("?" if _is_weighed(type_) else value)
    return values


def _table_of(key: bytes, find_table: FindTable) -> KeyedTable | None:
    from coprocessor.codec import keys

    if not (keys.is_record_key(key) or keys.is_index_key(key)):
        return None
    return find_table(keys.table_id_of(key))


def _index_of(codec: TableCodec, key: bytes) -> IndexSchema | None:
    from coprocessor.codec import keys

    index_id = keys.index_id_of(key)
    return next((index for index in codec.schema.indexes if index.id == index_id), None)


def _place(key: bytes, find_table: FindTable | None) -> str:
    """Returns a key in names, as far as they are known."""
    named = duplicate_key(key, b"", find_table) if find_table is not None else None
    if named is None:
        return key.hex()
    values, key_name = named
    return f"{key_name}({', '.join(shown_value(v) for v in values)})"


def shown_value(value: Any) -> str:
    """Returns a value as MySQL shows it in messages."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)
