"""Errors of the layers below, as users see them."""

import errno
from dataclasses import dataclass

import pytest

import sqlfront
from coprocessor import errors as cop
from coprocessor.schema import ColumnSchema, IndexColumn, IndexSchema, TableSchema
from coprocessor.table import TableCodec
from coprocessor.types import BIGINT, INT, UBIGINT, varchar
from kvstore import errors as kv
from kvstore.client.cluster import errors as cluster
from sqlfront.translate import translate


@dataclass
class Table:
    name: str
    codec: TableCodec


def table(*columns, name="t", handle=-1, common=(), indexes=()):
    schemas = tuple(ColumnSchema(i, f"c{i}", type_) for i, type_ in enumerate(columns, 1))
    parts = tuple(IndexColumn(i) for i in common)
    made = tuple(
        IndexSchema(n, f"k{n}", tuple(IndexColumn(i) for i in offsets), True) for n, offsets in enumerate(indexes, 1)
    )
    return Table(name, TableCodec(TableSchema(100, name, schemas, handle, parts, made)))


def message(found, key, value=b""):
    out = translate(kv.KeyExists(key, value), lambda table_id: found if table_id == 100 else None)
    assert isinstance(out, sqlfront.IntegrityError)
    assert (out.code, out.sqlstate) == (1062, "23000")
    return out.message


def test_duplicate_integer_key():
    t = table(BIGINT, handle=0)
    assert message(t, t.codec.record_key(-5)) == "Duplicate entry '-5' for key 't.PRIMARY'"
    u = table(UBIGINT, handle=0)
    assert message(u, u.codec.record_key(2**64 - 1)) == f"Duplicate entry '{2**64 - 1}' for key 't.PRIMARY'"


def test_duplicate_composite_key():
    t = table(INT, varchar(10), INT, common=(0, 1))
    key, value = t.codec.encode_record((1, "ab", 3))
    assert message(t, key, value) == "Duplicate entry '1-ab' for key 't.PRIMARY'"
    assert message(t, key) == "Duplicate entry '1-ab' for key 't.PRIMARY'"


def test_duplicate_collated_key_comes_from_the_row():
    ci = varchar(10).with_(collate="utf8mb4_general_ci")
    t = table(ci, INT, common=(0,))
    key, value = t.codec.encode_record(("Straße", 3))
    assert message(t, key, value) == "Duplicate entry 'Straße' for key 't.PRIMARY'"


def test_duplicate_index_entry():
    t = table(BIGINT, varchar(10), INT, handle=0, indexes=[(1, 2)])
    (_, key, _, distinct) = t.codec.index_entries((1, "x", 7), 1)[0]
    assert distinct
    assert message(t, key) == "Duplicate entry 'x-7' for key 't.k1'"


def test_an_entry_that_holds_the_handle_stands_for_the_primary_key():
    t = table(BIGINT, INT, handle=0, indexes=[(1,)])
    (_, key, _, distinct) = t.codec.index_entries((5, None), 5)[0]
    assert not distinct
    assert message(t, key) == "Duplicate entry '5' for key 't.PRIMARY'"


def test_keys_of_unknown_tables_are_shown_raw():
    t = table(BIGINT, handle=0)
    assert "for key" in message(None, t.codec.record_key(1))
    assert "for key" in message(t, b"mxyz")


STORE = [
    (kv.Deadlock(b"k", 1, ()), 1213, "40001", sqlfront.OperationalError, True),
    (kv.LockWaitTimeout(b"k", 5), 1205, "HY000", sqlfront.OperationalError, True),
    (kv.LockNowait(b"k"), 3572, "HY000", sqlfront.OperationalError, False),
    (kv.WriteConflict(b"k", 1, 2, 3), 9007, "HY000", sqlfront.OperationalError, True),
    (kv.TxnTooLarge("big"), 8004, "HY000", sqlfront.OperationalError, False),
    (kv.SnapshotTooOld(1, 2), 9006, "HY000", sqlfront.OperationalError, False),
    (kv.CommitRejected("x"), 8028, "HY000", sqlfront.OperationalError, True),
    (kv.Cancelled("x"), 1317, "70100", sqlfront.QueryInterrupted, False),
    (kv.ReadOnlyTxn("x"), 1792, "25006", sqlfront.OperationalError, False),
    (kv.DirectoryInUse("/x", 42), 1015, "HY000", sqlfront.OperationalError, False),
    (kv.NotOurDirectory("x"), 1033, "HY000", sqlfront.OperationalError, False),
    (kv.FormatTooNew("x"), 1033, "HY000", sqlfront.OperationalError, False),
    (kv.StoreClosed("x"), 1053, "HY000", sqlfront.OperationalError, False),
    (kv.Corruption("x"), 1034, "HY000", sqlfront.InternalError, False),
    (kv.DiskFull("x"), 1021, "HY000", sqlfront.OperationalError, False),
    (kv.KvError("x"), 1105, "HY000", sqlfront.InternalError, False),
]


@pytest.mark.parametrize(("exc", "code", "state", "kind", "retryable"), STORE, ids=lambda v: type(v).__name__)
def test_store(exc, code, state, kind, retryable):
    out = translate(exc)
    assert (out.code, out.sqlstate, type(out), out.retryable) == (code, state, kind, retryable)


def test_owner_is_named():
    assert "42" in translate(kv.DirectoryInUse("/x", 42)).message


def test_write_conflict_names_the_row():
    t = table(BIGINT, handle=0)
    out = translate(kv.WriteConflict(t.codec.record_key(5), 1, 2, 3), {100: t}.get)
    assert "t.PRIMARY(5)" in out.message


TYPED = [
    (cop.OutOfRange("Out of range value for column 'a' at row 1"), 1264, sqlfront.DataError),
    (cop.OutOfRange("BIGINT value is out of range", code=1690), 1690, sqlfront.DataError),
    (cop.DataTooLong("Data too long for column 'a' at row 1"), 1406, sqlfront.DataError),
    (cop.Truncated("x", code=1366), 1366, sqlfront.DataError),
    (cop.DivisionByZero("Division by 0"), 1365, sqlfront.DataError),
    (cop.InvalidArgument("x", code=3141), 3141, sqlfront.DataError),
    (cop.InvalidArgument("Column 'a' cannot be null", code=1048, sqlstate="23000"), 1048, sqlfront.IntegrityError),
    (cop.InvalidArgument("x", code=9999), 9999, sqlfront.DataError),
    (cop.ResolveError("no such function"), 1305, sqlfront.ProgrammingError),
    (cop.Unsupported("x"), 1235, sqlfront.NotSupportedError),
    (cop.CodecError("x"), 1105, sqlfront.InternalError),
]


@pytest.mark.parametrize(("exc", "code", "kind"), TYPED)
def test_typed(exc, code, kind):
    out = translate(exc)
    assert (out.code, type(out)) == (code, kind)


def test_duckdb():
    duckdb = pytest.importorskip("duckdb")
    con = duckdb.connect()
    with pytest.raises(duckdb.Error) as caught:
        con.execute("SELECT 'x'::INT")
    assert translate(caught.value).code == 1292
    assert translate(duckdb.InterruptException("x")).code == 1317
    assert translate(duckdb.OutOfMemoryException("x")).code == 8175
    assert translate(duckdb.OutOfRangeException("x")).code == 1690
    assert type(translate(duckdb.BinderException("x"))) is sqlfront.InternalError


def test_others():
    assert translate(OSError(errno.ENOSPC, "no room")).code == 1021
    assert type(translate(OSError(errno.EIO, "io"))) is sqlfront.OperationalError
    assert translate(MemoryError()).code == 8175
    assert translate(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x")).code == 1366
    assert type(translate(KeyError("x"))) is sqlfront.InternalError
    mine = sqlfront.ProgrammingError("x", 1064)
    assert translate(mine) is mine


CLUSTER = [
    (cluster.UndeterminedResult("the answer was lost"), 8501, False),
    (cluster.PdUnavailable("gave up"), 9001, True),
    (cluster.RegionUnavailable("gave up"), 9005, True),
    (cluster.LocksUnresolved("gave up"), 9004, True),
    (cluster.TxnAborted("by others"), 8022, True),
    (cluster.RaftEntryTooLarge(7, 9 << 20), 8025, False),
    (cluster.ClusterMismatch("another cluster"), 1105, False),
]


@pytest.mark.parametrize(("raised", "code", "retryable"), CLUSTER)
def test_errors_of_a_cluster_have_tidbs_codes(raised, code, retryable):
    out = translate(raised)
    assert isinstance(out, sqlfront.OperationalError)
    assert (out.code, out.sqlstate, out.retryable) == (code, "HY000", retryable)
    assert str(raised) in out.message
