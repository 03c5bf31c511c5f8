"""SQL text to statements: the one door to sqlglot's tokenizer and parser (dialect `mysql`).

Queries and data changes stay sqlglot trees for the binder, definitions stay text; short commands (transactions, SET,
SHOW, ADMIN, ...), which sqlglot takes for something else or not at all, are read here from the same tokens into small
statements of ours. What neither side knows is refused.

    text.py        text before it is cut: scripts into statements, `/*! ... */` comments into their content
    tokens.py      tokens, and the work on them before sqlglot's parser: `?` becomes a numbered placeholder, names of
                   functions are marked so that they stay as written, INSERT ... SET becomes INSERT ... VALUES
    trees.py       sqlglot's parser, with limits on what it is given and on what comes back
    hints.py       the text of an optimizer hint, read by the binder
    commands.py    a cursor over the tokens, with one reader for each kind of statement
    files.py       readers of SELECT ... INTO and LOAD DATA
    maintenance.py readers of statements about tables that change no rows: LOCK, FLUSH, CHECK, ...
    statements.py  what comes out

sqlglot is imported by the first statement that is parsed, not with this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlfront.parse.statements import (
    AdminCancelDdlJobs,
    AdminCheckIndex,
    AdminCheckTable,
    AdminShowDdl,
    AdminShowDdlJobs,
    AnalyzeTable,
    Assignment,
    Backup,
    Begin,
    Commit,
    Ddl,
    Deallocate,
    Delete,
    Describe,
    Do,
    DropMissing,
    Execute,
    Explain,
    FileForm,
    Flush,
    ImportInto,
    ImportOption,
    Insert,
    Kill,
    LoadData,
    LockTables,
    MaintainTables,
    Nothing,
    Parsed,
    Prepare,
    Query,
    ReleaseSavepoint,
    RenameTable,
    Rollback,
    RunGc,
    Savepoint,
    SelectInto,
    SetVariables,
    Show,
    Statement,
    UnlockTables,
    Update,
    Use,
)
from sqlfront.parse.text import split_statements, with_names_in_backticks

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.tokens import Token

__all__ = [
    "FUNCTION_MARK",
    "AdminCancelDdlJobs",
    "AdminCheckIndex",
    "AdminCheckTable",
    "AdminShowDdl",
    "AdminShowDdlJobs",
    "AnalyzeTable",
    "Assignment",
    "Backup",
    "Begin",
    "Commit",
    "Ddl",
    "Deallocate",
    "Delete",
    "Describe",
    "Do",
    "DropMissing",
    "Execute",
    "Explain",
    "FileForm",
    "Flush",
    "ImportInto",
    "ImportOption",
    "Insert",
    "Kill",
    "LoadData",
    "LockTables",
    "MaintainTables",
    "Nothing",
    "Parsed",
    "Prepare",
    "Query",
    "ReleaseSavepoint",
    "RenameTable",
    "Rollback",
    "RunGc",
    "Savepoint",
    "SelectInto",
    "SetVariables",
    "Show",
    "Statement",
    "UnlockTables",
    "Update",
    "Use",
    "parse",
    "parse_expression",
    "select_item_texts",
    "split_statements",
    "tokenize",
    "with_names_in_backticks",
]

FUNCTION_MARK = "fn__"  # before the name of every ordinary call, in the trees that the binder reads


def parse(text: str) -> Parsed:
    """Parses exactly one statement; a trailing semicolon is fine. Raises ProgrammingError 1064 with the position."""
    from sqlfront.parse.commands import parse_statement

    return parse_statement(text)


def parse_expression(text: str) -> exp.Expression:
    """Parses one expression (stored defaults, generated columns)."""
    from sqlfront.parse.commands import Commands
    from sqlfront.parse.tokens import mark_functions

    tokens = mark_functions(tokenize(text))
    return Commands(text, tokens).expression(tokens)


def columns_named(tree: exp.Expression) -> list[exp.Column]:
    """The columns that an expression names; the words before the first comma of some functions are none."""
    from sqlglot import exp

    words = {
        id(call.expressions[0])
        for call in tree.find_all(exp.Anonymous)
        if str(call.this).removeprefix(FUNCTION_MARK).lower() in _WORD_FIRST and call.expressions
    }
    return [column for column in tree.find_all(exp.Column) if id(column) not in words]


_WORD_FIRST = frozenset({"timestampdiff", "timestampadd", "get_format"})


def tokenize(text: str) -> list[Token]:
    """Cuts text into tokens; raises 1064 where it cannot (an open quote or comment)."""
    from sqlfront.parse import tokens

    return tokens.tokenize(text)


def select_item_texts(text: str, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Returns the source text of each item of the outermost (first) select list, for naming the result's columns."""
    from sqlfront.parse import tokens as on_tokens

    return on_tokens.select_item_texts(text, tokens)
