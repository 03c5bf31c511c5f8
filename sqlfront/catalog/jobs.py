"""Schema changes as jobs: what one needs to go on after its owner died, and the record of those that are over.

A change of one version is over when it is made, and leaves a line in the history in the same transaction. One that has
to build something keeps a record under the `m` keys (hash `DDLJobs`) from its first version to its last.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sqlfront.catalog.info import Action, State
from sqlfront.catalog.meta import DDL_JOBS, Meta, MetaReader
from sqlfront.errors import error

if TYPE_CHECKING:
    from kvstore.client.api import Storage

HISTORY = b"DDLHistory"
HISTORY_COUNT = b"DDLHistoryCount"
HISTORY_MAX = 512
"""Jobs that are remembered after their end."""
SYNCED, ROLLED_BACK, CANCELLED = "synced", "rollback done", "cancelled"
RUNNING, PAUSED, CANCELLING = "running", "paused", "cancelling"
ER_CANCELLED_DDL_JOB = 8214


def action_text(action: int) -> str:
    """An action as ADMIN SHOW DDL JOBS names it."""
    if action == Action.MULTI_SCHEMA_CHANGE:
        return "alter table multi-schema change"
    try:
        return Action(action).name.lower().replace("_", " ")
    except ValueError:
        return f"action {action}"


def state_text(state: int) -> str:
    return {
        State.NONE: "none",
        State.DELETE_ONLY: "delete only",
        State.WRITE_ONLY: "write only",
        State.WRITE_REORG: "write reorganization",
        State.DELETE_REORG: "delete reorganization",
        State.PUBLIC: "public",
    }[State(state)]


@dataclass
class Job:
    """One schema change. Ids of indexes, columns, CHECKs and foreign keys are the table's own.

    `checks` and `keys` are the CHECKs and foreign keys that rows have to be looked through for, `enforced` those CHECKs
    among them that were there, NOT ENFORCED.

    `copy_id` is the first of the ids that a copy of the table, or of its partitions, fills; `copies` follow each other.

    `load` is there for a copy that is filled by a load which can be resumed: what its later runs have to know (see
    `sqlfront.load`). Such a job is paused when it fails, and goes on when its statement is run again.

    `priority` says how much of the stores' time a build may take (`tidb_ddl_reorg_priority` of who began it).

    `entries_ts` is the commit_ts of index entries that are built, 0 where they are not made beside writers of other
    servers. `filled` has, by index, the key of the first record that is not indexed yet; "" when all are.
    """

    id: int
    action: int
    db_id: int
    table_id: int
    db: str = ""
    table: str = ""
    query: str = ""
    server: str = ""
    created_ms: int = 0
    ended_ms: int = 0
    state: str = RUNNING
    schema_state: int = int(State.WRITE_ONLY)
    rows: int = 0
    error: str = ""
    indexes: list[int] = field(default_factory=list)
    hidden: list[int] = field(default_factory=list)
    not_null: list[int] = field(default_factory=list)
    checks: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    enforced: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    copy_id: int = 0
    copies: int = 1
    load: dict[str, Any] | None = None
    final: dict[str, Any] | None = None
    rename: list[str] | None = None
    renamed: dict[str, str] = field(default_factory=dict)
    current_db: str = ""
    auto_increment: int | None = None
    priority: str = ""
    entries_ts: int = 0
    filled: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.created_ms = self.created_ms or time.time_ns() // 1_000_000

    def put(self, meta: Meta) -> None:
        """Stores the record of a job that goes on. Raises 8214 when somebody has cancelled it."""
        self._refuse_if_cancelled(meta)
        meta.put_json(DDL_JOBS, self.id, asdict(self))

    @property
    def copied(self) -> range:
        """The ids that a copy fills."""
        return range(self.copy_id, self.copy_id + self.copies)

    def copy_range(self) -> tuple[bytes, bytes]:
        """The half-open range of everything under them."""
        from coprocessor.codec.keys import table_range

        return table_range(self.copied[0])[0], table_range(self.copied[-1])[1]

    def check(self, storage: Storage) -> None:
        """Raises 8214 when somebody has cancelled it."""
        self._refuse_if_cancelled(MetaReader(storage.snapshot()))

    def _refuse_if_cancelled(self, meta: MetaReader) -> None:
        stored = meta.json_field(DDL_JOBS, self.id)
        if stored is not None and stored["state"] == CANCELLING:
            raise error(ER_CANCELLED_DDL_JOB, "Cancelled DDL job")

    def end(self, meta: Meta, state: str = SYNCED) -> None:
        """Moves the record to the history. Raises 8214 when it is to be done but somebody has cancelled it."""
        if state == SYNCED:
            self._refuse_if_cancelled(meta)
        meta.delete_json(DDL_JOBS, self.id)
        self.remember(meta, state)

    def remember(self, meta: Meta, state: str = SYNCED) -> None:
        """Adds the job, which is over, to the history."""
        self.state, self.ended_ms = state, time.time_ns() // 1_000_000
        self.schema_state = int(State.PUBLIC if state == SYNCED else State.NONE)
        number = meta.increment(HISTORY_COUNT)
        kept = asdict(self) | {"final": None, "filled": {}, "load": None}
        meta.put_json(HISTORY, number % HISTORY_MAX, kept)

    def save(self, storage: Storage) -> None:
        """Stores how far it came. Raises 8214 when somebody has cancelled it, KvError."""
        txn = storage.begin(pessimistic=False)
        try:
            meta = Meta(txn)
            if meta.json_field(DDL_JOBS, self.id) is None:
                raise error(ER_CANCELLED_DDL_JOB, "Cancelled DDL job")
            self.put(meta)
            txn.commit()
        finally:
            txn.rollback()


def running_jobs(meta: MetaReader) -> list[Job]:
    """Jobs that are under way, or were when their owner died; the oldest first."""
    jobs = [Job(**{"id": job_id, "action": 0, **record}) for job_id, record in meta.json_fields(DDL_JOBS).items()]
    return sorted(jobs, key=lambda job: job.id)


def past_jobs(meta: MetaReader) -> list[Job]:
    """Jobs that are over, the newest first."""
    return sorted((Job(**record) for record in meta.json_fields(HISTORY).values()), key=lambda job: -job.id)


def cancel_job(storage: Storage, job_id: int) -> str:
    """Asks for a job to be undone; returns "successful", or why it is not.

    The owner sees it at the next step; a job that is paused is undone by the next one who looks for such jobs.
    """
    txn = storage.begin(pessimistic=False)
    try:
        meta = Meta(txn)
        record = meta.json_field(DDL_JOBS, job_id)
        if record is None:
            past = any(job.id == job_id for job in past_jobs(meta))
            return f"error: [ddl:{8225 if past else 8224}]" + (
                f"This job:{job_id} is finished, so can't be cancelled" if past else f"DDL Job:{job_id} not found"
            )
        record["state"] = CANCELLING
        meta.put_json(DDL_JOBS, job_id, record)
        txn.commit()
        return "successful"
    finally:
        txn.rollback()
