"""CHECK and FOREIGN KEY on several SQL servers: all keep to what one has defined, from its first step on."""

from __future__ import annotations

from typing import Any

import pytest

import sqlfront
from sqlfront.catalog import online
from sqlfront.catalog.jobs import running_jobs
from sqlfront.catalog.meta import MetaReader
from tests.cluster_sql.world import World
from tests.sql.test_concurrency import code_of

ADD_KEY = "alter table c add constraint f foreign key (pid) references p (id)"


pytestmark = pytest.mark.usefixtures("second")


@pytest.fixture
def servers(world: World) -> list[Any]:
    """Connections to two servers; `c` may refer to `p`, one row of it does."""
    made = [world.connect(server, autocommit=True) for server in world._open[:2]]
    made[0].execute("drop table if exists g, c, p")
    made[0].execute("create table p (id int primary key, u int unique)")
    made[0].execute("create table c (id int primary key, pid int)")
    made[1].execute("insert into p values (1, 10), (2, 20)")
    made[1].execute("insert into c values (1, 1)")
    return made


def test_one_defines_and_another_writes(servers: list[Any]) -> None:
    first, second = servers
    assert code_of(second.execute, "insert into p values (3, 30)") == 0
    first.execute("create table g (id int primary key, u int check (u < 25), foreign key (u) references p (u))")
    assert code_of(second.execute, "insert into g values (1, 40)") == 3819
    assert code_of(second.execute, "insert into g values (1, 11)") == 1452


def test_an_action_over_several_requests(servers: list[Any]) -> None:
    first, second = servers
    first.execute("create table g (id int primary key, u int, foreign key (u) references p (u) on delete cascade)")
    second.execute("insert into p (id, u) values " + ", ".join(f"({i}, {i})" for i in range(100, 160)))
    second.execute("insert into g values " + ", ".join(f"({i}, {100 + i % 60})" for i in range(300)))
    first.execute("delete from p where id between 100 and 129")
    assert second.execute("select count(*), min(u) from g").fetchall() == [(150, 130)]
    first.execute("delete from p where id = 131")
    assert second.execute("select count(*) from g").fetchall() == [(145,)]
    first.execute("admin check table p, g")


def test_all_servers_keep_to_a_key_whose_rows_are_still_looked_at(
    servers: list[Any], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = servers
    leave_job(first, monkeypatch, ADD_KEY)
    assert code_of(second.execute, "insert into c values (2, 9)") == 1452
    assert code_of(second.execute, "delete from p where id = 1") == 1451
    take_up(world)
    assert code_of(first.execute, "insert into c values (2, 9)") == 1452
    ((_, shown),) = second.execute("show create table c").fetchall()
    assert "CONSTRAINT `f` FOREIGN KEY (`pid`) REFERENCES `p` (`id`)" in shown
    assert world.first.catalog.schema.need_table("test", "c").info.fk_info[0].state == 5


@pytest.mark.parametrize("sql", [ADD_KEY, "alter table c add constraint f check (pid < 9)"])
def test_the_next_owner_undoes_what_rows_refuse(
    servers: list[Any], world: World, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    first, second = servers
    second.execute("insert into c values (2, 9)")
    leave_job(first, monkeypatch, sql)
    assert code_of(second.execute, "insert into c values (3, 9)") in (1452, 3819)
    take_up(world)
    assert code_of(second.execute, "insert into c values (3, 9)") == 0
    first.execute("admin check table c")


def leave_job(con: Any, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    """Has the owner stop before it looks at the rows."""

    def die(*_: object) -> None:
        raise RuntimeError("died")

    with monkeypatch.context() as patch:
        patch.setattr(online, "_prove", die)
        patch.setattr(online, "roll_back", die)
        for session in con._database.sessions.values():
            patch.setattr(session.catalog.lease, "on_orphans", None)
        with pytest.raises((sqlfront.Error, RuntimeError)):
            con.execute(sql)


def take_up(world: World) -> None:
    storage = world.first.storage
    while running_jobs(MetaReader(storage.snapshot())):
        world.first.catalog.lease._look_for_orphans()  # type: ignore[attr-defined]
