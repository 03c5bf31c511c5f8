"""What text is read into: one dataclass per kind of statement, and their closed union.

Queries, data changes and expressions inside of them are sqlglot trees; everything else is plain values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from sqlglot import exp


@dataclass(slots=True)
class Query:
    """SELECT, a set operation, VALUES or TABLE. `item_texts` are the outermost select list's texts, for column names;
    `counts_all` says that the rows that LIMIT leaves out count too (SQL_CALC_FOUND_ROWS), `assigns` that there may be
    `@name := value` in it.
    """

    ast: exp.Expression
    item_texts: tuple[str, ...] = ()
    as_of: exp.Expression | None = None
    counts_all: bool = False
    assigns: bool = False


@dataclass(slots=True)
class FileForm:
    """FIELDS and LINES of a text file, MySQL's defaults. `optionally`: only text is enclosed."""

    terminated: str = "\t"
    enclosed: str = ""
    optionally: bool = False
    escaped: str = "\\"
    starting: str = ""
    ending: str = "\n"


@dataclass(slots=True)
class SelectInto:
    """SELECT ... INTO: user variables, or a file (`form` None: DUMPFILE, one value as it is)."""

    query: Query
    variables: list[str] = field(default_factory=list)
    path: str = ""
    form: FileForm | None = None


@dataclass(slots=True)
class LoadData:
    """LOAD DATA [LOCAL] INFILE. A target is a column's name, or a user variable's with its `@`; none: all columns.

    `duplicates` is replace, ignore or empty; `charset` empty for the default; `assignments` are those of SET.
    """

    path: str
    table: exp.Table
    local: bool = False
    duplicates: str = ""
    charset: str = ""
    form: FileForm = field(default_factory=FileForm)
    skip: int = 0
    targets: list[str] = field(default_factory=list)
    assignments: list[tuple[str, exp.Expression]] = field(default_factory=list)


@dataclass(slots=True)
class Insert:
    """INSERT and REPLACE; `assigns` says that there may be `@name := value` in it, `repeats` that columns may be named
    more than once: the last value counts."""

    ast: exp.Insert
    replace: bool = False
    assigns: bool = False
    repeats: bool = False


@dataclass(slots=True)
class Update:
    ast: exp.Update
    ignore: bool = False


@dataclass(slots=True)
class Delete:
    ast: exp.Delete
    ignore: bool = False


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
    """COMMIT; with `chain` another transaction of its kind follows."""

    chain: bool = False


@dataclass(slots=True)
class Rollback:
    savepoint: str | None = None
    chain: bool = False


@dataclass(slots=True)
class Savepoint:
    name: str


@dataclass(slots=True)
class ReleaseSavepoint:
    name: str


@dataclass(slots=True)
class Assignment:
    """`scope` is user, session, global or transaction (SET TRANSACTION for the next one). SET NAMES is an assignment to
    `names`, with the collation that it names, if it does."""

    scope: str
    name: str
    value: exp.Expression | None
    collate: str = ""


@dataclass(slots=True)
class SetVariables:
    items: list[Assignment]


@dataclass(slots=True)
class Use:
    database: str


@dataclass(slots=True)
class Show:
    """SHOW `what` (upper case words), with its optional table, database, LIKE pattern, WHERE, and LIMIT (first row,
    count).
    """

    what: str
    full: bool = False
    glob: bool = False
    table: exp.Table | None = None
    database: str | None = None
    like: str | None = None
    where: exp.Expression | None = None
    limit: tuple[int, int] | None = None


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
class AdminShowDdl:
    """ADMIN SHOW DDL: which version there is, and who changes it."""


@dataclass(slots=True)
class AdminShowDdlJobs:
    """ADMIN SHOW DDL JOBS [count]: those under way, and at most `count` that are over."""

    count: int


@dataclass(slots=True)
class AdminCancelDdlJobs:
    """ADMIN CANCEL DDL JOBS id, ..."""

    ids: list[int]


@dataclass(slots=True)
class Backup:
    """BACKUP DATABASE ... TO path."""

    path: str


@dataclass(slots=True)
class ImportOption:
    """One of WITH's options; `value` None when it is only named, or NULL."""

    name: str
    value: str | int | bool | None
    position: int


@dataclass(slots=True)
class ImportInto:
    """IMPORT INTO table [(columns)] FROM path [FORMAT format] [WITH options]; `format` in lower case, perhaps empty."""

    table: exp.Table
    columns: list[str]
    path: str
    format: str
    options: list[ImportOption]


@dataclass(slots=True)
class Nothing:
    """Comments alone."""


@dataclass(slots=True)
class LockTables:
    """LOCK TABLES; `locked` are the tables it names."""

    locked: list[exp.Table]


@dataclass(slots=True)
class UnlockTables:
    pass


@dataclass(slots=True)
class Flush:
    """FLUSH of something that needs no flushing; `tables` are those of FLUSH TABLES, perhaps none."""

    what: str
    tables: list[exp.Table] = field(default_factory=list)


@dataclass(slots=True)
class DropMissing:
    """DROP of something that does not exist here: TRIGGER, PROCEDURE, FUNCTION, EVENT."""

    kind: str
    name: exp.Table
    if_exists: bool


@dataclass(slots=True)
class Do:
    """DO: expressions whose values nobody asks for."""

    query: Query


@dataclass(slots=True)
class MaintainTables:
    """CHECK, OPTIMIZE or REPAIR TABLE: `verb` in lower case."""

    verb: str
    tables: list[exp.Table]


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
    | SetVariables | Use | Show | Describe | Explain | AnalyzeTable | AdminCheckTable | AdminCheckIndex | AdminShowDdl
    | AdminShowDdlJobs | AdminCancelDdlJobs | Backup | ImportInto | RunGc | Prepare | Execute | Deallocate | Kill
    | SelectInto | LoadData | Nothing | LockTables | UnlockTables | Flush | DropMissing | Do | MaintainTables
)  # fmt: skip


@dataclass(slots=True)
class Parsed:
    """One statement, its text, and its parameters: `positional` counts `?`, `names` lists `:name` in order."""

    statement: Statement
    text: str
    positional: int = 0
    names: tuple[str, ...] = ()
