"""SQL text to statements: the one door to sqlglot's tokenizer and parser (dialect `mysql`).

Queries, data changes and table definitions stay sqlglot trees for the binder; short commands (transactions, SET, SHOW,
ADMIN, ...), which sqlglot takes for something else or not at all, are read here from the same tokens into small
statements of ours. What neither side knows is refused. Token work done before sqlglot sees them: `?` becomes a
numbered placeholder, `REPLACE` becomes `INSERT` with a flag, `AS OF TIMESTAMP expr` is taken off its table, `/*! ...
*/` comments become their content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokens import Token, TokenType

from sqlfront.errors import ER_PARSE, DatabaseError, error, unsupported

STATEMENT_BYTES_MAX = 64 << 20


@dataclass(slots=True)
class Query:
    """SELECT, a set operation, VALUES or TABLE. `item_texts` are the outermost select list's texts, for column
    names.
    """

    ast: exp.Expression
    item_texts: tuple[str, ...] = ()
    as_of: exp.Expression | None = None


@dataclass(slots=True)
class Insert:
    ast: exp.Insert
    replace: bool = False


@dataclass(slots=True)
class Update:
    ast: exp.Update
    ignore: bool = False


@dataclass(slots=True)
class Delete:
    ast: exp.Delete


@dataclass(slots=True)
class Ddl:
    """CREATE, ALTER, DROP, TRUNCATE, with the statement's whole text."""

    ast: exp.Expression
    text: str = ""


@dataclass(slots=True)
class RenameTable:
    pairs: list[tuple[exp.Table, exp.Table]]


@dataclass(slots=True)
class Begin:
    """BEGIN or START TRANSACTION. `mode` is optimistic, pessimistic or empty for the session's default."""

    mode: str = ""
    read_only: bool = False
    as_of: exp.Expression | None = None


@dataclass(slots=True)
class Commit:
    pass


@dataclass(slots=True)
class Rollback:
    savepoint: str | None = None


@dataclass(slots=True)
class Savepoint:
    name: str


@dataclass(slots=True)
class ReleaseSavepoint:
    name: str


@dataclass(slots=True)
class Assignment:
    """`scope` is user, session, global or transaction (SET TRANSACTION for the next one)."""

    scope: str
    name: str
    value: exp.Expression | None


@dataclass(slots=True)
class SetVariables:
    items: list[Assignment]


@dataclass(slots=True)
class Use:
    database: str


@dataclass(slots=True)
class Show:
    """SHOW `what` (upper case words), with its optional table, database, LIKE pattern and WHERE."""

    what: str
    full: bool = False
    glob: bool = False
    table: exp.Table | None = None
    database: str | None = None
    like: str | None = None
    where: exp.Expression | None = None


@dataclass(slots=True)
class Describe:
    table: exp.Table
    column: str | None = None


@dataclass(slots=True)
class Explain:
    statement: Statement
    analyze: bool = False
    format: str = ""


@dataclass(slots=True)
class AnalyzeTable:
    tables: list[exp.Table]


@dataclass(slots=True)
class AdminCheckTable:
    tables: list[exp.Table]


@dataclass(slots=True)
class AdminCheckIndex:
    table: exp.Table
    index: str


@dataclass(slots=True)
class Backup:
    """BACKUP DATABASE ... TO path."""

    path: str


@dataclass(slots=True)
class RunGc:
    """ADMIN GC: collect old versions now."""


@dataclass(slots=True)
class Prepare:
    name: str
    source: str | None
    variable: str | None


@dataclass(slots=True)
class Execute:
    name: str
    using: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Deallocate:
    name: str


@dataclass(slots=True)
class Kill:
    connection_id: int
    query_only: bool


Statement: TypeAlias = (
    Query | Insert | Update | Delete | Ddl | RenameTable | Begin | Commit | Rollback | Savepoint | ReleaseSavepoint
    | SetVariables | Use | Show | Describe | Explain | AnalyzeTable | AdminCheckTable | AdminCheckIndex | Backup | RunGc
    | Prepare | Execute | Deallocate | Kill
)  # fmt: skip


@dataclass(slots=True)
class Parsed:
    """One statement, its text, and its parameters: `positional` counts `?`, `names` lists `:name` in order."""

    statement: Statement
    text: str
    positional: int = 0
    names: tuple[str, ...] = ()


@cache
def _dialect() -> Dialect:
    return Dialect.get_or_raise("mysql")


def parse(text: str) -> Parsed:
    """Parses exactly one statement; a trailing semicolon is fine. Raises ProgrammingError 1064 with the position."""
    if len(text) > STATEMENT_BYTES_MAX:
        raise error(1153, f"statement of {len(text)} characters is over the limit of {STATEMENT_BYTES_MAX}")
    if "/*!" in text:
        text = _open_version_comments(text)
    tokens = tokenize(text)
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise error(1065, "Query was empty")
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            raise error(
                ER_PARSE,
                "one statement at a time: text follows ';'" + _near(text, token.end + 1),
                position=token.end + 1,
            )
    names: list[str] = []
    tokens, positional = _number_placeholders(tokens, names)
    if tokens[0].text.upper() not in _DDL_STARTS:
        tokens = _mark_functions(tokens)
    if positional and names:
        raise error(ER_PARSE, "a statement takes either ? or :name parameters, not both")
    return Parsed(_Commands(text, tokens).statement(), text, positional, tuple(names))


def parse_expression(text: str) -> exp.Expression:
    """Parses one expression (stored defaults, generated columns)."""
    tokens = _mark_functions(tokenize(text))
    return _Commands(text, tokens).expression(tokens)


# Words that sqlglot's tokenizer swallows together with the rest of the statement when they come first.
_SWALLOWED = re.compile(
    r"\s*(?:/\*.*?\*/\s*|--[ \t][^\n]*\n\s*|#[^\n]*\n\s*)*"
    r"(REPLACE|RENAME|PREPARE|EXECUTE|LOCK|UNLOCK|CALL|OPTIMIZE|FETCH|SHOW|EXPLAIN|REPAIR|LOAD|IMPORT|CHECKSUM|HANDLER|DO)\b",
    re.IGNORECASE | re.DOTALL,
)


def tokenize(text: str) -> list[Token]:
    """Cuts text into tokens; raises 1064 where it cannot (an open quote or comment)."""
    first = _SWALLOWED.match(text)
    try:
        if first is None:
            return list(_dialect().tokenize(text))
        masked = text[: first.start(1)] + "_" * len(first.group(1)) + text[first.end(1) :]
        tokens = list(_dialect().tokenize(masked))
    except TokenError as exc:
        position = _open_quote(text)
        raise error(ER_PARSE, "unterminated quote or comment" + _near(text, position), position=position) from exc
    at = tokens[0]
    tokens[0] = Token(TokenType.VAR, first.group(1), at.line, at.col, at.start, at.end)
    return tokens


def split_statements(text: str) -> list[str]:
    """Cuts a script at its semicolons, outside of quotes and comments; empty statements are left out."""
    out: list[str] = []
    start = at = 0
    while True:
        semicolon = text.find(";", at)
        quoted = _QUOTED.search(text, at)
        if semicolon < 0:
            break
        if quoted is not None and quoted.start() < semicolon:
            at = quoted.end()
            continue
        out.append(text[start:semicolon])
        start = at = semicolon + 1
    out.append(text[start:])
    return [s.strip() for s in out if _BLANK.sub("", s).strip()]


def identifier(name: str) -> exp.Identifier:
    return exp.to_identifier(name, quoted=True)


_VERSION_COMMENT = re.compile(r"/\*!(\d{5,6})?(.*?)\*/", re.DOTALL)
_BLANK = re.compile(r"/\*(?!!).*?\*/|--[ \t][^\n]*|#[^\n]*", re.DOTALL)
_QUOTED = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`|/\*(?!!).*?\*/|--[ \t][^\n]*|#[^\n]*", re.DOTALL
)


def _open_version_comments(text: str) -> str:
    """Turns `/*!40101 SET x */` into its content, at the same offsets."""

    def blank(match: re.Match[str]) -> str:
        version = match.group(1) or ""
        return " " * (3 + len(version)) + match.group(2) + "  "

    parts: list[str] = []
    at = 0
    for quoted in _QUOTED.finditer(text):
        parts.append(_VERSION_COMMENT.sub(blank, text[at : quoted.start()]))
        parts.append(quoted.group())
        at = quoted.end()
    parts.append(_VERSION_COMMENT.sub(blank, text[at:]))
    return "".join(parts)


def _open_quote(text: str) -> int:
    """Where the unterminated quote or comment begins, as far as it can be told."""
    rest = _QUOTED.sub(lambda m: " " * len(m.group()), text)
    found = [i for i in (rest.find(q) for q in ("'", '"', "`", "/*")) if i >= 0]
    return min(found, default=len(text))


def _near(text: str, position: int) -> str:
    snippet = text[position : position + 80].strip()
    line = text.count("\n", 0, position) + 1
    return f" near '{snippet}' at line {line}" if snippet else f" at the end of the statement, line {line}"


def _number_placeholders(tokens: Sequence[Token], names: list[str]) -> tuple[list[Token], int]:
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
            if previous is not None and previous.token_type == TokenType.COLON and _is_word(token):
                if token.text not in names:
                    names.append(token.text)
        previous = token
    return out, count


FUNCTION_MARK = "fn__"

# Calls with a grammar of their own, which sqlglot reads into trees that keep every word of it.
_SPECIAL_CALLS = frozenset(
    """
    CAST CONVERT EXTRACT TRIM GROUP_CONCAT CHAR POSITION SUBSTRING SUBSTR MID VALUES IN EXISTS ANY ALL
    SOME OVER AS AND OR NOT XOR WHERE ON USING SELECT FROM JOIN BY HAVING WHEN THEN ELSE CASE LIKE
    BETWEEN IS DIV ROW INTERVAL SET WITH UNION DISTINCT LIMIT MATCH AGAINST KEY INDEX JSON_TABLE
    WEIGHT_STRING REGEXP RLIKE RETURNING SEPARATOR PARTITION INTERSECT EXCEPT MEMBER OF DECIMAL NUMERIC
    DEC FLOAT DOUBLE VARCHAR NCHAR DATETIME SIGNED BINARY LATERAL INTO TABLE FORCE IGNORE USE SOUNDS
    """.split()
)
_NAME_BEFORE = frozenset(
    """
    INTO TABLE JOIN UPDATE AS . WITH RECURSIVE FROM INSERT REPLACE IGNORE
    """.split()
)


def _mark_functions(tokens: list[Token]) -> list[Token]:
    """Prefixes the names of ordinary calls, so that sqlglot leaves them as they are written.

    Its own function nodes rename, reorder and rewrite arguments for other dialects; the catalogue wants MySQL's words.
    Temporal literals (`DATE '...'`, `{d '...'}`) become calls too, and unary plus, which sqlglot does not know, goes.
    """
    out: list[Token] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        after = tokens[i + 1] if i + 1 < len(tokens) else None
        if token.token_type == TokenType.PLUS and (not out or _operand_follows(out[-1])):
            i += 1
            continue
        word = token.text.upper()
        if after is not None and after.token_type == TokenType.STRING and word in ("DATE", "TIME", "TIMESTAMP"):
            if not out or out[-1].text.upper() != "AS":
                out += _literal_call(word.lower(), token, after)
                i += 2
                continue
        if (
            token.token_type == TokenType.L_BRACE
            and i + 3 < len(tokens)
            and tokens[i + 3].token_type == TokenType.R_BRACE
        ):
            kind = {"D": "date", "T": "time", "TS": "timestamp"}.get(tokens[i + 1].text.upper())
            if kind is not None and tokens[i + 2].token_type == TokenType.STRING:
                out += _literal_call(kind, token, tokens[i + 2])
                i += 4
                continue
        if token.text == "~~" and token.token_type != TokenType.STRING:
            out.append(Token(TokenType.TILDE, "~", token.line, token.col, token.start, token.start))
            token = Token(TokenType.TILDE, "~", token.line, token.col, token.end, token.end)
        if after is not None and after.token_type == TokenType.L_PAREN and _is_call(tokens, i):
            mark = FUNCTION_MARK + token.text
            token = Token(TokenType.VAR, mark, token.line, token.col, token.start, token.end, token.comments)
        out.append(token)
        i += 1
    return out


def _literal_call(kind: str, at: Token, text: Token) -> list[Token]:
    place = (at.line, at.col, at.start, at.end)
    name = Token(TokenType.VAR, f"{FUNCTION_MARK}{kind}_literal", *place)
    return [name, Token(TokenType.L_PAREN, "(", *place), text, Token(TokenType.R_PAREN, ")", *place)]


_OPERAND_BEFORE = frozenset(
    {
        "(",
        ",",
        "+",
        "-",
        "*",
        "/",
        "%",
        "=",
        "<",
        ">",
        "<=",
        ">=",
        "<>",
        "!=",
        "<=>",
        "&",
        "|",
        "^",
        "~",
        "!",
        "<<",
        ">>",
        "&&",
        "||",
        ":=",
        "SELECT",
        "WHERE",
        "AND",
        "OR",
        "NOT",
        "XOR",
        "WHEN",
        "THEN",
        "ELSE",
        "CASE",
        "BY",
        "ORDER BY",
        "GROUP BY",
        "PARTITION BY",
        "HAVING",
        "ON",
        "IN",
        "BETWEEN",
        "LIKE",
        "DIV",
        "MOD",
        "SET",
        "DISTINCT",
        "ALL",
        "IS",
        "RETURN",
        "INTERVAL",
        "VALUES",
        "LIMIT",
        "OFFSET",
    }
)


def _operand_follows(token: Token) -> bool:
    """Whether what comes after this token begins an operand, so that a plus there is a sign."""
    return token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER) and token.text.upper() in _OPERAND_BEFORE


def _is_call(tokens: Sequence[Token], index: int) -> bool:
    """Whether the word before a parenthesis is the name of an ordinary function."""
    token = tokens[index]
    if token.token_type in (TokenType.STRING, TokenType.NUMBER, TokenType.IDENTIFIER) or not token.text.isidentifier():
        return False
    before = tokens[index - 1].text.upper() if index else ""
    if token.text.upper() in _SPECIAL_CALLS or before in _NAME_BEFORE:
        return False
    # A name in a list may be a CTE's (`WITH a AS (...), b(n) AS (...)`): a call is never followed by AS and "(".
    return not (token.token_type == TokenType.VAR and before in (",", "") and _is_cte_name(tokens, index))


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


def _is_word(token: Token) -> bool:
    return bool(token.text) and (token.text[0].isalpha() or token.text[0] == "_")


_LITERALS = (TokenType.STRING, TokenType.NUMBER)
_QUERY_STARTS = frozenset(
    """
    SELECT WITH VALUES TABLE (
    """.split()
)
_KNOWN_COMMANDS = frozenset(
    """
    LOCK UNLOCK FLUSH LOAD GRANT REVOKE CALL DO HANDLER IMPORT XA OPTIMIZE REPAIR CHECK CHECKSUM RESET SIGNAL RESTORE
    INSTALL
    """.split()
)
_DDL_STARTS = frozenset(
    """
    CREATE DROP ALTER TRUNCATE
    """.split()
)
_SCOPES = {"GLOBAL": "global", "SESSION": "session", "LOCAL": "session"}


class _Commands:
    """A cursor over one statement's tokens that reads our own commands and hands the rest to sqlglot."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.at = 0

    def statement(self) -> Statement:
        word = self.peek()
        if word in _QUERY_STARTS:
            return self._query()
        reader = _READERS.get(word)
        if reader is not None:
            return reader(self)  # type: ignore[no-any-return]
        if word == "DROP" and self.peek(1) == "PREPARE":
            return self._deallocate()
        if word in _DDL_STARTS:
            return self._ddl()
        if word in _KNOWN_COMMANDS:
            raise unsupported(word, position=self.tokens[0].start)
        raise self.syntax_error(0)

    # Cursor

    def peek(self, ahead: int = 0) -> str:
        index = self.at + ahead
        if index >= len(self.tokens):
            return ""
        token = self.tokens[index]
        return "" if token.token_type == TokenType.STRING else str(token.text).upper()

    def take(self) -> Token:
        if self.at >= len(self.tokens):
            raise self.syntax_error(self.at)
        self.at += 1
        return self.tokens[self.at - 1]

    def accept(self, *words: str) -> bool:
        if all(self.peek(i) == w for i, w in enumerate(words)):
            self.at += len(words)
            return True
        return False

    def expect(self, *words: str) -> None:
        if not self.accept(*words):
            raise self.syntax_error(self.at)

    def end(self) -> None:
        if self.at < len(self.tokens):
            raise self.syntax_error(self.at)

    def name(self) -> str:
        token = self.take()
        if token.token_type in _LITERALS or not (_is_word(token) or token.token_type == TokenType.IDENTIFIER):
            raise self.syntax_error(self.at - 1)
        return str(token.text)

    def string(self) -> str:
        token = self.take()
        if token.token_type != TokenType.STRING:
            raise self.syntax_error(self.at - 1)
        return str(token.text)

    def table(self) -> exp.Table:
        first = self._identifier()
        if self.accept("."):
            return exp.Table(this=self._identifier(), db=first)
        return exp.Table(this=first)

    def _identifier(self) -> exp.Identifier:
        index = self.at
        node = exp.Identifier(this=self.name(), quoted=True)
        token = self.tokens[index]
        node.meta.update(line=token.line, col=token.col, start=token.start, end=token.end)
        return node

    def table_list(self) -> list[exp.Table]:
        tables = [self.table()]
        while self.accept(","):
            tables.append(self.table())
        return tables

    def syntax_error(self, index: int) -> DatabaseError:
        position = self.tokens[index].start if index < len(self.tokens) else len(self.text)
        return error(ER_PARSE, "You have an error in your SQL syntax" + _near(self.text, position), position=position)

    # sqlglot

    def tree(self, tokens: Sequence[Token]) -> exp.Expression:
        """Parses tokens with sqlglot, as one tree."""
        try:
            trees = _dialect().parser().parse(list(tokens), self.text)
        except ParseError as exc:
            raise self._from_parse_error(exc) from exc
        if len(trees) != 1 or trees[0] is None:
            raise self.syntax_error(self.at)
        return trees[0]

    def _from_parse_error(self, exc: ParseError) -> DatabaseError:
        first: dict[str, Any] = exc.errors[0] if exc.errors else {}
        line, col = first.get("line"), first.get("col")
        position = len(self.text)
        if line and col:
            highlight = first.get("highlight") or ""
            for token in self.tokens:
                if token.line == line and token.col == col and (not highlight or token.text in highlight):
                    position = token.start
                    break
            if str(first.get("description", "")).startswith("Expecting") and position < len(self.text):
                position = next((t.start for t in self.tokens if t.start > position), len(self.text))
        return error(ER_PARSE, "You have an error in your SQL syntax" + _near(self.text, position), position=position)

    def expression(self, tokens: Sequence[Token]) -> exp.Expression:
        """Parses tokens as one expression, by way of `SELECT expression`."""
        if not tokens:
            raise self.syntax_error(self.at)
        first = tokens[0]
        select = Token(TokenType.SELECT, "SELECT", first.line, first.col, first.start, first.start)
        tree = self.tree([select, *tokens])
        if not isinstance(tree, exp.Select) or len(tree.expressions) != 1:
            raise self.syntax_error(self.at)
        node = tree.expressions[0]
        return node.pop() if isinstance(node, exp.Expression) else node

    # Queries and changes

    def _query(self) -> Query:
        tokens, as_of = self._take_as_of(self.tokens[self.at :])
        tree = self.tree(tokens)
        if not isinstance(tree, (exp.Query, exp.Values)):
            raise self.syntax_error(self.at)
        return Query(tree, select_item_texts(self.text, self.tokens[self.at :]), as_of)

    def _take_as_of(self, tokens: Sequence[Token]) -> tuple[list[Token], exp.Expression | None]:
        """Takes `AS OF TIMESTAMP expr` off a table reference; every occurrence must say the same."""
        words = [t.text.upper() for t in tokens]
        if "OF" not in words:
            return list(tokens), None
        out: list[Token] = []
        found: list[list[Token]] = []
        i = 0
        while i < len(tokens):
            if words[i : i + 3] == ["AS", "OF", "TIMESTAMP"]:
                stop = _as_of_end(tokens, i + 3)
                found.append(list(tokens[i + 3 : stop]))
                i = stop
                continue
            out.append(tokens[i])
            i += 1
        if not found:
            return out, None
        texts = {" ".join(t.text for t in f) for f in found}
        if len(texts) > 1:
            raise error(
                8135, "tables of one statement must be read AS OF the same timestamp", position=found[1][0].start
            )
        return out, self.expression(found[0])

    def _insert(self) -> Insert:
        first = self.tokens[self.at]
        replace = first.text.upper() == "REPLACE"
        tokens = list(self.tokens[self.at :])
        if replace:
            tokens[0] = Token(TokenType.INSERT, "INSERT", first.line, first.col, first.start, first.end)
        for i in range(1, min(3, len(tokens))):
            if tokens[i].text.upper() in ("LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY"):
                del tokens[i]
                break
        tokens = _insert_set_form(tokens)
        tokens = _add_into(tokens)
        tree = self.tree(tokens)
        if not isinstance(tree, exp.Insert):
            raise self.syntax_error(self.at)
        return Insert(tree, replace)

    def _update(self) -> Update:
        tokens = list(self.tokens[self.at :])
        ignore = False
        while len(tokens) > 1 and tokens[1].text.upper() in ("IGNORE", "LOW_PRIORITY"):
            ignore |= tokens[1].text.upper() == "IGNORE"
            del tokens[1]
        tree = self.tree(tokens)
        if not isinstance(tree, exp.Update):
            raise self.syntax_error(self.at)
        return Update(tree, ignore)

    def _delete(self) -> Delete:
        tokens = list(self.tokens[self.at :])
        while len(tokens) > 1 and tokens[1].text.upper() in ("LOW_PRIORITY", "QUICK"):
            del tokens[1]
        tree = self.tree(tokens)
        if not isinstance(tree, exp.Delete):
            raise self.syntax_error(self.at)
        return Delete(tree)

    def _ddl(self) -> Ddl:
        """Definitions are read from their text by `bind/ddl.py`: sqlglot drops or refuses parts of MySQL's."""
        return Ddl(exp.Command(this=self.peek()), self.text)

    def _rename(self) -> RenameTable:
        self.take()
        self.expect("TABLE")
        pairs = []
        while True:
            old = self.table()
            self.expect("TO")
            pairs.append((old, self.table()))
            if not self.accept(","):
                break
        self.end()
        return RenameTable(pairs)

    # Transactions

    def _begin(self) -> Begin:
        self.take()
        mode = ""
        if self.accept("OPTIMISTIC"):
            mode = "optimistic"
        elif self.accept("PESSIMISTIC"):
            mode = "pessimistic"
        else:
            self.accept("WORK")
        self.end()
        return Begin(mode)

    def _start(self) -> Begin:
        self.take()
        self.expect("TRANSACTION")
        statement = Begin()
        while self.at < len(self.tokens):
            if self.accept("READ", "ONLY"):
                statement.read_only = True
            elif self.accept("READ", "WRITE"):
                statement.read_only = False
            elif self.accept("WITH", "CONSISTENT", "SNAPSHOT"):
                pass
            elif self.accept("OPTIMISTIC"):
                statement.mode = "optimistic"
            elif self.accept("PESSIMISTIC"):
                statement.mode = "pessimistic"
            elif self.accept("AS", "OF", "TIMESTAMP"):
                stop = _as_of_end(self.tokens, self.at)
                statement.as_of = self.expression(self.tokens[self.at : stop])
                statement.read_only = True
                self.at = stop
            else:
                raise self.syntax_error(self.at)
            self.accept(",")
        return statement

    def _commit(self) -> Commit:
        self.take()
        self.accept("WORK")
        if self.accept("AND", "NO", "CHAIN"):
            pass
        self.end()
        return Commit()

    def _rollback(self) -> Rollback:
        self.take()
        self.accept("WORK")
        savepoint = None
        if self.accept("TO"):
            self.accept("SAVEPOINT")
            savepoint = self.name()
        elif self.accept("AND", "NO", "CHAIN"):
            pass
        self.end()
        return Rollback(savepoint)

    def _savepoint(self) -> Savepoint:
        self.take()
        name = self.name()
        self.end()
        return Savepoint(name)

    def _release(self) -> ReleaseSavepoint:
        self.take()
        self.expect("SAVEPOINT")
        name = self.name()
        self.end()
        return ReleaseSavepoint(name)

    # Session

    def _set(self) -> SetVariables:
        self.take()
        for scope_words, scope in ((("GLOBAL",), "global"), (("SESSION",), "session"), ((), "transaction")):
            if self.accept(*scope_words, "TRANSACTION"):
                return SetVariables(self._set_transaction(scope))
        if self.accept("NAMES") or self.accept("CHARACTER", "SET") or self.accept("CHARSET"):
            name = self.take().text
            if self.accept("COLLATE"):
                self.take()
            self.end()
            return SetVariables([Assignment("session", "names", exp.Literal.string(name))])
        items = [self._assignment()]
        while self.accept(","):
            items.append(self._assignment())
        self.end()
        return SetVariables(items)

    def _set_transaction(self, scope: str) -> list[Assignment]:
        items = []
        while self.at < len(self.tokens):
            if self.accept("ISOLATION", "LEVEL"):
                words = []
                while self.at < len(self.tokens) and self.peek() != ",":
                    words.append(self.take().text.upper())
                items.append(Assignment(scope, "transaction_isolation", exp.Literal.string("-".join(words))))
            elif self.accept("READ", "ONLY"):
                items.append(Assignment(scope, "transaction_read_only", exp.Literal.number(1)))
            elif self.accept("READ", "WRITE"):
                items.append(Assignment(scope, "transaction_read_only", exp.Literal.number(0)))
            else:
                raise self.syntax_error(self.at)
            if self.at < len(self.tokens):
                self.expect(",")
        if not items:
            raise self.syntax_error(self.at)
        return items

    def _assignment(self) -> Assignment:
        scope, name = self._variable()
        if not (self.accept(":=") or self.accept("=")):
            if not self.accept(":", "="):
                raise self.syntax_error(self.at)
        stop = self._depth_zero_comma()
        tokens = self.tokens[self.at : stop]
        self.at = stop
        if len(tokens) == 1 and tokens[0].text.upper() in ("ON", "OFF", "DEFAULT", "ALL"):
            word = tokens[0].text.upper()
            return Assignment(scope, name, None if word == "DEFAULT" else exp.Literal.string(word))
        if scope != "user" and len(tokens) == 1 and tokens[0].token_type == TokenType.VAR:
            return Assignment(scope, name, exp.Literal.string(tokens[0].text))
        return Assignment(scope, name, self.expression(tokens))

    def _variable(self) -> tuple[str, str]:
        if self.peek() == "@@" or (self.peek() == "@" and self.peek(1) == "@"):
            self.at += 1 if self.peek() == "@@" else 2
            scope = "session"
            if self.peek() in _SCOPES and self.peek(1) == ".":
                scope = _SCOPES[self.peek()]
                self.at += 2
            return scope, self.name().lower()
        if self.accept("@"):
            token = self.take()
            return "user", token.text.lower()
        scope = "session"
        if self.peek() in _SCOPES:
            scope = _SCOPES[self.take().text.upper()]
        return scope, self.name().lower()

    def _depth_zero_comma(self) -> int:
        depth = 0
        for i in range(self.at, len(self.tokens)):
            kind = self.tokens[i].token_type
            if kind == TokenType.L_PAREN:
                depth += 1
            elif kind == TokenType.R_PAREN:
                depth -= 1
            elif kind == TokenType.COMMA and depth == 0:
                return i
        return len(self.tokens)

    def _use(self) -> Use:
        self.take()
        name = self.name()
        self.end()
        return Use(name)

    def _show(self) -> Show:
        self.take()
        show = Show("")
        if self.accept("GLOBAL"):
            show.glob = True
        elif self.accept("SESSION") or self.accept("LOCAL"):
            pass
        if self.accept("EXTENDED"):
            pass
        show.full = self.accept("FULL")
        words: list[str] = []
        while self.at < len(self.tokens) and self.peek() not in ("FROM", "IN", "LIKE", "WHERE"):
            if words in (["CREATE", "TABLE"], ["CREATE", "VIEW"]):
                show.table = self.table()
                break
            if words == ["CREATE", "DATABASE"] or words == ["CREATE", "SCHEMA"]:
                show.database = self.name()
                break
            words.append(self.take().text.upper())
        show.what = " ".join(words)
        if not words:
            raise self.syntax_error(self.at)
        self._show_tail(show)
        self.end()
        return show

    def _show_tail(self, show: Show) -> None:
        of_table = show.what in ("COLUMNS", "FIELDS", "INDEX", "INDEXES", "KEYS")
        if self.accept("FROM") or self.accept("IN"):
            if of_table:
                show.table = self.table()
                if self.accept("FROM") or self.accept("IN"):
                    show.table.set("db", self._identifier())
            else:
                show.database = self.name()
        if self.accept("LIKE"):
            show.like = self.string()
        elif self.accept("WHERE"):
            show.where = self.expression(self.tokens[self.at :])
            self.at = len(self.tokens)

    def _describe(self) -> Statement:
        """DESCRIBE, DESC and EXPLAIN are one: a table, or a statement whose plan is wanted."""
        self.take()
        explain = Explain(Commit())
        while True:
            if self.accept("ANALYZE"):
                explain.analyze = True
            elif self.accept("FORMAT"):
                self.expect("=")
                explain.format = self.take().text.lower()
            else:
                break
        word = self.peek()
        if word in _QUERY_STARTS and not (word == "TABLE" and self.at + 1 == len(self.tokens)):
            explain.statement = self._query()
            return explain
        if word in ("INSERT", "REPLACE", "UPDATE", "DELETE"):
            explain.statement = _READERS[word](self)
            return explain
        if explain.analyze or explain.format:
            raise self.syntax_error(self.at)
        table = self.table()
        column = self.take().text if self.at < len(self.tokens) else None
        self.end()
        return Describe(table, column)

    # Administration

    def _analyze(self) -> AnalyzeTable:
        self.take()
        self.expect("TABLE")
        tables = self.table_list()
        self.end()
        return AnalyzeTable(tables)

    def _admin(self) -> Statement:
        self.take()
        if self.accept("CHECK", "TABLE"):
            tables = self.table_list()
            self.end()
            return AdminCheckTable(tables)
        if self.accept("CHECK", "INDEX"):
            table = self.table()
            index = self.name()
            self.end()
            return AdminCheckIndex(table, index)
        if self.accept("GC"):
            self.end()
            return RunGc()
        raise unsupported("ADMIN " + self.peek(), position=self.tokens[0].start)

    def _backup(self) -> Backup:
        self.take()
        self.expect("DATABASE")
        if self.peek() and self.peek() != "TO":
            position = self.tokens[self.at].start
            if not self.accept("*"):
                raise unsupported("BACKUP of a single database; the whole directory is backed up", position=position)
        self.expect("TO")
        path = self.string()
        self.end()
        return Backup(path)

    def _prepare(self) -> Prepare:
        self.take()
        name = self.name()
        self.expect("FROM")
        if self.accept("@"):
            variable: str | None = self.take().text.lower()
            source = None
        else:
            variable, source = None, self.string()
        self.end()
        return Prepare(name.lower(), source, variable)

    def _execute(self) -> Execute:
        self.take()
        statement = Execute(self.name().lower())
        if self.accept("USING"):
            while True:
                self.expect("@")
                statement.using.append(self.take().text.lower())
                if not self.accept(","):
                    break
        self.end()
        return statement

    def _deallocate(self) -> Statement:
        self.take()
        self.expect("PREPARE")
        name = self.name()
        self.end()
        return Deallocate(name.lower())

    def _kill(self) -> Kill:
        self.take()
        query_only = self.accept("QUERY")
        if not query_only:
            self.accept("CONNECTION")
        token = self.take()
        if token.token_type != TokenType.NUMBER:
            raise self.syntax_error(self.at - 1)
        self.end()
        return Kill(int(token.text), query_only)


_READERS: dict[str, Any] = {
    "INSERT": _Commands._insert,
    "REPLACE": _Commands._insert,
    "UPDATE": _Commands._update,
    "DELETE": _Commands._delete,
    "RENAME": _Commands._rename,
    "BEGIN": _Commands._begin,
    "START": _Commands._start,
    "COMMIT": _Commands._commit,
    "ROLLBACK": _Commands._rollback,
    "SAVEPOINT": _Commands._savepoint,
    "RELEASE": _Commands._release,
    "SET": _Commands._set,
    "USE": _Commands._use,
    "SHOW": _Commands._show,
    "DESCRIBE": _Commands._describe,
    "DESC": _Commands._describe,
    "EXPLAIN": _Commands._describe,
    "ANALYZE": _Commands._analyze,
    "ADMIN": _Commands._admin,
    "BACKUP": _Commands._backup,
    "PREPARE": _Commands._prepare,
    "EXECUTE": _Commands._execute,
    "DEALLOCATE": _Commands._deallocate,
    "KILL": _Commands._kill,
}


def _as_of_end(tokens: Sequence[Token], start: int) -> int:
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


def _insert_set_form(tokens: list[Token]) -> list[Token]:
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


def _add_into(tokens: list[Token]) -> list[Token]:
    """Adds the INTO that MySQL lets people leave out."""
    at = 1
    while at < len(tokens) and tokens[at].text.upper() == "IGNORE":
        at += 1
    if at < len(tokens) and tokens[at].token_type != TokenType.INTO:
        mark = tokens[at]
        return [*tokens[:at], Token(TokenType.INTO, "INTO", mark.line, mark.col, mark.start, mark.start), *tokens[at:]]
    return tokens


_ITEM_ENDS = frozenset(
    """
    FROM WHERE GROUP HAVING ORDER LIMIT UNION EXCEPT INTERSECT FOR INTO WINDOW
    """.split()
)
_SELECT_OPTIONS = frozenset(
    """
    DISTINCT ALL DISTINCTROW STRAIGHT_JOIN SQL_CALC_FOUND_ROWS HIGH_PRIORITY SQL_SMALL_RESULT
    SQL_BIG_RESULT SQL_BUFFER_RESULT SQL_NO_CACHE SQL_CACHE
    """.split()
)


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
    i += 1
    while i < len(tokens) and (tokens[i].text.upper() in _SELECT_OPTIONS or tokens[i].token_type == TokenType.HINT):
        i += 1
    out: list[str] = []
    depth = 0
    start: int | None = None
    end = 0
    for token in tokens[i:]:
        kind = token.token_type
        if depth == 0 and kind not in _LITERALS and token.text.upper() in _ITEM_ENDS and kind != TokenType.IDENTIFIER:
            break
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(kind, 0)
        if depth < 0:
            break
        if depth == 0 and kind == TokenType.COMMA:
            out.append(text[start:end] if start is not None else "")
            start = None
            continue
        if start is None:
            start = token.start
        end = token.end + 1
    if start is not None:
        out.append(text[start:end])
    return tuple(out)
