"""A client process that is killed in the middle of a transaction: `python -m tests.tikv_client.killed PD HOW KEY...`.

Says `ready` on standard output when it has come that far, knows all regions and is connected to all stores; one that is
killed `prewriting` goes on to that when it is told so by a line on standard input.
"""

from __future__ import annotations

import asyncio
import os
import sys

import tikv_client.asynchronous as tikv

LEFT = b"left behind"


async def main(pd: str, how: str, keys: list[bytes]) -> None:
    client = await tikv.TransactionClient.connect([pd])
    await client.snapshot(await client.current_timestamp(), pessimistic=False).batch_get(keys)
    transaction = await client.begin(pessimistic=how == "holding")
    for key in keys:
        await transaction.put(key, LEFT)
    if how == "prewriting":
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await transaction.commit()
    elif how == "committed":
        # the primary is committed when this returns; the other regions' keys would have been in the background
        await transaction.commit()
        os.write(1, b"ready\n")
        os._exit(9)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], [name.encode() for name in sys.argv[3:]]))
