"""Which storage engine a scan is to read: the rows ("tikv"), the columnar replica ("tiflash"), or "", the planner's
choice.

The variable tidb_isolation_read_engines says which there are for the session, the hint READ_FROM_STORAGE of a query
block picks among them (TiDB's `pkg/planner/core/logical_plan_builder.go`). Statements that lock what they read, and the
database's own tables, read rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from sqlfront.errors import error
from sqlfront.parse.hints import READ_FROM_STORAGE, HintedTable, read_hints

if TYPE_CHECKING:
    from sqlfront.bind.scope import BindContext
    from sqlfront.catalog.model import Table

ER_INTERNAL = 1815


class StorageHints:
    """What the hint of one query block says, and which of its tables the block has turned out to read."""

    def __init__(self, ctx: BindContext, text: str, *, outermost: bool) -> None:
        self.ctx = ctx
        comment = read_hints(text)
        ctx.warnings += comment.warnings
        if outermost and ctx.max_execution_ms is None:
            ctx.max_execution_ms = comment.max_execution_ms
        self.hinted = comment.engines
        self.matched: set[HintedTable] = set()

    def engine(self, table: Table, alias: str) -> str:
        """The engine that is asked for a table of the block, "" for none."""
        engines: list[str] = []
        for engine, named in self.hinted:
            same_db = not named.db or named.db.casefold() == table.db.casefold()
            if named.name.casefold() == alias.casefold() and same_db:
                self.matched.add(named)
                engines.append(engine)
        if len(set(engines)) > 1:
            message = f"Storage hints are conflict, you can only specify one storage type of table {table.db}.{alias}"
            self.ctx.warnings.append((ER_INTERNAL, message))
            return ""
        return engines[0] if engines else ""

    def warn_unmatched(self) -> None:
        """Warns of the names that are none of the block's tables; when its FROM clause is bound."""
        missing = dict.fromkeys(str(named) for _, named in self.hinted if named not in self.matched)
        if missing:
            message = (
                f"There are no matching table names for ({', '.join(missing)}) in optimizer hint {READ_FROM_STORAGE}. "
                "Maybe you can use the table alias name"
            )
            self.ctx.warnings.append((ER_INTERNAL, message))


def storage_hints(ctx: BindContext, node: exp.Select) -> StorageHints | None:
    """The hints of a query block; None when it has no hint comment."""
    hint = node.args.get("hint")
    if hint is None:
        return None
    outermost = node.find_ancestor(exp.Select, exp.CTE) is None
    return StorageHints(ctx, str(hint.expressions[0]), outermost=outermost)


def scan_engine(ctx: BindContext, table: Table, alias: str, hints: StorageHints | None) -> str:
    """The engine of one scan. A hint for what cannot be read is a warning; a table without any way in is error 1815."""
    hinted = hints.engine(table, alias) if hints is not None else ""
    only = _only_engine(ctx, table)
    if hinted in ("", only):
        return only
    if only or (hinted == "tiflash" and not table.columnar):
        message = (
            f"No available path for table {table.db}.{alias} with the store type {hinted} of the hint /*+ "
            "read_from_storage */, please check the status of the table replica and variable value of "
            f"tidb_isolation_read_engines({','.join(sorted(ctx.read_engines))})"
        )
        ctx.warnings.append((ER_INTERNAL, message))
        return only
    return hinted


def _only_engine(ctx: BindContext, table: Table) -> str:
    """The engine that is left when there is no choice, "" when there is one."""
    if ctx.locking or table.system or table.temporary:
        return "tikv"
    rows, columns = "tikv" in ctx.read_engines, "tiflash" in ctx.read_engines
    if rows:
        return "" if columns else "tikv"
    if columns and table.columnar:
        return "tiflash"
    engines = ",".join(sorted(ctx.read_engines))
    valid = "tiflash, tikv" if table.columnar else "tikv"
    raise error(
        ER_INTERNAL,
        f"No access path for table '{table.name}' is found with 'tidb_isolation_read_engines' = '{engines}', "
        f"valid values can be '{valid}'",
    )
