"""What every part of the suite is handed, and where it puts its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cluster_sql.engine import SqlfrontCluster
from benchmarks.engines.postgresql_pair import PostgreSQLPair
from benchmarks.measure import Measurement
from benchmarks.tpch.data import QUERY_NUMBERS


@dataclass(frozen=True, slots=True)
class ClusterSqlSettings:
    """How long each rate is taken, how often, and how large the tables are. `parts` empty: all of them."""

    seconds: float = 3.0
    rounds: int = 3
    rows: int = 100_000
    index_rows: int = 1_000_000
    clients: int = 16
    scale: float = 0.1
    queries: tuple[int, ...] = QUERY_NUMBERS
    parts: tuple[str, ...] = ()


@dataclass(slots=True)
class Outcome:
    """The measurements, the table of what was wanted, and wrong answers, which must be loud."""

    measurements: list[Measurement] = field(default_factory=list)
    verdicts: list[tuple[str, str, str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def verdict(self, work: str, wanted: str, got: str, met: bool | None) -> None:
        """Adds a row; `met` None when there is nothing to judge."""
        self.verdicts.append((work, wanted, got, "–" if met is None else "met" if met else "missed"))

    def table(self) -> list[Sequence[str]]:
        """The rows with their heading."""
        return [("work", "wanted", "got", ""), *self.verdicts]


@dataclass(frozen=True, slots=True)
class Bench:
    """One part's surroundings: the cluster by the SQL engine over it and its placement drivers' addresses."""

    settings: ClusterSqlSettings
    engine: SqlfrontCluster
    postgresql: PostgreSQLPair | None
    addresses: Sequence[str]
    files: Path
    directory: Path
    say: Callable[[str], None]
    outcome: Outcome

    def measurement(self, work: str, engine: str, unit: str, threads: int = 1, scale: float = 1.0) -> Measurement:
        """A measurement that is reported, without values yet."""
        made = Measurement(work, engine, threads, scale, unit)
        self.outcome.measurements.append(made)
        return made
