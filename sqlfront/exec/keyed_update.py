"""UPDATE of one row known by its whole clustered key: the row is locked and read by one call, and not decoded.

What is assigned takes the place of what lies in the row's bytes; of the others only those columns are decoded that an
assignment, a further condition or an index's entry reads. That is for columns on which nothing else depends; any other
UPDATE goes the general way (`changing.TableChange`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coprocessor.codec.row import define
from coprocessor.evaluate import compile_expr, compile_predicate
from coprocessor.expr import columns
from coprocessor.types import Tp
from kvstore.client.api import Transaction
from sqlfront.bind.dml import Assignment, ChangePlan, DefaultValue
from sqlfront.exec.compiled_values import cast_lines, value_lines
from sqlfront.exec.context import environment
from sqlfront.exec.filler import ColumnFiller
from sqlfront.exec.reading import KeyMaker
from sqlfront.exec.rows import RowWriter
from sqlfront.plan.nodes import HANDLE_OFFSET, Scan
from sqlfront.result import Result

if TYPE_CHECKING:
    from sqlfront.session import Session

_INFOS = {
    (matched, changed): f"Rows matched: {matched}  Changed: {changed}  Warnings: 0"
    for matched, changed in ((0, 0), (1, 0), (1, 1))
}


class KeyedUpdate:
    """The compiled form of one UPDATE; see `compile_keyed`."""

    def __init__(self, scan: Scan, assignments: Sequence[Assignment], filler: ColumnFiller) -> None:
        assert scan.access is not None
        self._table = scan.table
        self._codec = codec = scan.table.write_codec
        changed = frozenset(a.offset for a in assignments)
        self._indexes = [i for i in codec.schema.indexes if not changed.isdisjoint(codec.entry_offsets(i))]
        in_entries = frozenset().union(*map(codec.entry_offsets, self._indexes))
        self._keys = KeyMaker(scan, filler.tz)
        left = [c for c in scan.where if c not in scan.access.used]
        computed = [a.value for a in assignments if not isinstance(a.value, DefaultValue)]
        read = set().union(*map(columns, (*left, *computed)))
        places = [
            (c.id, offset)
            for c, offset in zip(scan.cols, scan.offsets, strict=True)
            if c.id in read or offset in in_entries
        ]
        layout = {id_: place for place, (id_, _) in enumerate(places)}
        self._offsets = [offset for _, offset in places]
        self._decode = codec.key_decoder(self._offsets, filler.tz) if places else None
        self._predicates = [compile_predicate(c, layout) for c in left]
        self._patch, self._ids = codec.cell_patcher(changed)
        names: dict[str, Any] = {}
        lines = ["def assign(params, seen, env):"]
        seen_at = {offset: place for place, (_, offset) in enumerate(places)}
        for assignment in assignments:
            lines += _lines(assignment, filler, layout, names)
            if assignment.offset in seen_at:  # by the assignments that follow
                lines.append(f"    seen[{seen_at[assignment.offset]}] = v{assignment.offset}")
        assigned = ", ".join(f"{a.offset}: v{a.offset}" for a in assignments)
        lines.append(f"    return {{{assigned}}}")
        self._assign = define("assign", lines, names)

    def run(self, session: Session, txn: Transaction, pessimistic: bool, params: tuple[Any, ...]) -> Result:
        matched, changed = self._change(session, txn, pessimistic, params)
        if session.warnings:
            info = f"Rows matched: {matched}  Changed: {changed}  Warnings: {len(session.warnings)}"
        else:
            info = _INFOS[matched, changed]
        return Result(None, None, changed, 0, info)

    def _change(
        self, session: Session, txn: Transaction, pessimistic: bool, params: tuple[Any, ...]
    ) -> tuple[int, int]:
        """Returns how many rows, one or none, the conditions name, and how many of them changed."""
        env = environment(session, params, writing=True)
        keys = self._keys.points(env)
        if not keys:
            return 0, 0
        (key,) = keys
        if pessimistic:
            stored = txn.lock_and_get(keys, wait_ms=session.variables.lock_wait_ms).get(key)
        else:
            stored = txn.get(key)
        if stored is None:
            return 0, 0
        old = () if self._decode is None else self._decode(key, stored)
        seen = list(old)
        if self._predicates and not all(p(seen, env) for p in self._predicates):
            return 0, 0
        cells = self._assign(params, seen, env)
        value = self._patch(stored, cells)
        if value is None:
            value = self._encoded_anew(key, stored, cells)
        if value == stored:
            return 1, 0
        txn.patch(key, value, self._ids)
        if self._indexes:
            before = dict(zip(self._offsets, old, strict=True))
            writer = RowWriter(session, txn, self._table, pessimistic)
            writer.move_entries(self._indexes, before, before | cells, self._codec.handle_of_key(key))
        return 1, 1

    def _encoded_anew(self, key: bytes, stored: bytes, cells: Mapping[int, Any]) -> bytes:
        """The row with NULLs in it, or written for another definition; as it was where nothing differs."""
        row = list(self._codec.key_decoder()(key, stored))
        if all(row[offset] == value for offset, value in cells.items()):
            return stored
        for offset, value in cells.items():
            row[offset] = value
        return self._codec.encode_row(row)


def _lines(assignment: Assignment, filler: ColumnFiller, layout: Mapping[int, int], names: dict[str, Any]) -> list[str]:
    """The lines that compute `v<offset>` of an assignment."""
    at, expr = assignment.offset, assignment.value
    if isinstance(expr, DefaultValue):
        names["default"] = filler.default
        return [f"    v{at} = default({at}, env)"]
    found = value_lines(filler, at, expr, names, optional=not filler.not_null[at])
    if found is not None:
        return found
    names[f"compute{at}"] = compile_expr(expr, dict(layout))
    return cast_lines(filler, at, f"compute{at}(seen, env)", names, optional=not filler.not_null[at])


def compile_keyed(plan: ChangePlan, scans: Sequence[Scan], filler: ColumnFiller) -> KeyedUpdate | None:
    """Compiles an UPDATE without references to keep; None for one that has to go the general way."""
    table, assignments = plan.scan.table, plan.assignments
    if assignments is None or plan.ignore or plan.order or plan.limit is not None or not filler.strict:
        return None
    if table.parts or table.delete_only or filler.completes or filler.late:
        return None
    if any(c.on_update_now for c in table.columns):
        return None
    (scan,) = scans
    access, codec = scan.access, table.write_codec
    if access is None or access.kind != "primary" or not access.point or any(len(p) != 1 for p in access.prefix):
        return None
    if HANDLE_OFFSET in scan.offsets:
        return None
    changed = frozenset(a.offset for a in assignments)
    if len(changed) != len(assignments) or changed & codec.handle_offsets or codec.computed is not None:
        return None
    entries = frozenset().union(*(e for e in map(codec.entry_offsets, codec.schema.indexes) if e & changed))
    if any(table.columns[at].type.tp == Tp.TIMESTAMP for at in changed | entries):  # stored in another zone
        return None
    return KeyedUpdate(scan, assignments, filler)
