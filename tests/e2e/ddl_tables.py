"""The big table that an index is added to while its owner is killed."""

from __future__ import annotations

import random
import time
from typing import Any

from kvstore.errors import KvError, TxnError
from sqlfront.errors import Error
from tests.sim.sql_model import Model
from tests.sim.sql_sessions import EXPECTED

BIG_ROWS = 150_000
CREATE_BIG = "CREATE TABLE big (id INT PRIMARY KEY, k INT, v VARCHAR(40))"


def touch_big(database: Any, model: Model, rng: random.Random) -> None:
    """Changes, removes and adds rows of the big table."""
    session = database.session()
    session.use("test")
    while not model.is_over:
        row_id = rng.randrange(BIG_ROWS * 11 // 10)
        try:
            match rng.randrange(3):
                case 0:
                    session.execute("UPDATE big SET k = ? WHERE id = ?", (rng.randrange(1 << 30), row_id))
                case 1:
                    session.execute("DELETE FROM big WHERE id = ?", (row_id,))
                case _:
                    session.execute("REPLACE INTO big VALUES (?, ?, 'new')", (row_id, rng.randrange(1 << 30)))
        except TxnError:
            continue
        except Error as error:
            if error.code not in EXPECTED:
                raise
        except KvError:
            time.sleep(0.5)
        time.sleep(rng.expovariate(50))
