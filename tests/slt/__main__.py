"""`python -m tests.slt [--store memory|rocksdb|...] [--path auto|row|duckdb] FILE...`: runs files, prints the counts.

Directories are searched for .slt and .test files. The exit code is 0 only when nothing failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.slt.records import Location, SltSyntaxError, parse_file
from tests.slt.runner import Failure, Report, Runner
from tests.slt.stores import JUDGES, PATHS, STORES, TIKV, forced_path, open_store

SUFFIXES = (".slt", ".test")


def files_of(names: list[str]) -> list[Path]:
    """Returns the files named, with directories searched."""
    out: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            out.extend(sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES))
        else:
            out.append(path)
    return out


def run_file(path: Path, store_name: str, read_path: str, limit: int = 0) -> Report:
    """Runs one file on a fresh database; a file that cannot be read is a failure of it."""
    try:
        script = parse_file(path)
    except (SltSyntaxError, OSError) as e:
        return Report(failures=[Failure(Location(str(path), 0), "", str(e))])
    with forced_path(read_path):
        store = open_store(store_name)
        try:
            return Runner(store, script, limit).run()
        finally:
            store.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.slt", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--store", default="memory", choices=(*STORES, TIKV, *JUDGES))
    parser.add_argument("--path", default="auto", choices=PATHS, help="read path to force")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="failures shown for each file")
    parser.add_argument("--quiet", action="store_true", help="only the totals")
    options = parser.parse_args(arguments)
    total = Report()
    for path in files_of(options.files):
        started = time.perf_counter()
        report = run_file(path, options.store, options.path)
        elapsed = time.perf_counter() - started
        total.passed += report.passed
        total.skipped += report.skipped
        total.failures.extend(report.failures)
        if not options.quiet:
            counts = f"{report.passed} passed, {len(report.failures)} failed, {report.skipped} skipped"
            print(f"{path}: {counts} ({elapsed:.1f} s)", flush=True)
            for failure in report.failures[: options.show]:
                print(f"  {failure}")
    print(f"total: {total.passed} passed, {len(total.failures)} failed, {total.skipped} skipped")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
