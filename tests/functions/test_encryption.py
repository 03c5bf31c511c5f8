"""AES against the vectors of SP 800-38A, and what the SQL functions refuse."""

from __future__ import annotations

import sys

import pytest

from coprocessor.aes import decrypt, encrypt
from coprocessor.env import Env
from coprocessor.errors import InvalidArgument, Unsupported
from coprocessor.evaluate import compile_expr
from coprocessor.expr import Const
from coprocessor.functions import resolve
from coprocessor.types import BYTES

KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
PLAIN = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("ecb", "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf"),
        ("cbc", "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"),
        ("cfb128", "3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b"),
        ("ofb", "3b3fd92eb72dad20333449f8e83cfb4a7789508d16918f03f53c52dac54ed825"),
    ],
)
def test_modes(mode: str, expected: str) -> None:
    iv = bytes(range(16))
    assert encrypt(PLAIN, KEY, f"aes-128-{mode}", iv).hex()[:64] == expected
    for length in (0, 1, 15, 16, 17, 32):
        secret = encrypt(PLAIN[:length], b"any key", f"aes-192-{mode}", iv)
        assert decrypt(secret, b"any key", f"aes-192-{mode}", iv) == PLAIN[:length]


def test_initialization_vectors() -> None:
    def run(mode: str, *args: bytes) -> object:
        call = resolve("aes_encrypt", [Const(a, BYTES) for a in args])
        warned: list[int] = []
        env = Env(context={("block_encryption_mode",): mode}, warn=lambda code, _: warned.append(code))
        return compile_expr(call, {})((), env), warned

    assert run("aes-128-ecb", PLAIN, KEY, b"x") == (encrypt(PLAIN, KEY, "aes-128-ecb"), [1618])
    assert run("aes-256-ofb", b"a", KEY, PLAIN) == (encrypt(b"a", KEY, "aes-256-ofb", PLAIN[:16]), [])
    for args, code in (((PLAIN, KEY), 1582), ((PLAIN, KEY, b"short"), 1882)):
        with pytest.raises(InvalidArgument) as raised:
            run("aes-128-cbc", *args)
        assert raised.value.code == code


def test_without_the_package_they_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "coprocessor.aes", raising=False)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    call = resolve("aes_encrypt", [Const(PLAIN, BYTES), Const(KEY, BYTES)])
    with pytest.raises(Unsupported, match=r"sqlfront\[crypto\]"):
        compile_expr(call, {})((), Env(context={("block_encryption_mode",): "aes-128-ecb"}))
