"""Text files are read as they were written, in whatever pieces they arrive."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coprocessor.types import BIGINT, TEXT
from sqlfront import text_files
from sqlfront.parse import FileForm
from sqlfront.text_files import read_rows, row_writer

FORMS = st.builds(
    FileForm,
    terminated=st.sampled_from(["\t", ",", "||", ";"]),
    enclosed=st.sampled_from(["", '"', "'"]),
    optionally=st.booleans(),
    escaped=st.sampled_from(["\\", "!"]),
    starting=st.sampled_from(["", "> "]),
    ending=st.sampled_from(["\n", "\r\n", "#\n"]),
)
TEXTS = st.none() | st.text(alphabet="ab\\!\"'\t,|;\n\r#> 0nNtZ\0é", max_size=8)
ROWS = st.lists(st.tuples(st.none() | st.integers(-99, 99), TEXTS, TEXTS), max_size=6)


class _Pieces(io.StringIO):
    """A file that gives a few characters at a time."""

    def __init__(self, text: str, size: int) -> None:
        super().__init__(text, newline="")
        self._size = size

    def read(self, size: int | None = -1) -> str:
        return super().read(self._size)


@given(FORMS, ROWS, st.integers(1, 40))
def test_there_and_back(form: FileForm, rows: list[tuple[object, ...]], size: int) -> None:
    data = row_writer(form, [BIGINT, TEXT, TEXT])(rows).decode()
    found = [tuple(row) for row in read_rows(_Pieces(data, size), form)]
    assert found == [tuple(str(v) if isinstance(v, int) else v for v in row) for row in rows]


@given(FORMS, st.text(alphabet="ab\\\"',\t|\n\r#> N", max_size=60), st.integers(1, 20))
def test_pieces_make_no_difference(form: FileForm, text: str, size: int) -> None:
    assert list(read_rows(_Pieces(text, size), form)) == list(read_rows(_Pieces(text, 1000), form))


@pytest.mark.parametrize(
    ("form", "text", "rows"),
    [
        (FileForm(), "", []),
        (FileForm(), "\n", [[""]]),
        (FileForm(), "a\tb", [["a", "b"]]),
        (FileForm(), "a\t\n\tb\n", [["a", ""], ["", "b"]]),
        (FileForm(), "\\N\tN\\N\tNULL\n", [[None, "NN", "NULL"]]),
        (FileForm(), "\\0\\b\\n\\r\\t\\Z\\x\n", [["\0\b\n\r\t\x1ax"]]),
        (FileForm(escaped=""), "NULL\t\\N\n", [[None, "\\N"]]),
        (FileForm(terminated=",", enclosed='"'), '"a,b","say ""x""","a"b",\\N\n', [["a,b", 'say "x"', 'a"b', None]]),
        (FileForm(terminated=",", enclosed='"'), 'NULL,"NULL"\n', [[None, "NULL"]]),
        (FileForm(starting="xxx"), "xxx1\nno\nsome xxx2\n", [["1"], ["2"]]),
        (FileForm(ending="\r\n"), "a\nb\r\nc\r\n", [["a\nb"], ["c"]]),
    ],
)
def test_cases(form: FileForm, text: str, rows: list[list[str | None]]) -> None:
    assert list(read_rows(io.StringIO(text, newline=""), form)) == rows


def test_a_row_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "ROW_CHARS_MAX", 100)
    with pytest.raises(Exception, match="is a quote not closed"):
        list(read_rows(_Pieces('"' + "x" * 1000, 50), FileForm(enclosed='"')))
