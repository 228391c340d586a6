"""A citation is shown only when what the sentence says stands in the passage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iris import courses
from iris.notes import Document, chunk
from iris.notes.cite import Citer, Source
from iris.notes.sentences import sentences
from iris.notes.words import values

LORA = (
    "LoRA freezes the pretrained matrix $W_0$ and learns only a correction $\\Delta W$ of low rank. After training the "
    "product can be added into $W_0$, so the merged model has no extra inference cost. AdaGrad divides by the root of "
    "the sum of all past squared gradients. The adapter has $8\\times(4096+4096) = 65{,}536$ parameters; the full "
    "matrix has 16,777,216. Large steps early cover distance; small steps late let the noise settle. It does not "
    "shrink the activations."
)

TITLE = "LoRA: low-rank adaptation. Idea"

TRUE = (
    "LoRA freezes the pretrained matrix $W_0$ and learns only a correction $\\Delta W$ of low rank.",
    "- **LoRA** freezes the pretrained matrix.",
    "After training, the product can be added into $W_0$.",
    "The merged model has no extra inference cost.",
    "The adapter has 65536 parameters.",
    "The full matrix has 16777216.",
    "LoRA does not shrink the activations.",  # the passage's title says what "it" is
    "Basically, LoRA is known to freeze the pretrained matrix.",
)
FALSE = (
    "LoRA freezes the pretrained matrix $W_1$ and learns only a correction.",  # another formula
    "LoRA learns the pretrained matrix and freezes only a correction.",  # the words, but exchanged
    "LoRA does not freeze the pretrained matrix.",
    "The merged model has extra inference cost.",
    "LoRA shrinks the activations.",
    "The adapter has 65,537 parameters.",
    "The adapter has 16,777,216 parameters.",  # the number of another thing
    "LoRA divides by the root of the sum of all past squared gradients.",  # true of AdaGrad
    "QLoRA freezes the pretrained matrix.",
    "Small steps early cover distance; large steps late let the noise settle.",
    "Before training the product can be added.",
    "LoRA freezes the pretrained matrix of photosynthesis.",
    "Freezes matrix.",  # too little to be a claim
    "",
)


@pytest.mark.parametrize("claim", TRUE)
def test_what_the_passage_says_is_found(claim: str) -> None:
    evidence = Source(LORA, TITLE).supports(claim)
    assert evidence
    assert evidence.marks
    assert list(evidence.marks) == sorted(evidence.marks)


@pytest.mark.parametrize("claim", FALSE)
def test_what_it_does_not_say_is_not(claim: str) -> None:
    assert Source(LORA, TITLE).supports(claim) is None


def test_the_marks_are_the_words() -> None:
    evidence = Source(LORA, TITLE).supports("The adapter has 65536 parameters.")
    assert evidence
    words = [LORA[start:end] for start, end in evidence.marks]
    assert words[0] == "adapter"
    assert words[-1] == "parameters"


def test_an_answer_grows_its_citations() -> None:
    answer = (
        "LoRA freezes the pretrained matrix. It was found on the moon. The merged model has no extra inference cost."
    )
    other = "Bread is baked from flour, water and salt."
    citer = Citer([Source(other, "Bread"), Source(LORA, TITLE)])
    seen: list[int] = []
    for end in range(len(answer) + 1):
        part = citer.cite(answer[:end], finished=False)
        assert [c.at for c in part][: len(seen)] == seen  # what is there stays there
        seen = [c.at for c in part]
    final = citer.cite(answer, finished=True)
    assert [(c.number, c.passage, answer[: c.at].split(". ")[-1]) for c in final] == [
        (1, 1, "LoRA freezes the pretrained matrix."),
        (1, 1, "The merged model has no extra inference cost."),
    ]


def test_numbers_go_by_first_use() -> None:
    bread = "Bread is baked from flour, water and salt."
    citer = Citer([Source(LORA, TITLE), Source(bread, "Bread")])
    answer = f"{bread} LoRA freezes the pretrained matrix. {bread}"
    assert [(c.number, c.passage) for c in citer.cite(answer, finished=True)] == [(1, 1), (2, 0), (1, 1)]


def test_code_and_headings_are_not_cited() -> None:
    answer = "# LoRA freezes the pretrained matrix\n\n```\nLoRA freezes the pretrained matrix.\n```\n"
    assert Citer([Source(LORA, TITLE)]).cite(answer, finished=True) == ()


def test_sentences_of_a_note_are_not_found_in_another() -> None:
    """Over the whole course: verbatim sentences are found where they stand, and nowhere else."""
    course = courses.find("id2223")
    sources = {
        note.topic: [
            Source(note.text[piece.start : piece.end], f"{note.title}. {piece.heading}")
            for piece in chunk.pieces(Document(note.title, "markdown", (note.text,)))
        ]
        for note in course.notes[::4]
    }
    claims = [
        (note.topic, note.text[part.start : part.end])
        for note in course.notes[::4]
        for part in sentences(note.text)
        if part.prose and 60 < part.end - part.start < 200
    ][::3]
    at_home = [any(source.supports(claim) for source in sources[topic]) for topic, claim in claims]
    abroad = [
        any(source.supports(claim) for other, some in sources.items() if other != topic for source in some)
        for topic, claim in claims
    ]
    assert sum(at_home) > 0.9 * len(claims) > 50
    assert not any(abroad)


@given(st.text(max_size=300), st.text(max_size=600))
@settings(max_examples=300, deadline=None)
def test_any_text_may_be_claimed_of_any_other(claim: str, passage: str) -> None:
    evidence = Source(passage, "").supports(claim)
    if evidence:
        assert all(0 <= start < end <= len(passage) for start, end in evidence.marks)
    for citation in Citer([Source(passage)]).cite(claim, finished=True):
        assert 0 < citation.at <= len(claim)


VOCABULARY = "gradient descent matrix rank LoRA AdamW freezes learns small large not before 3 0.5 $W_0$"
WORDS = st.sampled_from(VOCABULARY.split(" "))


@given(st.lists(WORDS, min_size=4, max_size=12))
@settings(max_examples=200, deadline=None)
def test_a_planted_word_is_never_cited(words: list[str]) -> None:
    """A sentence with one word more than the passage, of any kind, loses its citation."""
    passage = "The " + " ".join(words) + " holds."
    for planted in ("zeppelin", "9", "BERT", "$Q_7$", "never", "photosynthesis"):
        for at in range(len(words) + 1):
            claim = "The " + " ".join([*words[:at], planted, *words[at:]]) + " holds."
            assert Source(passage, "").supports(claim) is None, claim


@pytest.mark.parametrize(
    ("number", "meant"),
    [
        ("16,777,216", {"16777216"}),
        ("65{,}536", {"65536"}),
        ("0.390", {"0.39"}),
        ("0,39", {"0.39"}),
        ("1,234", {"1234", "1.234"}),
        ("007", {"7"}),
    ],
)
def test_numbers_are_compared_by_value(number: str, meant: set[str]) -> None:
    assert values(number) == meant
