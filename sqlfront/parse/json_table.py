"""JSON_TABLE before sqlglot sees it: its COLUMNS become a string, so that what is left is an ordinary call."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot.tokens import Token, TokenType

from sqlfront.parse import FUNCTION_MARK

CALL = f"{FUNCTION_MARK}json_table"
"""The call that is made: of the document, the path, and the text of COLUMNS."""


def json_tables(tokens: list[Token]) -> list[Token]:
    """Turns `JSON_TABLE(document, path COLUMNS (...))` into `json_table(document, path, 'COLUMNS (...)')`.

    What has no COLUMNS at its end stays as it is.
    """
    if not any(_is_name(token) for token in tokens):
        return tokens
    out: list[Token] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        columns = _columns_of(tokens, at)
        if columns is None:
            out.append(token)
            at += 1
            continue
        end = _closing(tokens, columns + 1)
        out.append(Token(TokenType.VAR, CALL, token.line, token.col, token.start, token.end))
        out += json_tables(tokens[at + 1 : columns])
        first = tokens[columns]
        place = (first.line, first.col, first.start, first.end)
        out.append(Token(TokenType.COMMA, ",", *place))
        out.append(Token(TokenType.STRING, _text(tokens[columns : end + 1]), *place))
        at = end + 1
    return out


def _columns_of(tokens: Sequence[Token], at: int) -> int | None:
    """Where the COLUMNS of a JSON_TABLE is that begins at a token, and ends with them."""
    if not _is_name(tokens[at]):
        return None
    end = _closing(tokens, at + 1)
    depth = 0
    for i in range(at + 1, end):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(tokens[i].token_type, 0)
        if depth == 1 and tokens[i].text.upper() == "COLUMNS" and tokens[i].token_type != TokenType.STRING:
            return i if _closing(tokens, i + 1) == end - 1 else None
    return None


def _is_name(token: Token) -> bool:
    return token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER) and token.text.upper() == "JSON_TABLE"


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
