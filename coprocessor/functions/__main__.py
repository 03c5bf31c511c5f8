"""Prints the catalogue as the tables of docs/functions.md: `python -m coprocessor.functions`."""

from __future__ import annotations

import coprocessor.functions  # noqa: F401  (fills the registry)
from coprocessor.functions.registry import AGGREGATES, ALIASES, FUNCTIONS, WINDOWS, Function


def _count(least: int, most: int | None) -> str:
    if most is None:
        return f"{least} or more"
    return str(least) if least == most else f"{least} to {most}"


def _duck(function: Function) -> str:
    if function.rewrite is not None:
        return "other nodes"
    if function.duck is None:
        return "closure"
    return "native" if isinstance(function.duck, str) else "native where it means the same"


def _server(function: Function) -> str:
    if function.tipb is None:
        return ""
    return function.tipb if isinstance(function.tipb, str) else ", ".join(dict.fromkeys(function.tipb.values()))


def tables() -> str:
    """Returns the catalogue as Markdown tables, one per subject."""
    lines: list[str] = []
    also: dict[str, list[str]] = {}
    for alias, name in ALIASES.items():
        also.setdefault(name, []).append(alias)
    for subject in sorted({f.subject for f in FUNCTIONS.values()}):
        lines += ["", f"### {subject[0].upper()}{subject[1:]}", "", "| Name | Arguments | In DuckDB | tipb signature |",
                  "|---|---|---|---|"]  # fmt: skip
        for name in sorted(n for n, f in FUNCTIONS.items() if f.subject == subject):
            f = FUNCTIONS[name]
            shown = ", ".join([f"`{name}`", *(f"`{a}`" for a in sorted(also.get(name, [])))])
            syntax = f" ({f.syntax.replace('|', chr(92) + '|')})" if f.syntax else ""
            lines.append(f"| {shown}{syntax} | {_count(f.min_args, f.max_args)} | {_duck(f)} | {_server(f)} |")
    lines += ["", "### Aggregates", "", "| Name | Arguments | tipb ExprType |", "|---|---|---|"]
    lines += [
        f"| `{a.name}` | {_count(a.min_args, a.max_args)} | {a.tipb or ''} |" for _, a in sorted(AGGREGATES.items())
    ]
    lines += ["", "### Window functions", "", "| Name | Arguments | Reads the frame |", "|---|---|---|"]
    lines += [
        f"| `{w.name}` | {_count(w.min_args, w.max_args)} | {'yes' if w.framed else ''} |"
        for _, w in sorted(WINDOWS.items())
    ]
    return "\n".join(lines).lstrip("\n") + "\n"


if __name__ == "__main__":
    print(tables(), end="")
