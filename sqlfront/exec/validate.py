"""Whether the rows that a table has satisfy constraints that are being added, to which writers keep already."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from coprocessor.env import Env
from kvstore.client.api import Reader
from sqlfront.bind.constraints import bind_check
from sqlfront.catalog.backfill import stop_if
from sqlfront.exec.constraints import Checks
from sqlfront.exec.foreign_keys import no_parent
from sqlfront.plan.references import Reference

if TYPE_CHECKING:
    from kvstore.client.api import CancelToken
    from sqlfront.catalog.model import Schema, Table

BATCH_ROWS = 4096


def check_rows(
    reader: Reader, table: Table, check_ids: Collection[int], tz: dt.tzinfo | None, cancel: CancelToken | None
) -> None:
    """Raises 3819 when a row violates one of these CHECKs."""
    found = [bind_check(table, check.name, check.text) for check in table.checks if check.id in check_ids]
    if not found:
        return
    checks, env = Checks(table, found), Env(tz=tz or dt.UTC)
    for batch in _batches(reader, table, range(len(table.columns)), tz, cancel):
        for row in batch:
            checks.verify(row, env)


def check_rows_refer(
    reader: Reader, schema: Schema, table: Table, key_ids: Collection[int], cancel: CancelToken | None
) -> None:
    """Raises 1452 when a row refers, by one of these foreign keys, to what is not there."""
    for key in table.foreign_keys:
        if key.id not in key_ids:
            continue
        reference = Reference(schema, table, key)
        place = reference.parent_place
        for batch in _batches(reader, table, reference.child_place.offsets, None, cancel):
            wanted = {values for values in batch if None not in values}
            if wanted and (place is None or len(place.records(reader, wanted, most=1)) < len(wanted)):
                raise no_parent(reference)


def _batches(
    reader: Reader, table: Table, offsets: Collection[int], tz: dt.tzinfo | None, cancel: CancelToken | None
) -> Iterator[list[tuple[Any, ...]]]:
    """The values at `offsets` of all rows."""
    for part in table.physical:
        decode = part.codec.key_decoder(tuple(offsets), tz)
        rows = (decode(key, value) for key, value in reader.scan(*part.codec.record_range))
        while batch := list(islice(rows, BATCH_ROWS)):
            stop_if(cancel)
            yield batch
