"""`python -m shell.demo [PATH]`: the demo from the command line."""

from __future__ import annotations

import argparse
import sys

from shell.demo import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m shell.demo", description="Flights of 2013, changed and analysed.")
    parser.add_argument("path", nargs="?", default="demo.db", help="the new database's directory (default demo.db)")
    parser.add_argument("--fresh", action="store_true", help="replace a demo database that is there already")
    parser.add_argument("--rows", type=int, help="load only the first so many flights")
    parser.add_argument("--discard", action="store_true", help="remove the database at the end")
    args = parser.parse_args()
    return run(args.path, keep=not args.discard, rows=args.rows, fresh=args.fresh)


if __name__ == "__main__":
    sys.exit(main())
