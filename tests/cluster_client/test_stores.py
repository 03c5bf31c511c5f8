"""What the placement driver's list of stores tells."""

from __future__ import annotations

from kvstore.client.cluster.stores import StoreFeatures, features_of, version_of
from kvstore.proto.metapb_pb2 import Offline, Store, StoreLabel, StoreState, Tombstone, Up

ARROW = {"zone": "a", "engine_encodings": "arrow"}


def store(
    number: int, version: str = "8.5.0", labels: dict[str, str] | None = None, state: StoreState.ValueType = Up
) -> Store:
    made = [StoreLabel(key=key, value=value) for key, value in (labels or {}).items()]
    return Store(id=number, address=f"kv{number}:20160", version=version, labels=made, state=state)


def test_arrow_is_asked_for_where_all_stores_of_rows_say_so() -> None:
    assert features_of([store(1, labels=ARROW), store(2, labels=ARROW)]) == StoreFeatures(True, ())
    assert not features_of([store(1, labels=ARROW), store(2)]).answers_arrow
    assert not features_of([]).answers_arrow
    assert features_of([store(1, labels={"engine_encodings": "other,arrow"})]).answers_arrow
    assert not features_of([store(1, labels={"engine_encodings": "arrow2"})]).answers_arrow


def test_a_store_that_leaves_counts_and_one_that_is_gone_does_not() -> None:
    assert not features_of([store(1, labels=ARROW), store(2, state=Offline)]).answers_arrow
    gone = store(2, "4.0.16", state=Tombstone)
    tiflash = store(3, "4.0.0", {"engine": "tiflash"})
    assert features_of([store(1, labels=ARROW), gone, tiflash]) == StoreFeatures(True, ())


def test_stores_that_are_too_old() -> None:
    stores = [store(1, "4.0.16"), store(2, "v5.0.0"), store(3, "6.5.3-alpha-12"), store(4, "3.1.0-beta.1")]
    assert features_of(stores).too_old == ("kv1:20160 (4.0.16)", "kv4:20160 (3.1.0-beta.1)")


def test_versions() -> None:
    assert version_of(store(1, "7.1.10")) == (7, 1, 10)
    assert version_of(store(1, "nightly")) is None
    assert features_of([store(1, "nightly")]).too_old == ()
