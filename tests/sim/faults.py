"""The links of a simulated network: delays, loss, doubling, partitions, all drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kvstore.rpc.memory import Kind

RETRANSMIT_S = 0.2
"""What a lost packet costs a connection, which sends it again."""


@dataclass(slots=True)
class Weather:
    """How the links behave when nothing special is wrong with them."""

    delay_s: float = 0.001
    """The mean; delays are exponential, so datagrams overtake each other."""
    loss: float = 0.0
    """The chance of a lost datagram; connections are only late."""
    doubled: float = 0.0
    """The chance of a datagram that comes twice."""
    reset: float = 0.0
    """The chance that a unary message or a stream is lost with its connection."""


class Links:
    """See `kvstore.rpc.memory.Faults`. Machines on their own never lose or delay what they send to themselves."""

    def __init__(self, rng: random.Random, weather: Weather | None = None) -> None:
        self._rng = rng
        self.weather = weather or Weather()
        self._cut: set[tuple[str, str]] = set()
        self._slow: dict[tuple[str, str], float] = {}

    def delays(self, source: str, target: str, kind: Kind) -> Sequence[float]:
        if source == target:
            return (0.0,)
        if (source, target) in self._cut:
            return ()
        rng, weather = self._rng, self.weather
        delay = rng.expovariate(1 / weather.delay_s) + self._slow.get((source, target), 0.0)
        if kind is Kind.DATAGRAM:
            if rng.random() < weather.loss:
                return ()
            if rng.random() < weather.doubled:
                return (delay, delay + rng.expovariate(1 / weather.delay_s) * 10)
            return (delay,)
        if weather.reset and rng.random() < weather.reset:
            return ()
        if weather.loss and rng.random() < weather.loss:
            delay += RETRANSMIT_S
        return (delay,)

    def reachable(self, source: str, target: str) -> bool:
        return (source, target) not in self._cut

    def cut(self, sources: Collection[str], targets: Collection[str], *, both_ways: bool = True) -> None:
        """Nothing goes from the ones to the others any more."""
        for source in sources:
            for target in targets:
                if source != target:
                    self._cut.add((source, target))
                    if both_ways:
                        self._cut.add((target, source))

    def slow(self, sources: Collection[str], targets: Collection[str], delay_s: float) -> None:
        for source in sources:
            for target in targets:
                self._slow[source, target] = self._slow[target, source] = delay_s

    def heal(self) -> None:
        self._cut.clear()
        self._slow.clear()
