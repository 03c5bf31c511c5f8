"""System variables: scopes, values, defaults, and the attributes that follow them."""

import datetime as dt

import pytest

import sqlfront
from sqlfront.variables import ALIASES, DEFAULT, VARIABLES, GlobalVariables, Variables, duration_ms, text_of, zone_of


@pytest.fixture
def both():
    shared = GlobalVariables()
    return shared, Variables(shared)


def code_of(call):
    with pytest.raises(sqlfront.DatabaseError) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_every_default_is_a_value_of_its_variable(name):
    variable = VARIABLES[name]
    if not variable.read_only:
        notes = []
        assert variable.accept(variable.default, notes) == variable.default
        assert notes == []


def test_errors(both):
    _, v = both
    with pytest.raises(sqlfront.DatabaseError, match="did you mean 'autocommit'") as caught:
        v.get("autocomit")
    assert caught.value.code == 1193
    assert code_of(lambda: v.set("nope", 1)) == 1193
    assert code_of(lambda: v.set("autocommit", "perhaps")) == 1231
    assert code_of(lambda: v.set("autocommit", 2)) == 1231
    assert code_of(lambda: v.set("innodb_lock_wait_timeout", "x")) == 1232
    assert code_of(lambda: v.set("innodb_lock_wait_timeout", 1.5)) == 1232
    assert code_of(lambda: v.set("version", "9")) == 1238
    assert code_of(lambda: v.set("version", "9", "global")) == 1238
    assert code_of(lambda: v.set("tidb_gc_life_time", "1h")) == 1229
    assert code_of(lambda: v.set("tidb_snapshot", "", "global")) == 1228
    assert code_of(lambda: v.get("tidb_snapshot", "global")) == 1238
    assert code_of(lambda: v.set("time_zone", "Mars/Olympus")) == 1298
    assert code_of(lambda: v.set("time_zone", "+15:00")) == 1298
    assert code_of(lambda: v.set("sql_mode", "STRICT_TRANS_TABLES,NONSENSE")) == 1231
    assert code_of(lambda: v.set("sql_mode", "PIPES_AS_CONCAT")) == 1235
    assert code_of(lambda: v.set("tx_isolation", "SERIALIZABLE")) == 8048
    assert code_of(lambda: v.set("tx_isolation", "SNAPSHOT")) == 1231
    assert code_of(lambda: v.set("names", "klingon")) == 1115
    assert code_of(lambda: v.set("collation_connection", "klingon_ci")) == 1273
    assert code_of(lambda: v.set("sql_safe_updates", 1)) == 1235


def test_a_refused_value_changes_nothing(both):
    _, v = both
    with pytest.raises(sqlfront.DatabaseError):
        v.set("sql_mode", "NONSENSE")
    assert v.strict
    assert v.get("sql_mode") == VARIABLES["sql_mode"].default


def test_switches(both):
    _, v = both
    for word, value in (("OFF", 0), ("on", 1), (0, 0), ("1", 1), (False, 0), ("TRUE", 1)):
        v.set("autocommit", word)
        assert v.get("autocommit") == value
        assert v.autocommit is bool(value)
    assert text_of("autocommit", 1) == "ON"


def test_integers_are_cut_to_their_range(both):
    _, v = both
    (note,) = v.set("innodb_lock_wait_timeout", 100000)
    assert note[:2] == ("Warning", 1292)
    assert v.get("innodb_lock_wait_timeout") == 3600
    assert v.lock_wait_ms == 3600000
    assert v.set("innodb_lock_wait_timeout", "7") == []
    assert v.lock_wait_ms == 7000


def test_session_and_global(both):
    shared, v = both
    v.set("innodb_lock_wait_timeout", 5, "global")
    assert v.get("innodb_lock_wait_timeout") == 50
    assert v.get("innodb_lock_wait_timeout", "global") == 5
    later = Variables(shared)
    assert (later.get("innodb_lock_wait_timeout"), later.lock_wait_ms) == (5, 5000)
    v.set("innodb_lock_wait_timeout", DEFAULT)
    assert v.get("innodb_lock_wait_timeout") == 5
    v.set("innodb_lock_wait_timeout", DEFAULT, "global")
    assert v.get("innodb_lock_wait_timeout", "global") == 50
    assert v.get("tidb_gc_life_time") == "10m0s"


def test_callbacks_may_refuse(both):
    shared, v = both
    seen = []
    v.on_change("autocommit", seen.append)
    v.set("AutoCommit", 0)
    assert seen == [0]

    def refuse(value):
        raise sqlfront.OperationalError("no")

    v.on_change("autocommit", refuse)
    shared.on_change("tidb_gc_life_time", refuse)
    for call in (lambda: v.set("autocommit", 1), lambda: v.set("tidb_gc_life_time", "1h", "global")):
        with pytest.raises(sqlfront.OperationalError):
            call()
    assert not v.autocommit
    assert v.get("tidb_gc_life_time", "global") == "10m0s"


def test_sql_mode(both):
    _, v = both
    v.set("sql_mode", "")
    assert (v.strict, v.only_full_group_by, v.error_for_division_by_zero, v.sql_modes) == (
        False,
        False,
        False,
        frozenset(),
    )
    v.set("sql_mode", "traditional")
    assert v.strict
    assert "NO_ZERO_DATE" in v.sql_modes
    v.set("sql_mode", " strict_all_tables , no_auto_value_on_zero")
    assert v.get("sql_mode") == "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO"
    assert v.no_auto_value_on_zero


def test_aliases_are_one_variable(both):
    _, v = both
    v.set("tx_isolation", "read-committed")
    assert v.get("transaction_isolation") == "READ-COMMITTED" == v.isolation
    assert set(ALIASES.values()) <= set(VARIABLES)
    listed = dict(v.all())
    assert listed["tx_isolation"] == listed["transaction_isolation"] == "READ-COMMITTED"


def test_set_names(both):
    _, v = both
    v.set("names", "utf8")
    assert v.get("character_set_client") == "utf8mb4"
    v.set_names("latin1")
    assert v.get("collation_connection") == "latin1_bin"
    v.set_names("utf8mb4", "utf8mb4_general_ci")
    assert v.get("collation_connection") == "utf8mb4_general_ci"
    assert code_of(lambda: v.set_names("latin1", "utf8mb4_bin")) == 1253


def test_zones(both):
    _, v = both
    v.set("time_zone", "+05:30")
    assert v.zone.utcoffset(None) == dt.timedelta(hours=5, minutes=30)
    v.set("time_zone", "-13:59")
    v.set("time_zone", "Europe/Berlin")
    assert dt.datetime(2024, 7, 1, tzinfo=v.zone).utcoffset() == dt.timedelta(hours=2)
    assert zone_of("UTC") is dt.UTC
    assert zone_of("+00:00") is dt.UTC


def test_listing_and_lookups(both):
    _, v = both
    names = [name for name, _ in v.all()]
    assert names == sorted(names)
    assert "tidb_snapshot" not in dict(v.all("global"))
    assert dict(v.all())["autocommit"] == "ON"
    v.set("sql_select_limit", 10)
    assert v.select_limit == 10
    v.set("sql_select_limit", DEFAULT)
    assert v.select_limit is None
    v.tell("warning_count", lambda: 3)
    assert v.get("warning_count") == 3
    v.set("tidb_txn_mode", "optimistic")
    assert not v.pessimistic


@pytest.mark.parametrize(("text", "ms"), [("10m0s", 600000), ("1h30m", 5400000), ("500ms", 500), ("1.5s", 1500)])
def test_durations(text, ms):
    assert duration_ms(text) == ms
