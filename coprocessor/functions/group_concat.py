"""How long a text GROUP_CONCAT gives: `group_concat_max_len`, and the cut with its warning on every path."""

from __future__ import annotations

from coprocessor.env import Env
from coprocessor.errors import Truncated
from coprocessor.expr import Context
from coprocessor.functions.registry import Function, add, fixed
from coprocessor.types import BIGINT, TEXT

CONCAT_LIMIT = Context(("group_concat_max_len",), BIGINT)
"""The most bytes that it gives."""
CUT_VALUE_GROUP_CONCAT = 1260

_UTF8_BYTES_MAX = 4  # of a character
_CUT = "Some rows were cut by GROUP_CONCAT()"


def cut_concat(env: Env, text: str) -> str:
    """What group_concat_max_len leaves of a text, in whole characters; the cut is an error where the text is stored."""
    limit = int(env.value(CONCAT_LIMIT.key))  # type: ignore[call-overload]
    if len(text) * _UTF8_BYTES_MAX <= limit or len(encoded := text.encode()) <= limit:
        return text
    if env.writing and env.strict:
        raise Truncated(_CUT, code=CUT_VALUE_GROUP_CONCAT)
    env.warn(CUT_VALUE_GROUP_CONCAT, _CUT)
    return encoded[:limit].decode(errors="ignore")


add(Function("cut_group_concat", 1, 1, fixed([TEXT], TEXT), "control flow", py=cut_concat, env=True,
             deterministic=False, syntax="GROUP_CONCAT"))  # fmt: skip
