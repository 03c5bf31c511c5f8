"""Bank: whoever reads all accounts at one snapshot finds the same total, and no account is overdrawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.sim.checkers import Anomaly
from tests.sim.history import Event, Outcome


@dataclass(frozen=True, slots=True)
class ReadAll:
    """Reads every account; the result is balance by account."""

    by_scan: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
    source: bytes
    target: bytes
    amount: int


BankEvent = Event[ReadAll | Transfer, Mapping[bytes, int]]


def check_bank(events: Sequence[BankEvent], accounts: Sequence[bytes], total: int) -> list[Anomaly]:
    """Checks every read; what transfers came to does not matter."""
    anomalies = []
    for event in events:
        if event.outcome is not Outcome.OK or not isinstance(event.action, ReadAll):
            continue
        balances = event.result or {}
        missing = [account for account in accounts if account not in balances]
        if missing or len(balances) != len(accounts):
            anomalies.append(Anomaly("wrong accounts", f"{event} lacks {missing}"))
        elif sum(balances.values()) != total:
            anomalies.append(Anomaly("wrong total", f"{sum(balances.values())} and not {total}: {event}"))
        elif min(balances.values()) < 0:
            anomalies.append(Anomaly("overdrawn", str(event)))
    return anomalies
