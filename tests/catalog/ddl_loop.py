"""A process that changes the schema over and over until it is killed; it says what it begins and what it has done."""

from __future__ import annotations

import sys

import sqlfront

CYCLE = (
    "CREATE INDEX v ON t (v, s)",
    "ALTER TABLE t ADD UNIQUE u (v, id), ADD c INT DEFAULT 3",
    "ALTER TABLE t MODIFY s VARCHAR(15)",
    "DROP INDEX v ON t",
    "ALTER TABLE t DROP INDEX u, DROP COLUMN c",
    "CREATE TABLE copy LIKE t",
    "INSERT INTO copy SELECT * FROM t WHERE id < 1000",
    "TRUNCATE TABLE copy",
    "DROP TABLE copy",
)


def main(path: str) -> None:
    with sqlfront.connect(path, autocommit=True) as con:
        while True:
            for statement in CYCLE:
                print("begin", statement, flush=True)
                con.execute(statement)
                print("done", statement, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
