"""Weights of characters, against values of MariaDB's and of Unicode's table, and the texts that stand for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coprocessor.codec.collation import sort_key
from coprocessor.functions.collation import sort_key as comparison_key
from coprocessor.types import TEXT
from coprocessor.weights import Weights, weights_of

GENERAL, UNICODE, UCA9 = "utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_0900_ai_ci"
ALL = (GENERAL, UNICODE, UCA9)
# SELECT HEX(WEIGHT_STRING('…' COLLATE …)) of MariaDB 10.11; the last column from allkeys.txt 9.0.0
KEYS = [
    ("a", "0041", "0E33", "1C47"),
    ("É", "0045", "0E8B", "1CAA"),
    ("ß", "0053", "0FEA0FEA", "1E711E71"),
    (" ", "0020", "0209", "0209"),
    ("\u3042", "3042", "1E52", "3D5A"),
    ("一", "4E00", "FB40CE00", "FB40CE00"),
    ("가", "AC00", "FBC1AC00", "3BF53C73"),
    ("ﬀ", "FB00", "0EB90EB9", "1CE51CE5"),
    ("\ufdfa", "FDFA", "FBC1FDFA", "2364239C23C50209230B239C239C23B1"),
    ("\ufffd", "FFFD", "0DC6", "FFFD"),
    ("😀", "FFFD", "FFFD", "15FB"),
    ("\u0301", "0301", "", ""),
    ("\x01", "0001", "", ""),
    ("𠀀", "FFFD", "FFFD", "FB848000"),
    ("\U00017000", "FFFD", "FFFD", "FB008000"),
]  # fmt: skip


def table(collate: str) -> Weights:
    found = weights_of(collate)
    assert found is not None
    return found


@pytest.mark.parametrize(("text", "general", "unicode", "uca9"), KEYS, ids=[f"U+{ord(k[0]):04X}" for k in KEYS])
def test_keys(text: str, general: str, unicode: str, uca9: str) -> None:
    assert [table(c).key(text).hex().upper() for c in ALL] == [general, unicode, uca9]


def test_what_has_no_weights() -> None:
    assert weights_of("utf8mb4_bin") is None
    assert weights_of("gbk_chinese_ci") is None
    assert weights_of("utf8_general_ci") is weights_of(GENERAL)


@pytest.mark.parametrize("collate", ALL)
@given(a=st.text(max_size=4), b=st.text(max_size=4))
def test_texts_that_stand_for_weights_are_the_same_when_these_are(collate: str, a: str, b: str) -> None:
    weights = table(collate)
    assert (weights.alike(a) == weights.alike(b)) == (weights.key(a) == weights.key(b))
    weights.alike(a).encode()  # it goes into DuckDB


@given(a=st.text(max_size=4), b=st.text(max_size=4))
def test_general_texts_also_sort_as_their_weights(a: str, b: str) -> None:
    weights = table(GENERAL)
    assert (weights.alike(a) < weights.alike(b)) == (weights.key(a) < weights.key(b))


@pytest.mark.parametrize("collate", ALL)
@given(text=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.sampled_from("\t\n\v\f\r"), max_size=8))
def test_printable_ascii_is_folded_as_duckdb_folds_it(collate: str, text: str) -> None:
    folded = text.upper() if collate == GENERAL else text.lower()
    assert table(collate).alike(text) == folded


@pytest.mark.parametrize("collate", ALL)
@given(text=st.text(max_size=6))
def test_classes_are_one_character_each(collate: str, text: str) -> None:
    weights = table(collate)
    classes = weights.classes(text)
    assert len(classes) == len(text)
    for i, a in enumerate(text):
        for j, b in enumerate(text):
            assert (classes[i] == classes[j]) == (weights.key(a) == weights.key(b))


@pytest.mark.parametrize(
    ("collate", "same"), [(GENERAL, True), (UNICODE, True), (UCA9, False), ("utf8mb4_bin", True)]
)  # fmt: skip
def test_trailing_spaces(collate: str, same: bool) -> None:
    key, compared = sort_key(collate), comparison_key(TEXT.with_(collate=collate))
    assert (key("x  ") == key("x")) is same
    assert compared is not None
    assert (compared("x  ") == compared("x")) is same
    assert key("x\xa0") != key("x")


@pytest.mark.parametrize("collate", ALL)
@given(a=st.characters(exclude_categories=["Cs"]), rest=st.text(max_size=3))
def test_what_follows_is_behind_all_that_begins_alike(collate: str, a: str, rest: str) -> None:
    weights = table(collate)
    following = weights.following(a)
    if following is not None:
        assert weights.key(a) < weights.key(following)
        assert weights.key(a + rest) < weights.key(following)
