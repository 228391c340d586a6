"""Near-duplicates: found where planted, not where absent, and never cut apart by a split."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import groups, parallel, splits, text
from data.corpus import Likeness, likeness
from data.groups import ANSWER_LIKE, QUESTION_LIKE, Groups
from data.splits import SHARES, Item, assign

SYLLABLES = [
    "loss",
    "mo",
    "wei",
    "lay",
    "to",
    "bat",
    "dri",
    "ca",
    "sha",
    "que",
    "la",
    "spli",
    "tra",
    "ser",
    "sco",
    "gra",
    "a",
    "vec",
]
MANY = [first + second for first in SYLLABLES for second in SYLLABLES]


def labels(texts: list[str], features: Callable[[str], text.Features], like: float) -> list[int]:
    found = Groups(len(texts))
    groups.join_near_duplicates(found, groups.sketch(texts, features), like)
    return [int(label) for label in found.labels()]


def similarity(one: str, other: str, features: Callable[[str], text.Features]) -> float:
    a, b = set(features(one).tolist()), set(features(other).tolist())
    return len(a & b) / len(a | b)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Explain AutoML", "explain automl?", True),
        ("What is dropout?", "Can you please tell me what dropout is", True),
        ("What's a feature store?", "What are feature stores?", True),
        ("Who is the greatest tennis player of all time?", "Who is the greatest male tennis player of all time?", True),
        ("Why is pooling used in a CNN?", "Why is a CNN used in pooling?", True),
        ("What is dropout?", "What is pooling?", False),
        ("Why does dropout help?", "How does dropout help?", False),
        ("Give an example of overfitting", "Give an example of underfitting", False),
        (
            "What common mistakes do students make when reasoning about drift?",
            "What common mistakes do students make when reasoning about pooling?",
            False,
        ),
        ("???", "!!!", False),
        ("🙂", "🙂", True),
    ],
)
def test_near_duplicate_questions(one: str, other: str, same: bool) -> None:
    assert (len(set(labels([one, other], text.question_features, QUESTION_LIKE))) == 1) is same


def sentence(source: random.Random, count: int) -> str:
    return " ".join(source.choices(MANY, k=count))


def planted(source: random.Random, original: str, changes: int) -> str:
    """The text with some words replaced."""
    found = original.split()
    for place in source.sample(range(len(found)), changes):
        found[place] = source.choice(MANY)
    return " ".join(found)


def test_near_duplicate_answers() -> None:
    source = random.Random(3)
    texts = [sentence(source, 60) for _ in range(300)]
    copies = [planted(source, original, 3) for original in texts[:100]]
    found = labels(texts + copies, text.answer_features, ANSWER_LIKE)
    assert found[:300] == list(range(300)), "unrelated texts stay apart"
    assert found[300:] == list(range(100)), "a text with three words of sixty replaced is found"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 80), st.integers(3, 40))
def test_no_pair_that_is_clearly_alike_is_missed(seed: int, count: int, length: int) -> None:
    """Against comparing every pair, on texts of few words, where chance makes many degrees of likeness."""
    source = random.Random(seed)
    pool = MANY[: source.choice([12, 40, 324])]
    texts = [" ".join(source.choices(pool, k=source.randint(1, length))) for _ in range(count)]
    texts += [planted(source, one, min(len(one.split()), source.randint(0, 2))) for one in texts[: count // 2]]
    for features, like in ((text.question_features, QUESTION_LIKE), (text.answer_features, ANSWER_LIKE)):
        found = labels(texts, features, like)
        for i, one in enumerate(texts):
            for j in range(i):
                if similarity(one, texts[j], features) >= like + 0.1:
                    assert found[i] == found[j], (one, texts[j])
        # And nothing is joined without a chain of pairs that are alike.
        for i in set(found):
            members = [number for number, label in enumerate(found) if label == i]
            reached = {members[0]}
            grown = True
            while grown:
                more = {
                    j
                    for j in members
                    if j not in reached and any(similarity(texts[j], texts[k], features) >= like for k in reached)
                }
                grown = bool(more)
                reached |= more
            assert reached == set(members)


def test_a_family_from_a_template_is_told_apart_by_its_slots() -> None:
    """Thousands of texts that share most words fall in the same buckets; the right pairs must still be found, fast."""
    texts = [f"Explain topic {MANY[n % 324]}{n} in detail please with care" for n in range(3000)]
    texts += [one + " now" for one in texts[:50]]
    began = time.monotonic()
    found = labels(texts, text.question_features, QUESTION_LIKE)
    assert time.monotonic() - began < 60
    assert found[:3000] == list(range(3000))
    assert found[3000:] == list(range(50))


def test_a_frame_that_is_nearly_all_of_a_text_makes_one_group() -> None:
    frame = "Please translate the following english sentence carefully word by word into plain german prose today"
    texts = [f"{frame} {word}" for word in MANY]
    assert set(labels(texts, text.question_features, QUESTION_LIKE)) == {0}


def test_texts_of_few_sentences_take_bounded_time() -> None:
    source = random.Random(1)
    pool = [sentence(source, 11) + "." for _ in range(30)]
    texts = [" ".join(source.choice(pool) for _ in range(20)) for _ in range(1500)]
    began = time.monotonic()
    labels(texts, text.answer_features, ANSWER_LIKE)
    assert time.monotonic() - began < 60


def test_an_answer_inside_a_longer_one_is_joined() -> None:
    source = random.Random(7)
    short, other = sentence(source, 40), sentence(source, 40)
    long = f"{sentence(source, 100)} {short} {sentence(source, 100)}"
    pairs = [("", long), ("", short), ("", other)]
    assert likeness(pairs).labels().tolist() == [0, 1, 2]
    assert likeness(pairs).labels(containment=True).tolist() == [0, 0, 2]


def test_rows_are_joined_by_question_or_by_answer() -> None:
    pairs = [
        ("What is drift?", "Inputs that change over time."),
        ("What is a shard?", "A part of a table."),
        ("Explain drift!", "When the world moves and the model does not."),
        ("And what are shards?", "Inputs that change over time"),
        ("Is it fast?", "Yes."),
        ("Is it large?", "yes"),
        ("Is it old?", "No, not yes."),
    ]
    assert likeness(pairs).labels().tolist() == [0, 0, 0, 0, 4, 4, 6]


def test_a_conversation_belongs_to_its_first_question() -> None:
    pairs = [
        ("Why do caches go stale over time?\n\nGive me more.", "More."),
        ("why do caches go stale over time", "Copies."),
    ]
    firsts = ["Why do caches go stale over time?", ""]
    assert likeness(pairs, firsts).labels().tolist() == [0, 0]
    hello = [("Hello!\n\nWhat is a cache?", "Copies."), ("Hello!", "Hello.")]
    assert likeness(hello, ["Hello!", ""]).labels().tolist() == [0, 1]


def test_parts_put_together_are_as_one() -> None:
    source = random.Random(5)
    pairs = [(sentence(source, 8), sentence(source, 30)) for _ in range(60)]
    pairs += [(pairs[n][0], sentence(source, 30)) for n in range(20)] + [("", pairs[n][1]) for n in range(20)]
    whole = Likeness()
    for batch in parallel.batches(pairs, 7):
        whole.extend(likeness(batch))
    assert whole.labels().tolist() == likeness(pairs).labels().tolist()
    assert Likeness().labels().tolist() == []


def _double(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers]


@pytest.mark.parametrize("count", [0, 1, 5, 57])
def test_work_in_processes_comes_back_in_order(count: int) -> None:
    done = parallel.mapped(_double, range(count), processes=2, size=5)
    assert [number for part in done for number in part] == list(range(0, 2 * count, 2))


def test_features_are_the_same_in_every_process() -> None:
    code = "from data import text; print(text.answer_features('a b c d é 學').tolist(), text.fraction('x', '1'))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": seed}, check=True
        ).stdout
        for seed in ("0", "1")
    }
    assert runs == {f"{text.answer_features('a b c d é 學').tolist()} {text.fraction('x', '1')}\n"}


# Splits.


ROWS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["qa", "note", "mcq", "chat"]), st.integers(0, 3)), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 5), st.integers(0, 10_000), st.integers(5, 60))
def test_no_group_straddles_a_split(seed: int, shuffle: int, count: int) -> None:
    """Rows with planted near-duplicates of questions and answers, in any order: what is alike is in one part."""
    source = random.Random(shuffle)
    pairs = [(sentence(source, 10), sentence(source, 40)) for _ in range(count)]
    origin = list(range(count))
    for _ in range(count):
        chosen = source.randrange(len(pairs))
        question, answer = pairs[chosen]
        if source.random() < 0.5:
            pairs.append((f"Please explain: {question}?", sentence(source, 40)))
        else:
            pairs.append((sentence(source, 10), planted(source, answer, 1)))
        origin.append(origin[chosen])
    order = source.sample(range(len(pairs)), len(pairs))
    found = likeness([pairs[number] for number in order]).labels().tolist()
    result = assign([Item(f"r{number}") for number in order], found, seed=seed)
    parts: dict[int, set[str]] = {}
    for number, part in zip(order, result.parts, strict=True):
        parts.setdefault(origin[number], set()).add(part)
    assert all(len(part) == 1 for part in parts.values())


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(0, 3), st.data())
def test_groups_stay_together_whatever_is_asked(
    rows: list[tuple[int, str, int]], seed: int, data: st.DataObject
) -> None:
    items = [Item(f"r{number}", kind, f"t{topic}") for number, (_, kind, topic) in enumerate(rows)]
    found = [group for group, _, _ in rows]
    before = {item.id: data.draw(st.sampled_from(list(SHARES))) for item in items if data.draw(st.booleans())}
    left_out, training = (
        data.draw(st.sets(st.integers(0, 30), max_size=5)),
        data.draw(st.sets(st.integers(0, 30), max_size=5)),
    )
    result = assign(items, found, seed=seed, before=before, left_out=left_out, training=training)
    parts: dict[int, set[str]] = {}
    for group, part in zip(found, result.parts, strict=True):
        parts.setdefault(group, set()).add(part)
    assert all(len(part) == 1 for part in parts.values())
    for group, found_in in parts.items():
        assert (found_in == {""}) == (group in left_out)
        if group in training - left_out:
            assert found_in == {"train"}


def test_the_shares_hold() -> None:
    result = assign([Item(f"r{n}") for n in range(20_000)], list(range(20_000)), seed=1)
    for part, share in splits.shares(result.parts).items():
        assert share == pytest.approx(SHARES[part], abs=0.01)
    assert result.groups == [f"r{n}" for n in range(20_000)]
    other = assign([Item(f"r{n}") for n in range(20_000)], list(range(20_000)), seed=2)
    assert np.mean([a == b for a, b in zip(result.parts, other.parts, strict=True)]) < 0.75


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=40), st.lists(st.integers(0, 60), max_size=20), st.integers(0, 3)
)
def test_rows_added_at_the_end_move_nothing(old: list[int], new: list[int], seed: int) -> None:
    """Without knowing the earlier build: new rows may be alone or join one group."""
    items = [Item(f"r{n}") for n in range(len(old) + len(new))]
    first = assign(items[: len(old)], old, seed=seed)
    second = assign(items, [*old, *new], seed=seed)
    assert second.parts[: len(old)] == first.parts


def test_where_two_groups_become_one() -> None:
    """The earlier parts at hand, a new row that joins two groups brings both to the part where least is lost."""
    items = [Item("a"), Item("b"), Item("new")]
    for before, part, moved in (
        ({"a": "train", "b": "test"}, "train", ["b"]),
        ({"a": "test", "b": "validation"}, "validation", ["a"]),
        ({"a": "test", "b": "test"}, "test", []),
    ):
        result = assign(items, [0, 0, 0], seed=1, before=before)
        assert result.parts == [part] * 3
        assert result.moved == moved
        assert result.kept == 2 - len(moved)


def test_the_bank_is_held_out_topic_by_topic() -> None:
    items = [Item(f"t{topic}-m{n}", "mcq", f"t{topic}") for topic in range(30) for n in range(4 + topic % 2)]
    result = assign(items, list(range(len(items))), seed=1)
    for topic in range(30):
        of_topic = [part for item, part in zip(items, result.parts, strict=True) if item.topic == f"t{topic}"]
        assert of_topic.count("test") == 2
        assert of_topic.count("train") == len(of_topic) - 2


def test_one_item_of_a_topic_is_not_held_out() -> None:
    assert assign([Item("m", "mcq", "t")], [0], seed=1).parts == ["train"]


def test_notes_are_for_training_unless_a_test_row_repeats_them() -> None:
    items = [Item(f"n{n}", "note", "t") for n in range(50)]
    assert set(assign(items, list(range(50)), seed=1).parts) == {"train"}
    both = [Item(f"q{n}", "qa", "t") for n in range(50)] + items
    result = assign(both, [*range(50), *range(50)], seed=1)
    assert result.parts[:50] == result.parts[50:]
    assert {"train", "test"} <= set(result.parts)
