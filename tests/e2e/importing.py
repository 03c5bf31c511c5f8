"""A SQL server as a process that imports a file: `python -m tests.e2e.importing PD FILE CHECKPOINT`."""

from __future__ import annotations

import sys

import sqlfront
from kvstore.client.cluster.bulk import LoadOptions
from kvstore.client.cluster.storage import ClusterStorage


def main(placement_driver: str, file: str, checkpoint: str) -> None:
    with sqlfront.connect(f"tikv://{placement_driver}/test", autocommit=True) as connection:
        storage = connection.session.database.storage
        assert isinstance(storage, ClusterStorage)
        storage.load_options = LoadOptions(memory_bytes=8 << 20, region_bytes=1 << 20, parallel=1)
        connection.execute("create table if not exists t (id int primary key auto_increment, v varchar(60), key (v))")
        answer = connection.execute(f"import into t (v) from '{file}' with checkpoint='{checkpoint}'").fetchone()
        assert answer is not None
        print(answer[7], answer[8])
        print(connection.execute("select count(*), min(id), max(id), count(distinct v) from t").fetchone())
        connection.execute("admin check table t")


if __name__ == "__main__":
    main(*sys.argv[1:])
