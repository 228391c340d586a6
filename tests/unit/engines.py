"""What the engine's tests share: asking, an independent reference, and the books against llama.cpp."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import llama_cpp
import numpy as np
import numpy.typing as npt
import pytest

from iris.engine import GenerationRequest, Message, Sampling, TokenLogprob, TokenStream, Usage
from iris.engine.batch import LocalEngine
from iris.engine.llama import Context, relaid

MakeEngine = Callable[..., LocalEngine]

STORY = "Tell me a long story about a model that learned to count."

PATIENCE_S = 120.0
"""For what must happen sometime: machines are paused and crowded, and a failure may take its time."""


def request(*turns: str, system: str = "", logprobs: int = 0, schema: Any = None, **sampling: Any) -> GenerationRequest:
    """``turns`` alternate between student and tutor. Greedy and unpenalized unless ``sampling`` says otherwise."""
    head = (Message("system", system),) if system else ()
    body = tuple(Message("assistant" if i % 2 else "user", turn) for i, turn in enumerate(turns))
    chosen = Sampling(**{"temperature": 0.0, "repeat_penalty": 1.0, "max_tokens": 8, **sampling})
    return GenerationRequest((*head, *body), chosen, json_schema=schema, logprobs=logprobs)


@dataclass
class Got:
    """Everything a stream gave."""

    text: str = ""
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    final: Usage | None = None
    error: Exception | None = None

    @property
    def usage(self) -> Usage:
        assert self.final is not None, f"the answer did not finish: {self.error!r}"
        return self.final

    @property
    def tokens(self) -> list[int]:
        return [each.token for each in self.logprobs]


def read(stream: TokenStream, *, until: Callable[[Got], bool] | None = None, into: Got | None = None) -> Got:
    """Read a stream to its end (or until something was seen). Errors are raised."""
    got = into if into is not None else Got()
    for chunk in stream:
        got.text += chunk.text
        got.pieces += [chunk.text] if chunk.text else []
        got.logprobs += chunk.logprobs
        got.places += [] if chunk.place is None else [chunk.place]
        got.notices += [chunk.notice] if chunk.notice else []
        got.final = chunk.usage or got.final
        if until and until(got):
            break
    return got


def first_token(got: Got) -> bool:
    return bool(got.logprobs)


def ask(engine: LocalEngine, *turns: str, **options: Any) -> Got:
    with engine.stream(request(*turns, **options)) as stream:
        return read(stream)


def together(streams: Iterable[TokenStream]) -> list[Got]:
    """Read several streams at once, each in a thread. An error is kept in ``Got.error``."""
    results: list[Got] = []
    threads = []
    for stream in streams:
        got = Got()
        results.append(got)
        threads.append(threading.Thread(target=_keep_error, args=(stream, got), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "an answer hangs"
    return results


def _keep_error(stream: TokenStream, got: Got) -> None:
    try:
        read(stream, into=got)
    except Exception as error:
        got.error = error


def eventually(true: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < limit, f"not in {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.005)


def idle(engine: LocalEngine) -> bool:
    status = engine.status()
    return not status.active and not status.waiting


class Steps:
    """Counts the engine's steps and can hold it in one, or make one fail. The real decode runs in between."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[int] = []  # tokens of each step
        self.fail: set[int] = set()  # numbers of steps that fail
        self._open = threading.Event()
        self._open.set()
        self._held = threading.Event()
        decode = Context.decode

        def step(context: Context) -> int:
            number = len(self.batches)
            self.batches.append(len(context.batch))
            if not self._open.is_set():
                self._held.set()
                assert self._open.wait(PATIENCE_S)
            return -3 if number in self.fail else decode(context)

        monkeypatch.setattr(Context, "decode", step)

    def hold(self) -> None:
        """The next step stops before it begins; ``wait_held`` returns when it has."""
        self._held.clear()
        self._open.clear()

    def wait_held(self) -> None:
        assert self._held.wait(PATIENCE_S)

    def release(self) -> None:
        self._open.set()


# SmolLM2's template, written out: what the model should be shown, without Iris' own template code.
DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def chatml(*turns: str, system: str = DEFAULT_SYSTEM) -> str:
    rows = [("system", system), *(("assistant" if i % 2 else "user", turn) for i, turn in enumerate(turns))]
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in rows) + "<|im_start|>assistant\n"


class Reference:
    """Plain ``llama_cpp.Llama``: one prompt at a time, read from the start, nothing shared."""

    def __init__(self, path: str, *, batch: int = 16) -> None:
        # Flash attention and the layout of the weights are as in Iris; with others the half-precision sums differ.
        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts = relaid()
        with mock.patch.object(llama_cpp.llama_cpp, "llama_model_default_params", return_value=params):
            self.llama = llama_cpp.Llama(
                path, n_ctx=512, n_batch=batch, n_threads=1, logits_all=True, flash_attn=True, verbose=False
            )

    def tokens(self, *turns: str, **options: Any) -> list[int]:
        return list(self.llama.tokenize(chatml(*turns, **options).encode(), add_bos=False, special=True))

    def plain_tokens(self, text: str) -> list[int]:
        return list(self.llama.tokenize(text.encode(), add_bos=False, special=False))

    def logprobs(self, tokens: Sequence[int]) -> npt.NDArray[np.float64]:
        """Of what comes after ``tokens``, shape (vocabulary,)."""
        self.llama.reset()
        self.llama.eval(list(tokens))
        logits = np.array(self.llama.scores[len(tokens) - 1], np.float64)
        logits -= logits.max()
        return np.asarray(logits - np.log(np.exp(logits).sum()), np.float64)

    def answer(self, *turns: str, max_tokens: int = 8, repeat_penalty: float = 1.0, **options: Any) -> str:
        """The greedy answer."""
        self.llama.reset()
        done: Any = self.llama.create_completion(
            self.tokens(*turns, **options), max_tokens=max_tokens, temperature=0.0, repeat_penalty=repeat_penalty
        )
        return str(done["choices"][0]["text"])


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two prompts share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def check_books(engine: LocalEngine) -> None:
    """What the engine thinks its cache holds is what llama.cpp holds: per sequence, and in cells."""
    eventually(lambda: idle(engine), "the engine comes to rest")
    cells, context = engine._prefixes.cells, engine._context
    memory = llama_cpp.llama_get_memory(context.handle)
    for sequence in cells.sequences:
        newest = llama_cpp.llama_memory_seq_pos_max(memory, sequence.number)
        oldest = llama_cpp.llama_memory_seq_pos_min(memory, sequence.number)
        assert (oldest, newest) == ((0, sequence.length - 1) if sequence.length else (-1, -1))
    # A saved state has 8 bytes and the keys and values for each cell in use, and 4 for each sequence that holds it.
    tokens = sum(sequence.length for sequence in cells.sequences)
    size = llama_cpp.llama_state_get_size(context.handle)
    assert (size - 4 * tokens) // (engine._model.kv_bytes_per_token + 8) == cells.used == engine.status().cached_tokens
    referred = np.concatenate([sequence.cells for sequence in cells.sequences])
    assert len(np.unique(referred)) == cells.used == cells.capacity - cells.free
