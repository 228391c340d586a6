"""Notes: how fast they are searched, what is taken for covered, what is cited, how soon an answer from them begins.

    python -m benchmarks.notes [--pages 2000] [--foreign QUESTIONS.json] [--students 10 | --no-engine]

Search runs over a made-up book of so many pages, with the course's own questions, beside FTS5's bare bm25 query and a
scan with LIKE. ``--foreign`` takes a JSON list of questions about anything else (strings, or objects with an
``instruction``). Citations: each sentence of the course's notes, as it stands and with something false planted in it.
First tokens: a class asks the embedded model from the course's notes; each student has a conversation of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from iris import catalog, courses, settings
from iris.courses import Course
from iris.engine import GenerationRequest, Sampling, complete
from iris.notes import Document, chunk, library
from iris.notes.cite import Source
from iris.notes.library import Scope
from iris.notes.search import search
from iris.notes.sentences import sentences
from iris.notes.words import content_words
from iris.prompts import Quoted, from_notes
from iris.store import Store
from iris.tools import grounded

PAGE = 2_400
"""Characters of a made-up page."""

SKIP = 4
"""Every so-manieth question of the course is searched for."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--course", default="id2223")
    parser.add_argument("--pages", type=int, default=2_000)
    parser.add_argument("--foreign", type=Path)
    parser.add_argument("--students", type=int, default=10)
    parser.add_argument("--no-engine", action="store_true")
    options = parser.parse_args(arguments)
    course = courses.find(options.course)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "iris.db")
        _search(store, course, options.pages)
        _coverage(store, course, options.foreign)
        _citations(course)
        if not options.no_engine:
            _first_tokens(store, course, options.students)
        store.close()
    return 0


def _search(store: Store, course: Course, pages: int) -> None:
    began = time.perf_counter()
    library.sync(store, course)
    print(f"index the course's {len(course.notes)} notes: {1e3 * (time.perf_counter() - began):.0f} ms")
    book = _book(course, pages)
    store.student("bench")
    began = time.perf_counter()
    library.add(store, "bench", course.id, book)
    took = time.perf_counter() - began
    with store.read() as connection:
        passages = connection.execute("SELECT count(*) FROM student_passages").fetchone()[0]
    print(f"cut and index {pages} pages into {passages} passages: {took:.1f} s")
    questions = [question.question for question in course.questions]
    scope = Scope(course.id, "bench")

    def bare(question: str) -> None:
        match = " OR ".join(f'"{word}"' for word in content_words(question))
        with store.read() as connection:
            connection.execute(
                "SELECT rowid FROM student_index WHERE student_index MATCH ? ORDER BY bm25(student_index) LIMIT 10",
                (match,),
            ).fetchall()

    def scan(question: str) -> None:
        words = content_words(question)
        where = " OR ".join("body LIKE ?" for _ in words)
        with store.read() as connection:
            connection.execute(f"SELECT id FROM student_passages WHERE {where}", [f"%{w}%" for w in words]).fetchall()

    for name, run in (
        ("search, with the course's notes", lambda question: search(store, question, scope)),
        ("FTS5's bm25 alone", bare),
        ("LIKE", scan),
    ):
        both = [_timed(run, question) for question in questions[::SKIP] if content_words(question)]
        clocks = ("by the clock", "of the processor")
        for clock, times in zip(clocks, map(sorted, zip(*both, strict=True)), strict=True):
            print(
                f"  {name}, ms {clock}: median {1e3 * median(times):.1f}, "
                f"95 % under {1e3 * times[int(0.95 * len(times))]:.1f}, longest {1e3 * times[-1]:.1f}"
            )
    library.delete(store, "bench", library.own(store, "bench", course.id)[0].id)


def _book(course: Course, pages: int) -> Document:
    """Sentences of the course in random order: real words, as often as they are."""
    draw = random.Random(0)
    pool = [note.text[part.start : part.end] for note in course.notes for part in sentences(note.text) if part.prose]
    texts = []
    for number in range(pages):
        text = f"Page {number}"
        while len(text) < PAGE:
            text += ("\n\n" if draw.random() < 0.2 else " ") + draw.choice(pool)
        texts.append(text)
    return Document("A made-up book", "pdf", tuple(texts))


def _timed(run: Callable[[str], object], question: str) -> tuple[float, float]:
    """Seconds by the clock and of the processor: on a busy machine the first says more about the others on it."""
    began, worked = time.perf_counter(), time.thread_time()
    run(question)
    return time.perf_counter() - began, time.thread_time() - worked


def _coverage(store: Store, course: Course, foreign: Path | None) -> None:
    scope = Scope(course.id)
    ours = [search(store, question.question, scope).covered for question in course.questions]
    print(f"questions of the course taken for covered: {sum(ours)} of {len(ours)}")
    if foreign:
        rows = json.loads(foreign.read_text(encoding="utf-8"))
        asked = [row if isinstance(row, str) else row["instruction"] for row in rows]
        theirs = [search(store, question, scope).covered for question in asked]
        print(f"questions about anything else taken for covered: {sum(theirs)} of {len(theirs)}")


def _citations(course: Course) -> None:
    draw = random.Random(0)
    sources = {
        note.topic: [
            Source(note.text[piece.start : piece.end], f"{note.title}. {piece.heading}")
            for piece in chunk.pieces(Document(note.title, "markdown", (note.text,)))
        ]
        for note in course.notes
    }
    claims = [
        (note.topic, note.text[part.start : part.end])
        for note in course.notes
        for part in sentences(note.text)
        if part.prose and part.end - part.start > 30
    ]

    def cited(topic: str, claim: str) -> bool:
        return any(source.supports(claim) for source in sources[topic])

    began = time.perf_counter()
    found = sum(cited(*claim) for claim in claims)
    took = 1e3 * (time.perf_counter() - began) / len(claims)
    print(f"sentences of the notes, as they stand: {found} of {len(claims)} cited, {took:.1f} ms each")
    for name, plant in PLANTS.items():
        planted = [(topic, false) for topic, claim in claims if (false := plant(claim, draw))]
        print(f"  with {name}: {sum(cited(*one) for one in planted)} of {len(planted)} cited")
    strangers = [(draw.choice([t for t in sources if t != topic]), claim) for topic, claim in claims]
    print(f"  held against another topic: {sum(cited(*one) for one in strangers)} of {len(strangers)} cited")


def _number(claim: str, draw: random.Random) -> str | None:
    found = [match for match in re.finditer(r"(?<![\w.{^-])\d+(?![\w.)])", claim) if match.start() > 3]
    if not found:
        return None
    match = draw.choice(found)
    return f"{claim[: match.start()]}{int(match[0]) + 1 + draw.randrange(9)}{claim[match.end() :]}"


def _negation(claim: str, draw: random.Random) -> str | None:
    match = re.search(r"\b(?:is|are|can|must|has|have|does|will)\b", claim)
    return f"{claim[: match.end()]} not{claim[match.end() :]}" if match else None


def _opposite(claim: str, draw: random.Random) -> str | None:
    found = [match for match in re.finditer(r"\w+", claim) if match[0] in OPPOSITES]
    if not found:
        return None
    match = draw.choice(found)
    return f"{claim[: match.start()]}{OPPOSITES[match[0]]}{claim[match.end() :]}"


def _name(claim: str, draw: random.Random) -> str | None:
    found = list(re.finditer(r"\b[A-Z]\w*[A-Z0-9]\w*\b", claim))
    if not found:
        return None
    match = draw.choice(found)
    return f"{claim[: match.start()]}{draw.choice(['GPTQ-7', 'XLNet', 'DeBERTa'])}{claim[match.end() :]}"


def _exchange(claim: str, draw: random.Random) -> str | None:
    words = list(re.finditer(r"\b[a-z]{6,}\b", claim))
    if len(words) < 4 or words[0][0] == words[-1][0]:
        return None
    first, last = words[0], words[-1]
    middle = claim[first.end() : last.start()]
    return f"{claim[: first.start()]}{last[0]}{middle}{first[0]}{claim[last.end() :]}"


PLANTS: dict[str, Callable[[str, random.Random], str | None]] = {
    "another number": _number,
    "a negation": _negation,
    "the opposite word": _opposite,
    "another name": _name,
    "two words exchanged": _exchange,
}
_PAIRS = (
    "large small,more less,before after,first last,higher lower,increases decreases,high low,larger smaller,one two"
)
OPPOSITES = {word: other for pair in _PAIRS.split(",") for word, other in (pair.split(" "), reversed(pair.split(" ")))}


def _first_tokens(store: Store, course: Course, students: int) -> None:
    from iris.engine.batch import LocalEngine

    engine = LocalEngine(
        catalog.resolve(settings.DEFAULT_MODEL).path, slots=4, context=4096, threads=settings.cpu_quota()
    )
    scope = Scope(course.id)
    draw = random.Random(1)
    topics = draw.sample([topic.id for topic in course.topics if len(course.questions_of(topic.id)) > 1], students)
    complete(engine, GenerationRequest(from_notes("Hello?", ()), Sampling(max_tokens=1)))  # as at the start of Iris
    rows: dict[str, list[float]] = {"the first on a topic": [], "the next, same question": [], "the next, another": []}
    read: dict[str, list[int]] = {name: [] for name in rows}
    for topic in topics:
        one, other = (question.question for question in draw.sample(course.questions_of(topic), 2))
        for name, question in zip(rows, (one, one, other), strict=True):
            began = time.perf_counter()
            grounds = grounded.look_up(store, scope, question)
            quoted = [Quoted(passage.label, passage.text) for passage in grounded.that_fit(engine, grounds.passages)]
            searched = time.perf_counter() - began
            _, usage = complete(engine, GenerationRequest(from_notes(question, quoted), Sampling(max_tokens=1)))
            rows[name].append(searched + (usage.first_token_s or 0.0))
            read[name].append(usage.prompt_tokens - usage.cached_tokens)
    for name, times in rows.items():
        print(
            f"first token, {name}: median {median(times):.2f} s, longest {max(times):.2f} s "
            f"({median(read[name]):.0f} tokens read)"
        )
    engine.close()


if __name__ == "__main__":
    sys.exit(main())
