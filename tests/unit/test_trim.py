"""Fitting a conversation into the context. A token is a character here, so that every size can be reasoned about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iris.engine import Message, Role
from iris.engine.template import ChatTemplate
from iris.engine.trim import BLOCK, SHORTEST_ANSWER, fit
from iris.errors import PromptTooLong
from tests.unit.test_template import CHATML
from tests.unit.vocabulary import Vocabulary

TAGS = {"system": 1, "user": 2, "assistant": 3}


def encode(messages: Sequence[Message]) -> list[int]:
    """Per message one token for the role, then its characters; one for the answer that begins."""
    ids = [token for m in messages for token in (TAGS[m.role], *(100 + ord(c) for c in m.content))]
    return [*ids, 9]


def conversation(*lengths: int, system: int | None = None) -> list[Message]:
    """Turns of these lengths, each of a letter of its own; a question comes last when their number is odd."""
    turns = [Message("assistant" if i % 2 else "user", chr(97 + i) * size) for i, size in enumerate(lengths)]
    return ([Message("system", "S" * system)] if system is not None else []) + turns


# Mostly question and answer in turn; an answer that was stopped, or a page of another kind, can break that.
ROLES = st.lists(st.sampled_from(["user", "assistant"]), min_size=15, max_size=15)
LENGTHS = st.lists(st.integers(0, 300), min_size=1, max_size=15).filter(lambda sizes: len(sizes) % 2 == 1)


@settings(deadline=None, max_examples=400)
@given(
    lengths=LENGTHS,
    roles=st.none() | ROLES,
    system=st.none() | st.integers(0, 300),
    context=st.integers(80, 1500),
    answer=st.integers(0, 1000),
)
def test_system_prompt_and_last_question_stay_and_the_oldest_go(
    lengths: list[int], roles: list[Role] | None, system: int | None, context: int, answer: int
) -> None:
    messages = conversation(*lengths, system=system)
    if roles:
        changed = [Message(role, m.content) for role, m in zip(roles, messages[-len(lengths) : -1], strict=False)]
        messages = [*messages[: -len(lengths)], *changed, messages[-1]]
    head = messages[:1] if system is not None else []
    turns = messages[len(head) :]
    least = encode([*head, turns[-1]])
    shortest = min(answer, SHORTEST_ANSWER)
    if len(least) + shortest > context:
        with pytest.raises(PromptTooLong) as error:
            fit(messages, encode, context=context, answer=answer)
        assert (error.value.tokens, error.value.limit) == (len(least), context - shortest)
        return
    prompt, dropped, room = fit(messages, encode, context=context, answer=answer)
    assert prompt == encode([*head, *turns[dropped:]]), "what stays, stays whole and in its order"
    assert turns[dropped:], "the last question stays"
    assert dropped == 0 or turns[dropped].role == "user", "it goes on with a question"
    assert len(prompt) + room == context
    assert room >= shortest
    wanted = min(answer, max(SHORTEST_ANSWER, context // 2))
    if dropped == 0:
        return
    assert len(encode(messages)) + wanted > context, "nothing is dropped without need"
    if dropped != len(turns) - 1:
        assert room >= wanted
    for fewer in range(BLOCK, dropped, BLOCK):
        if turns[fewer].role == "user":
            assert len(encode([*head, *turns[fewer:]])) + wanted > context, "nor a block more than needed"


def test_what_fits_is_left_alone() -> None:
    messages = conversation(10, 20, 30, system=5)
    whole = encode(messages)
    assert fit(messages, encode, context=len(whole) + 100, answer=100) == (whole, 0, 100)


def test_long_answers_are_promised_half_the_context_at_most() -> None:
    """Else a short conversation would be thrown away for the sake of tokens that are hardly ever written."""
    messages = conversation(100, 100, 100)
    prompt, dropped, room = fit(messages, encode, context=700, answer=100_000)
    assert (prompt, dropped, room) == (encode(messages), 0, 700 - len(encode(messages)))


def test_a_growing_conversation_keeps_its_beginning_for_a_while() -> None:
    """Every drop makes the whole prompt new to the cache: over many turns there are few."""
    first_kept = []
    for turns in range(1, 60, 2):
        _, dropped, _ = fit(conversation(*[20] * turns), encode, context=400, answer=64)
        first_kept.append(dropped)
    assert first_kept == sorted(first_kept)
    assert len(set(first_kept)) <= len(first_kept) / 2 + 1


def test_a_question_that_cannot_fit_is_refused_with_both_numbers() -> None:
    messages = conversation(10, 10, 5000, system=20)
    with pytest.raises(PromptTooLong) as error:
        fit(messages, encode, context=1000, answer=200)
    assert error.value.tokens == 1 + 20 + 1 + 5000 + 1
    assert error.value.limit == 1000 - SHORTEST_ANSWER
    assert "5,023" in str(error.value)
    assert "936" in str(error.value)


def test_a_last_question_that_leaves_room_for_a_short_answer_only() -> None:
    prompt, dropped, room = fit(conversation(50, 50, 900), encode, context=1000, answer=500)
    assert (dropped, room) == (2, 1000 - len(prompt))
    assert SHORTEST_ANSWER <= room < 500


def test_a_system_prompt_alone_can_be_read() -> None:
    """The engine reads it ahead of the first student, and writes nothing."""
    system = [Message("system", "S" * 50)]
    assert fit(system, encode, context=100, answer=0) == (encode(system), 0, 48)
    with pytest.raises(PromptTooLong):
        fit(system, encode, context=40, answer=0)
    assert fit(system, encode, context=120, answer=100) == (encode(system), 0, 68)
    assert fit(system, encode, context=130, answer=1000) == (encode(system), 0, 78), "with less room than wanted, too"


def test_with_a_real_template_and_tokenizer(gguf: Path) -> None:
    vocabulary = Vocabulary(gguf)
    template = ChatTemplate(CHATML, bos="", eos="", tokenize=vocabulary.tokenize)
    messages = [
        Message("system", "You teach."),
        *[Message("assistant" if i % 2 else "user", f"Turn {i}: " + "gradient descent " * 20) for i in range(20)],
        Message("user", "And the last?"),
    ]
    prompt, dropped, room = fit(messages, template.encode, context=512, answer=128)
    text = vocabulary.text(prompt)
    assert len(prompt) + room == 512
    assert room >= 128
    assert text.startswith("<|im_start|>system\nYou teach.<|im_end|>\n<|im_start|>user\nTurn ")
    assert text.endswith("And the last?<|im_end|>\n<|im_start|>assistant\n")
    assert [f"Turn {i}:" in text for i in range(20)] == [i >= dropped for i in range(20)]
    vocabulary.close()
