"""Data definition statements: from their tokens to what they ask for (`sqlfront/catalog/definition.py`).

A reader of MySQL's DDL grammar over sqlglot's tokens (sqlglot's own trees drop parts of it: CLUSTERED, index options,
the places of errors). Everything that is read is carried out; what is known but not there yet is refused with 1235 and
its place, options that only advise the storage (ROW_FORMAT, KEY_BLOCK_SIZE, ALGORITHM, ...) are accepted, and the rest
is a syntax error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from sqlfront.bind.ddl_constraints import Constraint, ConstraintReader, added
from sqlfront.bind.ddl_tokens import BEFORE_QUERY, QUERY_STARTS
from sqlfront.bind.restored import restored
from sqlfront.bind.view_ddl import begins_view, read_create_view, read_drop_view
from sqlfront.catalog import definition as d
from sqlfront.errors import ER_PARSE, DatabaseError, error
from sqlfront.parse import Ddl, RenameTable

_PRIMARY = "PRIMARY"
_NOW_WORDS = frozenset({"CURRENT_TIMESTAMP", "NOW", "LOCALTIME", "LOCALTIMESTAMP"})
_ENGINES, _MEMORY = frozenset({"innodb", "tikv", "myisam"}), frozenset({"memory", "heap"})
_ADVICE = frozenset(
    {"ROW_FORMAT", "KEY_BLOCK_SIZE", "STATS_PERSISTENT", "STATS_AUTO_RECALC", "STATS_SAMPLE_PAGES", "AVG_ROW_LENGTH"}
    | {"MAX_ROWS", "MIN_ROWS", "PACK_KEYS", "CHECKSUM", "DELAY_KEY_WRITE", "AUTO_ID_CACHE"}
)
_FEATURE_COMMENT = re.compile(
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|/\*T!(?:\[(?P<feature>\w+)\])?(?P<text>.*?)\*/", re.DOTALL
)
_FEATURES = frozenset({"clustered_index", "auto_id_cache", None})


def read_ddl(statement: Ddl | RenameTable, text: str | None = None) -> d.Definition:
    """Returns what a statement asks for. `text` is its source; without it the statement's tree is printed and read.

    Raises 1064 and 1235 with the position in `text`.
    """
    if isinstance(statement, RenameTable):
        return d.RenameTables([(_of_tree(old), _of_tree(new)) for old, new in statement.pairs])
    return read_text(text if text is not None else statement.ast.sql(dialect="mysql", identify=True))


def read_text(text: str) -> d.Definition:
    """Reads one data definition statement from its text."""
    text = _FEATURE_COMMENT.sub(_open_feature, text)
    return _Reader(text).statement()


def _of_tree(table: object) -> d.TableName:
    from sqlglot import exp

    assert isinstance(table, exp.Table)
    return d.TableName(table.db or None, table.name, table.this.meta.get("start", -1))


def _open_feature(match: re.Match[str]) -> str:
    """Turns TiDB's `/*T![clustered_index] CLUSTERED */` into its content, at the same place; unknown features go."""
    text = match.group("text")
    if text is None:
        return match.group()
    width = match.end() - match.start()
    if match.group("feature") not in _FEATURES:
        return " " * width
    return (" " * (match.start("text") - match.start()) + text).ljust(width)


class _Reader(ConstraintReader):
    """Reads one statement."""

    # Statements

    def statement(self) -> d.Definition:
        readers: dict[str, Callable[[], d.Definition]] = {
            "CREATE": self._create,
            "DROP": self._drop,
            "ALTER": self._alter,
            "TRUNCATE": self._truncate,
            "RENAME": self._rename,
        }
        reader = readers.get(self.word())
        if reader is None:
            raise self.wrong()
        self.take()
        out = reader()
        self.end()
        return out

    def _create(self) -> d.Definition:
        position = self.position
        if self.accept_any("DATABASE", "SCHEMA"):
            exists = self.if_not_exists()
            position = self.position
            return d.CreateDatabase(self.name(), exists, self._database_options(), position)
        temporary = self.accept("TEMPORARY", "TABLE")
        if temporary or self.accept("TABLE"):
            return self._create_table(temporary)
        if self.word() in ("UNIQUE", "INDEX", "KEY", "FULLTEXT", "SPATIAL", "VECTOR"):
            return self._create_index()
        if begins_view(self):
            return read_create_view(self)
        if self.kind() != "word":
            raise self.wrong()
        known = ("TEMPORARY", "OR", "USER", "ROLE", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "SEQUENCE",
                 "GLOBAL", "PLACEMENT", "RESOURCE", "BINDING", "SESSION", "DEFINER", "SERVER")  # fmt: skip
        if self.word() in known:
            raise self.refuse(f"CREATE {self.word()}", position)
        raise self.wrong()

    def _database_options(self) -> d.TableOptions:
        options = d.TableOptions()
        while not self.ended:
            if not self._charset_option(options):
                raise self.wrong()
        return options

    def _drop(self) -> d.Definition:
        position = self.position
        if self.accept_any("DATABASE", "SCHEMA"):
            exists = self.if_exists()
            position = self.position
            return d.DropDatabase(self.name(), exists, position)
        temporary = self.accept("TEMPORARY")
        if self.accept_any("TABLE", "TABLES"):
            exists = self.if_exists()
            tables = [self.table()]
            while self.accept(","):
                tables.append(self.table())
            self.accept_any("RESTRICT", "CASCADE")
            return d.DropTable(tables, exists, temporary)
        if self.kind() != "word" or temporary:
            raise self.wrong()
        if self.accept("VIEW"):
            return read_drop_view(self)
        if self.accept_any("INDEX", "KEY"):
            exists = self.if_exists()
            position = self.position
            name = self.name()
            self.expect("ON")
            table = self.table()
            self._advice()
            return d.AlterTable(table, [d.DropKey(name, exists, position)])
        raise self.refuse(f"DROP {self.word()}", position)

    def _truncate(self) -> d.Definition:
        self.accept("TABLE")
        return d.TruncateTable(self.table())

    def _rename(self) -> d.Definition:
        if not self.accept("TABLE"):
            raise self.refuse(f"RENAME {self.word()}")
        pairs = []
        while True:
            old = self.table()
            self.expect("TO")
            pairs.append((old, self.table()))
            if not self.accept(","):
                return d.RenameTables(pairs)

    def _create_index(self) -> d.Definition:
        kind = "unique" if self.accept("UNIQUE") else "plain"
        if self.word() in ("FULLTEXT", "SPATIAL", "VECTOR"):
            raise self.refuse(f"{self.word()} INDEX")
        if not self.accept_any("INDEX", "KEY"):
            raise self.wrong()
        exists = self.if_not_exists()
        position = self.position
        name = self.name()
        self._using()
        self.expect("ON")
        table = self.table()
        self._using()
        key = self._key_options(d.KeySpec(kind, name, self.key_parts(), if_not_exists=exists, position=position))
        self._advice()
        return d.AlterTable(table, [d.AddKey(key)])

    def _advice(self) -> None:
        while self.accept_any("ALGORITHM", "LOCK"):
            self.accept("=")
            self.name()

    # CREATE TABLE

    def _create_table(self, temporary: bool) -> d.CreateTable:
        exists = self.if_not_exists()
        out = d.CreateTable(self.table(), exists, temporary=temporary)
        if self.accept("LIKE"):
            out.like = self.table()
            return out
        if self.accept("("):
            if self.accept("LIKE"):
                out.like = self.table()
                self.expect(")")
                return out
            if self.word() in QUERY_STARTS:
                self.at -= 1
            else:
                self._elements(out)
        while not self.ended and self.word() not in BEFORE_QUERY:
            if self.accept("PARTITION", "BY"):
                out.partition = self._partition_by()
                break
            if not self._table_option(out.options, _ENGINES | _MEMORY if temporary else _ENGINES):
                raise self.wrong()
            self.accept(",")
        if not self.ended:
            out.duplicates = self.accept_any("IGNORE", "REPLACE").lower()
            self.accept("AS")
            out.query = self.query_text()
        return out

    def _elements(self, out: d.CreateTable) -> None:
        while True:
            match self._key_definition():
                case d.KeySpec() as key:
                    out.keys.append(key)
                case d.CheckSpec() as check:
                    out.checks.append(check)
                case d.ForeignKeySpec() as foreign:
                    out.foreign_keys.append(foreign)
                case None:
                    out.columns.append(self._column())
            if not self.accept(","):
                break
        self.expect(")")

    def _key_definition(self) -> Constraint | None:
        """A key or constraint of the table, None when a column comes next."""
        position = self.position
        symbol = ""
        constraint = False
        if self.kind() == "word" and self.accept("CONSTRAINT"):
            constraint = True
            if self.word() not in ("PRIMARY", "UNIQUE", "FOREIGN", "CHECK"):
                symbol = self.name()
        if self.accept("PRIMARY", "KEY"):
            self._using()
            if self.kind() == "name" or (self.kind() == "word" and self.word() != "("):
                self.name()
            return self._key_options(d.KeySpec("primary", _PRIMARY, self.key_parts(), position=position))
        if self.accept("UNIQUE"):
            self.accept_any("KEY", "INDEX")
            return self._named_key("unique", symbol, position)
        if self.word() == "FOREIGN" and self.word(1) == "KEY":
            return self.foreign_key(symbol, position)
        if self.word() == "CHECK" and self.word(1) == "(":
            return self.check(symbol, position)
        if constraint:
            raise self.wrong()
        if self.word() in ("FULLTEXT", "SPATIAL", "VECTOR") and self.word(1) in ("KEY", "INDEX", "(", ""):
            raise self.refuse(f"{self.word()} INDEX", position)
        if self.word() in ("KEY", "INDEX"):
            self.take()
            return self._named_key("plain", "", position)
        return None

    def _named_key(self, kind: str, symbol: str, position: int) -> d.KeySpec:
        exists = self.if_not_exists()
        name = symbol
        if self.kind() in ("word", "name") and self.word() not in ("USING", "TYPE"):
            name = self.name()
        self._using()
        return self._key_options(d.KeySpec(kind, name, self.key_parts(), if_not_exists=exists, position=position))

    def _using(self) -> None:
        if self.accept_any("USING", "TYPE"):
            method = self.word()
            if method not in ("BTREE", "HASH"):
                raise self.refuse(f"USING {method}") if self.kind() == "word" else self.wrong()
            self.take()

    def _key_options(self, key: d.KeySpec) -> d.KeySpec:
        while not self.ended:
            if self.word() in ("USING", "TYPE"):
                self._using()
            elif self.accept("COMMENT"):
                key = replace(key, comment=self.string())
            elif self.accept("CLUSTERED"):
                key = replace(key, clustered=True)
            elif self.accept("NONCLUSTERED"):
                key = replace(key, clustered=False)
            elif self.accept("KEY_BLOCK_SIZE"):
                self.accept("=")
                self.integer()
            elif self.word() in ("INVISIBLE", "GLOBAL", "WITH", "WHERE"):
                raise self.refuse(f"{self.word()} in an index")
            elif not self.accept("VISIBLE"):
                break
        return key

    # Columns

    def _column(self) -> d.ColumnSpec:
        position = self.position
        column = d.ColumnSpec(self.name(), d.TypeSpec(""), position)
        column.type = self.type_spec()
        while not self.ended and self.word() not in (",", ")", "FIRST", "AFTER"):
            self._attribute(column)
        return column

    def _attribute(self, column: d.ColumnSpec) -> None:
        if self.accept("NOT", "NULL"):
            column.not_null = True
        elif self.accept("NULL"):
            column.not_null = False
        elif self.accept("DEFAULT"):
            column.default = self._default()
        elif self.accept("AUTO_INCREMENT"):
            column.auto_increment = True
        elif self.accept("ON", "UPDATE"):
            column.on_update = self._now()
        elif self.accept("UNIQUE"):
            self.accept("KEY")
            column.unique = True
        elif self.accept("PRIMARY", "KEY") or self.accept("PRIMARY") or self.accept("KEY"):
            column.primary = True
            if self.word() in ("CLUSTERED", "NONCLUSTERED"):
                column.clustered = self.take().upper == "CLUSTERED"
        elif self.accept("COMMENT"):
            column.comment = self.string()
        elif self.accept("SERIAL", "DEFAULT", "VALUE"):
            column.not_null = column.auto_increment = column.unique = True
        elif self.word() in ("COLLATE", "CHARACTER", "CHARSET"):
            column.type = self._type_attributes(column.type)
        elif self.accept("GENERATED", "ALWAYS", "AS") or self.accept("AS"):
            column.generated = self._generated()
        elif self.word() == "REFERENCES":
            self.references()  # without effect behind a column, as in MySQL
        elif self.word() in ("CHECK", "CONSTRAINT"):
            column.checks.append(self.column_check(column.name))
        elif self.word() in ("INVISIBLE", "AUTO_RANDOM", "STORAGE", "COLUMN_FORMAT", "SRID", "ENGINE_ATTRIBUTE"):
            raise self.refuse(self.word())
        elif not self.accept("VISIBLE"):
            raise self.wrong()

    def _generated(self) -> d.GeneratedSpec:
        """(expression) [VIRTUAL | STORED]"""
        position = self.position
        text = self.parenthesised()
        stored = self.accept_any("VIRTUAL", "STORED") == "STORED"
        return d.GeneratedSpec(restored(text), stored, position)

    def _now(self) -> int:
        """CURRENT_TIMESTAMP[(fsp)] and its synonyms; returns the fsp."""
        if self.word() not in _NOW_WORDS:
            raise self.wrong()
        self.take()
        fsp = 0
        if self.accept("("):
            if self.word() != ")":
                fsp = self.integer()
            self.expect(")")
        return fsp

    def _default(self) -> d.DefaultSpec:
        position = self.position
        if self.word() in _NOW_WORDS:
            return d.DefaultSpec("now", self._now(), position)
        if self.word() == "(":
            return self._parenthesised_default(position)
        return d.DefaultSpec("const", self._literal(), position)

    def _parenthesised_default(self, position: int) -> d.DefaultSpec:
        """A literal or the current time in parentheses are what they are without; else it is an expression."""
        before = self.at
        self.expect("(")
        if self.word() != "(":
            start = self.at
            try:
                inner = self._default()
            except DatabaseError as exc:
                if exc.code != ER_PARSE:
                    raise
                self.at = start
            else:
                if self.word() == ")":
                    self.at = before
                    return replace(inner, text=restored(self.parenthesised()))
        self.at = before
        text = restored(self.parenthesised())
        return d.DefaultSpec("expr", text, position, text)

    def _literal(self) -> str | bytes | int | float | Decimal | None:
        if self.accept("NULL"):
            return None
        if self.word() in ("TRUE", "FALSE"):
            return int(self.take().upper == "TRUE")
        if self.kind() == "bits":
            bits = self.take().text
            return int(bits or "0", 2).to_bytes(max((len(bits) + 7) // 8, 1), "big")
        if self.kind() == "hex":
            digits = self.take().text
            return bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
        introduced = self.word() in ("DATE", "TIME", "TIMESTAMP") or self.word().startswith("_")
        if introduced and self.kind(1) == "string":
            self.take()
        if self.kind() == "string":
            text = self.string()
            while self.kind() == "string":
                text += self.string()
            return text
        sign = -1 if self.accept("-") else 1
        self.accept("+")
        if self.kind() != "number":
            raise self.wrong()
        text = self.take().text
        if "e" in text.lower():
            return sign * float(text)
        return sign * (Decimal(text) if "." in text else int(text))

    # Options

    def _charset_option(self, options: d.TableOptions) -> bool:
        default = self.accept("DEFAULT")
        if self.accept("CHARACTER", "SET") or self.accept("CHAR", "SET") or self.accept("CHARSET"):
            self.accept("=")
            options.charset = self.charset_name()
            return True
        if self.accept("COLLATE"):
            self.accept("=")
            options.collate = self.charset_name()
            return True
        if self.word() == "ENCRYPTION":
            self.no_encryption()
            return True
        if default:
            raise self.wrong()
        if self.word() in ("PLACEMENT", "READ"):
            raise self.refuse(self.word())
        return False

    def _table_option(self, options: d.TableOptions, engines: frozenset[str] = _ENGINES) -> bool:
        if self._charset_option(options):
            return True
        position = self.position
        if self.accept("AUTO_INCREMENT"):
            self.accept("=")
            options.auto_increment = self.integer()
        elif self.accept("COMMENT"):
            self.accept("=")
            options.comment = self.string()
        elif self.accept("ENGINE"):
            self.accept("=")
            engine = self.charset_name()
            if engine.lower() not in engines:
                raise self.refuse(f"ENGINE = {engine}", position)
        elif self.accept_any(*_ADVICE):
            self.accept("=")
            self.take()
        elif self.word() in ("TABLESPACE", "DATA", "INDEX", "CONNECTION", "COMPRESSION", "UNION", "TTL",
                             "PLACEMENT", "SHARD_ROW_ID_BITS", "PRE_SPLIT_REGIONS", "INSERT_METHOD"):  # fmt: skip
            raise self.refuse(f"table option {self.word()}")
        else:
            return False
        return True

    # Partitions

    def _partition_by(self) -> d.PartitionBy:
        position = self.position
        if self.word() == "LINEAR":
            raise self.refuse("PARTITION BY LINEAR", position)
        kind = self.accept_any("RANGE", "LIST", "HASH", "KEY")
        if not kind:
            raise self.wrong()
        columns: tuple[str, ...] = ()
        expr = ""
        if kind == "KEY":
            columns = self._hashed_columns()
        elif kind != "HASH" and self.accept("COLUMNS"):
            columns = self.column_names()
        else:
            expr = self.parenthesised()
        number = 0
        if self.accept("PARTITIONS"):
            at = self.position
            number = self.integer()
            if not number:
                raise error(1504, "Number of partitions = 0 is not an allowed value", position=at)
        if self.word() == "SUBPARTITION":
            raise self.refuse("SUBPARTITION BY")
        partitions = self._partitions() if self.word() == "(" else ()
        return d.PartitionBy(kind.lower(), expr, columns, partitions, number, position)

    def _hashed_columns(self) -> tuple[str, ...]:
        """[ALGORITHM = 1 | 2] (column, ...) of KEY; no columns stand for those of the primary key."""
        if self.accept("ALGORITHM"):
            self.accept("=")
            if self.integer() not in (1, 2):
                raise self.wrong()
        if self.word() == "(" and self.word(1) == ")":
            self.take()
            self.take()
            return ()
        return self.column_names()

    def _partitions(self) -> tuple[d.PartitionSpec, ...]:
        self.expect("(")
        found = [self._partition()]
        while self.accept(","):
            found.append(self._partition())
        self.expect(")")
        return tuple(found)

    def _partition(self) -> d.PartitionSpec:
        self.expect("PARTITION")
        position = self.position
        spec = d.PartitionSpec(self.name(), position=position)
        if self.accept("VALUES", "LESS", "THAN"):
            spec = replace(spec, less_than=("MAXVALUE",) if self.accept("MAXVALUE") else self._constants())
        elif self.accept("VALUES", "IN"):
            spec = replace(spec, values=self._rows_of_constants())
        while not self.ended and self.word() not in (",", ")"):
            if self.accept("COMMENT"):
                self.accept("=")
                spec = replace(spec, comment=self.string())
            elif self.accept("ENGINE"):
                self.accept("=")
                self.charset_name()
            elif self.accept_any("MAX_ROWS", "MIN_ROWS"):
                self.accept("=")
                self.integer()
            elif self.word() in ("TABLESPACE", "DATA", "INDEX", "PLACEMENT", "("):
                raise self.refuse(f"partition option {self.word()}")
            else:
                raise self.wrong()
        return spec

    def _constants(self) -> tuple[str, ...]:
        """(constant, ...), each as its text."""
        self.expect("(")
        found: list[str] = []
        while True:
            first, depth = self.position, 0
            while depth or self.word() not in (",", ")"):
                depth += {"(": 1, ")": -1}.get(self.word(), 0)
                self.take()
            text = self.text[first : self.position].strip()
            if not text:
                raise self.wrong()
            found.append(text)
            if not self.accept(","):
                break
        self.expect(")")
        return tuple(found)

    def _rows_of_constants(self) -> tuple[tuple[str, ...], ...]:
        """(1, 2), or ((1, 'a'), (2, 'b')) over several columns."""
        if self.word(1) != "(":
            return tuple((text,) for text in self._constants())
        self.expect("(")
        rows = [self._constants()]
        while self.accept(","):
            rows.append(self._constants())
        self.expect(")")
        return tuple(rows)

    def _reorganized_partitions(self, position: int) -> d.AlterAction:
        if self.ended:
            return d.ReorganizePartitions((), (), position)
        names = self._partition_names()
        self.expect("INTO")
        return d.ReorganizePartitions(names, self._partitions(), position)

    def _partition_names(self) -> tuple[str, ...]:
        if self.accept("ALL"):
            return ()
        names = [self.name()]
        while self.accept(","):
            names.append(self.name())
        return tuple(names)

    # ALTER

    def _alter(self) -> d.Definition:
        position = self.position
        if self.accept_any("DATABASE", "SCHEMA"):
            name = None
            if self.word() not in ("DEFAULT", "CHARACTER", "CHARSET", "COLLATE", "CHAR"):
                position = self.position
                name = self.name()
            if self.word() == "SET" and self.word(1) == "TIFLASH":
                raise self.refuse("ALTER DATABASE ... SET TIFLASH REPLICA")
            options = self._database_options()
            return d.AlterDatabase(name, options, position)
        if begins_view(self):
            return read_create_view(self, alter=True)
        if not self.accept("TABLE"):
            raise self.refuse(f"ALTER {self.word()}", position) if self.kind() == "word" else self.wrong()
        out = d.AlterTable(self.table(), [])
        while not self.ended:
            out.actions.extend(self._action())
            if not self.accept(",") and not self.ended and not self._at_option():
                raise self.wrong()
        return out

    def _at_option(self) -> bool:
        """Table options may follow each other without commas."""
        return self.tokens[self.at - 1].upper != "," and self.word() in (
            "DEFAULT", "CHARACTER", "CHARSET", "COLLATE", "ENGINE", "COMMENT", "AUTO_INCREMENT", "ROW_FORMAT"
        )  # fmt: skip

    def _action(self) -> list[d.AlterAction]:
        position = self.position
        if self.accept("ADD"):
            return self._add(position)
        if self.accept("DROP"):
            return [self._drop_action(position)]
        if self.accept("MODIFY"):
            self.accept("COLUMN")
            position = self.position
            column = self._column()
            return [d.ChangeColumn(column.name, column, self._place(), position)]
        if self.accept("CHANGE"):
            self.accept("COLUMN")
            position = self.position
            old = self.name()
            return [d.ChangeColumn(old, self._column(), self._place(), position)]
        if self.accept("RENAME"):
            return [self._rename_action()]
        if self.accept("TRUNCATE", "PARTITION"):
            return [d.ClearPartitions(self._partition_names(), True, position)]
        if self.accept("PARTITION", "BY"):
            return [d.PartitionTable(self._partition_by(), position)]
        if self.accept("REMOVE", "PARTITIONING"):
            return [d.PartitionTable(None, position)]
        if self.accept("COALESCE", "PARTITION"):
            return [d.CoalescePartitions(self.integer(), position)]
        if self.accept("REORGANIZE", "PARTITION"):
            return [self._reorganized_partitions(position)]
        if self.accept("ALTER"):
            return [self._alter_column()]
        if self.word() in ("ALGORITHM", "LOCK"):
            self._advice()
            return []
        if self.accept("FORCE") or self.accept("ENABLE", "KEYS") or self.accept("DISABLE", "KEYS"):
            return []
        options = d.TableOptions()
        if self.accept("CONVERT", "TO"):
            if not self._charset_option(options):
                raise self.wrong()
            while self._charset_option(options):
                pass
            return [d.ConvertText(options, position)]
        if self._table_option(options):
            return [d.SetOptions(options)]
        if self.accept("SET", "TIFLASH"):
            return [self._replica()]
        known = ("ORDER", "EXCHANGE", "DISCARD", "IMPORT", "SPLIT", "CACHE", "NOCACHE", "SET", "WITH", "WITHOUT",
                 "CHECK", "OPTIMIZE", "REBUILD", "REPAIR")  # fmt: skip
        if self.word() in known:
            raise self.refuse(f"ALTER TABLE ... {self.word()}")
        raise self.wrong()

    def _replica(self) -> d.AlterAction:
        self.expect("REPLICA")
        position = self.position
        count = self.integer()
        labels: list[str] = []
        if self.accept("LOCATION"):
            self.expect("LABELS")
            labels.append(self.string())
            while self.accept(","):
                labels.append(self.string())
        return d.SetReplica(count, tuple(labels), position)

    def _add(self, position: int) -> list[d.AlterAction]:
        if self.accept("PARTITION"):
            if self.accept("PARTITIONS"):
                return [d.AddPartitions((), self.integer(), position)]
            return [d.AddPartitions(self._partitions(), position=position)]
        if self.word() in ("CONSTRAINT", "PRIMARY", "UNIQUE", "INDEX", "KEY", "FOREIGN", "CHECK", "FULLTEXT", "SPATIAL",
                           "VECTOR"):  # fmt: skip
            key = self._key_definition()
            if key is not None:
                return [added(key)]
        self.accept("COLUMN")
        exists = self.if_not_exists()
        if not self.accept("("):
            return [d.AddColumn(self._column(), self._place(), exists)]
        out: list[d.AlterAction] = []
        while True:
            key = self._key_definition()
            out.append(added(key) if key is not None else d.AddColumn(self._column(), None, exists))
            if not self.accept(","):
                break
        self.expect(")")
        return out

    def _place(self) -> str | None:
        if self.accept("FIRST"):
            return ""
        return self.name() if self.accept("AFTER") else None

    def _drop_action(self, position: int) -> d.AlterAction:
        if self.accept("PRIMARY", "KEY"):
            return d.DropKey(_PRIMARY, position=position)
        if self.accept_any("INDEX", "KEY"):
            exists = self.if_exists()
            position = self.position
            return d.DropKey(self.name(), exists, position)
        if self.word() in ("CONSTRAINT", "CHECK", "FOREIGN") and self.kind(1) in ("word", "name"):
            return self.dropped_constraint()
        if self.accept("PARTITION"):
            return d.ClearPartitions(self._partition_names(), False, position)
        self.accept("COLUMN")
        exists = self.if_exists()
        position = self.position
        column = self.name()
        self.accept_any("RESTRICT", "CASCADE")
        return d.DropColumn(column, exists, position)

    def _rename_action(self) -> d.AlterAction:
        position = self.position
        if self.accept("COLUMN"):
            position = self.position
            old = self.name()
            self.expect("TO")
            return d.RenameColumn(old, self.name(), position)
        if self.word() in ("INDEX", "KEY") and self.word(2) == "TO":
            self.take()
            position = self.position
            old = self.name()
            self.expect("TO")
            return d.RenameKey(old, self.name(), position)
        self.accept_any("TO", "AS", "=")
        return d.RenameTo(self.table())

    def _alter_column(self) -> d.AlterAction:
        if self.word() in ("CHECK", "CONSTRAINT") and self.kind(1) in ("word", "name"):
            return self.altered_check()
        if self.word() == "INDEX" and self.kind(1) in ("word", "name"):
            raise self.refuse("ALTER INDEX")
        self.accept("COLUMN")
        position = self.position
        column = self.name()
        if self.accept("DROP", "DEFAULT"):
            return d.SetDefault(column, None, position)
        self.expect("SET")
        self.expect("DEFAULT")
        return d.SetDefault(column, self._default(), position)
