"""The text of a view's query as it is stored, in which nothing depends on who reads it or on what is added later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from sqlfront import parse
from sqlfront.bind.messages import position_of
from sqlfront.bind.select import item_name
from sqlfront.catalog.describe import quote_name
from sqlfront.errors import error
from sqlfront.parse.tokens import select_items


class DefinitionText:
    """The text of a view's query, as it is stored: one line, every table with its database, every column with its
    table, every name in backticks, every `*` and NATURAL JOIN spelled out.

    The binder says which words are names, and what they stand for; all else stays as it was written.
    """

    def __init__(self) -> None:
        self._edits: dict[int, tuple[int, str]] = {}
        """What is put at a place of the text, by that place; with the place where the text goes on."""
        self._tables: dict[int, str] = {}
        """What the word TABLE before the name of one becomes, by the place of the name."""
        self._natural: dict[int, str] = {}
        """What stands behind a joined table in place of the NATURAL before it, by the place where the table begins."""

    def quote(self, name: exp.Expression | None, before: str = "") -> None:
        """Notes that a word is a name; `before` is what goes in front of it."""
        if isinstance(name, exp.Identifier) and "start" in name.meta:
            self._edits[name.meta["start"]] = (name.meta["end"] + 1, before + quote_name(name.name))

    def quote_all(self, node: exp.Expression) -> None:
        """Notes that all words directly below a column or table are names."""
        for part in ("catalog", "db", "table", "this"):
            self.quote(node.args.get(part))

    def belongs(self, column: exp.Column, qualifiers: Sequence[str]) -> None:
        """Notes of which table, by its qualifiers, a column is that was written without one."""
        self.quote(column.this, "".join(f"{quote_name(part)}." for part in qualifiers))

    def qualify(self, table: exp.Table, db: str) -> None:
        """Notes that a table is one of a database."""
        self.quote_all(table)
        if not table.db:
            self.quote(table.this, f"{quote_name(db)}.")

    def refuse_private(self, table: exp.Table) -> None:
        """A temporary table, or an Arrow table that a session registered, is not there for others."""
        message = f"View's SELECT refers to a temporary table '{table.name}'"
        raise error(1352, message, position=position_of(table))

    def expand(self, star: exp.Expression, columns: Sequence[tuple[str, ...]]) -> None:
        """Notes what a `*` or `t.*` stands for: columns, each with its qualifiers."""
        last = star.this if isinstance(star, exp.Column) else star
        text = ", ".join(".".join(quote_name(part) for part in parts) for parts in columns)
        if "end" in last.meta:
            self._edits[position_of(star)] = (last.meta["end"] + 1, text)
        elif isinstance(star.parent, exp.Select):  # that of the query TABLE t, which is not in the text
            self._tables[position_of(star.parent)] = f"SELECT {text} FROM"

    def join_by(self, join: exp.Join, columns: Sequence[str]) -> None:
        """Notes which columns a NATURAL JOIN found."""
        found = f" USING ({', '.join(map(quote_name, columns))})" if columns else " ON TRUE" if join.side else ""
        self._natural[position_of(join.this)] = found

    def write(self, text: str, tree: exp.Expression) -> str:
        """Returns the text to be stored, of the query that was bound."""
        for alias in tree.find_all(exp.Alias, exp.TableAlias):
            self.quote(alias.args.get("alias" if isinstance(alias, exp.Alias) else "this"))
            for column in alias.args.get("columns") or ():
                self.quote(column)
        for join in tree.find_all(exp.Join):
            for column in join.args.get("using") or ():
                self.quote(column if isinstance(column, exp.Identifier) else column.this)
        tokens = parse.tokenize(text)
        for token, after in pairwise(tokens):
            if after.start in self._tables and token.text.upper() == "TABLE":
                self._edits[token.start] = (token.end + 1, self._tables[after.start])
        dropped, behind = _spell_natural(tokens, self._natural)
        for end, name in _unnamed_items(text, tokens):
            behind[end] = behind.get(end, "") + f" AS {quote_name(name)}"
        out: list[str] = []
        at = 0
        for token in tokens:
            if (out and token.start < at) or token.token_type == TokenType.SEMICOLON or token.start in dropped:
                continue
            if out and token.start > at:
                out.append(" ")
            at, put = self._edits.get(token.start, (token.start, ""))
            out.append(put)
            if at == token.start:
                out.append(_spelled(text[token.start : token.end + 1]))
                at = token.end + 1
            out.append(behind.get(at, ""))
        return "".join(out)


_AFTER_JOINED = frozenset(
    {
        TokenType.NATURAL, TokenType.LEFT, TokenType.RIGHT, TokenType.INNER, TokenType.CROSS, TokenType.JOIN,
        TokenType.STRAIGHT_JOIN, TokenType.COMMA, TokenType.WHERE, TokenType.GROUP_BY, TokenType.HAVING,
        TokenType.ORDER_BY, TokenType.LIMIT, TokenType.WINDOW, TokenType.UNION, TokenType.EXCEPT,
        TokenType.INTERSECT, TokenType.R_PAREN, TokenType.SEMICOLON,
    }
)  # fmt: skip
"""What may follow a joined table."""


def _spell_natural(tokens: Sequence[Token], joins: Mapping[int, str]) -> tuple[set[int], dict[int, str]]:
    """Where the words NATURAL are that go, and what comes at which place behind the tables that they join."""
    dropped: set[int] = set()
    behind: dict[int, str] = {}
    for place, using in joins.items():
        first = next(i for i, token in enumerate(tokens) if token.start >= place)
        word = max(i for i in range(first) if tokens[i].token_type == TokenType.NATURAL)
        dropped.add(tokens[word].start)
        at, depth = next(i for i in range(word, first) if tokens[i].token_type == TokenType.JOIN) + 1, 0
        while at < len(tokens) and (depth or tokens[at].token_type not in _AFTER_JOINED):
            depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(tokens[at].token_type, 0)
            at += 1
        end = tokens[at - 1].end + 1
        behind[end] = behind.get(end, "") + using
    return dropped, behind


def _unnamed_items(text: str, tokens: Sequence[Token]) -> Iterator[tuple[int, str]]:
    """Where items of derived and common tables end that are called like their text, which is stored otherwise, and
    how they are called."""
    for i in range(2, len(tokens)):
        words = [token.text.upper() for token in tokens[i - 2 : i + 1]]
        if words[1:] != ["(", "SELECT"] or words[0] not in _BEFORE_DERIVED:
            continue
        for start, end in select_items(tokens, i):
            query = parse.parse(f"SELECT {text[start:end]}").statement
            assert isinstance(query, parse.Query)
            item = query.ast.expressions[0]
            if not isinstance(item, exp.Alias | exp.Column) and item.find(exp.Column) is not None:
                yield end, item_name(item)


_BEFORE_DERIVED = frozenset({"AS", "FROM", "JOIN", "STRAIGHT_JOIN", "LATERAL", ","})


def _spelled(token: str) -> str:
    """A token's text; of a string in single quotes, which no sql_mode reads as a name."""
    if token[0] != '"':
        return token
    inner = token[1:-1].replace('""', '"').replace("'", "''")
    return f"'{inner}'"
