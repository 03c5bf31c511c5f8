"""`sqlfront playground`: a whole cluster on this machine, for trying things out.

Starts the placement drivers and stores as processes of their own, says where they are, and stops all of them on Ctrl-C
or when one of them dies. Without a data directory everything is in a temporary one that is removed at the end.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from shell.playground.children import Child, ChildFailed
from shell.playground.plan import Member, Plan, PlanError, make_plan, taken_ports

READY_TIMEOUT_S = 60.0
STOP_GRACE_S = 15.0
EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
PROGRAM = (sys.executable, "-m", "shell")


def run(stores: int, pds: int, data: Path | None, base_port: int | None, program: Sequence[str] = PROGRAM) -> int:
    """Runs a playground until Ctrl-C; returns the exit code."""
    directory = data or Path(tempfile.mkdtemp(prefix="sqlfront-playground-"))
    try:
        plan = make_plan(stores, pds, directory, base_port)
        taken = taken_ports(plan)
        if taken:
            raise PlanError(f"ports in use: {', '.join(map(str, taken))}; choose others by --base-port")
        directory.mkdir(parents=True, exist_ok=True)
        return asyncio.run(_serve(plan, keep=data is not None, program=program))
    except PlanError as error:
        sys.stderr.write(f"sqlfront playground: {error}\n")
        return EXIT_USAGE
    except (ChildFailed, OSError) as error:
        sys.stderr.write(f"sqlfront playground: {error}\n")
        return EXIT_FAILED
    finally:
        if data is None:
            shutil.rmtree(directory, ignore_errors=True)


async def _serve(plan: Plan, *, keep: bool, program: Sequence[str]) -> int:
    children: list[Child] = []
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    telling = asyncio.create_task(told.wait())
    try:
        starting = asyncio.ensure_future(_start(plan, program, children))
        await asyncio.wait((starting, telling), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return EXIT_OK
        await starting
        print(describe(plan, keep=keep), flush=True)
        return await _watch(children, telling)
    finally:
        telling.cancel()
        await stop_all(children)


async def _start(plan: Plan, program: Sequence[str], children: list[Child]) -> None:
    """Starts the placement drivers, then the stores; all of a kind are started before the first is waited for."""
    for members in (plan.pds, plan.stores):
        started = []
        for member in members:
            started.append(
                await Child.start(
                    member.name, (*program, *member.arguments), member.directory.parent / f"{member.name}.out"
                )
            )
            children.append(started[-1])
        await asyncio.gather(*(child.wait_ready(READY_TIMEOUT_S) for child in started))


async def _watch(children: Sequence[Child], telling: asyncio.Task[Literal[True]]) -> int:
    """Waits for Ctrl-C; raises ChildFailed when a child ends before that."""
    ends: dict[asyncio.Task[Any], Child] = {asyncio.create_task(child.process.wait()): child for child in children}
    try:
        done, _ = await asyncio.wait((*ends, telling), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
    for end, child in ends.items():
        if end in done and telling not in done:
            raise child.failure("ended; stopping the others")
    print("stopping", flush=True)
    return EXIT_OK


async def stop_all(children: Sequence[Child]) -> None:
    """Stops the stores, then the placement drivers, which they may still need."""
    for pds in (False, True):
        group = [child for child in children if child.name.startswith("pd") == pds]
        await asyncio.gather(*(child.stop(STOP_GRACE_S) for child in group))


def describe(plan: Plan, *, keep: bool) -> str:
    """What a person needs to know of a running playground."""
    directory = plan.pds[0].directory.parent
    return "\n".join(
        [
            f"{len(plan.pds)} placement driver{'s' * (len(plan.pds) > 1)} and {len(plan.stores)} "
            f"store{'s' * (len(plan.stores) > 1)} run; data and logs are in {directory}"
            + ("" if keep else " (removed at the end)"),
            *(_line(member) for member in plan.members),
            "connect:",
            f"  sqlfront ctl --pd {plan.pd_addresses} stores",
            f'  tikv_client.TransactionClient.connect(["{plan.pds[0].address}"])',
            "Ctrl-C stops all of them.",
        ]
    )


def _line(member: Member) -> str:
    return f"  {member.name:5} {member.address:22} status http://{member.status_address}  log {member.log}"
