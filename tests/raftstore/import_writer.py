"""A process with three stores on disk that ingests files batch by batch and says what was acknowledged.

It is killed where a failpoint says `panic`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

from kvstore.failpoint import configure
from kvstore.proto import import_sstpb_pb2 as pb
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.raftstore.api import RegionError
from kvstore.rpc.api import Call
from kvstore.server.import_sst import ImportService
from tests.raftstore.kill_writer import Trio

ROWS = 40
BATCHES = 6
COMMIT_TS = 77


def rows(batch: int) -> list[tuple[bytes, bytes]]:
    """Every third value is too long for a record."""
    return [(b"k%02d/%03d" % (batch, n), b"v%d" % n * (1 if n % 3 else 200)) for n in range(ROWS)]


async def write(service: ImportService, meta: pb.SSTMeta, batch: int) -> list[pb.SSTMeta]:
    async def requests() -> AsyncIterator[Any]:
        yield pb.WriteRequest(meta=meta)
        pairs = [pb.Pair(key=key, value=value) for key, value in rows(batch)]
        yield pb.WriteRequest(batch=pb.WriteBatch(commit_ts=COMMIT_TS, pairs=pairs))

    (answer,) = [answer async for answer in service.write(requests(), Call("test"))]
    if answer.HasField("error"):
        raise RegionError(answer.error.store_error)
    return list(answer.metas)


async def load(trio: Trio, services: dict[int, ImportService], batch: int) -> None:
    """Writes a batch to all stores and ingests it, again and again until that is answered."""
    while True:
        found = trio.locate(b"k")
        if found is not None:
            store, context = found
            meta = pb.SSTMeta(uuid=uuid.uuid4().bytes, region_id=context.region_id, region_epoch=context.region_epoch)
            try:
                metas = [await write(service, meta, batch) for service in services.values()]
                await store.ingest(Context.FromString(context.SerializeToString()), metas[0])
                return
            except RegionError:
                pass
        await asyncio.sleep(0.02)


async def main(path: str, point: str, actions: str) -> None:
    trio = Trio(path)
    services = {store_id: ImportService(store) for store_id, store in trio.stores.items()}
    await load(trio, services, 0)
    sys.stdout.write("0\n")
    sys.stdout.flush()
    configure(point, actions)

    async def load_all() -> None:
        for batch in range(1, BATCHES):
            await load(trio, services, batch)
            sys.stdout.write(f"{batch}\n")
            sys.stdout.flush()

    await asyncio.gather(load_all(), *trio.runs)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    finally:
        os.kill(os.getpid(), signal.SIGKILL)
