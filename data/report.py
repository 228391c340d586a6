"""An audit in words: a verdict that a teacher can act on, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Weight = Literal["bad", "doubtful", "note"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One finding. ``bad`` ones make the data unfit to train on as it is, ``doubtful`` ones want a look."""

    weight: Weight
    text: str


def reasons(found: Mapping[str, Any]) -> list[Reason]:
    """What there is to say about the numbers of an audit, worst first."""
    order = {"bad": 0, "doubtful": 1, "note": 2}
    return sorted(_reasons(found), key=lambda reason: order[reason.weight])


def _reasons(found: Mapping[str, Any]) -> Iterator[Reason]:
    rows, pairs, prompts, answers = (
        found[name] for name in ("rows", "distinct_pairs", "distinct_prompts", "distinct_answers")
    )
    if pairs < 0.98 * rows:
        weight: Weight = "bad" if pairs < 0.5 * rows else "doubtful"
        yield Reason(
            weight, f"Only {pairs:,} of {rows:,} rows are different ({pairs / rows:.0%}); the rest are copies."
        )
    if answers < 0.9 * prompts:
        weight = "bad" if answers < 0.5 * prompts else "doubtful"
        yield Reason(
            weight,
            f"{prompts:,} different questions get only {answers:,} different answers: many get an answer that was "
            "written for another question.",
        )
    leak = found["random_split"]["same_answer"]
    if prompts and leak > 0.01:
        yield Reason(
            "bad" if leak > 0.2 else "doubtful",
            f"A random split would put {leak:.1%} of the test answers into training too, and measure memory. "
            "Split by group (data/build.py does).",
        )
    for check in found["contamination"]:
        if check["found"]:
            yield Reason(
                "bad",
                f"{check['found']:,} of the {check['prompts']:,} evaluation prompts of {check['name']} are in this "
                f"data (perhaps in other words). Example: {check['examples'][0]!r}",
            )
    damaged = found["damaged_prompts"]
    if damaged["prompts"]:
        kinds = ", ".join(f"{count:,} {name}" for name, count in damaged["kinds"].items())
        yield Reason(
            "doubtful" if damaged["prompts"] > 0.005 * max(1, prompts) else "note",
            f"Prompts that look damaged: {damaged['prompts']:,}, in {damaged['rows']:,} rows ({kinds}).",
        )
    template = found["templates"]
    if template["share"] > 0.2:
        yield Reason(
            "bad" if template["share"] > 0.6 else "doubtful",
            f"{template['share']:.0%} of the prompts are made from templates, the largest being "
            f"“{template['largest'][0]['text']}”: students ask in other words.",
        )
    told = found["meta_instructions"]
    if told["answers_share"] > 0.005:
        yield Reason(
            "bad",
            f"{told['answers']:,} answers contain instructions to the writer, such as “{told['answer_examples'][0]}”.",
        )
    if told["prompts_share"] > 0.01:
        yield Reason(
            "doubtful",
            f"{told['prompts_share']:.0%} of the prompts say how to answer (“briefly”, “in two sentences”, …); "
            "data/build.py takes that out.",
        )
    long = found["tokens"]["longer_than_1024"]
    if long > 0.02 * rows:
        yield Reason(
            "doubtful", f"{long / rows:.0%} of the rows are longer than 1,024 tokens, where trainers cut by default."
        )
    if found["malformed"]:
        yield Reason(
            "note", f"{found['malformed']:,} malformed rows were left out. The first: {found['malformed_rows'][0]}"
        )


def verdict(found: Mapping[str, Any]) -> dict[str, Any]:
    """A grade (fit, doubtful, unfit), a sentence, and the reasons."""
    listed = reasons(found)
    weights = {reason.weight for reason in listed}
    if "bad" in weights:
        grade, sentence = (
            "unfit",
            "Do not train on this as it is: a model would learn it by heart, or not what it should.",
        )
    elif "doubtful" in weights:
        grade, sentence = (
            "doubtful",
            "Usable after data/build.py has cleaned and split it; look at the points below first.",
        )
    else:
        grade, sentence = "fit", "Good to train on, after data/build.py has split it by group."
    return {
        "grade": grade,
        "sentence": sentence,
        "reasons": [{"weight": reason.weight, "text": reason.text} for reason in listed],
    }


def render(found: Mapping[str, Any]) -> str:
    """The whole report as plain text."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    judged = found["verdict"]
    yield f"Audit of {found['path']}"
    yield ""
    yield f"Verdict: {judged['grade']}. {judged['sentence']}"
    for reason in judged["reasons"]:
        yield f"  - {reason['text']}"
    yield ""
    yield from _table(
        ("rows", found["rows"], f"and {found['malformed']:,} malformed" if found["malformed"] else ""),
        ("different pairs", found["distinct_pairs"], _share(found["distinct_pairs"], found["rows"])),
        ("different prompts", found["distinct_prompts"], ""),
        ("different answers", found["distinct_answers"], ""),
    )
    near = found["near_duplicates"]
    for name in ("prompts", "answers"):
        if near[name]:
            yield from _table(
                (
                    f"nearly equal {name}",
                    near[name]["texts"],
                    f"in {near[name]['groups']:,} groups, the largest of {near[name]['largest_group']:,}",
                )
            )
    yield from _table(("groups to keep together", near["groups"], "in a split, by question or answer"))
    shared = found["shared_answers"]
    if shared:
        yield from _table(
            (
                "answers of several prompts",
                shared["answers"],
                f"used by {shared['prompts']:,} prompts, {shared['rows']:,} rows",
            )
        )
        for one in shared["most_shared"]:
            yield f"      {one['prompts']:,} prompts get: {_short(one['answer'])}"
    damaged = found["damaged_prompts"]
    yield from _table(("damaged prompts", damaged["prompts"], f"{damaged['rows']:,} rows" if damaged["rows"] else ""))
    yield from (f"      {example}" for example in damaged["examples"])
    template = found["templates"]
    yield from _table(
        ("prompts from templates", template["prompts"], f"{template['share']:.1%} of the different prompts")
    )
    yield from (f"      {one['prompts']:,} × {one['text']}" for one in template["largest"])
    told = found["meta_instructions"]
    rules = ", ".join(f"{name} {count:,}" for name, count in told["rules"].items())
    yield from _table(
        ("prompts with instructions", told["prompts"], rules),
        ("answers with instructions", told["answers"], ""),
    )
    yield from (f"      {example}" for example in told["answer_examples"])
    tokens = found["tokens"]
    yield f"  length in tokens ({tokens['tokenizer']}), {tokens['total']:,} in all"
    for name in ("prompt", "answer", "row"):
        spread = tokens[name]
        middle = f"median {spread['median']:,}, mean {spread['mean']:,}"
        yield f"      {name:<8} {middle}, 95 % up to {spread['p95']:,}, max {spread['max']:,}"
    leak = found["random_split"]
    yield f"  a random 80/10/10 split would put {leak['same_answer']:.1%} of the test answers into training"
    yield f"      ({leak['nearly_same_answer']:.1%} counting answers that are nearly the same)"
    if not found["contamination"]:
        yield "  contamination with evaluation prompts: not checked; name a file of them with --against"
    for check in found["contamination"]:
        yield (
            f"  evaluation prompts of {check['name']}: {check['found']:,} of {check['prompts']:,} are in this data "
            f"({check['rows']:,} rows)"
        )
        yield from (f"      {_short(example)}" for example in check["examples"])


def _table(*lines: tuple[str, int, str]) -> Iterator[str]:
    for name, number, remark in lines:
        yield f"  {name:<28}{number:>9,}  {remark}".rstrip()


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} of the rows" if whole else ""


def _short(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= 100 else line[:99] + "…"
