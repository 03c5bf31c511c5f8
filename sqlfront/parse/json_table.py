"""JSON_TABLE and JSON_VALUE before sqlglot sees them: what no other call has becomes a string argument."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot.tokens import Token, TokenType

from sqlfront.parse import FUNCTION_MARK

CALL = f"{FUNCTION_MARK}json_table"
"""The call that is made: of the document, the path, and the text of COLUMNS."""

_VALUE_CALL = f"{FUNCTION_MARK}json_value_as"
MADE_CALLS = frozenset({CALL, _VALUE_CALL})
_NAMES = ("JSON_TABLE", "JSON_VALUE")
_CLAUSES = ("RETURNING", "NULL", "ERROR", "DEFAULT")


def json_tables(tokens: list[Token]) -> list[Token]:
    """Turns `JSON_TABLE(document, path COLUMNS (...))` into `json_table(document, path, 'COLUMNS (...)')`, and
    `JSON_VALUE(document, path RETURNING ...)` into `json_value_as(document, path, 'RETURNING ...')`.

    What has no COLUMNS, and none of JSON_VALUE's clauses, stays as it is.
    """
    if not any(_is_name(token) for token in tokens):
        return tokens
    out: list[Token] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        start = _text_of(tokens, at)
        if start is None:
            out.append(token)
            at += 1
            continue
        end = _closing(tokens, at + 1) - 1
        call = CALL if token.text.upper() == "JSON_TABLE" else _VALUE_CALL
        out.append(Token(TokenType.VAR, call, token.line, token.col, token.start, token.end))
        out += json_tables(tokens[at + 1 : start])
        first = tokens[start]
        place = (first.line, first.col, first.start, first.end)
        out.append(Token(TokenType.COMMA, ",", *place))
        out.append(Token(TokenType.STRING, _text(tokens[start : end + 1]), *place))
        at = end + 1
    return out


def _text_of(tokens: Sequence[Token], at: int) -> int | None:
    """Where what becomes a string begins, of the call that begins at a token and ends with it."""
    if not _is_name(tokens[at]):
        return None
    end = _closing(tokens, at + 1)
    of_table = tokens[at].text.upper() == "JSON_TABLE"
    depth = 0
    for i in range(at + 1, end):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(tokens[i].token_type, 0)
        if depth != 1 or tokens[i].token_type == TokenType.STRING:
            continue
        word = tokens[i].text.upper()
        if of_table and word == "COLUMNS":
            return i if _closing(tokens, i + 1) == end - 1 else None
        if not of_table and word in _CLAUSES and tokens[i - 1].token_type == TokenType.STRING:
            return i
    return None


def _is_name(token: Token) -> bool:
    return token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER) and token.text.upper() in _NAMES


def _closing(tokens: Sequence[Token], at: int) -> int:
    """Where the parenthesis ends that a token opens; 0 where it opens none, or one that does not end."""
    depth = 0
    for i in range(at, len(tokens)):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(tokens[i].token_type, 0)
        if depth == 0:
            return i if i > at else 0
    return 0


def _text(tokens: Sequence[Token]) -> str:
    """The text of tokens, each at its place in the statement where there is room, for positions in errors."""
    out = ""
    for token in tokens:
        text = token.text
        if token.token_type == TokenType.STRING:
            text = "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
        elif token.token_type == TokenType.IDENTIFIER:
            text = "`" + text.replace("`", "``") + "`"
        out = out.ljust(max(token.start, len(out) + 1)) + text
    return out
