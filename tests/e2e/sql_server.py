"""A SQL server as a process: writers with registers, a session that changes the schema, and one long statement.

`python -m tests.e2e.sql_server ADDRESSES FIRST_SLOT SESSIONS [--statement SQL]` works until its input ends, and then
says, as one JSON line, which values its rows may have. Anything that may not happen ends it with its error.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import sqlfront
from sqlfront.threads import OS_THREADS
from tests.e2e.ddl_tables import touch_big
from tests.sim.sql_model import Model
from tests.sim.sql_sessions import Changer, Writer


def main(addresses: str, first_slot: str, sessions: str, *options: str) -> None:
    connection = sqlfront.connect(f"tikv://{addresses}/test", autocommit=True)
    database = connection._session.database
    model = Model()
    crew: Any = OS_THREADS  # sleeps and tells the time
    works: list[Callable[[], None]] = []
    for n in range(int(sessions)):
        slot = int(first_slot) + n
        works.append(Writer(crew, database, model, random.Random(slot), slot).work)
    if options[:1] == ("--statement",):
        statement = options[1]
        works.append(lambda: _say_when_done(database, statement))
    else:
        works.append(Changer(crew, database, model, random.Random(first_slot), int(first_slot)).work)
    works.append(lambda: touch_big(database, model, random.Random(f"big{first_slot}")))
    threads = [threading.Thread(target=_guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    model.is_over = True
    for thread in threads:
        thread.join()
    connection.close()
    print(json.dumps({str(row_id): sorted(map(str, values)) for row_id, values in model.may_be.items()}), flush=True)


def _guarded(work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException:  # noqa: BLE001 the process ends with whatever it is
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _say_when_done(database: Any, sql: str) -> None:
    session = database.session()
    session.use("test")
    session.execute(sql)
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
