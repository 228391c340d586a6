"""The four backends of `benchmarks.serve`, each opened in a process of its own.

All use the same GGUF, the same number of threads, the same sampling settings and a context for all students.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.classroom import FOLLOW_UP, QUESTIONS, SYSTEM, Chat
from iris import prompts
from iris.engine import GenerationRequest, Message, Sampling
from iris.engine.cache import common_prefix

CONTEXT = 2048
"""Tokens of one student's conversation."""


def sampling(tokens: int, seed: int = 1) -> Sampling:
    s = prompts.STUDY_CHAT_SAMPLING
    return Sampling(
        temperature=s.temperature, top_p=s.top_p, repeat_penalty=s.repeat_penalty, max_tokens=tokens, seed=seed
    )


def iris_engine(model: Path, students: int, threads: int) -> Any:
    """The engine as Iris opens it, on the very file it is given."""
    from iris.engine.batch import LocalEngine

    slots = max(8, students)
    return LocalEngine(model, slots=slots, context=CONTEXT, cache=CONTEXT * slots, threads=threads)


def iris(model: Path, students: int, threads: int) -> Chat:
    """Iris's own engine."""
    engine = iris_engine(model, students, threads)

    def chat(messages: list[dict[str, str]], tokens: int) -> Iterator[str]:
        request = GenerationRequest(
            tuple(Message(m["role"], m["content"]) for m in messages),  # type: ignore[arg-type]
            sampling(tokens),
        )
        with engine.stream(request) as chunks:
            for chunk in chunks:
                yield chunk.text

    return chat


def iris_copy(model: Path, students: int, threads: int) -> Chat:
    """Iris as it serves by default: a small file of a slow format through its fast copy."""
    from iris.engine.fastcopy import fast_copy

    return iris(fast_copy(model, Path(tempfile.gettempdir()) / "iris-benchmark", threads=threads), students, threads)


def plain(model: Path, students: int, threads: int) -> Chat:
    """llama-cpp-python's high-level ``Llama`` behind a lock: it serves one request at a time."""
    import llama_cpp

    llama = llama_cpp.Llama(
        str(model), n_ctx=CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False, seed=1
    )
    lock = threading.Lock()
    s = sampling(0)

    def chat(messages: list[dict[str, str]], tokens: int) -> Iterator[str]:
        with lock:
            for event in llama.create_chat_completion(
                messages,
                stream=True,
                max_tokens=tokens,
                temperature=s.temperature,
                top_p=s.top_p,
                top_k=s.top_k,
                min_p=s.min_p,
                repeat_penalty=s.repeat_penalty,
            ):
                yield event["choices"][0]["delta"].get("content") or ""

    return chat


def xllamacpp(model: Path, students: int, threads: int) -> Chat:
    """llama.cpp's server engine, in process through xllamacpp."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_parallel = max(8, students)
    params.n_ctx = CONTEXT * max(8, students)
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.verbosity = 0
    server = xllamacpp.Server(params)
    s = sampling(0)

    def chat(messages: list[dict[str, str]], tokens: int) -> Iterator[str]:
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        body = {
            "messages": messages,
            "stream": True,
            "max_tokens": tokens,
            "temperature": s.temperature,
            "top_p": s.top_p,
            "top_k": s.top_k,
            "min_p": s.min_p,
            "repeat_penalty": s.repeat_penalty,
            "cache_prompt": True,
            "seed": 1,
        }

        def receive(event: Any) -> bool:
            for part in event if isinstance(event, list) else [event]:
                for choice in part.get("choices", []):
                    pieces.put(choice.get("delta", {}).get("content") or "")
            return False

        def work() -> None:
            try:
                server.handle_chat_completions(body, receive)
            finally:
                pieces.put(None)

        threading.Thread(target=work, daemon=True).start()
        yield from iter(pieces.get, None)

    return chat


BACKENDS = {"iris": iris_copy, "iris, same file": iris, "plain": plain, "xllamacpp": xllamacpp}


def decode_pace(model: Path, students: int, threads: int, tokens: int) -> dict[str, float]:
    """Decode tokens/s of Iris and of bare ``llama_decode`` in one process, on the same batch, turn about.

    Both write ``tokens`` tokens for each student over the same prompts, which are in the cache already. Bare decode
    feeds fixed tokens and samples nothing: it is the ceiling of what any engine over this library can reach.
    """
    engine = iris_engine(model, students, threads)
    prompts_: list[tuple[Message, ...]] = [
        (Message("system", SYSTEM), Message("user", f"{QUESTIONS[n % len(QUESTIONS)]} {FOLLOW_UP}"))
        for n in range(students)
    ]
    rounds = [
        (_iris_decode(engine, prompts_, tokens), _on_worker(engine, lambda: _bare_decode(engine, prompts_, tokens)))
        for _ in range(6)
    ][1:]
    engine.close()
    ratios = sorted(ours / bare for ours, bare in rounds)
    return {
        "iris_tokens_per_s": float(np.median([ours for ours, _ in rounds])),
        "ceiling_tokens_per_s": float(np.median([bare for _, bare in rounds])),
        "ratio": float(np.median(ratios)),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
    }


def _iris_decode(engine: Any, conversations: list[tuple[Message, ...]], tokens: int) -> float:
    """Tokens/s from when the last student's first token is there until the first student's last one."""
    first = threading.Barrier(len(conversations))
    spans: list[tuple[float, float, int]] = []

    def student(messages: tuple[Message, ...]) -> None:
        seen = 0
        began = 0.0
        with engine.stream(GenerationRequest(messages, sampling(tokens))) as chunks:
            for chunk in chunks:
                if chunk.text:
                    if not began:
                        first.wait()
                        began = time.perf_counter()
                        continue
                    seen += 1
        spans.append((began, time.perf_counter(), seen))

    threads = [threading.Thread(target=student, args=(messages,)) for messages in conversations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begin = min(span[0] for span in spans)
    return sum(span[2] for span in spans) / (max(span[1] for span in spans) - begin)


def _on_worker(engine: Any, work: Callable[[], float]) -> float:
    """Run ``work`` on the idle engine's worker: computing in another thread would double OpenMP's threads."""
    done: Future[float] = Future()
    step = engine._step

    def instead() -> None:
        engine._step = step
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)
        step()

    engine._step = instead
    engine.warm([Message("system", "wake up")])
    return done.result()


def _bare_decode(engine: Any, conversations: list[tuple[Message, ...]], tokens: int) -> float:
    """The same batch through ``llama_decode`` alone, in the engine's own context while it is idle."""
    context, cells = engine._context, engine._prefixes.cells
    held: list[tuple[int, int]] = []
    for messages in conversations:
        ids = np.array(engine._template.encode(messages), np.int32)
        best = max(cells.sequences, key=lambda sequence: common_prefix(sequence.tokens, ids))
        held.append((best.number, common_prefix(best.tokens, ids)))
    for sequence in cells.sequences:
        if sequence.number not in {number for number, _ in held}:
            engine._prefixes.truncate(sequence, 0)
    spare = [sequence.number for sequence in cells.sequences if not sequence.length][: len(held)]
    for target, (source, length) in zip(spare, held, strict=True):
        context.copy(source, target, 0, length)
    token = np.array([engine._model.tokenize(" the", special=False)[0]], np.int32)
    began = time.perf_counter()
    for step in range(tokens - 1):
        context.batch.clear()
        for target, (_, length) in zip(spare, held, strict=True):
            context.batch.add(token, length + step, target, output_last=True)
        code = context.decode()
        if code:
            raise RuntimeError(f"llama_decode returned {code}")
        context.logits(0)
    seconds = time.perf_counter() - began
    for target in spare:
        context.truncate(target, 0)
    return len(conversations) * (tokens - 1) / seconds
