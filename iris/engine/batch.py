"""LocalEngine: a GGUF in this process, for many students at once.

One worker thread owns the llama.cpp context. Each step puts one token of every answer being written and a chunk of
the prompts being read into one batch (continuous batching), so answers join and leave between steps and a long
prompt never holds up the others. Sequences keep what they have read; a new prompt continues from the longest prefix
that any of them holds, and cells are shared, not copied. The least recently used sequences make room.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from iris.engine import EngineStatus, GenerationRequest, Message, Sampling, schema
from iris.engine.answer import Answer, AnswerStream
from iris.engine.cache import Ints, common_prefix
from iris.engine.llama import Context, Model
from iris.engine.prefixes import WORTH_SHARING, Prefixes, affordable_cells
from iris.engine.sampler import Sampler, token_logprob
from iris.engine.template import ChatTemplate
from iris.engine.trim import fit
from iris.errors import EngineClosed, EngineFailure, IrisError, ModelFileError, QueueFull, RequestError

log = logging.getLogger(__name__)

BATCH = 512
"""Tokens of one decode at most."""

STREAMING_STEP_S = 0.15
"""How long a step may take while answers are being written: the gap a reader sees between two tokens."""

READING_STEP_S = 0.25
"""How long a step may take while only prompts are read: what a cancelled request can still cost."""

CONVERSATIONS_PER_SLOT = 4
"""Conversations kept in memory for each answer that can be written at the same time: students also read and think."""


class LocalEngine:
    """See ``iris.engine.Engine``. Loading takes as long as reading the file.

    Args:
        path: the GGUF.
        model_id: its name in the catalog.
        adapter: a LoRA adapter GGUF for it.
        slots: answers written at the same time.
        queue: requests that may wait beyond those.
        context: tokens one conversation may hold; at most what the model was trained for.
        cache: tokens kept over all conversations; lowered when memory is short.
        threads: CPU threads.

    Raises:
        ModelFileError: the file cannot be served (broken, unsupported, no chat template, no memory).
    """

    def __init__(
        self,
        path: Path,
        *,
        model_id: str = "",
        adapter: Path | None = None,
        slots: int = 8,
        queue: int = 64,
        context: int = 4096,
        cache: int = 16384,
        threads: int = 2,
    ) -> None:
        self._id = model_id or path.name
        self._slots = slots
        self._queue = queue
        self._threads = threads
        self._wake = threading.Condition()
        self._waiting: deque[Answer] = deque()
        self._active: list[Answer] = []
        self._closing = False
        self._readers = 0  # threads that are using the model's vocabulary just now
        self._restarts = 0
        self._read_rate = 0.0  # prompt tokens a second, a moving average; 0 until measured
        # The worker loads the model, too. Each thread that computes gets helpers of its own from OpenMP, and once there
        # are more of them than cores, they all go to sleep after every operation: answers came at a third of the speed.
        loaded: Future[None] = Future()
        self._worker = threading.Thread(
            target=self._work, args=(loaded, path, adapter, context, cache), name=f"iris-engine {self._id}", daemon=True
        )
        self._worker.start()
        try:
            loaded.result()
        except BaseException:  # Ctrl+C, too: an interpreter must not end while the library is at work
            self.close()
            raise

    # What other threads call.

    @property
    def model_id(self) -> str:
        return self._id

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    def stream(self, request: GenerationRequest) -> AnswerStream:
        with self._using_model():
            answer = self._prepare(request)
        with self._wake:
            if self._closing:
                self._release(answer)
                raise _closed()
            waiting = sum(not other.cancelled for other in self._waiting)
            room = self._slots - len(self._active) + self._queue
            if waiting >= room:
                self._release(answer)
                raise QueueFull(waiting + 1)
            self._waiting.append(answer)
            if waiting >= self._slots - len(self._active):
                answer.tell_place(waiting + 1)
            self._wake.notify()
        return AnswerStream(answer, self._cancel)

    def count_tokens(self, text: str) -> int:
        with self._using_model():
            return len(self._model.tokenize(text, special=False))

    def warm(self, messages: SequenceOf[Message]) -> None:
        with self._using_model():
            answer = self._prepare(GenerationRequest(tuple(messages), Sampling(max_tokens=0)))
        with self._wake:
            if self._closing:
                self._release(answer)
            else:
                self._waiting.append(answer)
                self._wake.notify()

    def status(self) -> EngineStatus:
        with self._wake:
            return EngineStatus(
                active=len(self._active),
                waiting=sum(not answer.cancelled for answer in self._waiting),
                slots=self._slots,
                cached_tokens=self._prefixes.cells.used,
                cache_capacity=self._prefixes.cells.capacity,
                restarts=self._restarts,
                closed=self._closing,
            )

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._worker.join()

    @contextlib.contextmanager
    def _using_model(self) -> Iterator[None]:
        """The model is not freed meanwhile: its vocabulary is read by the threads that ask."""
        with self._wake:
            if self._closing:
                raise _closed()
            self._readers += 1
        try:
            yield
        finally:
            with self._wake:
                self._readers -= 1
                self._wake.notify()

    def _prepare(self, request: GenerationRequest) -> Answer:
        if not request.messages or not request.messages[-1].content.strip():
            raise RequestError("There is no question. Write one and send it again.")
        grammar = schema.grammar(request.json_schema) if request.json_schema is not None else None
        prompt, dropped, room = fit(
            request.messages, self._template.encode, context=self._context_tokens, answer=request.sampling.max_tokens
        )
        answer = Answer(request, prompt, max_tokens=min(request.sampling.max_tokens, room), dropped=dropped)
        answer.sampler = Sampler(self._model, request.sampling, grammar)
        return answer

    def _cancel(self, answer: Answer) -> None:
        with self._wake:
            answer.cancelled = True
            self._wake.notify()

    @staticmethod
    def _release(answer: Answer) -> None:
        if answer.sampler is not None:
            answer.sampler.close()
            answer.sampler = None

    # What the worker does.

    def _work(self, loaded: Future[None], path: Path, adapter: Path | None, context: int, cache: int) -> None:
        try:
            self._load(path, adapter, context, cache)
        except BaseException as error:
            loaded.set_exception(error)
        else:
            loaded.set_result(None)
            self._run()

    def _load(self, path: Path, adapter: Path | None, context: int, cache: int) -> None:
        self._model = Model(path, adapter)
        try:
            source = self._model.chat_template()
            if not source:
                raise ModelFileError(
                    f"{path.name} carries no chat template, so Iris cannot know how to talk to it. "
                    "Use an instruction-tuned model, or export it again with its tokenizer's chat template."
                )
            self._template = ChatTemplate(
                source,
                bos=self._model.bos,
                eos=self._model.eos,
                tokenize=lambda text, special: self._model.tokenize(text, special=special),
                bos_token=self._model.bos_token if self._model.adds_bos else None,
            )
            self._context_tokens = min(context, self._model.n_ctx_train or context)
            self._capacity = max(self._context_tokens, min(cache, affordable_cells(self._model.kv_bytes_per_token)))
            self._open_context()
        except BaseException:
            self._model.close()
            raise

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._closing or self._active or self._waiting):
                    self._wake.wait()
                if self._closing:
                    break
            try:
                self._step()
            except Exception as error:
                log.exception("the engine of %s failed and is restarted", self._id)
                if not self._restart(error):
                    break
        with self._wake:
            self._closing = True
            for answer in [*self._active, *self._waiting]:
                answer.fail(EngineClosed("The engine was shut down before this answer was complete. Ask again."))
            self._active.clear()
            self._waiting.clear()
            while self._readers:
                self._wake.wait()
        self._context.close()
        self._model.close()

    def _step(self) -> None:
        with self._wake:
            for answer in [a for a in self._active if a.cancelled]:
                self._leave(answer)
                answer.finish("cancelled")
            self._admit()
        if not self._active:
            return
        parts = self._fill()
        started = time.monotonic()
        self._decode()
        self._measure(parts, time.monotonic() - started)
        for answer, tokens, output in parts:
            assert answer.sequence is not None
            self._prefixes.cells.append(answer.sequence, tokens)
            if output is None:
                continue
            try:
                self._advance(answer, output)
            except Exception as error:  # this answer's own failure must not take the others down
                if not isinstance(error, IrisError):
                    log.exception("an answer failed")
                    error = EngineFailure("This answer could not be generated because of an internal error. Ask again.")
                self._leave(answer)
                answer.fail(error)

    def _admit(self) -> None:
        for answer in [a for a in self._waiting if a.cancelled]:
            self._waiting.remove(answer)
            answer.finish("cancelled")
        while self._waiting and len(self._active) < self._slots:
            answer = self._waiting[0]
            if not self._place(answer):
                break
            self._active.append(self._waiting.popleft())
        for place, answer in enumerate(self._waiting, 1):
            answer.tell_place(place)

    def _place(self, answer: Answer) -> bool:
        """Give the answer a sequence; False if there is no room."""
        sequence = self._prefixes.place(
            answer.tokens,
            cells=answer.prompt_tokens + answer.max_tokens,
            busy=self._busy(),
            reserved=sum(a.reserved for a in self._active),
        )
        if sequence is None:
            return False
        answer.admitted(sequence, sequence.length)
        return True

    def _busy(self) -> set[int]:
        """Numbers of the sequences that are being written to."""
        return {answer.sequence.number for answer in self._active if answer.sequence}

    def _fill(self) -> list[tuple[Answer, Ints, int | None]]:
        """Compose the batch: every answer's next token, then prompts in order of arrival up to the step's budget.

        Returns (answer, tokens, batch index whose logits give its next token or None) for each part.
        """
        batch = self._context.batch
        batch.clear()
        parts: list[tuple[Answer, Ints, int | None]] = []
        for answer in self._active:
            if answer.next_token is not None and answer.sequence is not None:
                token = np.array([answer.next_token], np.int32)
                index = batch.add(token, answer.sequence.length, answer.sequence.number, output_last=True)
                parts.append((answer, token, index))
        budget = min(self._read_budget(streaming=bool(parts)), batch.size - len(batch))
        ahead: list[Answer] = []
        for answer in self._active:
            if budget <= 0:
                break
            if not answer.reading or answer.sequence is None or self._waits_for_prefix(answer, ahead):
                continue
            ahead.append(answer)
            answer.reading_own = True
            start = answer.sequence.length
            tokens = answer.tokens[start : start + budget]
            complete = start + len(tokens) == len(answer.tokens)
            index = batch.add(tokens, start, answer.sequence.number, output_last=complete)
            parts.append((answer, tokens, index if complete else None))
            budget -= len(tokens)
        return parts

    def _waits_for_prefix(self, answer: Answer, ahead: list[Answer]) -> bool:
        """Whether someone ahead is just reading a prefix that this prompt shares: it is read once, then shared."""
        sequence = answer.sequence
        if answer.reading_own or sequence is None:
            return False
        source, shared = self._prefixes.longest(answer.tokens)
        if source is not sequence and shared >= sequence.length + WORTH_SHARING:
            answer.borrowed(shared - sequence.length)
            self._prefixes.share(source, sequence, shared)
        worth = sequence.length + WORTH_SHARING
        return any(common_prefix(other.tokens, answer.tokens[:-1]) >= worth for other in ahead)

    def _read_budget(self, *, streaming: bool) -> int:
        seconds = STREAMING_STEP_S if streaming else READING_STEP_S
        wanted = int(self._read_rate * seconds) if self._read_rate else 64
        return min(max(wanted, 16), BATCH)

    def _measure(self, parts: list[tuple[Answer, Ints, int | None]], seconds: float) -> None:
        tokens = sum(len(part) for _, part, _ in parts)
        if tokens >= 16 and seconds > 0:
            rate = tokens / seconds
            self._read_rate = rate if not self._read_rate else 0.7 * self._read_rate + 0.3 * rate

    def _decode(self) -> None:
        code = self._context.decode()
        if code == 1:
            # No free cells: the accounting prevents it, but an idle conversation is worth less than a failure.
            self._prefixes.forget_idle(self._busy())
            code = self._context.decode()
        if code != 0:
            raise RuntimeError(f"llama_decode returned {code}")

    def _advance(self, answer: Answer, index: int) -> None:
        if answer.max_tokens == 0:
            self._leave(answer)
            answer.finish("length")
            return
        assert answer.sampler is not None
        token = answer.sampler.sample(self._context, index)
        logprob = token_logprob(self._context.logits(index), token, answer.request.logprobs)
        reason = answer.accept(token, self._model.piece(token), ends=token in self._model.end_tokens, logprob=logprob)
        if reason:
            self._leave(answer)
            answer.finish(reason)

    def _leave(self, answer: Answer) -> None:
        """Take the answer out of the batch; its sequence stays as a prefix for what comes next."""
        if answer in self._active:
            self._active.remove(answer)
        if answer.sequence is not None:
            answer.sequence.last_used = time.monotonic()
            answer.sequence = None

    def _open_context(self) -> None:
        sequences = self._slots * CONVERSATIONS_PER_SLOT
        self._context = Context(
            self._model, cells=self._capacity, sequences=sequences, batch=BATCH, threads=self._threads
        )
        self._prefixes = Prefixes(self._context, sequences=sequences, limit=self._context_tokens)

    def _restart(self, error: Exception) -> bool:
        """Open a fresh context and let every running answer go on in it, once; False when that fails too."""
        with self._wake:
            self._restarts += 1
            self._context.close()
            running, self._active = self._active, []
            for answer in reversed(running):
                answer.sequence = None
                answer.attempts += 1
                if answer.attempts > 1:
                    answer.fail(
                        EngineFailure(f"The engine failed twice on this question ({error}). Change it, or try later.")
                    )
                    continue
                answer.tokens = np.concatenate([answer.tokens, np.array(answer.generated, np.int32)])
                answer.next_token = None
                answer.tell("The engine hit an error and was restarted; the answer goes on.")
                self._waiting.appendleft(answer)
            try:
                self._open_context()
            except Exception:
                log.exception("the engine of %s could not be restarted", self._id)
                return False
        return True


def _closed() -> EngineClosed:
    return EngineClosed("This model was just unloaded. Ask again.")
