"""Cleaning rules: every example of every rule, and what must hold whatever the text."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.clean import clean_prompt, clean_row, clean_text, damage, leak_rate, leaks
from data.clean_rules import RULES
from data.sources import Row
from iris.engine import Message

CHANGES = [(rule.name, before, after) for rule in RULES for before, after in rule.changes]
LEAVES = [(rule.name, prompt) for rule in RULES for prompt in rule.leaves]


def test_every_rule_has_examples_of_both_kinds() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(len(rule.changes) >= 2 and len(rule.leaves) >= 2 and rule.why for rule in RULES)


@pytest.mark.parametrize(("name", "before", "after"), CHANGES)
def test_a_rule_changes_its_examples(name: str, before: str, after: str) -> None:
    hits: Counter[str] = Counter()
    assert clean_prompt(before, hits) == after
    assert hits[name] == 1
    assert clean_prompt(after) == after


@pytest.mark.parametrize(("name", "prompt"), LEAVES)
def test_a_rule_leaves_its_counter_examples(name: str, prompt: str) -> None:
    hits: Counter[str] = Counter()
    clean_prompt(prompt, hits)
    assert hits[name] == 0
    (rule,) = (rule for rule in RULES if rule.name == name)
    if name not in ("relate-sentence", "compare-it"):  # these match, but would leave nothing
        assert not rule.pattern.search(prompt)


@pytest.mark.parametrize(
    "question",
    [
        "Compare TCP and UDP",
        "Give an example of overfitting",
        "Explain the difference between L1 and L2.",
        "What is an example from industry of a feature store?",
        "How does dropout relate to ensembles?",
        "Write a short story about a lighthouse.",
        "Why?",
        "Summarise the passage.\n\nBe brief. That was the rule on the ship, and everyone kept it. "
        + "The captain wrote long letters all the same, and nobody dared to mention it to him. " * 6,
        "What does this print?\n\n```\n# Briefly explain x\nprint(1)\n```",
        "Which option is right?\n\nA. Keep it short.\nB. In two sentences",
    ],
)
def test_real_questions_survive(question: str) -> None:
    assert clean_prompt(question) == question.strip()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Briefly compare TCP and UDP.", "Compare TCP and UDP."),
        ("Explain momentum. Relate it to friction.", "Explain momentum."),
        ("What is a queue? Include an example from industry.", "What is a queue?"),
        (
            "In two sentences, briefly explain what a cache is. Be concise. Use bullet points.",
            "Explain what a cache is.",
        ),
        ("briefly explain tcp", "explain tcp"),
        ("Be brief.", "Be brief."),
        ("Explain why it works (in 3 sentences), and relate it to sorting.", "Explain why it works."),
        ("  What\u200b is\r\nthis? \n", "What is\nthis?"),
        (")(see above) Compare TCP and UDP", "(see above) Compare TCP and UDP"),
        (", \n\n , how do we read a learning curve?", "How do we read a learning curve?"),
    ],
)
def test_several_rules_together(before: str, after: str) -> None:
    assert clean_prompt(before) == after


FRAGMENTS = st.sampled_from(
    [text for _, before, after in CHANGES for text in (before, after)]
    + [prompt for _, prompt in LEAVES]
    + [
        "Briefly",
        ",",
        ", and",
        "\n\n",
        "\n",
        " ",
        "(",
        ")",
        "be concise",
        "…",
        "in two sentences",
        "please",
        "e.g.",
        "- x",
    ]
)
PROMPTS = st.one_of(
    st.lists(FRAGMENTS, min_size=1, max_size=5).map(" ".join),
    st.lists(FRAGMENTS, min_size=1, max_size=5).map("".join),
    st.text(max_size=60),
)


@settings(max_examples=600, deadline=None)
@given(PROMPTS)
def test_cleaning_twice_changes_nothing(prompt: str) -> None:
    once = clean_prompt(prompt)
    hits: Counter[str] = Counter()
    assert clean_prompt(once, hits) == once
    assert not hits


@settings(max_examples=600, deadline=None)
@given(PROMPTS)
def test_nothing_is_left_empty_or_beheaded(prompt: str) -> None:
    cleaned = clean_prompt(prompt)
    if any(character.isalnum() for character in clean_text(prompt)):
        assert any(character.isalnum() for character in cleaned)
        assert not cleaned.startswith((",", ";", ")", "]", "}", ". ", "? ", "! ", ": "))
    if not damage(clean_text(prompt)):
        assert damage(cleaned) == ""
    if prompt.strip()[:1].isupper() and cleaned[:1].isalpha():
        assert not cleaned[:1].islower()


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_plain_text_is_stable(text: str) -> None:
    once = clean_text(text)
    assert clean_text(once) == once
    assert "\r" not in once
    assert "\x00" not in once


def test_text_keeps_its_code_and_its_emoji() -> None:
    code = "def f(x):\n    return x\n\n\nprint(f(1))\tend 👩‍👩‍👧"
    assert clean_text(code) == code


def test_a_row_is_cleaned_in_its_user_turns_only() -> None:
    turns = (Message("system", "Be concise."), Message("user", "Briefly explain UDP."))
    row = Row((*turns, Message("assistant", "Be concise. "), Message("user", "Why? Be brief.")), " Because.\r\n", "s")
    hits: Counter[str] = Counter()
    cleaned = clean_row(row, hits)
    assert cleaned is not None
    assert [message.content for message in cleaned.prompt] == ["Be concise.", "Explain UDP.", "Be concise.", "Why?"]
    assert cleaned.completion == "Because."
    assert hits == {"brief-first": 1, "style-sentence": 1, "plain-text": 2}
    kept = clean_row(row, Counter(), keep_instructions=True)
    assert kept is not None
    assert kept.prompt[1].content == "Briefly explain UDP."


@pytest.mark.parametrize(("prompt", "completion"), [("", "yes"), ("?!", "yes"), (", ", "yes"), ("Why?", " \n")])
def test_a_row_without_question_or_answer_is_dropped(prompt: str, completion: str) -> None:
    hits: Counter[str] = Counter()
    assert clean_row(Row((Message("user", prompt),), completion), hits) is None
    assert sum(hits[name] for name in hits if name.startswith("dropped: empty")) == 1


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (", how is it done?", "starts with punctuation"),
        ("and what follows from it?", "starts in mid-sentence"),
        ("Explain the difference between", "breaks off"),
        ("Compare the cat, the dog, and the", "breaks off"),
        ("What is {topic}?", "has an unfilled slot"),
        ("What is itâ€™s name?", "has broken characters"),
        ("...", "is empty"),
        ("What is it made of?", ""),
        (".NET or Java?", ""),
        ("Which?\n\nA. a + b\nB. b + a", ""),
        ("what is tcp", ""),
        ("Let $\\frac{a}{b}$ be {a, b}.", ""),
    ],
)
def test_damage_is_named(prompt: str, kind: str) -> None:
    assert damage(prompt) == kind


@pytest.mark.parametrize(
    ("answer", "rate"),
    [
        ("", 0.0),
        ("A cache keeps copies. It saves time.", 0.0),
        ("Include an example from industry.", 1.0),
        ("A cache keeps copies.\n\nIn practice, relate this concept to databases.", 0.5),
        ("A cache keeps copies. Briefly compare it to another method.", 0.5),
        ("It is fast. It is small. **Be concise.** It is old.", 0.25),
        ("- Stress the intuition rather than the formulas.\n- Caches can be stale.", 0.5),
        ("For example, compare it with a library. Teams include examples, and relate them to work.", 0.0),
        ("In short, it is fast. Briefly, the server was down.", 0.0),
    ],
)
def test_leak_rate(answer: str, rate: float) -> None:
    assert leak_rate(answer) == rate
    assert bool(leaks(answer)) == bool(rate)
