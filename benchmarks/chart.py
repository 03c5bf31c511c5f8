"""The frontier of both rates as an SVG: transactions a second against answers a second, one line an engine.

`python -m benchmarks.chart FILE.json FILE.svg` draws it again from a run that was written with `--json`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Measurement

Point = tuple[float, float]

COLOURS = {
    "sqlfront": "#d62728",
    "duckdb": "#e6a700",
    "postgresql": "#1f5f99",
    "sqlite3-full": "#5b8c5a",
    "sqlite3-normal": "#9bbf9a",
    "mariadb": "#8c6d46",
}
MARKS = {"alone": "o", "both": "s", "paced": "^"}


def missing() -> str | None:
    """Returns why no chart can be drawn here, or None."""
    if importlib.util.find_spec("matplotlib") is None:
        return "a chart needs matplotlib: pip install 'sqlfront[bench]'"
    return None


def frontiers(measurements: Sequence[Measurement]) -> dict[str, dict[str, Point]]:
    """Returns for each engine its points by name: transactions alone, both, paced, answers alone."""
    value = {(m.engine, m.work.removeprefix("htap_")): m.value for m in measurements}
    points: dict[str, dict[str, Point]] = {}
    for engine in dict.fromkeys(m.engine for m in measurements):
        points[engine] = {
            "tps": (value[engine, "tps_alone"], 0.0),
            "both": (value[engine, "tps_both"], value[engine, "answers_both"]),
            "paced": (value[engine, "tps_paced"], value[engine, "answers_paced"]),
            "answers": (0.0, value[engine, "answers_alone"]),
        }
    return points


def normalised(points: Mapping[str, Point]) -> dict[str, Point]:
    """Returns the points as shares of what the engine does of each alone."""
    tps, answers = points["tps"][0], points["answers"][1]
    return {name: (x / tps, y / answers) for name, (x, y) in points.items()}


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """Writes the chart: what each engine does on the left, what it keeps of either rate on the right."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    settings = {"svg.fonttype": "none", "svg.hashsalt": "htap", "font.family": "sans-serif", "font.size": 10}
    with plt.rc_context(settings):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", facecolor="white")
        for engine, points in frontiers(measurements).items():
            _line(left, engine, points)
            _line(right, engine, normalised(points))
        left.set(title="Both rates", xlabel="transactions/s", ylabel="answers/s (Q1 and Q6 in turn)")
        right.set(title="What is kept of each alone", xlabel="transactions/s, share", ylabel="answers/s, share")
        right.plot([1, 0], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle="--", zorder=0)
        for axes in (left, right):
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.grid(color="#eeeeee")
            axes.spines[["top", "right"]].set_visible(False)
        left.legend(frameon=False)
        right.legend(handles=_marks(), frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)


def _line(axes: Any, engine: str, points: Mapping[str, Point]) -> None:
    """Draws one engine's line from transactions alone to answers alone, through the points between by their x."""
    colour = COLOURS.get(engine, "#777777")
    inner = sorted((points["both"], points["paced"]), reverse=True)
    xs, ys = zip(points["tps"], *inner, points["answers"], strict=True)
    axes.plot(xs, ys, color=colour, linewidth=2 if engine == "sqlfront" else 1.3, label=engine)
    for name, (x, y) in points.items():
        axes.plot([x], [y], MARKS.get(name, MARKS["alone"]), color=colour, markersize=5, clip_on=False)


def _marks() -> list[Any]:
    """Returns a legend's entries that say what the marks are."""
    from matplotlib.lines import Line2D

    texts = {"alone": "alone", "both": "together, unpaced", "paced": "together, writer paced"}
    return [Line2D([], [], color="#777777", marker=MARKS[name], linestyle="", label=texts[name]) for name in MARKS]


def read_json(path: Path) -> list[Measurement]:
    """Reads back the measurements that `--json` wrote."""
    return [
        Measurement(m["work"], m["engine"], m["threads"], m["scale"], m["unit"], m["values"])
        for m in json.loads(path.read_text(encoding="utf-8"))
    ]


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    draw(read_json(Path(sys.argv[1])), Path(sys.argv[2]))
