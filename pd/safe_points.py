"""How far history may be thrown away: the GC safe point, the transaction safe point above it, and who holds them back.

Pure: values in, changes out. A service's safe point lives for its TTL; the least of the living ones is as far as the
transaction safe point goes (PD's service safe points, and its barriers of the newer API).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvstore.proto.pdraft_pb2 import PdServiceSafePoint
from pd.errors import Refused
from pd.state import GC_SAFE_POINT, SERVICE_SAFE_POINTS, TXN_SAFE_POINT, Change, State, number

GC_WORKER = b"gc_worker"
FOREVER_MS = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class ServiceSafePoint:
    service: bytes
    safe_point: int
    expires_ms: int

    def ttl_s(self, now_ms: int) -> int:
        return (FOREVER_MS if self.expires_ms == FOREVER_MS else self.expires_ms - now_ms) // 1000


@dataclass(slots=True)
class SafePoints:
    """The safe points as saved; each method returns what has to be saved, and `apply` takes it in afterwards."""

    gc: int = 0
    txn: int = 0
    services: dict[bytes, ServiceSafePoint] = field(default_factory=dict)

    @classmethod
    def load(cls, state: State) -> SafePoints:
        points = cls(state.get_number(GC_SAFE_POINT), state.get_number(TXN_SAFE_POINT))
        for key, value in state.scan(SERVICE_SAFE_POINTS):
            points.apply([Change(key, value)])
        return points

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            if change.key == GC_SAFE_POINT:
                self.gc = int.from_bytes(change.value or b"", "big")
            elif change.key == TXN_SAFE_POINT:
                self.txn = int.from_bytes(change.value or b"", "big")
            else:
                self._apply_service(change.key.removeprefix(SERVICE_SAFE_POINTS), change.value)

    def _apply_service(self, service: bytes, value: bytes | None) -> None:
        if value is None:
            self.services.pop(service, None)
            return
        stored = PdServiceSafePoint.FromString(value)
        self.services[service] = ServiceSafePoint(service, stored.safe_point, stored.expires_ms)

    def living(self, now_ms: int) -> list[ServiceSafePoint]:
        """Those not expired, by service."""
        return [point for _, point in sorted(self.services.items()) if point.expires_ms > now_ms]

    def least(self, now_ms: int) -> ServiceSafePoint:
        """The one that holds back most; with none, the GC worker's, at 0."""
        worker = self.services.get(GC_WORKER) or ServiceSafePoint(GC_WORKER, 0, FOREVER_MS)
        others = [point for point in self.living(now_ms) if point.service != GC_WORKER]
        return min([worker, *others], key=lambda point: point.safe_point)

    def update_gc(self, safe_point: int) -> list[Change]:
        """Moves the GC safe point up; a lower one changes nothing."""
        if safe_point <= self.gc:
            return []
        changes = [Change(GC_SAFE_POINT, number(safe_point))]
        if safe_point > self.txn:
            changes.append(Change(TXN_SAFE_POINT, number(safe_point)))
        return changes

    def update_service(self, service: bytes, ttl_s: int, safe_point: int, now_ms: int) -> list[Change]:
        """Sets, prolongs or (TTL 0 or less) removes a service's safe point; one below the least changes nothing."""
        key = SERVICE_SAFE_POINTS + service
        expired = [
            Change(SERVICE_SAFE_POINTS + point.service, None)
            for _, point in sorted(self.services.items())
            if point.expires_ms <= now_ms and point.service != service
        ]
        if ttl_s <= 0:
            if service == GC_WORKER:
                raise Refused("cannot remove service safe point of gc_worker")
            return [*expired, Change(key, None)] if service in self.services else expired
        if safe_point < self.least(now_ms).safe_point:
            return expired
        expires_ms = min(FOREVER_MS, now_ms + ttl_s * 1000)
        if service == GC_WORKER:
            expires_ms = FOREVER_MS
        value = PdServiceSafePoint(safe_point=safe_point, expires_ms=expires_ms).SerializeToString()
        return [*expired, Change(key, value)]

    def advance_txn(self, target: int, now_ms: int) -> tuple[list[Change], ServiceSafePoint | None]:
        """Moves the transaction safe point up to the target or the least barrier below it, which is returned too."""
        if target < self.txn:
            raise Refused(f"trying to decrease txn safe point, current {self.txn}, target {target}")
        barriers = [point for point in self.living(now_ms) if point.service != GC_WORKER and point.safe_point < target]
        blocker = min(barriers, key=lambda point: point.safe_point, default=None)
        reached = target if blocker is None else max(self.txn, blocker.safe_point)
        return ([Change(TXN_SAFE_POINT, number(reached))] if reached > self.txn else []), blocker

    def advance_gc(self, target: int) -> list[Change]:
        """Moves the GC safe point up to the target, which the transaction safe point must have passed."""
        if target < self.gc:
            raise Refused(f"trying to decrease gc safe point, current {self.gc}, target {target}")
        if target > self.txn:
            raise Refused(f"gc safe point {target} exceeds the txn safe point {self.txn}")
        return [Change(GC_SAFE_POINT, number(target))] if target > self.gc else []
