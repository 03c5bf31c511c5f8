"""How results look: Markdown tables that read well in a terminal and go into docs/performance.md as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.engines import OURS
from benchmarks.measure import Measurement, times_as_fast


def print_heading(title: str, shape: Mapping[str, str], versions: Mapping[str, str], absent: Mapping[str, str]) -> None:
    """Prints what runs, where and against what, and which peers are absent and why."""
    print(f"\n## {title}\n")
    print(" · ".join(f"{key} {value}" for key, value in shape.items()))
    print("\n" + " · ".join(f"{engine} {version}" for engine, version in versions.items()))
    for engine, reason in absent.items():
        print(f"Left out: {engine}, {reason}.")
    if shape.get("file system") == "tmpfs":
        print("The databases lie on tmpfs: nothing is durable there, and the durable writes below mean nothing.")
    print()


def print_results(measurements: Sequence[Measurement]) -> None:
    """Prints the medians, a row for each work and number of threads, then how many times as fast we are."""
    engines = list(dict.fromkeys(m.engine for m in measurements))
    rows = list(dict.fromkeys((m.work, m.threads) for m in measurements))
    at = {(m.work, m.threads, m.engine): m for m in measurements}
    with_threads = len({m.threads for m in measurements}) > 1
    table = [["work", *(["threads"] if with_threads else []), "unit", *engines]]
    for work, threads in rows:
        found = [at.get((work, threads, engine)) for engine in engines]
        unit = next(m.unit for m in found if m is not None)
        cells = [_number(m) if m is not None else "–" for m in found]
        table.append([work, *([str(threads)] if with_threads else []), "/s" if unit == "per_s" else unit, *cells])
    print_table(table)
    peers = [engine for engine in engines if engine != OURS]
    if OURS not in engines or not peers:
        return
    print("\nsqlfront is this many times as fast (above 1: faster; ≥ where the peer reached its time limit):\n")
    ratios = [["work", *(["threads"] if with_threads else []), *peers]]
    for work, threads in rows:
        ours = at.get((work, threads, OURS))
        if ours is not None:
            cells = [_ratio(ours, at.get((work, threads, peer))) for peer in peers]
            ratios.append([work, *([str(threads)] if with_threads else []), *cells])
    print_table(ratios)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows, the first as heading, as an aligned Markdown table."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for index, row in enumerate(rows):
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("| " + " | ".join(cells) + " |")
        if index == 0:
            print("|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|")


def write_json(path: Path, measurements: Sequence[Measurement]) -> None:
    """Writes the list with one object a measurement."""
    path.write_text(json.dumps([m.as_json() for m in measurements], indent=1) + "\n", encoding="utf-8")


def number(value: float) -> str:
    """Returns a number with as many digits as say something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _number(measurement: Measurement) -> str:
    return ("≥ " if "limit_reached" in measurement.notes else "") + number(measurement.value)


def _ratio(ours: Measurement, peer: Measurement | None) -> str:
    if peer is None:
        return "–"
    ratio = times_as_fast(ours, peer)
    return ("≥ " if "limit_reached" in peer.notes else "") + (f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}")
