"""What the study tools cost, and whether they disturb an answer that is being written beside them.

    python -m benchmarks.tools            # times of quiz, feedback and cheat sheet; scores over the whole course
    python -m benchmarks.tools --pairs 50 # of each question, 50 answers to other topics are graded
    python -m benchmarks.tools --stream   # and the gaps between the words of an answer, alone and beside the tools

Times are medians of processor time of the thread (what the work costs on an idle machine) and of wall time.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence

from iris import catalog, courses, prompts
from iris.courses import Course
from iris.engine import Engine, GenerationRequest, Sampling
from iris.tools import cheat_sheet, feedback, grading, quiz, sheet_pdf, words
from iris.tools.quiz_items import KINDS

REPEATS = 15


def timed(name: str, work: Callable[[int], object], repeats: int = REPEATS) -> None:
    """Print the median processor and wall time of ``work``, and those of its first call."""
    spent: list[tuple[float, float]] = []
    for number in range(repeats):
        cpu, wall = time.thread_time(), time.perf_counter()
        work(number)
        spent.append((time.thread_time() - cpu, time.perf_counter() - wall))
    first, rest = spent[0], spent[1:] or spent
    cpu, wall = (1000 * statistics.median(row[place] for row in rest) for place in (0, 1))
    print(f"{name:40} {cpu:8.1f} ms cpu {wall:8.1f} ms   first {1000 * first[0]:8.1f} ms cpu {1000 * first[1]:8.1f} ms")


def tools(course: Course) -> None:
    topics = [topic.id for topic in course.topics]

    def bank(number: int) -> object:
        wanted = quiz.checked(course, topics, 10, KINDS, "any")
        return quiz.complete(course, quiz.prepare(course, wanted, seed=number))

    def compare(number: int) -> object:
        row = course.questions[number * 37 % len(course.questions)]
        return feedback.compare(course, row.question, row.answer)

    def sheet(number: int) -> object:
        return cheat_sheet.compose(course, topics[number : number + 4])

    timed("a bank quiz of 10 items", bank)
    timed("feedback without the model", compare)
    timed("a cheat sheet of 4 topics", sheet)
    timed("its PDF", lambda number: sheet_pdf.pdf(cheat_sheet.compose(course, topics[number : number + 4])))


def scores(course: Course, pairs: int) -> None:
    """The distribution of scores over all questions of the course."""
    lexicon, draw = words.lexicon(course), random.Random(1)
    found: dict[str, list[float]] = {}

    def add(name: str, answer: str, row: courses.Question) -> None:
        found.setdefault(name, []).append(grading.grade(answer, row.answer, row.question, lexicon).score)

    for row in course.questions:
        others = [other for other in course.questions if other.topic != row.topic]
        add("the reference", row.answer, row)
        add("its first half", row.answer[: len(row.answer) // 2], row)
        add("nothing", "", row)
        add("the question copied", row.question, row)
        for other in draw.sample(others, min(pairs, len(others))):
            add("another topic's answer", other.answer, row)
    heads = ("answers", "min", "p5", "median", "p95", "max", "> 0.2", "< 0.9")
    print(f"\n{'score of':26}" + "".join(f"{head:>8}" for head in heads))
    for name, values in found.items():
        values.sort()
        at = [values[min(len(values) - 1, int(share * len(values)))] for share in (0, 0.05, 0.5, 0.95)]
        over, under = sum(value > 0.2 for value in values), sum(value < 0.9 for value in values)
        shown = "".join(f"{value:8.2f}" for value in (*at, values[-1]))
        print(f"{name:26}{len(values):8}{shown}{over:8}{under:8}")


def gaps(engine: Engine) -> list[float]:
    """Seconds between the pieces of one answer."""
    request = GenerationRequest(
        prompts.study_chat("Tell me a long story about gradients."), Sampling(max_tokens=200, seed=1)
    )
    times = [time.perf_counter() for chunk in engine.stream(request) if chunk.text]
    return sorted(later - earlier for earlier, later in itertools.pairwise(times))


def stream(course: Course) -> None:
    """Gaps of a stream alone, and while a thread makes quizzes, feedback and sheets without a pause."""
    from iris.engine.batch import LocalEngine

    sys.setswitchinterval(0.001)  # as the server does
    engine = LocalEngine(
        catalog.resolve("smollm2-135m").path, model_id="smollm2-135m", slots=4, context=2048, cache=8192
    )
    stop = threading.Event()

    def busy() -> None:
        topics = [topic.id for topic in course.topics]
        number = 0
        while not stop.is_set():
            number += 1
            wanted = quiz.checked(course, topics, 10, KINDS, "any")
            quiz.complete(course, quiz.prepare(course, wanted, seed=number))
            row = course.questions[number % len(course.questions)]
            feedback.compare(course, row.question, row.answer)
            sheet_pdf.pdf(cheat_sheet.compose(course, topics[number % 50 : number % 50 + 4]))

    print(f"\n{'gaps between words':26} {'median':>8} {'p95':>8} {'max':>8}")
    gaps(engine)
    for name in ("alone", "beside the tools"):
        worker = threading.Thread(target=busy, daemon=True)
        if name != "alone":
            worker.start()
        found = gaps(engine)
        stop.set()
        if name != "alone":
            worker.join()
        stop.clear()
        shown = (statistics.median(found), found[int(0.95 * len(found))], found[-1])
        print(f"{name:26} " + " ".join(f"{1000 * gap:6.1f}ms" for gap in shown))
    engine.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--course", default="id2223")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--stream", action="store_true")
    options = parser.parse_args(arguments)
    course = courses.find(options.course)
    tools(course)
    scores(course, options.pairs)
    if options.stream:
        stream(course)
    return 0


if __name__ == "__main__":
    sys.exit(main())
