"""Bytes of tokens to text that may be shown: whole characters only, nothing from a stop string on."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Collects the bytes of an answer and hands out what is safe to show.

    A character whose bytes are not all there yet is held back, and so is text that may be the beginning of a stop
    string. ``stopped`` is set once a stop string has appeared; the string itself is never handed out.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, data: bytes) -> str:
        """Add the bytes of a token; returns the text that can be shown now, possibly empty."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data)
        found = min((at for at in (self._held.find(s) for s in self._stop) if at >= 0), default=-1)
        if found >= 0:
            self.stopped = True
            text, self._held = self._held[:found], ""
            return text
        keep = self._possible_stop()
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text

    def finish(self) -> str:
        """The rest at the end of the answer. Bytes of a character that was never completed are dropped."""
        text, self._held = self._held, ""
        return "" if self.stopped else text

    def _possible_stop(self) -> int:
        """How many characters at the end could be the beginning of a stop string."""
        return max(
            (
                size
                for s in self._stop
                for size in range(1, min(len(s), len(self._held) + 1))
                if self._held.endswith(s[:size])
            ),
            default=0,
        )
