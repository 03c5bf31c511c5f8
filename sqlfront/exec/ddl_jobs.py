"""ADMIN SHOW DDL [JOBS] and ADMIN CANCEL DDL JOBS, with TiDB's columns (`pkg/executor/show_ddl_jobs.go`)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from coprocessor.types import BIGINT, DATETIME, TEXT, varchar
from sqlfront.catalog.jobs import Job, action_text, cancel_job, past_jobs, running_jobs, state_text
from sqlfront.catalog.meta import MetaReader
from sqlfront.parse import AdminCancelDdlJobs, AdminShowDdl, AdminShowDdlJobs
from sqlfront.result import Result, ResultColumn, rows_result

if TYPE_CHECKING:
    from sqlfront.session import Session

_NAME = varchar(64)
_JOBS = (
    ResultColumn("JOB_ID", BIGINT),
    ResultColumn("DB_NAME", _NAME),
    ResultColumn("TABLE_NAME", _NAME),
    ResultColumn("JOB_TYPE", _NAME),
    ResultColumn("SCHEMA_STATE", _NAME),
    ResultColumn("SCHEMA_ID", BIGINT),
    ResultColumn("TABLE_ID", BIGINT),
    ResultColumn("ROW_COUNT", BIGINT),
    ResultColumn("CREATE_TIME", DATETIME),
    ResultColumn("START_TIME", DATETIME),
    ResultColumn("END_TIME", DATETIME),
    ResultColumn("STATE", _NAME),
    ResultColumn("COMMENTS", TEXT),
)
_DDL = (
    ResultColumn("SCHEMA_VER", BIGINT),
    ResultColumn("OWNER_ID", _NAME),
    ResultColumn("OWNER_ADDRESS", _NAME),
    ResultColumn("RUNNING_JOBS", TEXT),
    ResultColumn("SELF_ID", _NAME),
    ResultColumn("QUERY", TEXT),
)
_CANCELLED = (ResultColumn("JOB_ID", _NAME), ResultColumn("RESULT", varchar(128)))


def execute_ddl_jobs(session: Session, statement: AdminShowDdl | AdminShowDdlJobs | AdminCancelDdlJobs) -> Result:
    """Executes one of the statements about schema changes."""
    match statement:
        case AdminShowDdl():
            return _show_ddl(session)
        case AdminShowDdlJobs(count):
            return _show_jobs(session, count)
        case AdminCancelDdlJobs(ids):
            storage = session.database.storage
            return rows_result(_CANCELLED, [(str(job_id), cancel_job(storage, job_id)) for job_id in ids])


def _show_ddl(session: Session) -> Result:
    catalog = session.database.catalog
    meta = MetaReader(session.database.storage.snapshot())
    owner_id, owner_where = catalog.owner(meta)
    jobs = running_jobs(meta)
    row = (
        meta.schema_version(),
        owner_id,
        owner_where,
        "\n".join(f"ID:{job.id}, Type:{action_text(job.action)}, State:{job.state}" for job in jobs),
        catalog.self_id,
        "\n".join(job.query for job in jobs),
    )
    return rows_result(_DDL, [row])


def _show_jobs(session: Session, count: int) -> Result:
    """The jobs under way, the newest first, then at most `count` that are over."""
    meta = MetaReader(session.database.storage.snapshot())
    jobs = [*reversed(running_jobs(meta)), *past_jobs(meta)[:count]]
    zone = session.variables.zone
    return rows_result(_JOBS, [_row(job, zone) for job in jobs])


def _row(job: Job, zone: dt.tzinfo) -> tuple[object, ...]:
    created = _local(job.created_ms, zone)
    return (
        job.id,
        job.db,
        job.table,
        action_text(job.action),
        state_text(job.schema_state),
        job.db_id,
        job.table_id,
        job.rows,
        created,
        created,
        _local(job.ended_ms, zone) if job.ended_ms else None,
        job.state,
        job.error,
    )


def _local(unix_ms: int, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.fromtimestamp(unix_ms // 1000, zone).replace(tzinfo=None)
