"""The engine computes what the model says: alone, in company, and on prefixes it read earlier.

The measure is plain ``llama_cpp.Llama``. Where this machine's kernels give a token the same numbers whatever else is
in the batch (so on x86), the engine must give them to the last digit; elsewhere rounding may differ, and the tolerance
is a tenth of the probability mass, which a wrong token or position in the prompt exceeds by far.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from iris.engine import Message, TokenLogprob
from iris.engine import batch as batch_module
from iris.engine.prefixes import WORTH_SHARING
from tests.unit.engines import MakeEngine, Reference, Steps, ask, check_books, common, read, request, together

SYSTEM = (
    "You are Iris, a patient tutor. Explain with one small example, use plain words, and stay with the course: "
    "neural networks, training, evaluation and serving of models."
)
QUESTIONS = (
    "What is a neural network?",
    "hi",
    "Explain overfitting in two sentences, with an example from medicine.",
    "Write a list of five optimizers and say for each in a few words when it is the one to take.",
)
TOP = 30

TOLERANCE = 0.1

Agrees = Callable[[TokenLogprob, npt.NDArray[np.float64]], None]


@pytest.fixture(scope="module")
def exact(gguf: Path, reference: Reference) -> bool:
    """Whether this machine's kernels give the same numbers for a token whatever the batch."""
    one_by_one = Reference(str(gguf), batch=1)
    tokens = reference.tokens(QUESTIONS[3])
    same = bool(np.array_equal(one_by_one.logprobs(tokens), reference.logprobs(tokens)))
    one_by_one.llama.close()
    return same


@pytest.fixture
def make(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> MakeEngine:
    # Past some size a batch takes another kernel for attention, with other rounding.
    monkeypatch.setattr(batch_module, "BATCH", 32)
    return lambda **options: make_engine(**{"slots": 4, "context": 448, "cache": 448, **options})


def moved_mass(a: TokenLogprob, b: npt.NDArray[np.float64]) -> float:
    """How much probability differs between the likeliest tokens and a whole distribution (0 none, 1 all)."""
    return float(sum(abs(np.exp(value) - np.exp(b[token])) for token, value in a.top) / 2)


@pytest.fixture
def agrees(exact: bool) -> Agrees:
    def compare(given: TokenLogprob, wanted: npt.NDArray[np.float64]) -> None:
        assert moved_mass(given, wanted) < TOLERANCE
        assert not exact or max(abs(value - wanted[token]) for token, value in given.top) < 1e-3

    return compare


def same(a: list[TokenLogprob], b: list[TokenLogprob], exact: bool) -> None:
    """Two runs of one prompt: the same tokens with the same probabilities."""
    for one, two in zip(a, b, strict=exact):
        first, second = dict(one.top), dict(two.top)
        shared = first.keys() & second.keys()
        if exact:
            assert one.token == two.token
            assert first.keys() == second.keys()
            assert max(abs(first[t] - second[t]) for t in shared) < 1e-3
        else:
            assert sum(abs(np.exp(first[t]) - np.exp(second[t])) for t in shared) / 2 < TOLERANCE
            if one.token != two.token:  # a near tie, rounded the other way; the texts part here
                return


@pytest.mark.parametrize(("question", "system"), [*zip(QUESTIONS, ("", SYSTEM, "", SYSTEM), strict=True)])
def test_agrees_with_plain_llama(
    make: MakeEngine, reference: Reference, agrees: Agrees, question: str, system: str
) -> None:
    got = ask(make(), question, system=system, max_tokens=4, logprobs=TOP)
    prompt = reference.tokens(question, **({"system": system} if system else {}))
    assert got.usage.prompt_tokens == len(prompt)
    for n in (0, 3):
        agrees(got.logprobs[n], reference.logprobs([*prompt, *got.tokens[:n]]))


@pytest.mark.parametrize("penalty", [1.0, 1.15])
def test_greedy_is_plain_llamas_greedy(make: MakeEngine, reference: Reference, exact: bool, penalty: float) -> None:
    engine = make()
    for question in QUESTIONS[::2]:
        mine = ask(engine, question, max_tokens=32, repeat_penalty=penalty).text
        theirs = reference.answer(question, max_tokens=32, repeat_penalty=penalty)
        assert mine[: None if exact else 12] == theirs[: None if exact else 12]


def test_batched_as_alone(make: MakeEngine, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [ask(make(), question, max_tokens=16, logprobs=TOP) for question in QUESTIONS]
    steps = Steps(monkeypatch)
    steps.hold()
    engine = make()
    streams = [engine.stream(request(question, max_tokens=16, logprobs=TOP)) for question in QUESTIONS]
    steps.release()
    company = together(streams)
    assert steps.batches.count(len(QUESTIONS)) >= 5, "the answers were not written together"
    for one, other in zip(alone, company, strict=True):
        same(one.logprobs, other.logprobs, exact)


def test_two_threads_as_one(make: MakeEngine, exact: bool) -> None:
    one, two = (ask(make(threads=n), QUESTIONS[2], max_tokens=12, logprobs=TOP) for n in (1, 2))
    same(one.logprobs, two.logprobs, exact)


# Conversations that share their beginning with what the engine has read before, as (turns, system).
A = "A neural network is a function with many weights that are fitted to examples."
B = "It is trained by showing it examples and correcting the weights a little after each."
REUSE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "shared system prompt": (("What is a neuron?",), ("How is a model evaluated?",)),
    "retry": (("What is a neuron?",), ("What is a neuron?",)),
    "follow-up": (("What is that?",), ("What is that?", A, "And how is it trained?")),
    "edit of the first question": (("What is that?", A, "And why?"), ("What was this?", A, "And why?")),
    "edit in the middle": (
        ("What is that?", A, "And how is it trained?", B, "Thanks. Now overfitting?"),
        ("What is that?", A, "How do I train it, step by step?", B, "Thanks. Now overfitting?"),
    ),
    "back to an earlier turn": (("What is that?", A, "And how?", B, "Thanks!"), ("What is that?", A, "And how?")),
}


@pytest.mark.parametrize("name", REUSE)
def test_reused_prefix_as_fresh(make: MakeEngine, reference: Reference, exact: bool, name: str) -> None:
    before, now = REUSE[name]
    used = make()
    first = ask(used, *before, system=SYSTEM, logprobs=1)
    again = ask(used, *now, system=SYSTEM, max_tokens=12, logprobs=TOP)
    fresh = ask(make(), *now, system=SYSTEM, max_tokens=12, logprobs=TOP)
    same(fresh.logprobs, again.logprobs, exact)
    assert fresh.usage.cached_tokens == 0
    # In the cache: the first prompt and its answer, save the answer's last token, which nothing needed read. Of a
    # prompt, the last token is always read again.
    prompt = reference.tokens(*now, system=SYSTEM)
    held = [*reference.tokens(*before, system=SYSTEM), *first.tokens[:-1]]
    assert again.usage.cached_tokens == min(common(held, prompt), len(prompt) - 1)
    assert again.usage.cached_tokens > 40  # or the case tests nothing


def test_own_answer_is_not_read_again(make: MakeEngine, reference: Reference) -> None:
    engine = make()
    first = ask(engine, QUESTIONS[0], max_tokens=24, logprobs=1)
    second = ask(engine, QUESTIONS[0], first.text, "Thank you!")
    prompt = reference.tokens(QUESTIONS[0])
    assert second.usage.cached_tokens >= len(prompt) + 20


def test_prefix_lent_while_it_is_read(
    make: MakeEngine, reference: Reference, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    engine = make()
    steps.hold()
    questions = ("What is a neuron?", "How do I evaluate it?", "Which learning rate?")
    streams = [engine.stream(request(q, system=SYSTEM, max_tokens=6, logprobs=TOP)) for q in questions]
    steps.release()
    results = together(streams)
    prompts = [reference.tokens(q, system=SYSTEM) for q in questions]
    assert results[0].usage.cached_tokens == 0
    for i in (1, 2):
        shared = common(prompts[0], prompts[i])
        assert shared - WORTH_SHARING < results[i].usage.cached_tokens <= shared
    # Nobody read the shared part again: the steps together read little more than it once and the questions.
    assert sum(steps.batches) < sum(map(len, prompts)) - 2 * (common(*prompts[:2]) - WORTH_SHARING) + 3 * 6
    for q, got in zip(questions, results, strict=True):
        fresh = ask(make(), q, system=SYSTEM, max_tokens=6, logprobs=TOP)
        same(fresh.logprobs, got.logprobs, exact)


def test_a_lender_that_leaves_costs_the_borrower_nothing_but_time(
    make: MakeEngine, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    engine = make()
    steps.hold()
    lender = engine.stream(request(QUESTIONS[0], system=SYSTEM))
    borrower = engine.stream(request(QUESTIONS[2], system=SYSTEM, max_tokens=6, logprobs=TOP))
    steps.wait_held()
    lender.close()
    steps.release()
    got = read(borrower)
    same(ask(make(), QUESTIONS[2], system=SYSTEM, max_tokens=6, logprobs=TOP).logprobs, got.logprobs, exact)


def test_warm_reads_the_system_prompt_before_the_first_student(make: MakeEngine, reference: Reference) -> None:
    engine = make()
    engine.warm((Message("system", SYSTEM), Message("user", "Hello!")))
    got = ask(engine, QUESTIONS[0], system=SYSTEM)
    prompts = [reference.tokens(text, system=SYSTEM) for text in ("Hello!", QUESTIONS[0])]
    assert common(*prompts) - WORTH_SHARING < got.usage.cached_tokens <= common(*prompts)


def test_any_history_of_conversations(make: MakeEngine, reference: Reference) -> None:
    """Random walks over a tree of conversations, in a cache too small for them, against a fresh read each time.

    Cells that were freed are used again in another order, and attention sums in the order of cells: rounding differs.
    """
    chance = random.Random(2223)
    words = ["weights", "bias", "layer", "loss", "gradient", "epoch", "batch", "token", "model", "data", "label"]
    engine = make(context=256, cache=512, slots=3)
    open_: list[tuple[str, ...]] = []
    reused = 0
    for _ in range(14):
        turns = chance.choice(open_) if open_ and chance.random() < 0.7 else ()
        turns = turns[: 2 * chance.randint(0, len(turns) // 2)][:4]
        question = " ".join(chance.choices(words, k=chance.randint(1, 9)))
        system = SYSTEM if chance.random() < 0.7 else ""
        got = ask(engine, *turns, question, system=system, max_tokens=chance.choice([1, 5, 20]), logprobs=TOP)
        prompt = reference.tokens(*turns, question, **({"system": system} if system else {}))
        assert got.usage.prompt_tokens == len(prompt)
        last = len(got.tokens) - 1
        assert moved_mass(got.logprobs[last], reference.logprobs([*prompt, *got.tokens[:last]])) < TOLERANCE
        reused += got.usage.cached_tokens > 30
        open_ = [*open_, (*turns, question, got.text.strip() or "-")][-6:]
        check_books(engine)
    assert reused > 5


def test_least_recently_used_conversation_makes_room(make: MakeEngine, reference: Reference) -> None:
    engine = make(context=256, cache=256, slots=2)
    text = "Please explain this word, which is from the course, in one line: "
    topics = {name: f"{name}! {text * 4}{name}" for name in ("alpha", "beta", "gamma", "delta")}

    def cached(name: str) -> int:
        got = ask(engine, topics[name], max_tokens=1, logprobs=TOP)
        assert moved_mass(got.logprobs[0], wanted[name]) < TOLERANCE
        return got.usage.cached_tokens

    prompts = {name: reference.tokens(topic) for name, topic in topics.items()}
    wanted = {name: reference.logprobs(prompt) for name, prompt in prompts.items()}
    shared = common(prompts["alpha"], prompts["beta"])
    own = len(prompts["alpha"]) - shared
    assert shared + 3 * own < 250 < 256 < shared + 4 * own  # three fit, four do not
    whole = len(prompts["alpha"]) - 1
    for name in ("alpha", "beta", "gamma"):
        assert cached(name) < 40
    assert cached("alpha") == whole
    assert cached("delta") < 40
    assert cached("alpha") == whole  # used after beta, so beta had to go
    assert cached("beta") < 40
