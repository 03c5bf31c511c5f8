"""`python -m tests.sim --seed N --minutes M`: runs seeds from N on until the time is over or one fails.

What is simulated is chosen with --deployment; --twice runs every seed again and compares the traces.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.sim.deployments import DEPLOYMENTS
from tests.sim.run import Report


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--deployment", choices=sorted(DEPLOYMENTS), default=next(iter(DEPLOYMENTS)))
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, help="how many seeds; without it, as many as the time allows")
    parser.add_argument("--minutes", type=float, default=1.0, help="of real time, after which no new seed is begun")
    parser.add_argument("--seconds", type=float, default=30.0, help="of virtual time under faults, for each seed")
    parser.add_argument("--twice", action="store_true", help="run each seed twice; the traces must be equal")
    parser.add_argument("--verbose", action="store_true", help="log, and print the faults of good runs too")
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60 * options.minutes
    run = DEPLOYMENTS[options.deployment]
    seed, first = options.seed, options.seed
    while (time.monotonic() < end or seed == first) and (options.seeds is None or seed < first + options.seeds):
        report = run(seed, options.seconds)
        if options.twice:
            compare(report, run(seed, options.seconds))
        print(report, flush=True)
        if options.verbose and not report.problems:
            print(*report.faults, sep="\n")
        if report.problems:
            print(again(options, seed))
            return 1
        seed += 1
    return 0


def compare(report: Report, second: Report) -> None:
    if report.trace != second.trace:
        report.problems.append(f"not deterministic: the second run's trace is {second.trace[:12]}")


def again(options: argparse.Namespace, seed: int) -> str:
    """The command that runs a seed again."""
    only = f"--deployment {options.deployment} --seed {seed} --seeds 1 --seconds {options.seconds}"
    return f"again: python -m tests.sim {only}"


if __name__ == "__main__":
    if "--verbose" not in sys.argv:
        logging.disable(logging.CRITICAL)  # nodes log their crashes, and there are many
    sys.exit(main(sys.argv[1:]))
