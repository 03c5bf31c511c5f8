"""The wait-for graph: which transaction waits for which, and whether one more wait closes a cycle.

Pure bookkeeping by start_ts, for one node's detector leader. The requester whose wait would close the cycle is the
victim. Whoever adds waits may give them a time; `expire` takes off those whose end nobody told.
"""

from __future__ import annotations

from kvstore.errors import Deadlock


class WaitForGraph:
    """Edges waiter -> holder by the keys waited for; a transaction may wait for several at once."""

    def __init__(self) -> None:
        self._edges: dict[int, dict[int, dict[bytes, tuple[float, bytes]]]] = {}
        """Of each key: when it was added, and the tag."""

    def wait(self, waiter: int, holder: int, key: bytes, now: float = 0.0, tag: bytes = b"") -> None:
        """Adds an edge, or renews it; raises Deadlock, and adds nothing, when it would close a cycle."""
        path = self._path(holder, waiter)
        if path is not None:
            tags = [self._edges[txn][blocker][waited][1] for txn, blocker, waited in path]
            raise Deadlock(key, waiter, ((waiter, holder, key), *path), (tag, *tags))
        keys = self._edges.setdefault(waiter, {}).setdefault(holder, {})
        keys.pop(key, None)
        keys[key] = (now, tag)

    def stop_waiting(self, waiter: int, holder: int, key: bytes | None = None) -> None:
        """Takes off one edge, or what stands for `key` of it."""
        edges = self._edges.get(waiter)
        if edges is None:
            return
        keys = edges.get(holder, {})
        if key is not None:
            keys.pop(key, None)
        if key is None or not keys:
            edges.pop(holder, None)
        if not edges:
            del self._edges[waiter]

    def finish(self, txn: int) -> None:
        """The transaction is over: it neither waits nor is waited for."""
        self._edges.pop(txn, None)
        for waiter in [waiter for waiter, edges in self._edges.items() if txn in edges]:
            self.stop_waiting(waiter, txn)

    def expire(self, before: float) -> None:
        """Takes off the edges that were not added or renewed since `before`."""
        old = [
            (waiter, holder, key)
            for waiter, edges in self._edges.items()
            for holder, keys in edges.items()
            for key, (since, _) in keys.items()
            if since < before
        ]
        for waiter, holder, key in old:
            self.stop_waiting(waiter, holder, key)

    def clear(self) -> None:
        self._edges.clear()

    def edges(self) -> list[tuple[int, int, bytes, bytes]]:
        """All waits with their tags, ordered by waiter and holder."""
        return sorted(
            (waiter, holder, key, tag)
            for waiter, edges in self._edges.items()
            for holder, keys in edges.items()
            for key, (_, tag) in keys.items()
        )

    def _path(self, start: int, goal: int) -> list[tuple[int, int, bytes]] | None:
        """A chain of waits from `start` to `goal`."""
        came: dict[int, tuple[int, bytes]] = {}
        frontier = [start]
        seen = {start}
        while frontier:
            node = frontier.pop()
            if node == goal:
                return self._trace(came, start, goal)
            for holder, keys in self._edges.get(node, {}).items():
                if holder not in seen:
                    key = next(reversed(keys))  # the newest names the wait
                    seen.add(holder)
                    came[holder] = (node, key)
                    frontier.append(holder)
        return None

    @staticmethod
    def _trace(came: dict[int, tuple[int, bytes]], start: int, goal: int) -> list[tuple[int, int, bytes]]:
        chain: list[tuple[int, int, bytes]] = []
        node = goal
        while node != start:
            previous, key = came[node]
            chain.append((previous, node, key))
            node = previous
        chain.reverse()
        return chain
