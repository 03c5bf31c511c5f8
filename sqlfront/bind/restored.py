"""How stored expressions are spelled: generated columns, defaults, CHECKs, parts of keys, as MySQL and TiDB do it."""

from __future__ import annotations

from sqlglot.tokens import Token, TokenType

from sqlfront.catalog.describe import quote_name
from sqlfront.parse import columns_named, parse_expression, tokenize


def restored(text: str) -> str:
    """An expression's text as TiDB writes it back: on one line, columns in backticks, other words in lower case."""
    names = {
        column.this.meta["start"]: column.name
        for column in columns_named(parse_expression(text))
        if "start" in column.this.meta
    }
    out: list[str] = []
    before: Token | None = None
    signed = False
    for token in tokenize(text):
        spelled = _spelled(token, names, text)
        if before is not None and (not signed or token.token_type in _SIGNS):  # two dashes begin a comment
            out.append(_space(before, token, names))
        signed = token.token_type in _SIGNS and (before is None or before.token_type in _BEFORE_SIGN)
        out.append(spelled)
        before = token
    return "".join(out)


def _spelled(token: Token, names: dict[int, str], text: str) -> str:
    if token.start in names:
        return quote_name(names[token.start])
    written = text[token.start : token.end + 1]
    if token.token_type == TokenType.IDENTIFIER:
        return quote_name(token.text)
    if written[0] == '"':
        return "'" + written[1:-1].replace('""', '"').replace("'", "''") + "'"
    return written if "'" in written else written.lower()


def _space(before: Token, token: Token, names: dict[int, str]) -> str:
    """What stands between two tokens: one space, but none within parentheses, before a comma and in a call."""
    if before.token_type in _TIGHT_AFTER or token.token_type in _TIGHT_BEFORE:
        return ""
    called = token.token_type == TokenType.L_PAREN and before.end + 1 == token.start
    return "" if called and before.text[-1:].isalnum() and before.start not in names else " "


_TIGHT_AFTER = frozenset({TokenType.L_PAREN, TokenType.DOT, TokenType.INTRODUCER})
_TIGHT_BEFORE = frozenset({TokenType.R_PAREN, TokenType.DOT, TokenType.COMMA})
_SIGNS = frozenset({TokenType.DASH, TokenType.PLUS, TokenType.TILDE})
_BEFORE_SIGN = frozenset(
    {TokenType.L_PAREN, TokenType.COMMA, TokenType.DASH, TokenType.PLUS, TokenType.STAR, TokenType.SLASH, TokenType.EQ}
)
"""What may stand before a sign that is no operator between two values."""
