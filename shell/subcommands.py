"""The names of `sqlfront`'s subcommands. Their options are in `shell.options`, their work in modules of their own."""

from __future__ import annotations

# name -> one line of help
SUBCOMMANDS: dict[str, str] = {
    "demo": "load real data and show what the database does",
}

# Names that later subcommands will take, refused as bare paths so that no database is in their way then.
PLANNED = frozenset({"kv", "pd", "ctl", "playground", "serve"})
