"""The tables of docs/operations.md that are made from the code: settings, metrics, failpoints, ctl's commands.

`python -m tests.ops.documentation` writes them anew; a test holds the page and the code together. A table stands
between `<!-- name -->` and `<!-- end -->`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from typer.main import get_command

from kvstore.ops.config import Section, described
from shell.ctl.options import make_app
from shell.nodes.db import DbSettings
from shell.nodes.kv import KvSettings
from shell.nodes.pd import PdSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operations.md"
PACKAGES = ("kvstore", "pd", "shell", "sqlfront", "coprocessor")
METRICS = (
    "Counter",
    "Gauge",
    "Histogram",
    "Summary",
    "GaugeMetricFamily",
    "CounterMetricFamily",
    "HistogramMetricFamily",
    "Durations",
)
FAILPOINTS = ("fail_point", "fail_point_async")


def settings(shape: type[Section]) -> str:
    rows = [
        (f"`{one.name}`", f"`{one.default}`" if one.default else "", one.type, one.help) for one in described(shape)
    ]
    return table(("key", "default", "type", "meaning"), rows)


def metrics() -> str:
    """All metrics whose name and help are written out where they are declared."""
    rows = []
    for path, _, call in _calls(METRICS):
        words = [_text(argument) for argument in call.args[:2]]
        if len(words) == 2 and words[0] and words[1]:
            rows.append((f"`{words[0]}`", words[1], f"`{path.relative_to(ROOT)}`"))
    rows += _listed_metrics()
    return table(("metric", "meaning", "declared in"), sorted(rows))


def _listed_metrics() -> list[tuple[str, str, str]]:
    """Those that a `metrics.py` has as (name, meaning, …) in a list."""
    rows = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*metrics.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            words = [_text(part) for part in node.elts[:2]] if isinstance(node, ast.Tuple) else []
            if len(words) == 2 and re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", words[0]) and words[1].endswith("."):
                rows.append((f"`{words[0]}`", words[1], f"`{path.relative_to(ROOT)}`"))
    return rows


def failpoints() -> str:
    found: dict[str, list[str]] = {}
    for path, function, call in _calls(FAILPOINTS):
        name = _text(call.args[0]) if call.args else ""
        if name:
            found.setdefault(name, []).append(f"`{path.relative_to(ROOT)}` {function}")
    return table(("failpoint", "where"), [(f"`{name}`", "; ".join(places)) for name, places in sorted(found.items())])


def commands() -> str:
    rows = []

    def walk(command: object, name: str) -> None:
        for part, one in getattr(command, "commands", {}).items():
            names = [
                (str(p.metavar or p.name).rstrip(".").upper(), p.required)
                for p in one.params
                if p.param_type_name == "argument"
            ]
            arguments = " ".join(name if required else f"[{name}]" for name, required in names)
            rows.append((f"`{f'{name}{part} {arguments}'.strip()}`", (one.help or "").splitlines()[0]))
            walk(one, f"{name}{part} ")

    walk(get_command(make_app({})), "")
    return table(("command", "what it does"), rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _text(node: ast.expr) -> str:
    """A string of the source; in a name with a part that varies that part is shown as `*`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
    return ""


def _calls(names: Sequence[str]) -> Iterator[tuple[Path, str, ast.Call]]:
    """All calls of functions of these names: file, enclosing function or class, call."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text("utf-8")
            if not path.name.endswith("_pb2.py") and any(name in source for name in names):
                yield from _calls_in(path, ast.parse(source), "", names)


def _calls_in(path: Path, node: ast.AST, inside: str, names: Sequence[str]) -> Iterator[tuple[Path, str, ast.Call]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        inside = f"{inside}.{node.name}".lstrip(".")
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in names:
            yield path, inside, node
    for child in ast.iter_child_nodes(node):
        yield from _calls_in(path, child, inside, names)


def tables() -> dict[str, str]:
    return {
        "settings of pd": settings(PdSettings),
        "settings of kv": settings(KvSettings),
        "settings of db": settings(DbSettings),
        "metrics": metrics(),
        "failpoints": failpoints(),
        "ctl": commands(),
    }


def rewritten(page: str) -> str:
    """The page with all its tables made anew."""
    for name, text in tables().items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        assert len(pattern.findall(page)) == 1, f"docs/operations.md has not one place for {name!r}"
        page = pattern.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)
    return page


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text("utf-8")), "utf-8")
