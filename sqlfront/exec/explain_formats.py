"""The forms that EXPLAIN gives a plan: a table with one line a node, the same as JSON, and as an indented tree.

MySQL's words for the first are ROW and TRADITIONAL, TiDB's BRIEF. JSON has the names of TiDB's TIDB_JSON in one object,
the root; the tree is laid out as MySQL's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from coprocessor import types as t
from sqlfront.result import Result, ResultColumn, rows_result


@dataclass(slots=True)
class Line:
    """One node of a plan; `actual` is how many rows it gave, in how many seconds if that is known."""

    name: str
    depth: int
    rows: float | None
    task: str
    obj: str
    info: str
    actual: tuple[int, float | None] | None = None
    execution: str = ""


def _table(lines: Sequence[Line], analyze: bool) -> Result:
    told = any(line.execution for line in lines)
    names = ["id", "estRows", *(["actRows", "time"] if analyze else []), "task", "access object", "operator info"]
    names += ["execution info"] if told else []
    columns = tuple(ResultColumn(n, t.TEXT) for n in names)
    rows = []
    for i, line in enumerate(lines):
        est = "N/A" if line.rows is None else f"{line.rows:.2f}"
        measured: list[str] = []
        if analyze:
            rows_seen, seconds = ("N/A", None) if line.actual is None else line.actual
            measured = [str(rows_seen), "" if seconds is None else _duration(seconds)]
        tail = [line.execution] if told else []
        rows.append((_branch(lines, i) + line.name, est, *measured, line.task, line.obj, line.info, *tail))
    return rows_result(columns, rows)


def _duration(seconds: float) -> str:
    return (
        f"{seconds * 1e6:.1f}µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f}ms" if seconds < 1 else f"{seconds:.2f}s"
    )


def _branch(lines: Sequence[Line], index: int) -> str:
    """The tree's lines in front of a name."""
    depth = lines[index].depth
    if depth == 0:
        return ""
    out = []
    for level in range(1, depth + 1):
        more = False
        for later in lines[index + 1 :]:
            if later.depth < level:
                break
            if later.depth == level:
                more = True
                break
        if level == depth:
            out.append("├─" if more else "└─")
        else:
            out.append("│ " if more else "  ")
    return "".join(out)


def _json(lines: Sequence[Line], analyze: bool) -> Result:
    roots: list[dict[str, Any]] = []
    above: list[dict[str, Any]] = []
    for line in lines:
        node = _node(line, analyze)
        del above[line.depth :]
        (above[-1]["subOperators"] if above else roots).append(node)
        above.append(node)
    text = json.dumps(roots[0] if len(roots) == 1 else roots, indent=2, ensure_ascii=False)
    return rows_result((ResultColumn("EXPLAIN", t.TEXT),), [(text,)])


def _node(line: Line, analyze: bool) -> dict[str, Any]:
    node: dict[str, Any] = {"id": line.name}
    if line.rows is not None:
        node["estRows"] = round(line.rows, 2)
    if analyze and line.actual is not None:
        rows, seconds = line.actual
        node["actRows"] = rows
        if seconds is not None:
            node["time"] = _duration(seconds)
    node |= {"taskType": line.task, "accessObject": line.obj, "operatorInfo": line.info}
    if line.execution:
        node["executeInfo"] = line.execution
    return node | {"subOperators": []}


def _tree(lines: Sequence[Line], analyze: bool) -> Result:
    out = []
    for line in lines:
        head = " ".join(filter(None, (line.name, line.obj and f"on {line.obj}")))
        text = f"{'    ' * line.depth}-> {head}" + (f": {line.info}" if line.info else "") + f"  (task={line.task}"
        text += "" if line.rows is None else f" rows={line.rows:.2f}"
        text += ")"
        if analyze and line.actual is not None:
            rows, seconds = line.actual
            text += " (actual " + ("" if seconds is None else f"time={_duration(seconds)} ") + f"rows={rows})"
        out.append(text + (f" ({line.execution})" if line.execution else ""))
    return rows_result((ResultColumn("EXPLAIN", t.TEXT),), [("\n".join(out) + "\n",)])


FORMATS: dict[str, Callable[[Sequence[Line], bool], Result]] = {
    "": _table,
    "row": _table,
    "brief": _table,
    "traditional": _table,
    "json": _json,
    "tree": _tree,
}
