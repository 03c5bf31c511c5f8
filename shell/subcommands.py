"""The names of `sqlfront`'s subcommands. Their options are in `shell.options` and `shell.cluster`, their work in
modules of their own.
"""

from __future__ import annotations

# name -> one line of help
SUBCOMMANDS: dict[str, str] = {
    "demo": "load real data and show what the database does",
    "kv": "run a store of a cluster",
    "pd": "run a placement driver of a cluster",
    "db": "run a SQL server of a cluster",
    "ctl": "ask a cluster and steer it",
    "playground": "run a whole cluster on this machine",
}

# Names that later subcommands will take, refused as bare paths so that no database is in their way then.
PLANNED = frozenset({"serve"})
