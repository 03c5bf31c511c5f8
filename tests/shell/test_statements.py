"""Splitting SQL text into statements, however it is cut into chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shell import statements
from shell.statements import Command, Piece, Splitter, Statement, StatementTooLong, split


def texts(source: str) -> list[str]:
    return [p.text for p in split(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("select 1", ["select 1"]),
        ("select 1;", ["select 1"]),
        (" select 1 ; \n\n select 2 ", ["select 1", "select 2"]),
        (";;;", []),
        ("", []),
        ("select ';', \";\", `;`; select 2", ["select ';', \";\", `;`", "select 2"]),
        (r"select 'it\'s;', 'it''s;'; x", [r"select 'it\'s;', 'it''s;'", "x"]),
        (r"select '\\'; x", [r"select '\\'", "x"]),
        ("select `a``;b`; x", ["select `a``;b`", "x"]),
        (r"select `\`; x", [r"select `\`", "x"]),
        ("select 1 -- no; end\n+ 1; x", ["select 1 -- no; end\n+ 1", "x"]),
        ("select 1--1; x", ["select 1--1", "x"]),
        ("select 1 # no; end\n; x", ["select 1 # no; end", "x"]),
        ("select /* ; ' */ 1; x", ["select /* ; ' */ 1", "x"]),
        ("-- only a comment;\n/* and ; this */ # and\n", []),
        ("-- title\nselect 1;", ["select 1"]),
        ("/*!40101 SET NAMES utf8 */;", ["/*!40101 SET NAMES utf8 */"]),
        ("/*T![clustered] x */; /*+ hint */ select 1", ["/*T![clustered] x */", "/*+ hint */ select 1"]),
        ("select 4/2; select 3 / -1; select 5-", ["select 4/2", "select 3 / -1", "select 5-"]),
        ("select 'open; select 2", ["select 'open; select 2"]),
        ("select /* open; select 2", ["select /* open; select 2"]),
        ("delimiter //\ncreate x; y//\nDELIMITER ;\nselect 1; x", ["create x; y", "select 1", "x"]),
        ("delimiter $$\na;b$$ c$$\ndelimiter\nd;e", ["a;b", "c", "d", "e"]),
        ("delimiters; x", ["delimiters", "x"]),
        ("describe t; delete from t;", ["describe t", "delete from t"]),
        ("select 1--", ["select 1--"]),
        ("select 1 \\x; y", ["select 1 \\x", "y"]),
    ],
)
def test_split(source: str, expected: list[str]) -> None:
    assert texts(source) == expected


def test_terminators_tell_how_to_show_the_result() -> None:
    assert split("a\\G b\\g c;d") == [
        Statement("a", 1, "\\G"),
        Statement("b", 1, "\\g"),
        Statement("c", 1, ";"),
        Statement("d", 1, ""),
    ]


def test_a_backslash_line_is_a_command_only_between_statements() -> None:
    source = "\\dt\n-- note\n  \\d flights\nselect\n\\G\nselect 1; \\q\n"
    assert split(source) == [
        Command("\\dt", 1),
        Command("\\d flights", 3),
        Statement("select", 4, "\\G"),
        Statement("select 1", 6, ";"),
        Command("\\q", 6),
    ]


def test_lines_are_those_of_the_first_character() -> None:
    source = "\n\n-- x\nselect 'a\nb';\n/* c\nd */ select 2;\n\n\nselect 3"
    assert [(p.line, p.text) for p in split(source)] == [(4, "select 'a\nb'"), (7, "select 2"), (10, "select 3")]


@pytest.mark.parametrize(
    ("source", "waits_for"),
    [
        ("", ""),
        ("  \n", ""),
        ("select 1;", ""),
        ("select 1\n", "-"),
        ("select 'a", "'"),
        ('select "a', '"'),
        ("select `a", "`"),
        ("/* a", "/*"),
        ("select 1 /* a", "/*"),
        ("-- a", ""),
        ("select 1; select", "-"),
    ],
)
def test_continuation(source: str, waits_for: str) -> None:
    splitter = Splitter()
    list(splitter.feed(source + "\n"))
    assert splitter.continuation == waits_for


def test_a_statement_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "STATEMENT_CHARS_MAX", 100)
    splitter = Splitter()
    assert len(list(splitter.feed("select 1;" * 11))) == 11
    assert len(list(splitter.feed("select 2;" * 11))) == 11
    with pytest.raises(StatementTooLong):
        list(splitter.feed("select '" + "x" * 100))


def feed_in_chunks(source: str, cuts: list[int]) -> list[Piece]:
    splitter, pieces, start = Splitter(), [], 0
    for cut in [*sorted(cuts), len(source)]:
        pieces += splitter.feed(source[start:cut])
        start = max(start, cut)
    return [*pieces, *splitter.finish()]


MARKS = ["'", '"', "`", ";", "\\", "\\G", "\\g", "-", "--", "-- ", "#", "/", "*", "/*", "*/", "/*!", "\n", " ", "''"]
WORDS = ["a", "é", "select 1", "delimiter //\n", "delimiter ;\n", "//", "\\'", "d", "delim", "\\dt"]
fragments = st.sampled_from(MARKS + WORDS)


@given(st.lists(fragments, max_size=25).map("".join), st.lists(st.integers(0, 60), max_size=8))
def test_chunks_do_not_matter(source: str, cuts: list[int]) -> None:
    assert feed_in_chunks(source, [min(c, len(source)) for c in cuts]) == split(source)


plain_statement = st.lists(
    st.one_of(
        st.sampled_from(["select", "1", ",", "a.b", "4/2", "5-1", "(", ")", "/* c; ' */", "-- c;'\n", "# c;\n", "\n"]),
        st.text(alphabet="ab;'\"`#-/* \n\\é", max_size=6).map(
            lambda t: "'" + t.replace("\\", "\\\\").replace("'", "''") + "'"
        ),
        st.text(alphabet="ab;'\"#-/* \n\\", max_size=6).map(lambda t: "`" + t.replace("`", "``") + "`"),
    ),
    min_size=1,
    max_size=8,
).map(lambda parts: "x " + " ".join(parts))


@given(st.lists(plain_statement, max_size=6))
def test_joined_statements_come_apart_again(parts: list[str]) -> None:
    closed = [p + "\n" for p in parts]
    assert texts(";".join(closed)) == [p.rstrip() for p in closed]
