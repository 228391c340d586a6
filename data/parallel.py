"""A function over batches of rows, in several processes, with bounded memory and results in order."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from data.files import DataError
from iris import settings

BATCH = 500  # rows
_WORTH_IT = 4  # batches from which on starting processes pays

In = TypeVar("In")
Out = TypeVar("Out")


def batches(rows: Iterable[In], size: int = BATCH) -> Iterator[list[In]]:
    """The rows in lists of ``size``; the last may be shorter."""
    stream = iter(rows)
    while batch := list(itertools.islice(stream, size)):
        yield batch


def mapped(
    function: Callable[[list[In]], Out], rows: Iterable[In], *, processes: int | None = None, size: int = BATCH
) -> Iterator[Out]:
    """``function`` of each batch of rows, in order. It must be importable, since new processes are spawned for it.

    At most twice as many batches as processes are under way: the rows are not all read in at once. Few rows are
    handled in this process. ``processes`` is by default the CPU quota, at most 8.

    Raises:
        DataError: a process was killed, most likely for memory.
    """
    processes = processes or min(8, settings.cpu_quota())
    stream = batches(rows, size)
    first = list(itertools.islice(stream, _WORTH_IT))
    if processes == 1 or len(first) < _WORTH_IT:
        yield from map(function, itertools.chain(first, stream))
        return
    # "spawn": a fork of a process with threads (a test runner, a notebook) can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        waiting: deque[Future[Out]] = deque()
        try:
            for batch in itertools.chain(first, stream):
                with _no_interrupt():
                    waiting.append(pool.submit(function, batch))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "A worker process was killed, most likely because memory ran out. Try --processes 1, or less data "
                "(--sample)."
            ) from error
        finally:
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block, and from the processes that are started in it for good.

    Ctrl-C reaches every process of a terminal. A worker that it kills while it starts leaves the pool waiting for ever;
    this process stops the workers itself.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def positive(value: str) -> int:
    """A whole number above 0 from the command line."""
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number above 0")
    return int(value)


def progress(rows: Iterable[In], name: str) -> Iterator[In]:
    """The rows, with a line on a terminal that says how many have gone by."""
    from tqdm import tqdm

    yield from tqdm(rows, name, unit=" rows", disable=None, leave=False)
