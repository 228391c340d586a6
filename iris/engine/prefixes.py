"""The sequences of a context: who holds the longest prefix of a prompt, and which conversations make room.

A new prompt continues where a sequence's tokens agree with it. Cells are shared between sequences, not copied, and the
sequences that were used the longest ago are forgotten first.
"""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path

from iris.engine.cache import Cells, Ints, Sequence, common_prefix
from iris.engine.llama import Context

WORTH_SHARING = 16
"""Tokens a longer shared prefix must bring before a prompt waits for, or moves to, another sequence."""


class Prefixes:
    """What the sequences of ``context`` hold; every change of them goes through here.

    Args:
        context: the memory.
        sequences: how many sequences it was opened for.
        limit: the most tokens one sequence may hold.
    """

    def __init__(self, context: Context, *, sequences: int, limit: int) -> None:
        self._context = context
        self.cells = Cells(context.cells, sequences, limit)

    def longest(self, tokens: Ints) -> tuple[Sequence, int]:
        """The sequence that begins with most of the prompt ``tokens``, and with how many of them.

        The last token does not count: it is always read again, since its logits are needed.
        """
        usable = tokens[:-1]
        best, shared = self.cells.sequences[0], -1
        for sequence in self.cells.sequences:
            size = common_prefix(sequence.tokens, usable)
            if size > shared or (size == shared and sequence.length < best.length):
                best, shared = sequence, size
        return best, shared

    def place(self, tokens: Ints, *, cells: int, busy: Set[int], reserved: int) -> Sequence | None:
        """A sequence for a prompt, which then begins with as much of it as any held before; None if there is no room.

        Args:
            tokens: the prompt.
            cells: how many the prompt and its answer may take.
            busy: numbers of the sequences that are being written to.
            reserved: cells that those may still take.
        """
        idle = sorted((s for s in self.cells.sequences if s.number not in busy), key=lambda s: s.last_used)
        if not idle:
            return None
        source, shared = self.longest(tokens)
        # Going on where a conversation stopped changes its sequence; a prefix that others still need is shared instead.
        if source in idle and source.length - shared < WORTH_SHARING:
            target = source
        else:
            target = next((s for s in idle if s.length == 0), None) or next(
                (s for s in idle if s is not source), source
            )
        need = cells - shared + reserved
        if target is not source:
            self.truncate(target, 0)
        for victim in idle:
            if self.cells.free >= need:
                break
            if victim is not source and victim is not target:
                self.truncate(victim, 0)
        if self.cells.free < need and source in idle and source is not target:
            target = source
        if target is source:
            shared = self.truncate(source, shared)
            need = cells - shared + reserved
        if self.cells.free < need:
            return None
        if target is not source and shared:
            self.share(source, target, shared)
        return target

    def truncate(self, sequence: Sequence, length: int) -> int:
        """Forget a sequence's tail. Where the memory can only forget all, all goes. Returns what is left."""
        if sequence.length > length:
            if not self._context.truncate(sequence.number, length):
                length = 0
                self._context.truncate(sequence.number, 0)
            self.cells.truncate(sequence, length)
        return sequence.length

    def share(self, source: Sequence, target: Sequence, length: int) -> None:
        """Let ``target`` hold the first ``length`` tokens of ``source``, of which it holds a part already."""
        self._context.copy(source.number, target.number, target.length, length)
        self.cells.share(source, target, length)

    def forget_idle(self, busy: Set[int]) -> None:
        """Forget every sequence that is not being written to."""
        for sequence in self.cells.sequences:
            if sequence.number not in busy:
                self.truncate(sequence, 0)


def affordable_cells(bytes_per_token: int) -> int:
    """Cached tokens that fit into a third of the memory that is free now (the container's limit counted)."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            free = min(free, int(limit) - used)
    except (OSError, ValueError):
        pass
    return max(512, free // 3 // max(1, bytes_per_token)) // 256 * 256
