"""The network between the processes of a test: every process is reached through a proxy that can hold bytes back.

Who is at the other end of a connection is found out by the kernel's table of sockets, so a link is a pair of names and
a direction, and partitions can be asymmetric. What is cut stays open and silent, as on a broken network: nothing is
lost in it, and everything goes on when it is healed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from shell.playground.plan import HOST

PIECE_BYTES = 64 << 10
OUTSIDE = "client"
"""The name of everybody who is no process of the test."""


class Network:
    """All proxies of a test, and what is cut between whom."""

    def __init__(self, processes: Callable[[], Mapping[str, int]]) -> None:
        """`processes` gives the process id of each name."""
        self._processes = processes
        self._cut: set[tuple[str, str]] = set()
        self._changed = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def proxy(self, name: str, port: int) -> int:
        """Listens for those who want to reach `name`, whose real port is given; returns the port to tell others."""

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._serve(name, port, reader, writer)
            finally:
                self._tasks.discard(task)

        server = await asyncio.start_server(take, HOST, 0)
        self._servers.append(server)
        listening: int = server.sockets[0].getsockname()[1]
        return listening

    def cut(self, source: str, target: str) -> None:
        """Holds back everything from `source` to `target`."""
        self._cut.add((source, target))

    def partition(self, one: Iterable[str], other: Iterable[str]) -> None:
        """Holds back everything between two groups."""
        others = list(other)
        for a in one:
            for b in others:
                self.cut(a, b)
                self.cut(b, a)

    def heal(self) -> None:
        """Ends all cuts."""
        self._cut.clear()
        self._changed.set()
        self._changed = asyncio.Event()

    async def close(self) -> None:
        """Ends all connections."""
        for server in self._servers:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, name: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = owner_of(writer.get_extra_info("peername")[1], self._processes())
        try:
            await self._pass(caller, name)
            inner_reader, inner_writer = await asyncio.open_connection(HOST, port)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(caller, name, reader, inner_writer))
                group.create_task(self._pump(name, caller, inner_reader, writer))
        except* OSError:
            pass
        finally:
            writer.close()
            inner_writer.close()

    async def _pump(self, source: str, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE_BYTES):
            await self._pass(source, target)
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()

    async def _pass(self, source: str, target: str) -> None:
        """Returns when bytes may go from one to the other."""
        while (source, target) in self._cut:
            await self._changed.wait()


def owner_of(port: int, processes: Mapping[str, int]) -> str:
    """The name of the process whose socket has this local port."""
    inode = ""
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[9] != "0":
                inode = f"socket:[{fields[9]}]"
    for name, pid in processes.items():
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{fd}") == inode:
                        return name
    return OUTSIDE
