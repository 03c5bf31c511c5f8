"""The readers of statements: a cursor over tokens that reads our own commands and hands the rest to sqlglot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from sqlglot import exp
from sqlglot.errors import ParseError
from sqlglot.tokens import Token, TokenType

from sqlfront.errors import ER_PARSE, DatabaseError, error, unsupported
from sqlfront.parse import FUNCTION_MARK, maintenance
from sqlfront.parse.files import find_into, load_data, select_into
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
    Execute,
    Explain,
    ImportInto,
    ImportOption,
    Insert,
    Kill,
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
    Update,
    Use,
)
from sqlfront.parse.text import near, open_version_comments
from sqlfront.parse.tokens import (
    LITERALS,
    add_into,
    as_of_end,
    bytes_as_hex,
    insert_set_form,
    is_word,
    mark_functions,
    number_placeholders,
    plain_targets,
    refuse_bytes,
    select_item_texts,
    spell_values,
    tokenize,
)
from sqlfront.parse.trees import has_option, parse_tree

STATEMENT_BYTES_MAX = 64 << 20
DDL_JOBS_SHOWN = 10
"""Jobs that are over which ADMIN SHOW DDL JOBS lists, where it does not say how many."""

_QUERY_STARTS = frozenset(
    """
    SELECT WITH VALUES TABLE (
    """.split()
)
_KNOWN_COMMANDS = frozenset(
    """
    GRANT REVOKE CALL HANDLER XA CHECKSUM RESET SIGNAL RESTORE INSTALL
    """.split()
)
_DDL_STARTS = frozenset(
    """
    CREATE DROP ALTER TRUNCATE
    """.split()
)
_SCOPES = {"GLOBAL": "global", "SESSION": "session", "LOCAL": "session"}


def parse_statement(text: str) -> Parsed:
    """Parses exactly one statement (see `sqlfront.parse.parse`)."""
    if len(text) > STATEMENT_BYTES_MAX:
        raise error(1153, f"statement of {len(text)} characters is over the limit of {STATEMENT_BYTES_MAX}")
    given = text
    if "/*!" in text:
        text = open_version_comments(text)
    tokens = tokenize(text)
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        if "/*" in given:
            return Parsed(Nothing(), text)
        raise error(1065, "Query was empty")
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            raise error(
                ER_PARSE,
                "one statement at a time: text follows ';'" + near(text, token.end + 1),
                position=token.end + 1,
            )
    if not text.isascii():
        if tokens[0].text.upper() in _DDL_STARTS:
            refuse_bytes(text)
        tokens = bytes_as_hex(tokens)
    names: list[str] = []
    tokens, positional = number_placeholders(tokens, names)
    if tokens[0].text.upper() not in _DDL_STARTS:
        tokens = mark_functions(tokens)
    if positional and names:
        raise error(ER_PARSE, "a statement takes either ? or :name parameters, not both")
    return Parsed(Commands(text, tokens).statement(), text, positional, tuple(names))


class Commands:
    """A cursor over one statement's tokens that reads our own commands and hands the rest to sqlglot."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.at = 0

    def statement(self) -> Statement:
        word = self.peek()
        if word in _QUERY_STARTS:
            return self.query()
        reader = _READERS.get(word)
        if reader is not None:
            return reader(self)
        if word == "DROP" and self.peek(1) == "PREPARE":
            return self._deallocate()
        if word == "DROP" and self.peek(1) in maintenance.UNKNOWN_KINDS:
            return maintenance.drop_missing(self)
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
        if token.token_type in LITERALS or not (is_word(token) or token.token_type == TokenType.IDENTIFIER):
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
        return error(ER_PARSE, "You have an error in your SQL syntax" + near(self.text, position), position=position)

    # sqlglot

    def tree(self, tokens: Sequence[Token]) -> exp.Expression:
        """Parses tokens with sqlglot, as one tree."""
        try:
            tree = parse_tree(tokens, self.text)
        except ParseError as exc:
            raise self._from_parse_error(exc) from exc
        if tree is None:
            raise self.syntax_error(self.at)
        return tree

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
            # sqlglot names the token where it stands, or the last one when it has come to the end.
            unexpected = str(first.get("description", "")).startswith("Invalid expression")
            if position == self.tokens[-1].start and not unexpected and self.tokens[-1].text != ")":
                position = len(self.text)
        return error(ER_PARSE, "You have an error in your SQL syntax" + near(self.text, position), position=position)

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

    def query(self) -> Query | SelectInto | Update | Delete:
        into = find_into(self.tokens, self.at)
        if into is not None:
            return select_into(self, into)
        tokens, as_of = self._take_as_of(self.tokens[self.at :])
        tree = self.tree(tokens)
        if isinstance(tree, (exp.Update, exp.Delete)) and as_of is None:  # after WITH
            return Update(tree) if isinstance(tree, exp.Update) else Delete(tree)
        if not isinstance(tree, (exp.Query, exp.Values)):
            raise self.syntax_error(self.at)
        texts = select_item_texts(self.text, self.tokens[self.at :])
        return Query(tree, texts, as_of, has_option(tree, "SQL_CALC_FOUND_ROWS"), ":=" in self.text)

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
                stop = as_of_end(tokens, i + 3)
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
        tokens = insert_set_form(tokens)
        tokens = add_into(spell_values(tokens))
        for token, after in pairwise(tokens):
            if token.token_type == TokenType.VALUES:
                if after.text.upper() not in ("(", "ROW"):
                    raise self.syntax_error(self.tokens.index(after))
                break
        tree = self.tree(tokens)
        if not isinstance(tree, exp.Insert):
            raise self.syntax_error(self.at)
        return Insert(tree, replace, ":=" in self.text)

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
        ignore = False
        while len(tokens) > 1 and tokens[1].text.upper() in ("LOW_PRIORITY", "QUICK", "IGNORE"):
            ignore |= tokens[1].text.upper() == "IGNORE"
            del tokens[1]
        tree = self.tree(plain_targets(tokens))
        if not isinstance(tree, exp.Delete):
            raise self.syntax_error(self.at)
        return Delete(tree, ignore)

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
                stop = as_of_end(self.tokens, self.at)
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
        return Commit(self._completion())

    def _rollback(self) -> Rollback:
        self.take()
        self.accept("WORK")
        savepoint = None
        if self.accept("TO"):
            self.accept("SAVEPOINT")
            savepoint = self.name()
            self.end()
        return Rollback(savepoint, self._completion())

    def _completion(self) -> bool:
        """What may follow COMMIT and ROLLBACK: whether a transaction follows, and that the connection stays."""
        chain = self.accept("AND", "CHAIN")
        if not chain:
            self.accept("AND", "NO", "CHAIN")
        self.accept("NO", "RELEASE")
        if self.accept("RELEASE"):
            raise unsupported("RELEASE", position=self.tokens[self.at - 1].start)
        self.end()
        return chain

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
        if self.accept("NAMES") or self.accept("CHARACTER", "SET") or self.accept("CHARSET"):
            charset = self.take().text
            collate = self.take().text if self.accept("COLLATE") else ""
            return Assignment("session", "names", exp.Literal.string(charset), collate)
        scope, name = self._variable()
        if not (self.accept(":=") or self.accept("=")):
            if not self.accept(":", "="):
                raise self.syntax_error(self.at)
        stop = self.next_comma()
        tokens = self.tokens[self.at : stop]
        self.at = stop
        is_word = len(tokens) == 1 and tokens[0].token_type not in (TokenType.STRING, TokenType.IDENTIFIER)
        if is_word and tokens[0].text.upper() in ("ON", "OFF", "DEFAULT", "ALL"):
            word = tokens[0].text.upper()
            if scope == "user" and word == "DEFAULT":
                raise self.syntax_error(stop - 1)
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

    def next_comma(self) -> int:
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
        while self.at < len(self.tokens) and self.peek() not in ("FROM", "IN", "LIKE", "WHERE", "LIMIT"):
            if words in (["CREATE", "TABLE"], ["CREATE", "VIEW"]):
                show.table = self.table()
                break
            if words == ["CREATE", "DATABASE"] or words == ["CREATE", "SCHEMA"]:
                self.accept("IF", "NOT", "EXISTS")
                show.database = self.name()
                break
            words.append(self.take().text.upper())
        show.what = " ".join(words).replace(f"{FUNCTION_MARK.upper()}COUNT ( * )", "COUNT(*)")
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
        if show.what in ("WARNINGS", "ERRORS") and self.accept("LIMIT"):
            show.limit = self._show_limit()

    def _show_limit(self) -> tuple[int, int]:
        """[offset,] count or count [OFFSET offset]: the first row and how many."""
        first = self.number()
        if self.accept(","):
            return first, self.number()
        return (self.number(), first) if self.accept("OFFSET") else (0, first)

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
            statement = self.query()
            explain.statement = statement.query if isinstance(statement, SelectInto) else statement
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
        if not self.accept("NO_WRITE_TO_BINLOG"):
            self.accept("LOCAL")
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
        if self.accept("SHOW", "DDL"):
            return self._admin_show_ddl()
        if self.accept("CANCEL", "DDL", "JOBS"):
            ids = [self.number()]
            while self.accept(","):
                ids.append(self.number())
            self.end()
            return AdminCancelDdlJobs(ids)
        if self.accept("GC"):
            self.end()
            return RunGc()
        raise unsupported("ADMIN " + self.peek(), position=self.tokens[0].start)

    def _admin_show_ddl(self) -> Statement:
        if not self.accept("JOBS"):
            self.end()
            return AdminShowDdl()
        count = DDL_JOBS_SHOWN if self.at == len(self.tokens) else self.number()
        self.end()
        return AdminShowDdlJobs(count)

    def number(self) -> int:
        token = self.take()
        if token.token_type != TokenType.NUMBER or not token.text.isdigit():
            raise self.syntax_error(self.at - 1)
        return int(token.text)

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

    def _import(self) -> ImportInto:
        first = self.take()
        if self.peek() != "INTO":
            raise unsupported("IMPORT " + self.peek(), position=first.start)
        self.take()
        table = self.table()
        columns: list[str] = []
        if self.accept("("):
            while True:
                if self.peek() == "@":
                    raise unsupported("IMPORT INTO of user variables", position=self.tokens[self.at].start)
                columns.append(self.name())
                if not self.accept(","):
                    break
            self.expect(")")
        if self.peek() == "SET" or (self.peek() == "FROM" and self.peek(1) in (*_QUERY_STARTS,)):
            what = "SET" if self.peek() == "SET" else "FROM a query"
            raise unsupported(f"IMPORT INTO with {what}", position=self.tokens[self.at].start)
        self.expect("FROM")
        path = self.string()
        format_ = self.string().lower() if self.accept("FORMAT") else ""
        options = []
        if self.accept("WITH"):
            options.append(self._import_option())
            while self.accept(","):
                options.append(self._import_option())
        self.end()
        return ImportInto(table, columns, path, format_, options)

    def _import_option(self) -> ImportOption:
        position = self.tokens[self.at].start if self.at < len(self.tokens) else len(self.text)
        option = ImportOption(self.name().lower(), None, position)
        if not self.accept("="):
            return option
        negative = self.accept("-")
        token = self.take()
        if token.token_type == TokenType.STRING and not negative:
            option.value = str(token.text)
        elif token.token_type == TokenType.NUMBER and token.text.isdigit():
            option.value = -int(token.text) if negative else int(token.text)
        elif token.text.upper() in ("TRUE", "FALSE") and not negative:
            option.value = token.text.upper() == "TRUE"
        else:
            raise self.syntax_error(self.at - 1)
        return option

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


_READERS: dict[str, Callable[[Commands], Statement]] = {
    "INSERT": Commands._insert,
    "REPLACE": Commands._insert,
    "UPDATE": Commands._update,
    "DELETE": Commands._delete,
    "RENAME": Commands._rename,
    "BEGIN": Commands._begin,
    "START": Commands._start,
    "COMMIT": Commands._commit,
    "ROLLBACK": Commands._rollback,
    "SAVEPOINT": Commands._savepoint,
    "RELEASE": Commands._release,
    "SET": Commands._set,
    "USE": Commands._use,
    "SHOW": Commands._show,
    "DESCRIBE": Commands._describe,
    "DESC": Commands._describe,
    "EXPLAIN": Commands._describe,
    "ANALYZE": Commands._analyze,
    "ADMIN": Commands._admin,
    "BACKUP": Commands._backup,
    "IMPORT": Commands._import,
    "PREPARE": Commands._prepare,
    "EXECUTE": Commands._execute,
    "DEALLOCATE": Commands._deallocate,
    "KILL": Commands._kill,
    "LOAD": load_data,
    "LOCK": maintenance.lock_tables,
    "UNLOCK": maintenance.unlock_tables,
    "FLUSH": maintenance.flush,
    "DO": maintenance.do,
    "CHECK": maintenance.maintain_tables,
    "OPTIMIZE": maintenance.maintain_tables,
    "REPAIR": maintenance.maintain_tables,
}
