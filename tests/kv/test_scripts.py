"""Golden scripts: readable commands and what they print. SQLFRONT_REGENERATE=1 writes the expected output anew.

A file is a sequence of blocks: commands, `---`, output, an empty line. `tests/kv/scripts/engine_*` run on both engines,
`txn_*` run transaction commands over the record-level protocol and print the records they leave.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from kvstore.engine.api import CF_WRITE, Engine
from kvstore.engine.memory import MemoryEngine
from kvstore.engine.rocks import RocksEngine
from kvstore.errors import Assertion, KvError
from kvstore.mvcc.keys import TS_MAX, user_key, version_ts
from kvstore.mvcc.reader import MvccReader
from kvstore.mvcc.record import Lock, Write
from kvstore.txn.actions.acquire_pessimistic_lock import LockProperties
from kvstore.txn.actions.check_txn_status import StatusQuery
from kvstore.txn.actions.prewrite import AssertionLevel, Mutation, Op, PessimisticAction, PrewriteProperties
from kvstore.txn.changes import Changes
from kvstore.txn.commands import (
    AcquirePessimisticLock,
    CheckSecondaryLocks,
    CheckTxnStatus,
    Cleanup,
    Command,
    Commit,
    Gc,
    HeartBeat,
    PessimisticRollback,
    Prewrite,
    ResolveLock,
    Rollback,
)

SCRIPTS = Path(__file__).parent / "scripts"
R = TypeVar("R")
Runner = Callable[[Engine, list[str], dict[str, str]], list[str]]


def text(data: bytes | None) -> str:
    return "(none)" if data is None else data.decode() if data.isascii() and data.decode().isprintable() else data.hex()


def pairs(flat: list[bytes]) -> str:
    return " ".join(f"{text(k)}={text(v)}" for k, v in zip(flat[::2], flat[1::2], strict=True)) or "(empty)"


def run_engine(engine: Engine, words: list[str], options: dict[str, str]) -> list[str]:
    command, *args = words
    raw = [arg.encode() for arg in args]
    match command:
        case "write":
            batch = engine.batch()
            for change in args:
                key, _, value = change.partition("=")
                if change.startswith("-") and ".." in change:
                    low, high = change[1:].split("..")
                    batch.delete_range(low.encode(), high.encode(), engine.handle(CF_WRITE))
                elif change.startswith("-"):
                    batch.delete(change[1:].encode(), engine.handle(CF_WRITE))
                else:
                    batch.put(key.encode(), value.encode(), engine.handle(CF_WRITE))
            engine.write(batch)
            return []
        case "get":
            return [text(engine.get(CF_WRITE, raw[0]))]
        case "scan" | "rscan":
            scanner = engine.scanner(CF_WRITE, raw[0], raw[1], reverse=command == "rscan")
            out = [pairs(flat) for flat in iter(lambda: scanner.take(int(options.get("take", "100"))), [])]
            scanner.release()
            return out or ["(empty)"]
        case "seek" | "seek_for_prev":
            cursor = engine.cursor(CF_WRITE, raw[1] if len(raw) > 1 else None)
            iterator = cursor.refresh()
            getattr(iterator, command)(raw[0])
            found = text(iterator.key())
            cursor.release()
            return [found]
        case "flush":
            engine.flush()
            return []
        case "compact":
            engine.compact(CF_WRITE)
            return []
    raise ValueError(f"unknown command {command!r}")


def dump(engine: Engine) -> list[str]:
    out: list[str] = []
    with MvccReader(engine) as reader:
        for key, lock in reader.scan_locks(TS_MAX):
            out.append(f"lock    {text(key)} {describe_lock(lock)}")
    flat = engine.scanner(CF_WRITE, b"z", b"{").take(1000)
    for key, record in zip(flat[::2], flat[1::2], strict=True):
        write = Write.decode(record)
        marks = (" protected" if write.is_protected else "") + (" overlapped" if write.overlapped_rollback else "")
        value = "" if write.short_value is None or write.is_protected else f"={text(write.short_value)}"
        out.append(
            f"write   {text(user_key(key))}@{version_ts(key)} {write.type.name} start={write.start_ts}{value}{marks}"
        )
    return out or ["(no records)"]


def describe_lock(lock: Lock) -> str:
    extra = "".join(
        f" {name}={value}"
        for name, value in (
            ("for_update", lock.for_update_ts),
            ("min_commit", lock.min_commit_ts),
            ("rollbacks", list(lock.rollback_ts)),
        )
        if value
    )
    value = "" if lock.short_value is None else f"={text(lock.short_value)}"
    return f"{lock.type.name}{value} start={lock.start_ts} primary={text(lock.primary)}{extra}"


def execute(engine: Engine, command: Command[R]) -> R:
    """Runs a command; what it raises leaves no trace."""
    changes = Changes()
    with MvccReader(engine) as reader:
        result = command.run(reader, changes)
    engine.write(changes.batch(engine))
    return result


def run_txn(engine: Engine, words: list[str], options: dict[str, str]) -> list[str]:
    command, *args = words
    number = {name: int(value) for name, value in options.items() if value.isdigit()}
    keys = tuple(arg.encode() for arg in args)
    start, commit_ts = number.get("start", 0), number.get("commit", 0)
    primary = options.get("primary", args[0].partition("=")[0] if args else "").encode()
    ttl, for_update = number.get("ttl", 3000), number.get("for_update", 0)
    match command:
        case "prewrite":
            mutations = tuple(mutation(arg) for arg in args)
            actions = tuple([PessimisticAction[options["action"]]] * len(mutations)) if "action" in options else ()
            if "assert" in options:
                assertion = Assertion[options["assert"]]
                mutations = tuple(replace(changed, assertion=assertion) for changed in mutations)
            props = PrewriteProperties(
                start,
                primary,
                ttl,
                for_update_ts=for_update,
                one_pc="1pc" in options,
                max_read_ts=number.get("read", 0),
                max_commit_ts=number.get("max_commit", 0),
                secondaries=tuple(options["async"].encode().split(b",")) if "async" in options else None,
                assertion_level=AssertionLevel.STRICT,
                is_retry="retry" in options,
            )
            result = execute(engine, Prewrite(props, mutations, actions))
            if result.one_pc_commit_ts:
                return [f"committed at {result.one_pc_commit_ts}"]
            return [f"commits at {result.min_commit_ts} or later"] if result.min_commit_ts else []
        case "commit":
            execute(engine, Commit(keys, start, commit_ts))
        case "rollback":
            execute(engine, Rollback(keys, start))
        case "cleanup":
            execute(engine, Cleanup(keys[0], start, number.get("now", 0)))
        case "lock":
            lock_props = LockProperties(
                start, primary, ttl, for_update, need_value=True, allow_conflict="conflict" in options
            )
            exist = frozenset(keys) if "not_exist" in options else frozenset()
            locked = execute(engine, AcquirePessimisticLock(lock_props, keys, exist))
            return [
                text(found.value) + (f" conflict={found.conflict_ts}" if found.conflict_ts else "") for found in locked
            ]
        case "unlock":
            execute(engine, PessimisticRollback(keys, start, for_update))
        case "status":
            query = StatusQuery(keys[0], start, number.get("caller", 0), number.get("now", 0))
            return [type(execute(engine, CheckTxnStatus(query))).__name__.removeprefix("Status")]
        case "secondaries":
            return [str(execute(engine, CheckSecondaryLocks(keys, start))).split("(locks")[0]]
        case "heartbeat":
            return [str(execute(engine, HeartBeat(keys[0], start, ttl)))]
        case "resolve":
            return [str(execute(engine, ResolveLock(keys, start, commit_ts)))]
        case "gc":
            return [str(execute(engine, Gc(keys, number["safe_point"])))]
        case "get":
            with MvccReader(engine) as reader:
                return [text(reader.get(keys[0], number["ts"]))]
        case "dump":
            return dump(engine)
        case _:
            raise ValueError(f"unknown command {command!r}")
    return []


def mutation(word: str) -> Mutation:
    if word.startswith("-"):
        return Mutation(Op.DELETE, word[1:].encode())
    if word.startswith("+"):
        key, _, value = word[1:].partition("=")
        return Mutation(Op.INSERT, key.encode(), value.encode())
    key, equals, value = word.partition("=")
    return Mutation(Op.PUT, key.encode(), value.encode()) if equals else Mutation(Op.LOCK, key.encode())


def run_line(run: Runner, engine: Engine, line: str) -> list[str]:
    words = [word for word in line.split() if not word.startswith("/")]
    options = dict(word[1:].partition("=")[::2] for word in line.split() if word.startswith("/"))
    try:
        out = run(engine, words, options)
    except KvError as error:
        out = [f"{type(error).__name__}"]
    return [f"{words[0]}: {entry}" if len(line) else entry for entry in out]


def run_script(run: Runner, engine: Engine, script: str) -> str:
    blocks: list[str] = []
    for block in script.strip().split("\n\n"):
        commands = block.split("\n---\n")[0].removesuffix("\n---").split("\n")
        out: list[str] = []
        for line in commands:
            if not line.startswith("#"):
                out += run_line(run, engine, line)
        blocks.append("\n".join([*commands, "---", *out]))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.txt")))
def test_script(script: str, kind: str, tmp_path: Path) -> None:
    path = SCRIPTS / script
    engine: Engine = MemoryEngine() if kind == "memory" else RocksEngine(str(tmp_path / "db"))
    run = run_engine if script.startswith("engine_") else run_txn
    try:
        got = run_script(run, engine, path.read_text())
    finally:
        engine.close()
    if os.environ.get("SQLFRONT_REGENERATE") == "1" and kind == "memory":
        path.write_text(got)
    assert got == path.read_text()
