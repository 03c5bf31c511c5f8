"""The text of optimizer hints: what READ_FROM_STORAGE asks for, what is stepped over, what is a warning."""

from __future__ import annotations

import pytest
from sqlglot import exp

from sqlfront import parse
from sqlfront.parse.hints import read_hints

READ = [
    ("READ_FROM_STORAGE(TIKV[t1, t2], TIFLASH[t3])", ["tikv t1", "tikv t2", "tiflash t3"]),
    ("read_from_storage(tiflash[d.t])", ["tiflash d.t"]),
    ("read_from_storage(tiflash[`a b`.`c``d`, é])", ["tiflash a b.c`d", "tiflash é"]),
    ("read_from_storage(tikv[a]) read_from_storage(tiflash[b])", ["tikv a", "tiflash b"]),
    ("HASH_JOIN(t1, t2), MAX_EXECUTION_TIME(1000) read_from_storage(tikv[a]), NO_BKA", ["tikv a"]),
    ("SET_VAR(sort_buffer_size = 16M) USE_INDEX(@b t i) x((1), ')') read_from_storage(tikv[a])", ["tikv a"]),
    ("", []),
    ("foo bar()", []),
]


@pytest.mark.parametrize(("text", "expected"), READ, ids=[r[0] for r in READ])
def test_read(text: str, expected: list[str]) -> None:
    comment = read_hints(text)
    assert [f"{engine} {table}" for engine, table in comment.engines] == expected
    assert comment.warnings == []


WRONG = [
    ("read_from_storage", " at its end"),
    ("read_from_storage()", " near ')'"),
    ("read_from_storage(tidb[t])", " near 'tidb [ t ] )'"),
    ("read_from_storage(tikv[])", " near '] )'"),
    ("read_from_storage(tikv[t]", " at its end"),
    ("read_from_storage(tikv[t,])", " near '] )'"),
    ("read_from_storage(tikv['t'])", " near ''t' ] )'"),
    ("read_from_storage(tikv(t))", " near '( t ) )'"),
    ("it's", " near '' s'"),
    ("foo(", " at its end"),
]


@pytest.mark.parametrize(("text", "where"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong_is_a_warning(text: str, where: str) -> None:
    comment = read_hints("read_from_storage(tikv[before]), " + text)
    assert comment.warnings == [(1064, "Optimizer hint syntax error" + where)]
    assert [str(table) for _, table in comment.engines] == ["before"]


@pytest.mark.parametrize("text", ["read_from_storage(@b tikv[t])", "read_from_storage(tikv[t@b, u])"])
def test_other_query_blocks_are_not_reached(text: str) -> None:
    comment = read_hints(text)
    assert comment.engines == []
    assert [code for code, _ in comment.warnings] == [8061]


TEXTS = ["a(b)", "", " it's ", "x(" * 100_000, "f(1 + select), )", "`", "hint_1", "read_from_storage(tikv[t])"]


@pytest.mark.parametrize("text", TEXTS, ids=[t[:12] for t in TEXTS])
def test_no_hint_fails_a_statement_and_its_text_is_kept(text: str) -> None:
    sql = f"select /*+{text}*/ a, (select /*+ inner(x) */ 1) from t"
    statement = parse.parse(sql).statement
    assert isinstance(statement, parse.Query)
    hints = [hint.expressions[0] for hint in statement.ast.find_all(exp.Hint)]
    assert sorted(hints) == sorted([text, " inner(x) "])
