"""`sqlfront playground`: a whole cluster on this machine, for trying things out.

Starts the placement drivers, stores and SQL servers as processes of their own, says where they are, and stops all of
them on Ctrl-C or when one of them dies. Without a data directory everything is in a temporary one that is removed at
the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from shell.playground.children import Child, ChildFailed
from shell.playground.local import PROGRAM, LocalCluster, Settle, replicated, url_of
from shell.playground.plan import Member, Plan, PlanError, make_plan, taken_ports

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def run(
    stores: int,
    pds: int,
    servers: int,
    columnar: int,
    data: Path | None,
    base_port: int | None,
    program: Sequence[str] = PROGRAM,
    settle: Settle = replicated,
) -> int:
    """Runs a playground until Ctrl-C; returns the exit code."""
    directory = data or Path(tempfile.mkdtemp(prefix="sqlfront-playground-"))
    try:
        plan = make_plan(stores, pds, directory, base_port, servers=servers, columnar=columnar)
        taken = taken_ports(plan)
        if taken:
            raise PlanError(f"ports in use: {', '.join(map(str, taken))}; choose others by --base-port")
        directory.mkdir(parents=True, exist_ok=True)
        cluster = LocalCluster(plan, program=program, settle=settle)
        return asyncio.run(_serve(cluster, keep=data is not None))
    except PlanError as error:
        sys.stderr.write(f"sqlfront playground: {error}\n")
        return EXIT_USAGE
    except (ChildFailed, OSError) as error:
        sys.stderr.write(f"sqlfront playground: {error}\n")
        return EXIT_FAILED
    finally:
        if data is None:
            shutil.rmtree(directory, ignore_errors=True)


async def _serve(cluster: LocalCluster, *, keep: bool) -> int:
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    telling = asyncio.create_task(told.wait())
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(telling.cancel)
        starting = asyncio.ensure_future(stack.enter_async_context(cluster))
        await asyncio.wait((starting, telling), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return EXIT_OK
        await starting
        print(describe(cluster.plan, keep=keep), flush=True)
        return await _watch(list(cluster.children.values()), telling)


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


def describe(plan: Plan, *, keep: bool) -> str:
    """What a person needs to know of a running playground."""
    directory = plan.pds[0].directory.parent
    kinds = [
        ("placement driver", plan.pds),
        ("store", plan.stores),
        ("columnar store", plan.columnar),
        ("SQL server", plan.servers),
    ]
    counts = [f"{len(members)} {what}{'s' * (len(members) > 1)}" for what, members in kinds if members]
    return "\n".join(
        [
            f"{', '.join(counts[:-1])} and {counts[-1]} run; data and logs are in {directory}"
            + ("" if keep else " (removed at the end)"),
            *(_line(member) for member in plan.members),
            "connect:",
            f"  sqlfront {url_of(plan)}",
            f'  sqlfront.connect("{url_of(plan)}")',
            f"  sqlfront ctl --pd {plan.pd_addresses} stores",
            f'  tikv_client.TransactionClient.connect(["{plan.pds[0].address}"])',
            "Ctrl-C stops all of them.",
        ]
    )


def _line(member: Member) -> str:
    where = member.address if member.port else "no SQL port"
    return f"  {member.name:9} {where:22} status http://{member.status_address}  log {member.log}"
