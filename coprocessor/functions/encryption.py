"""AES_ENCRYPT and AES_DECRYPT, under the session's `block_encryption_mode`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from coprocessor.env import Env
from coprocessor.errors import InvalidArgument, Unsupported
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


def _aes() -> ModuleType:
    try:
        return import_module("coprocessor.aes")
    except ImportError as e:
        raise Unsupported("AES_ENCRYPT and AES_DECRYPT need the package cryptography: install sqlfront[crypto]") from e


def _encrypt(*args: Any) -> bytes:
    secret: bytes = _aes().encrypt(*args)
    return secret


def _decrypt(*args: Any) -> bytes | None:
    plain: bytes | None = _aes().decrypt(*args)
    return plain


for _name, _work in (("aes_encrypt", _encrypt), ("aes_decrypt", _decrypt)):
    add(Function(_name, 2, 3, fixed([BYTES], BYTES), SUBJECT, py=_with_mode(_name, _work), env=True, nulls=True,
                 deterministic=False))  # fmt: skip
