"""Short reads that an index answers in its order, on a table of events in groups; one row of work each, by parameters.

- `keyset_page`: twenty rows behind a value of `k` (an index), as a pager asks for them
- `newest_of_group`: the ten newest rows of a group, by an index over the group and the time
- `max_of_group`: the newest time of a group, by the same index
- `either_index`: the rows that one of two indexes finds

Every answer is compared with the first engine's for some parameters before anything is measured; a difference fails.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engines.api import Cursor, Engine, in_paramstyle
from benchmarks.measure import Measurement, Operation, rate
from benchmarks.parquet import write_parquet
from benchmarks.schema import Column, Table

EVENTS = Table(
    "events",
    (Column("id", "int"), Column("g", "int"), Column("seen", "int"), Column("k", "int"), Column("body", "char(120)")),
    ("id",),
    (("g", "seen"), ("k",)),
)
ROWS_AT_SCALE_1 = 1_000_000
GROUP_ROWS = 1_000
DRAWS = 5_003
CHECKED = 20
"""How many answers of each work are compared."""
SEED = 20130101

WORKS = {
    "keyset_page": "SELECT id, k FROM events WHERE k > ? ORDER BY k, id LIMIT 20",
    "newest_of_group": "SELECT id, seen FROM events WHERE g = ? ORDER BY seen DESC, id DESC LIMIT 10",
    "max_of_group": "SELECT MAX(seen) FROM events WHERE g = ?",
    "either_index": "SELECT id FROM events WHERE k = ? OR (g = ? AND seen < 2000) ORDER BY id",
}
GROUPS_OF = {"newest_of_group": (0,), "max_of_group": (0,), "either_index": (1,)}
"""Which parameters of a work are groups; the others are values of `k`."""


@dataclass(frozen=True, slots=True)
class PathsSettings:
    """How large and how long. `seconds` is one round's length."""

    scale: float = 0.2
    rounds: int = 5
    seconds: float = 1.0

    @property
    def rows(self) -> int:
        return max(GROUP_ROWS, round(ROWS_AT_SCALE_1 * self.scale))


@dataclass(slots=True)
class PathsResults:
    """The measurements, and answers that differ, which must be loud."""

    measurements: list[Measurement]
    faults: list[str]


def run(engines: Sequence[Engine], files: Path, settings: PathsSettings, say: Callable[[str], None]) -> PathsResults:
    """Loads the table into each started engine, compares some answers, and measures every work."""
    data = events_file(files, settings.rows)
    results = PathsResults([], [])
    with contextlib.ExitStack() as connections:
        cursors: dict[str, Cursor] = {}
        for engine in engines:
            say(f"{engine.name}: loading {settings.rows:,} rows")
            engine.prepare(data)
            con = connections.enter_context(contextlib.closing(engine.connect()))
            engine.create_table(con, EVENTS)
            engine.append(con, EVENTS, data)
            engine.create_indexes(con, EVENTS)
            engine.analyze(con)
            cursors[engine.name] = con.cursor()
        for work, text in WORKS.items():
            say(work)
            params = _params(work, text.count("?"), settings.rows)
            reads = {
                engine.name: _read(cursors[engine.name], in_paramstyle(text, engine.paramstyle)) for engine in engines
            }
            results.faults += _differences(work, reads, params[:CHECKED])
            measured = [Measurement(work, name, 1, settings.scale, "per_s") for name in reads]
            operations = {name: _operation(read, params) for name, read in reads.items()}
            for operation in operations.values():
                rate([operation], min(0.2, settings.seconds))
            for _ in range(settings.rounds):
                for one in measured:
                    one.values.append(rate([operations[one.engine]], settings.seconds))
            results.measurements += measured
    return results


Read = Callable[[Sequence[int]], list[tuple[object, ...]]]


def _read(cursor: Cursor, sql: str) -> Read:
    execute, fetchall = cursor.execute, cursor.fetchall

    def read(params: Sequence[int]) -> list[tuple[object, ...]]:
        execute(sql, params)
        return [tuple(row) for row in fetchall()]

    return read


def _operation(read: Read, params: Sequence[tuple[int, ...]]) -> Operation:
    drawn = itertools.cycle(params)

    def operation() -> None:
        read(next(drawn))

    return operation


def _params(work: str, count: int, rows: int) -> list[tuple[int, ...]]:
    rng = random.Random(SEED)
    groups = GROUPS_OF.get(work, ())
    largest = [max(rows // GROUP_ROWS, 1) - 1 if at in groups else rows for at in range(count)]
    return [tuple(rng.randint(0, top) for top in largest) for _ in range(DRAWS)]


def _differences(work: str, reads: dict[str, Read], params: Sequence[tuple[int, ...]]) -> list[str]:
    """What engines answer otherwise than the first one does."""
    (first, reference), *others = reads.items()
    return [
        f"WRONG ANSWER {work} {one}: {name} has {read(one)}, {first} {reference(one)}"
        for one in params
        for name, read in others
        if read(one) != reference(one)
    ]


def events_file(directory: Path, rows: int) -> Path:
    """Returns the Parquet file with the table's rows, the same for every engine, writing it when it isn't there."""
    import pyarrow as pa

    path = directory / f"events-{rows}.parquet"
    if not path.exists():
        rng = random.Random(SEED)
        groups = max(rows // GROUP_ROWS, 1)
        columns = {
            "id": pa.array(range(1, rows + 1), pa.int32()),
            "g": pa.array([rng.randrange(groups) for _ in range(rows)], pa.int32()),
            "seen": pa.array([rng.randrange(1_000_000) for _ in range(rows)], pa.int32()),
            "k": pa.array([rng.randint(1, rows) for _ in range(rows)], pa.int32()),
            "body": pa.array([f"{rng.randrange(10**11):0>119}" for _ in range(rows)], pa.string()),
        }
        write_parquet(path, pa.table(columns))
    return path
