"""Tokens, by sqlglot's tokenizer for MySQL, and the work done on them before its parser sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import TokenError
from sqlglot.tokens import Token, TokenType

from sqlfront.errors import ER_PARSE, DatabaseError, error
from sqlfront.parse import FUNCTION_MARK
from sqlfront.parse.json_table import MADE_CALLS, json_tables
from sqlfront.parse.text import near, open_quote


@cache
def dialect() -> Dialect:
    return Dialect.get_or_raise("mysql")


# Words that sqlglot's tokenizer swallows together with the rest of the statement when they come first.
_SWALLOWED = re.compile(
    r"\s*(?:/\*.*?\*/\s*|--[ \t][^\n]*\n\s*|#[^\n]*\n\s*)*"
    r"(REPLACE|RENAME|PREPARE|EXECUTE|LOCK|UNLOCK|CALL|OPTIMIZE|FETCH|SHOW|EXPLAIN|REPAIR|LOAD|IMPORT|CHECKSUM|HANDLER|DO)\b",
    re.IGNORECASE | re.DOTALL,
)


def tokenize(text: str) -> list[Token]:
    """Cuts text into tokens; raises 1064 where it cannot (an open quote or comment)."""
    first = _SWALLOWED.match(text)
    masked = text
    if first is not None:
        masked = text[: first.start(1)] + "_" * len(first.group(1)) + text[first.end(1) :]
    try:
        tokens = _apart(list(dialect().tokenize(masked)))
    except TokenError as exc:
        position = open_quote(text)
        raise error(ER_PARSE, "unterminated quote or comment" + near(text, position), position=position) from exc
    if first is None:
        return tokens
    at = tokens[0]
    tokens[0] = Token(TokenType.VAR, first.group(1), at.line, at.col, at.start, at.end)
    return tokens


_EXPONENT_AND_SIGN = re.compile(r"((?:\d+\.?\d*|\.\d+)[eE]\d+)([-+])")


def _apart(tokens: list[Token]) -> list[Token]:
    """Cuts `1e0-1` at the sign, which sqlglot takes for that of the exponent though that has its digits."""
    out: list[Token] = []
    for token in tokens:
        found = None
        if token.token_type in (TokenType.NUMBER, TokenType.VAR):
            found = _EXPONENT_AND_SIGN.match(token.text)
        if found is None:
            out.append(token)
            continue
        line, col, start = token.line, token.col, token.start
        sign = TokenType.DASH if found[2] == "-" else TokenType.PLUS
        out.append(Token(TokenType.NUMBER, found[1], line, col, start, start + found.end(1) - 1))
        out.append(Token(sign, found[2], line, col, start + found.start(2), start + found.start(2)))
        for rest in _apart(list(dialect().tokenize(token.text[found.end() :]))):
            place = start + found.end()
            out.append(Token(rest.token_type, rest.text, line, col, place + rest.start, place + rest.end))
    return out


def number_placeholders(tokens: Sequence[Token], names: list[str]) -> tuple[list[Token], int]:
    """Rewrites every `?` to `:1`, `:2`, ... in order of text and collects the names of `:name` placeholders."""
    out: list[Token] = []
    count = 0
    previous: Token | None = None
    for token in tokens:
        if token.token_type == TokenType.PLACEHOLDER and token.text == "?":
            count += 1
            at = (token.line, token.col, token.start, token.end)
            out.append(Token(TokenType.COLON, ":", *at))
            out.append(Token(TokenType.VAR, str(count), *at))
        elif token.token_type == TokenType.FLOAT and token.text.upper() == "REAL":
            # MySQL's REAL is DOUBLE; sqlglot takes it for FLOAT.
            out.append(Token(TokenType.DOUBLE, "DOUBLE", token.line, token.col, token.start, token.end))
        else:
            out.append(token)
            if previous is not None and previous.token_type == TokenType.COLON and is_word(token):
                if token.text not in names:
                    names.append(token.text)
        previous = token
    return out, count


_UNDECODED = re.compile("[\udc80-\udcff]")


def bytes_as_hex(tokens: Sequence[Token]) -> list[Token]:
    """Makes binary literals of strings with bytes that are no UTF-8 (Python's surrogate escapes): dumps have such.

    Raises 1300 where they stand elsewhere.
    """
    out: list[Token] = []
    for token in tokens:
        if _UNDECODED.search(token.text):
            if token.token_type != TokenType.STRING:
                raise invalid_text(token.text, token.start)
            if out and out[-1].text.upper() == "_BINARY":
                out.pop()
            digits = token.text.encode("utf-8", "surrogateescape").hex()
            token = Token(TokenType.HEX_STRING, digits, token.line, token.col, token.start, token.end)
        out.append(token)
    return out


def refuse_bytes(text: str) -> None:
    """Raises 1300 for text with bytes that are no UTF-8."""
    found = _UNDECODED.search(text)
    if found is not None:
        raise invalid_text(text[found.start() : found.start() + 40], found.start())


def invalid_text(text: str, position: int) -> DatabaseError:
    shown = _UNDECODED.sub(lambda m: f"\\x{ord(m[0]) - 0xDC00:02X}", text)
    return error(1300, f"Invalid utf8mb4 character string: '{shown}'", position=position)


SELECT_OPTIONS = frozenset(
    """
    DISTINCT ALL DISTINCTROW STRAIGHT_JOIN SQL_CALC_FOUND_ROWS HIGH_PRIORITY SQL_SMALL_RESULT
    SQL_BIG_RESULT SQL_BUFFER_RESULT SQL_NO_CACHE SQL_CACHE
    """.split()
)

_DUPLICATES = frozenset({"DISTINCT", "DISTINCTROW", "ALL"})

# Calls with a grammar of their own, which sqlglot reads into trees that keep every word of it.
_SPECIAL_CALLS = (
    frozenset(
        """
    CAST CONVERT EXTRACT TRIM GROUP_CONCAT CHAR POSITION SUBSTRING SUBSTR MID VALUES IN EXISTS ANY ALL
    BOTH LEADING TRAILING FOR ESCAPE EXPLAIN DESCRIBE DESC VALUE DO
    SOME OVER AS AND OR NOT XOR WHERE ON USING SELECT FROM JOIN BY HAVING WHEN THEN ELSE CASE LIKE
    BETWEEN IS DIV ROW INTERVAL SET WITH UNION DISTINCT LIMIT MATCH AGAINST KEY INDEX JSON_TABLE
    WEIGHT_STRING REGEXP RLIKE RETURNING SEPARATOR PARTITION INTERSECT EXCEPT MEMBER OF DECIMAL NUMERIC
    DEC FLOAT DOUBLE VARCHAR NCHAR DATETIME SIGNED BINARY LATERAL INTO TABLE FORCE IGNORE USE SOUNDS
    """.split()
    )
    | SELECT_OPTIONS
)
_NAME_BEFORE = frozenset(
    """
    INTO TABLE JOIN UPDATE AS . WITH RECURSIVE FROM INSERT REPLACE IGNORE
    """.split()
)

_CALLS_WITH_FROM = frozenset({"TRIM", "EXTRACT", "SUBSTRING", "SUBSTR", "MID"})


def mark_functions(tokens: list[Token]) -> list[Token]:
    """Prefixes the names of ordinary calls, so that sqlglot leaves them as they are written.

    Its own function nodes rename, reorder and rewrite arguments for other dialects; the catalogue wants MySQL's words.
    Temporal literals (`DATE '...'`, `{d '...'}`) become calls too, `{OJ ...}` round a join becomes parentheses, and
    unary plus, which sqlglot does not know, goes.
    """
    out: list[Token] = []
    tokens = collated_in_parentheses(amounts_in_parentheses(json_tables(tokens)))
    joins = 0
    i = 0
    while i < len(tokens):
        token = tokens[i]
        after = tokens[i + 1] if i + 1 < len(tokens) else None
        if token.token_type == TokenType.PLUS and (not out or _operand_follows(out[-1])):
            i += 1
            continue
        word = token.text.upper()
        if word in _RESERVED and token.token_type == TokenType.VAR and not (out and out[-1].text == "."):
            raise error(ER_PARSE, f"'{token.text}' is a reserved word: quote it with backticks", position=token.start)
        if after is not None and after.token_type == TokenType.STRING and word in ("DATE", "TIME", "TIMESTAMP"):
            if not out or out[-1].text.upper() not in ("AS", "OF"):  # a cast's type; AS OF TIMESTAMP
                out += _literal_call(word.lower(), token, after, after)
                i += 2
                continue
        if (
            token.token_type == TokenType.L_BRACE
            and i + 3 < len(tokens)
            and tokens[i + 3].token_type == TokenType.R_BRACE
        ):
            kind = {"D": "date", "T": "time", "TS": "timestamp"}.get(tokens[i + 1].text.upper())
            if kind is not None and tokens[i + 2].token_type == TokenType.STRING:
                out += _literal_call(kind, token, tokens[i + 2], tokens[i + 3])
                i += 4
                continue
        if token.token_type == TokenType.L_BRACE and after is not None and after.text.upper() == "OJ":
            out.append(Token(TokenType.L_PAREN, "(", token.line, token.col, token.start, token.end))
            joins += 1
            i += 2
            continue
        if token.token_type == TokenType.R_BRACE and joins:
            token = Token(TokenType.R_PAREN, ")", token.line, token.col, token.start, token.end)
            joins -= 1
        if word in ("SIGNED", "UNSIGNED") and after is not None and after.text.upper() == "INT":
            del tokens[i + 1]
            after = tokens[i + 1] if i + 1 < len(tokens) else None
        if token.text == "~~" and token.token_type != TokenType.STRING:
            out.append(Token(TokenType.TILDE, "~", token.line, token.col, token.start, token.start))
            token = Token(TokenType.TILDE, "~", token.line, token.col, token.end, token.end)
        elif token.token_type == TokenType.PIPE_SLASH:
            raise error(ER_PARSE, "no operator '|/'", position=token.start)
        elif word == "BINARY" and after is not None and after.text.upper() in ("-", "~", "!", "BINARY"):
            # Before another unary operator sqlglot doesn't see it; its |/ (exp.Sqrt), unknown to MySQL, binds like it.
            token = Token(TokenType.PIPE_SLASH, token.text, token.line, token.col, token.start, token.end)
        if out and out[-1].token_type == TokenType.DOT and is_word(token) and token.token_type not in _NAMES:
            token = Token(TokenType.VAR, token.text, token.line, token.col, token.start, token.end)
        if _is_name(token, out[-1] if out else None):
            token = Token(TokenType.VAR, token.text, token.line, token.col, token.start, token.end)
        if after is not None and after.token_type == TokenType.L_PAREN and _is_call(tokens, i):
            mark = FUNCTION_MARK + token.text
            token = Token(TokenType.VAR, mark, token.line, token.col, token.start, token.end, token.comments)
        out.append(token)
        i += 1
    return out


_UNITS = frozenset(
    """
    MICROSECOND SECOND MINUTE HOUR DAY WEEK MONTH QUARTER YEAR SECOND_MICROSECOND MINUTE_MICROSECOND MINUTE_SECOND
    HOUR_MICROSECOND HOUR_SECOND HOUR_MINUTE DAY_MICROSECOND DAY_SECOND DAY_MINUTE DAY_HOUR YEAR_MONTH
    """.split()
)
_BELOW_PLUS = frozenset({"<", ">", "<<", ">>", "&", "|", "^"})


def amounts_in_parentheses(tokens: list[Token]) -> list[Token]:
    """Puts the amount of an INTERVAL in parentheses where it has operators that bind less than plus.

    sqlglot reads no further than these, MySQL up to the unit.
    """
    return _in_parentheses(tokens, [span for i in range(len(tokens)) if (span := _amount(tokens, i)) is not None])


def collated_in_parentheses(tokens: list[Token]) -> list[Token]:
    """Puts `operand COLLATE name` in parentheses beside operators, than which it binds more; in sqlglot less."""
    return _in_parentheses(tokens, [span for i in range(len(tokens)) if (span := _collated(tokens, i)) is not None])


def _in_parentheses(tokens: list[Token], spans: Sequence[tuple[int, int]]) -> list[Token]:
    """Puts tokens in parentheses, from the first of a span up to its end."""
    if not spans:
        return tokens
    out: list[Token] = []
    starts, ends = {start for start, _ in spans}, {end for _, end in spans}
    for i, token in enumerate(tokens):
        place = (token.line, token.col, token.start, token.start)
        if i in ends:
            out.append(Token(TokenType.R_PAREN, ")", *place))
        if i in starts:
            out.append(Token(TokenType.L_PAREN, "(", *place))
        out.append(token)
    if len(tokens) in ends:
        last = tokens[-1]
        out.append(Token(TokenType.R_PAREN, ")", last.line, last.col, last.end, last.end))
    return out


def _collated(tokens: Sequence[Token], at: int) -> tuple[int, int] | None:
    """Where an operand begins, and the COLLATE behind it ends, if an operator stands before or behind both."""
    if tokens[at].token_type != TokenType.COLLATE or not 0 < at < len(tokens) - 1:
        return None
    start = at - 1
    if tokens[start].token_type == TokenType.R_PAREN:
        depth = 0
        while start >= 0:
            depth += {TokenType.R_PAREN: 1, TokenType.L_PAREN: -1}.get(tokens[start].token_type, 0)
            if depth == 0:
                break
            start -= 1
        if start > 0 and tokens[start - 1].text.isidentifier() and not _operand_follows(tokens[start - 1]):
            start -= 1
    while start > 1 and tokens[start - 1].token_type == TokenType.DOT:
        start -= 2
    if start > 0 and (tokens[start - 1].text == "@" or tokens[start - 1].token_type == TokenType.INTRODUCER):
        start -= 1
    end = at + 2
    beside = [tokens[i] for i in (start - 1, end) if 0 <= i < len(tokens)]
    found = any(t.text.upper() in _ARITHMETIC and t.token_type not in LITERALS for t in beside)
    return (start, end) if found else None


_ARITHMETIC = frozenset({"+", "-", "*", "/", "%", "DIV", "MOD", "^", "&", "|", "<<", ">>"})


def _amount(tokens: Sequence[Token], interval: int) -> tuple[int, int] | None:
    """Where the amount of an INTERVAL begins and ends, if it has such operators."""
    if tokens[interval].token_type != TokenType.INTERVAL:
        return None
    depth, found = 0, False
    for i in range(interval + 1, len(tokens)):
        token = tokens[i]
        if depth == 0 and i > interval + 1 and token.token_type != TokenType.STRING and token.text.upper() in _UNITS:
            return (interval + 1, i) if found else None
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if depth < 0 or (depth == 0 and token.token_type == TokenType.COMMA):
            return None
        found = found or (depth == 0 and token.text in _BELOW_PLUS and token.token_type != TokenType.STRING)
    return None


_NAMES = (TokenType.VAR, TokenType.IDENTIFIER, TokenType.STRING)  # tokens that are names, or might be, as they are
_RESERVED = frozenset({"ORDER", "GROUP"})  # with BY they are tokens of their own; alone sqlglot takes them for names


def _is_name(token: Token, before: Token | None) -> bool:
    """Whether one of sqlglot's keywords is a name in MySQL: CHARSET but behind a type, BINARY behind COLLATE."""
    if token.token_type != TokenType.CHARACTER_SET:
        collation = before is not None and before.token_type == TokenType.COLLATE and token.text.upper() == "BINARY"
        return collation or bool(token.token_type == TokenType.ROLLBACK)
    behind_type = before is not None and (before.token_type == TokenType.R_PAREN or before.text.upper() in _TEXT_TYPES)
    return token.text.upper() == "CHARSET" and not behind_type


_TEXT_TYPES = frozenset({"CHAR", "VARCHAR", "TEXT"})


def _literal_call(kind: str, first: Token, text: Token, last: Token) -> list[Token]:
    place = (first.line, first.col, first.start, first.end)
    name = Token(TokenType.VAR, f"{FUNCTION_MARK}{kind}_literal", *place)
    closing = Token(TokenType.R_PAREN, ")", last.line, last.col, last.start, last.end)
    return [name, Token(TokenType.L_PAREN, "(", *place), text, closing]


_OPERAND_BEFORE = frozenset(
    """
    ( , + - * / % = < > <= >= <> != <=> & | ^ ~ ! << >> && || :=
    SELECT WHERE AND OR NOT XOR WHEN THEN ELSE CASE BY HAVING ON IN BETWEEN LIKE DIV MOD SET IS RETURN
    INTERVAL VALUES LIMIT REGEXP RLIKE BINARY RETURNING
    """.split()
) | {"ORDER BY", "GROUP BY", "PARTITION BY", *SELECT_OPTIONS}


def _operand_follows(token: Token) -> bool:
    """Whether what comes after this token begins an operand, so that a plus there is a sign."""
    return token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER) and token.text.upper() in _OPERAND_BEFORE


def _is_call(tokens: Sequence[Token], index: int) -> bool:
    """Whether the word before a parenthesis is the name of an ordinary function."""
    token = tokens[index]
    if token.token_type in (TokenType.STRING, TokenType.NUMBER, TokenType.IDENTIFIER) or not token.text.isidentifier():
        return False
    before = tokens[index - 1].text.upper() if index else ""
    if (
        token.text in MADE_CALLS
        or token.text.upper() in _SPECIAL_CALLS
        or (before in _NAME_BEFORE and not _is_of_operand(tokens, index - 1))
    ):
        return False
    if index and tokens[index - 1].token_type == TokenType.R_PAREN:
        return False  # the name of a derived table, before its columns'
    if token.token_type == TokenType.MOD and index and not _operand_follows(tokens[index - 1]):
        return False  # the operator, before an operand in parentheses
    # A name in a list may be a CTE's (`WITH a AS (...), b(n) AS (...)`): a call is never followed by AS and "(".
    return not (token.token_type == TokenType.VAR and before in (",", "") and _is_cte_name(tokens, index))


def _is_of_operand(tokens: Sequence[Token], index: int) -> bool:
    """Whether a FROM is that of TRIM, EXTRACT and SUBSTRING, behind which an operand stands."""
    if tokens[index].token_type != TokenType.FROM:
        return False
    depth = 0
    for i in range(index - 1, 0, -1):
        depth += {TokenType.R_PAREN: 1, TokenType.L_PAREN: -1}.get(tokens[i].token_type, 0)
        if depth < 0:
            return tokens[i - 1].text.upper() in _CALLS_WITH_FROM
        if depth == 0 and tokens[i].token_type == TokenType.SELECT:
            return False
    return False


def _is_cte_name(tokens: Sequence[Token], index: int) -> bool:
    depth = 0
    for i in range(index + 1, len(tokens)):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(tokens[i].token_type, 0)
        if depth == 0:
            return (
                i + 2 < len(tokens)
                and tokens[i + 1].text.upper() == "AS"
                and tokens[i + 2].token_type == TokenType.L_PAREN
            )
    return False


def is_word(token: Token) -> bool:
    return bool(token.text) and (token.text[0].isalpha() or token.text[0] == "_")


LITERALS = (TokenType.STRING, TokenType.NUMBER)
_ITEM_ENDS = frozenset(
    """
    FROM WHERE HAVING LIMIT UNION EXCEPT INTERSECT FOR INTO WINDOW
    """.split()
) | {"GROUP BY", "ORDER BY"}


def select_item_texts(text: str, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Returns the source text of each item of the outermost (first) select list, for naming the result's columns."""
    i = 0
    if tokens and tokens[0].text.upper() == "WITH":
        depth = 0
        while i < len(tokens) and not (depth == 0 and tokens[i].token_type == TokenType.SELECT):
            depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(tokens[i].token_type, 0)
            i += 1
    while i < len(tokens) and tokens[i].token_type == TokenType.L_PAREN:
        i += 1
    if i >= len(tokens) or tokens[i].token_type != TokenType.SELECT:
        return ()
    return tuple(text[start:end] for start, end in select_items(tokens, i))


def select_items(tokens: Sequence[Token], select: int) -> list[tuple[int, int]]:
    """Where the items of the select list behind a SELECT, which is a token's index, begin and end in the text."""
    i = select + 1
    while i < len(tokens) and (tokens[i].text.upper() in SELECT_OPTIONS or tokens[i].token_type == TokenType.HINT):
        i += 1
    out: list[tuple[int, int]] = []
    depth = 0
    start: int | None = None
    end = 0
    for token in tokens[i:]:
        kind = token.token_type
        if depth == 0 and kind not in LITERALS and token.text.upper() in _ITEM_ENDS and kind != TokenType.IDENTIFIER:
            break
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(kind, 0)
        if depth < 0:
            break
        if depth == 0 and kind == TokenType.COMMA:
            out.append((0, 0) if start is None else (start, end))
            start = None
            continue
        if start is None:
            start = token.start
        end = token.end + 1
    if start is not None:
        out.append((start, end))
    return out


def distinct_first(tokens: Sequence[Token]) -> Sequence[Token]:
    """Puts DISTINCT and ALL, which may stand anywhere among the options of a SELECT, in front of them, as sqlglot wants
    it. Raises 1221 for both.
    """
    out: list[Token] = []
    i = 0
    while i < len(tokens):
        out.append(tokens[i])
        i += 1
        if out[-1].token_type != TokenType.SELECT:
            continue
        if i < len(tokens) and tokens[i].token_type == TokenType.HINT:
            out.append(tokens[i])
            i += 1
        options: list[Token] = []
        while i < len(tokens) and _is_option(tokens[i]):
            options.append(tokens[i])
            i += 1
        first = [option for option in options if option.text.upper() in _DUPLICATES]
        if len({option.text.upper() == "ALL" for option in first}) > 1:
            raise error(1221, "Incorrect usage of ALL and DISTINCT", position=first[1].start)
        out += [*first[:1], *(option for option in options if option not in first)]
    return out


def _is_option(token: Token) -> bool:
    return token.token_type not in (*LITERALS, TokenType.IDENTIFIER) and token.text.upper() in SELECT_OPTIONS


def plain_targets(tokens: list[Token]) -> list[Token]:
    """Drops the `.*` behind the names of tables that a DELETE may have: it means nothing."""
    out: list[Token] = []
    depth = 0
    for i, token in enumerate(tokens):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if token.token_type == TokenType.WHERE:
            return [*out, *tokens[i:]]
        star = depth == 0 and token.token_type == TokenType.STAR and out and out[-1].token_type == TokenType.DOT
        if star:
            out.pop()
        else:
            out.append(token)
    return out


def as_of_end(tokens: Sequence[Token], start: int) -> int:
    """Where the expression after AS OF TIMESTAMP ends: one operand, then `+|- INTERVAL n unit` as often as it comes."""
    i = start
    if i < len(tokens) and tokens[i].text in ("@", "@@", ":"):
        i += 1
    i += 1
    if i < len(tokens) and tokens[i].token_type == TokenType.L_PAREN:
        depth = 0
        while i < len(tokens):
            depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(tokens[i].token_type, 0)
            i += 1
            if depth == 0:
                break
    while i + 3 < len(tokens) and tokens[i].text in ("+", "-") and tokens[i + 1].text.upper() == "INTERVAL":
        i += 4
    return i


def insert_set_form(tokens: list[Token]) -> list[Token]:
    """Turns `INSERT INTO t SET a = 1, b = 2` into `INSERT INTO t (a, b) VALUES (1, 2)`."""
    words = [t.text.upper() if t.token_type != TokenType.STRING else "" for t in tokens]
    if "SET" not in words[:8] or "VALUES" in words[:8] or "SELECT" in words[:8]:
        return tokens
    at = words.index("SET")
    if tokens[at].token_type != TokenType.SET:
        return tokens
    try:
        stop = words.index("ON", at)
    except ValueError:
        stop = len(tokens)
    names: list[Token] = []
    values: list[list[Token]] = []
    depth = 0
    expect_name = True
    for i in range(at + 1, stop):
        token = tokens[i]
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if expect_name:
            if token.token_type == TokenType.EQ:
                expect_name = False
                values.append([])
            else:
                if len(names) == len(values):
                    names.append(token)
                else:
                    names[-1] = token
        elif token.token_type == TokenType.COMMA and depth == 0:
            expect_name = True
        else:
            values[-1].append(token)
    mark = tokens[at]
    place = (mark.line, mark.col, mark.start, mark.end)
    left, right = Token(TokenType.L_PAREN, "(", *place), Token(TokenType.R_PAREN, ")", *place)
    comma = Token(TokenType.COMMA, ",", *place)
    out = [*tokens[:at], left]
    for i, name in enumerate(names):
        out += [comma, name] if i else [name]
    out += [right, Token(TokenType.VALUES, "VALUES", *place), left]
    for i, value in enumerate(values):
        out += [comma, *value] if i else value
    return [*out, right, *tokens[stop:]]


def spell_values(tokens: list[Token]) -> list[Token]:
    """Turns the VALUE of an INSERT, MySQL's other word for it, into VALUES."""
    for i, token in enumerate(tokens[2:-1], 2):
        if token.token_type in (TokenType.SELECT, TokenType.VALUES):
            break
        named = tokens[i - 1].text.upper() in ("INTO", ".") or token.token_type in (
            TokenType.STRING,
            TokenType.IDENTIFIER,
        )
        if token.text.upper() == "VALUE" and tokens[i + 1].token_type == TokenType.L_PAREN and not named:
            spelled = Token(TokenType.VALUES, token.text, token.line, token.col, token.start, token.end)
            return [*tokens[:i], spelled, *tokens[i + 1 :]]
    return tokens


def add_into(tokens: list[Token]) -> list[Token]:
    """Adds the INTO that MySQL lets people leave out."""
    at = 1
    while at < len(tokens) and tokens[at].text.upper() == "IGNORE":
        at += 1
    if at < len(tokens) and tokens[at].token_type != TokenType.INTO:
        mark = tokens[at]
        return [*tokens[:at], Token(TokenType.INTO, "INTO", mark.line, mark.col, mark.start, mark.start), *tokens[at:]]
    return tokens
