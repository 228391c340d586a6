"""A GGUF: answers through Iris's engine, eight at a time; probabilities through its llama.cpp wrapper.

A file without an adapter is opened itself, not through the fast copy that Iris serves small files of slow formats from
on some processors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from evaluation.backends import Generated, Request, Scored, inside
from iris.engine import GenerationRequest, Message, Sampling, complete
from iris.engine.batch import LocalEngine
from iris.engine.llama import Context, Model
from iris.engine.template import ChatTemplate
from iris.errors import ModelFileError

BATCH = 512
"""Tokens of one decode."""
CELLS = 4096
"""Tokens in memory while probabilities are computed."""
SEQUENCES = 64
SLOTS = 8
"""Answers written at the same time."""
CONTEXT = 2048

T = TypeVar("T")


class LlamaBackend:
    """See ``evaluation.backends.Backend``.

    Raises:
        ModelFileError: llama.cpp refuses the file, or it has no usable chat template.
    """

    def __init__(self, path: Path, adapter: Path | None, *, threads: int) -> None:
        self._path, self._adapter, self._threads = path, adapter, threads
        self._engine: LocalEngine | None = None
        started = time.perf_counter()
        self._model = _apart(lambda: Model(path, adapter))
        self.load_s = time.perf_counter() - started
        source = self._model.chat_template()
        if not source:
            self._model.close()
            raise ModelFileError(
                f"{path.name} carries no chat template, so it cannot be asked anything. Evaluate an instruction-tuned "
                "model, or export it again with its tokenizer's chat template."
            )
        self._template = ChatTemplate(
            source,
            bos=self._model.bos,
            eos=self._model.eos,
            tokenize=lambda text, special: self._model.tokenize(text, special=special),
            bos_token=self._model.bos_token if self._model.adds_bos else None,
        )

    def encode(self, messages: Sequence[Message]) -> list[int]:
        return self._template.encode(messages)

    def plain(self, text: str) -> list[int]:
        return inside(lambda part: self._model.tokenize(part, special=False), text)

    @property
    def first(self) -> list[int]:
        return [self._model.bos_token if self._model.bos_token >= 0 else min(self._model.end_tokens)]

    def score(self, requests: Sequence[Request]) -> list[list[Scored]]:
        return _apart(lambda: self._score(requests))

    def _score(self, requests: Sequence[Request]) -> list[list[Scored]]:
        longest = max(len(r.prompt) + max(map(len, r.following)) for r in requests)
        cells = max(CELLS, longest + 1)
        context = Context(self._model, cells=cells, sequences=SEQUENCES, batch=BATCH, threads=self._threads)
        try:
            scorer = _Scorer(context)
            return [found for wave in _waves(requests, cells) for found in scorer.wave(wave)]
        finally:
            context.close()

    def generate(
        self, conversations: Sequence[Sequence[Message]], samplings: Sequence[Sampling]
    ) -> Iterator[tuple[int, Generated]]:
        if not conversations:
            return
        engine = self._opened()

        def answer(number: int) -> tuple[int, Generated]:
            request = GenerationRequest(tuple(conversations[number]), samplings[number])
            text, usage = complete(engine, request)
            return number, Generated(text, usage.completion_tokens, usage.finish_reason == "stop")

        pool = ThreadPoolExecutor(SLOTS)
        try:
            for done in as_completed([pool.submit(answer, number) for number in range(len(conversations))]):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def timed(self, prompt: Sequence[int], following: Sequence[int]) -> tuple[float, float]:
        return _apart(lambda: self._timed(prompt, following))

    def _timed(self, prompt: Sequence[int], following: Sequence[int]) -> tuple[float, float]:
        cells = len(prompt) + len(following)
        context = Context(self._model, cells=cells, sequences=1, batch=BATCH, threads=self._threads)
        try:
            times = []
            for _ in range(2):  # the first round pages weights in and wakes the threads
                context.truncate(0, 0)
                started = time.perf_counter()
                for start in range(0, len(prompt), BATCH):
                    part = prompt[start : start + BATCH]
                    context.batch.clear()
                    context.batch.add(part, start, 0, output_last=start + len(part) == len(prompt))
                    _check(context.decode())
                context.logits(len(context.batch) - 1)
                times.append(time.perf_counter() - started)
            started = time.perf_counter()
            for number, token in enumerate(following):
                context.batch.clear()
                context.batch.add([token], len(prompt) + number, 0, output_last=True)
                _check(context.decode())
                context.logits(0)
            return times[-1], time.perf_counter() - started
        finally:
            context.close()

    def _opened(self) -> LocalEngine:
        if self._engine is None:
            self._engine = LocalEngine(
                self._path,
                adapter=self._adapter,
                slots=SLOTS,
                queue=SLOTS,
                context=CONTEXT,
                cache=CONTEXT * SLOTS,
                threads=self._threads,
            )
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._model.close()


def _apart(work: Callable[[], T]) -> T:
    """Run in a thread that ends: llama.cpp's helpers end with it, and leave the cores to those of the engine."""
    made: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            made.append(work())
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run, name="iris-evaluation", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _waves(requests: Sequence[Request], cells: int) -> Iterator[list[Request]]:
    """Requests that fit into memory together: prompts are read once, each following text in a sequence of its own."""
    wave: list[Request] = []
    used = sequences = 0
    for request in requests:
        size = len(request.prompt) + sum(map(len, request.following))
        if wave and (used + size > cells or sequences + len(request.following) > SEQUENCES):
            yield wave
            wave, used, sequences = [], 0, 0
        wave.append(request)
        used += size
        sequences += len(request.following)
    if wave:
        yield wave


@dataclass(slots=True)
class _Text:
    """A following text being read in ``sequence`` from ``position`` on: ``inputs`` go in, ``targets`` are expected."""

    sequence: int
    position: int
    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    logprobs: list[float] = field(default_factory=list)
    choices: list[int] = field(default_factory=list)


class _Scorer:
    """Fills batches with parts of as many texts as fit."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pending: list[tuple[_Text, int]] = []  # in the order of the outputs: text, and batch place

    def wave(self, requests: Sequence[Request]) -> list[list[Scored]]:
        texts: list[list[_Text]] = []
        sequence = 0
        for request in requests:
            before = len(request.prompt) - 1
            self._read(request.prompt[:-1], sequence)
            texts.append([])
            for number, following in enumerate(request.following):
                inputs = (request.prompt[-1], *following[:-1])
                texts[-1].append(_Text(sequence + number, before, inputs, following))
            sequence += len(request.following)
        self._decode()
        for group, request in zip(texts, requests, strict=True):
            for text in group[1:]:
                self._context.copy(group[0].sequence, text.sequence, 0, len(request.prompt) - 1)
        for group in texts:
            for text in group:
                self._ask(text)
        self._decode()
        for number in range(sequence):
            self._context.truncate(number, 0)
        return [[Scored(tuple(text.logprobs), tuple(text.choices)) for text in group] for group in texts]

    def _read(self, tokens: Sequence[int], sequence: int) -> None:
        position = 0
        while position < len(tokens):
            room = self._room()
            part = tokens[position : position + room]
            self._context.batch.add(part, position, sequence, output_last=False)
            position += len(part)

    def _ask(self, text: _Text) -> None:
        for number, token in enumerate(text.inputs):
            self._room()
            place = self._context.batch.add([token], text.position + number, text.sequence, output_last=True)
            self._pending.append((text, place))

    def _room(self) -> int:
        batch = self._context.batch
        if len(batch) == batch.size:
            self._decode()
        return batch.size - len(batch)

    def _decode(self) -> None:
        if not len(self._context.batch):
            return
        _check(self._context.decode())
        for text, place in self._pending:
            logits = self._context.logits(place)
            text.logprobs.append(_logprob(logits, text.targets[len(text.logprobs)]))
            text.choices.append(int(logits.argmax()))
        self._pending.clear()
        self._context.batch.clear()


def _check(code: int) -> None:
    if code != 0:
        raise ModelFileError(f"llama.cpp could not read a batch of texts (code {code}).")


def _logprob(logits: npt.NDArray[np.float32], token: int) -> float:
    """In float32 but for the sum, which over 100,000 terms needs more."""
    highest = logits.max()
    return float(logits[token] - highest) - float(np.log(np.exp(logits - highest).sum(dtype=np.float64)))
