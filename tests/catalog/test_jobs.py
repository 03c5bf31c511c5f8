"""ADMIN SHOW DDL, ADMIN SHOW DDL JOBS and ADMIN CANCEL DDL JOBS."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

import sqlfront
from sqlfront.catalog.backfill import LocalBuild
from sqlfront.catalog.jobs import cancel_job, running_jobs
from sqlfront.catalog.meta import MetaReader


@pytest.fixture
def cursor() -> Any:
    connection = sqlfront.connect(autocommit=True)
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE test.t (a INT PRIMARY KEY, b INT)")
    cursor.execute("INSERT INTO test.t VALUES (1, 10), (2, 20)")
    yield cursor
    connection.close()


def rows(cursor: Any, sql: str) -> list[dict[str, Any]]:
    cursor.execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_jobs_that_are_over_the_newest_first(cursor: Any) -> None:
    cursor.execute("ALTER TABLE test.t ADD UNIQUE u (b)")
    cursor.execute("TRUNCATE TABLE test.t")
    truncate, build, create = rows(cursor, "ADMIN SHOW DDL JOBS")
    assert [create["JOB_TYPE"], build["JOB_TYPE"], truncate["JOB_TYPE"]] == [
        "create table",
        "add index",
        "truncate table",
    ]
    assert (build["DB_NAME"], build["TABLE_NAME"], build["ROW_COUNT"]) == ("test", "t", 2)
    assert (build["STATE"], build["SCHEMA_STATE"], build["COMMENTS"]) == ("synced", "public", "")
    assert build["TABLE_ID"] == create["TABLE_ID"]
    assert isinstance(build["END_TIME"], dt.datetime)
    assert build["CREATE_TIME"] <= build["END_TIME"]
    assert rows(cursor, "ADMIN SHOW DDL JOBS 1") == [truncate]
    assert rows(cursor, "ADMIN SHOW DDL JOBS 0") == []


def test_what_failed_says_why(cursor: Any) -> None:
    cursor.execute("UPDATE test.t SET b = 7")
    with pytest.raises(sqlfront.IntegrityError):
        cursor.execute("ALTER TABLE test.t ADD UNIQUE u (b)")
    failed = rows(cursor, "ADMIN SHOW DDL JOBS 1")[0]
    assert (failed["STATE"], failed["SCHEMA_STATE"]) == ("rollback done", "none")
    assert "Duplicate entry" in failed["COMMENTS"]


def test_a_job_under_way_is_shown_and_cancelled(cursor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = LocalBuild.fill
    other = cursor.connection.cursor()
    seen: list[int] = []

    def cancelling(self: LocalBuild, *arguments: Any) -> int:
        storage = cursor.connection._session.storage
        jobs = running_jobs(MetaReader(storage.snapshot()))
        assert [job.state for job in jobs] == ["running"]
        seen.append(jobs[0].id)
        assert cancel_job(storage, jobs[0].id) == "successful"
        return fill(self, *arguments)

    monkeypatch.setattr(LocalBuild, "fill", cancelling)
    with pytest.raises(sqlfront.Error) as raised:
        other.execute("ALTER TABLE test.t ADD INDEX i (b)")
    assert raised.value.code == 8214
    job = rows(cursor, "ADMIN SHOW DDL JOBS 1")[0]
    assert (job["JOB_ID"], job["STATE"]) == (seen[0], "rollback done")
    cursor.execute("ADMIN CHECK TABLE test.t")
    assert rows(cursor, "SHOW INDEX FROM test.t WHERE Key_name = 'i'") == []
    assert rows(cursor, f"ADMIN CANCEL DDL JOBS {job['JOB_ID']}, 999999")[0]["RESULT"] == (
        f"error: [ddl:8225]This job:{job['JOB_ID']} is finished, so can't be cancelled"
    )


def test_who_changes_the_schema(cursor: Any) -> None:
    found = rows(cursor, "ADMIN SHOW DDL")[0]
    assert found["SCHEMA_VER"] == 2
    assert found["OWNER_ID"] == found["SELF_ID"]
    assert found["RUNNING_JOBS"] == found["QUERY"] == ""
