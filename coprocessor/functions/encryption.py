"""AES_ENCRYPT and AES_DECRYPT, under the session's `block_encryption_mode`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coprocessor.env import Env
from coprocessor.errors import InvalidArgument
from coprocessor.functions.registry import Function, Kernel, add, fixed
from coprocessor.types import BYTES

SUBJECT = "miscellaneous"
IV_BYTES = 16


def _with_mode(name: str, work: Callable[[bytes, bytes, str, bytes], bytes | None]) -> Kernel:
    def run(env: Env, data: bytes | None, key: bytes | None, *ivs: bytes | None) -> bytes | None:
        mode = str(env.value(("block_encryption_mode",)))
        iv = b""
        if mode.endswith("ecb"):
            if ivs:
                env.warn(1618, "<IV> option ignored")
        elif not ivs:
            raise InvalidArgument(
                f"Incorrect parameter count in the call to native function '{name}'", code=1582, sqlstate="42000"
            )
        else:
            iv = (ivs[0] or b"")[:IV_BYTES]
            if len(iv) < IV_BYTES:
                message = f"The initialization vector supplied to {name} is too short. Must be at least 16 bytes long"
                raise InvalidArgument(message, code=1882)
        return None if data is None or key is None else work(data, key, mode, iv)

    return run


def _encrypt(*args: Any) -> bytes:
    from coprocessor.aes import encrypt

    return encrypt(*args)


def _decrypt(*args: Any) -> bytes | None:
    from coprocessor.aes import decrypt

    return decrypt(*args)


for _name, _work in (("aes_encrypt", _encrypt), ("aes_decrypt", _decrypt)):
    add(Function(_name, 2, 3, fixed([BYTES], BYTES), SUBJECT, py=_with_mode(_name, _work), env=True, nulls=True,
                 deterministic=False))  # fmt: skip
