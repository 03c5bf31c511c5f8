"""Where the direct executor's rows come from when they are wanted in an order, and only some of them.

Such a source ends with whoever reads it. As it was chosen by estimates, it gives up, too, once to read all rows by the
scan's other path would have cost less: nothing has been answered then, and that is done.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from coprocessor.evaluate import Env
from kvstore.client.api import Reader
from sqlfront.exec.reading import LOOKUP_BATCH_ROWS, Row, ScanReader
from sqlfront.plan.nodes import Ordered

if TYPE_CHECKING:
    from sqlfront.exec.pushing import Pushing

Source = Callable[["Reader | None", Env, "Pushing | None"], Iterator[list[Row]]]


_T = TypeVar("_T")


class TooManyRows(Exception):
    """The source has more rows than the direct executor is for."""


def in_order(ordered: Ordered, tz: dt.tzinfo | None, *, is_sorted: bool) -> tuple[ScanReader, Source]:
    """The source of a scan's rows along its path, in its order if `is_sorted`. Raises TooManyRows."""
    plain = ScanReader(ordered.scan, tz)
    first = max(1, min(round(ordered.expected), LOOKUP_BATCH_ROWS))

    def read(reader: Reader | None, env: Env, pushing: Pushing | None) -> Iterator[list[Row]]:
        assert reader is not None
        chunks = plain.read_chunks(reader, env, ordered.reverse, first)
        return plain.passing(_at_most(chunks, ordered.rows_max), env)

    if ordered.scan.pushed is None:
        return plain, read
    from sqlfront.exec.push_reader import PushReader

    pushed = PushReader(ordered.scan, tz)
    way = "" if not is_sorted else "reverse" if ordered.reverse else "forward"

    def ask(reader: Reader | None, env: Env, pushing: Pushing | None) -> Iterator[list[Row]]:
        assert reader is not None
        assert pushing is not None
        if not pushing.measuring and pushed.has_few_rows(env, pushing):
            return read(reader, env, pushing)
        stats = pushing.stats_of(ordered.scan)
        return pushing.opened(pushed.row_chunks(reader, env, pushing, stats, order=way, early=True))

    return pushed.plain, ask


def first_rows(sources: Sequence[Source]) -> Source:
    """The source of the first row of each of others, if it has one."""

    def read(reader: Reader | None, env: Env, pushing: Pushing | None) -> Iterator[list[Row]]:
        for source in sources:
            row = next(itertools.chain.from_iterable(source(reader, env, pushing)), None)
            if row is not None:
                yield [row]

    return read


def _at_most(chunks: Iterator[list[Row]], rows_max: float) -> Iterator[list[Row]]:
    """The chunks, as long as not more rows than that are taken from them. Raises TooManyRows."""
    count = 0
    for chunk in chunks:
        if count > rows_max:
            raise TooManyRows
        yield chunk
        count += len(chunk)


def at_most(pairs: Iterable[_T], rows_max: float) -> Iterator[_T]:
    """The same one by one."""
    for count, pair in enumerate(pairs):
        if count > rows_max:
            raise TooManyRows
        yield pair
