"""ALTER TABLE's changes of partitions: from a table's record to its next one; pure, as the rest of `alter.py`.

New definitions have no id yet. Where rows have to move, `AlterPlan.rewrite` asks for a copy of them: of the partitions
`AlterPlan.moved`, whose rows go to the new definitions while the others stay as they are, or of the whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlfront.catalog import definition as d
from sqlfront.catalog.constraint_rules import Around, on_partitions
from sqlfront.catalog.partitions import (
    HASHED,
    check_names,
    definition,
    definitions,
    find_definitions,
    kind_of,
    need_partitioned,
    partition_record,
)
from sqlfront.errors import DatabaseError, error

if TYPE_CHECKING:
    from sqlfront.catalog.alter import AlterPlan

PartitionAction = d.AddPartitions | d.ClearPartitions | d.ReorganizePartitions | d.CoalescePartitions | d.PartitionTable


def change_partitions(plan: AlterPlan, action: PartitionAction, around: Around) -> None:
    """Applies one action to the plan's record; constants of new partitions are computed already."""
    match action:
        case d.PartitionTable():
            _partition_table(plan, action, around)
            return
        case _:
            need_partitioned(plan.final, action.position)
    match action:
        case d.AddPartitions():
            _add(plan, action)
        case d.ClearPartitions():
            _clear(plan, action)
        case d.ReorganizePartitions():
            _reorganize(plan, action)
        case d.CoalescePartitions():
            _coalesce(plan, action)


def _add(plan: AlterPlan, action: d.AddPartitions) -> None:
    there = definitions(plan.final)
    new = [definition(spec) for spec in action.partitions]
    if action.number is not None:
        if not action.number:
            raise error(1514, "At least one partition must be added", position=action.position)
        total = len(there) + action.number
        new = [definition(d.PartitionSpec(f"p{i}")) for i in range(len(there), total)]
    _check_names([*there, *new], action.position)
    if kind_of(plan.final) in HASHED:
        _spread(plan, [*there, *new])
    else:
        _set_definitions(plan, [*there, *new])


def _coalesce(plan: AlterPlan, action: d.CoalescePartitions) -> None:
    there = definitions(plan.final)
    if kind_of(plan.final) not in HASHED:
        message = "COALESCE PARTITION can only be used on HASH/KEY partitions"
        raise error(1509, message, position=action.position)
    if not action.number:
        raise error(1515, "At least one partition must be coalesced", position=action.position)
    if action.number >= len(there):
        raise _none_left(action.position)
    _spread(plan, there[: len(there) - action.number])


def _spread(plan: AlterPlan, found: list[dict[str, Any]]) -> None:
    """Hashed partitions of another number: every row may be in another one."""
    plan.moved = [known["id"] for known in definitions(plan.final)]
    plan.rewrite = True
    _set_definitions(plan, [{**known, "id": 0} for known in found])


def _clear(plan: AlterPlan, action: d.ClearPartitions) -> None:
    there = definitions(plan.final)
    found = find_definitions(plan.final, action.names, action.position, 1735 if action.kept else 1507)
    plan.cleared = [known["id"] for known in found]
    if action.kept:
        for known in found:
            known["id"] = 0
        _set_definitions(plan, there)
        return
    if kind_of(plan.final) in HASHED:
        message = "DROP PARTITION can only be used on RANGE/LIST partitions"
        raise error(1512, message, position=action.position)
    if len(found) == len(there):
        raise _none_left(action.position)
    _set_definitions(plan, [known for known in there if known not in found])


def _reorganize(plan: AlterPlan, action: d.ReorganizePartitions) -> None:
    there, hashed = definitions(plan.final), kind_of(plan.final) in HASHED
    if not action.partitions:
        if not hashed:
            message = "REORGANIZE PARTITION without parameters can only be used on auto-partitioned tables using HASH"
            raise error(1511, message + " PARTITIONs", position=action.position)
        return
    found = find_definitions(plan.final, action.names, action.position, 1507, "REORGANIZE")
    new = [definition(spec) for spec in action.partitions]
    if hashed:  # as many by other names: no row moves
        for known, named in zip(found, new, strict=True):
            known.update(named, id=known["id"])
        _check_names(there, action.position)
        _set_definitions(plan, there)
        return
    plan.moved = [known["id"] for known in found]
    plan.rewrite = True
    first = there.index(found[0])
    left = [known for known in there if known not in found]
    result = [*left[:first], *new, *left[first:]]
    _check_names(result, action.position)
    _set_definitions(plan, result)


def _partition_table(plan: AlterPlan, action: d.PartitionTable, around: Around) -> None:
    info = plan.final
    if action.by is None:
        need_partitioned(info, action.position)
        info.partition = None
    else:
        if info.fk_info or around.referrers:
            raise on_partitions(action.position)
        info.partition = partition_record(action.by)
        _check_names(definitions(info), action.position)
    plan.rewrite = plan.changed = True


def _none_left(position: int) -> DatabaseError:
    return error(1508, "Cannot remove all partitions, use DROP TABLE instead", position=position)


def _check_names(found: Sequence[dict[str, Any]], position: int) -> None:
    check_names([known["name"]["O"] for known in found], position)


def _set_definitions(plan: AlterPlan, found: list[dict[str, Any]]) -> None:
    plan.final.partition["definitions"] = found
    plan.final.partition["num"] = len(found)
    plan.changed = True
