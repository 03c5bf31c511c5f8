"""Directed graphs over small integers: cycles by Tarjan's components."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping

Graph = Mapping[int, Collection[int]]


def components(graph: Graph) -> list[list[int]]:
    """The strongly connected components of more than one node, or of one that points to itself."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    on_stack: set[int] = set()
    stack: list[int] = []
    found: list[list[int]] = []
    for root in graph:
        if root in index:
            continue
        work = [(root, iter(graph.get(root, ())))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(graph.get(target, ()))))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = _pop_component(node, stack, on_stack)
                    if len(component) > 1 or node in graph.get(node, ()):
                        found.append(component)
    return found


def _pop_component(root: int, stack: list[int], on_stack: set[int]) -> list[int]:
    component = []
    while True:
        node = stack.pop()
        on_stack.discard(node)
        component.append(node)
        if node == root:
            return component


def path(graph: Graph, start: int, end: int) -> list[int] | None:
    """The shortest path of at least one edge from `start` to `end`, both included."""
    came: dict[int, int] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for target in graph.get(node, ()):
            if target == end:
                steps = [end, node]
                while steps[-1] != start:
                    steps.append(came[steps[-1]])
                return steps[::-1]
            if target not in came and target != start:
                came[target] = node
                queue.append(target)
    return None


def cycle(graph: Graph) -> list[int] | None:
    """A short cycle, its first node again at the end, or None."""
    for component in components(graph):
        members = set(component)
        inside = {node: [t for t in graph.get(node, ()) if t in members] for node in component}
        return path(inside, component[-1], component[-1])
    return None
