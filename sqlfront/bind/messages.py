"""What messages say of a tree of sqlglot's: where it stands, how it reads, that it isn't there."""

from __future__ import annotations

from sqlglot import exp

from sqlfront.errors import DatabaseError, unsupported
from sqlfront.parse import FUNCTION_MARK


def position_of(node: exp.Expression) -> int:
    """Returns the text offset of the first identifier or literal below a tree, -1 when none is known."""
    best = -1
    for child in node.walk():
        start = child.meta.get("start")
        if start is not None and (best < 0 or start < best):
            best = start
    return best


def refuse(node: exp.Expression) -> DatabaseError:
    return unsupported(text_of(node)[:80], position=position_of(node))


def text_of(node: exp.Expression) -> str:
    """The SQL text of a tree, function names as they were written."""
    return str(node.sql("mysql", normalize_functions=False)).replace(FUNCTION_MARK, "")
