"""The named cleaning rules for prompts, each with examples of what it changes and of what it must leave alone.

A rule removes a meta-instruction: words that say how to write an answer (its length, its form, an example from
industry) and not what to answer. The answers in our data do not follow them, so leaving them in would teach a model
to ignore its reader. The examples are data: ``tests/unit/test_data_clean.py`` runs all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from data.clean_words import (
    ASK,
    BRIEF,
    END,
    EXAMPLE,
    FROM,
    IF,
    IT,
    LENGTH,
    MANY,
    OWN,
    RELATE,
    START,
    STOP,
    STYLE,
    UNIT,
    VERB,
)

BEHEADED = "cut-off-start"
_FLAGS = re.IGNORECASE


@dataclass(frozen=True, slots=True)
class Rule:
    """``pattern`` is replaced by ``to`` in a prompt. It can be there only if one of ``needs`` is, in small letters.

    ``leak`` says that a sentence of a model's answer that begins with this pattern is a meta-instruction. ``changes``
    are pairs of a prompt before and after; ``leaves`` are prompts that the rule must not touch.
    """

    name: str
    why: str
    needs: tuple[str, ...]
    pattern: re.Pattern[str]
    to: str | Callable[[re.Match[str]], str]
    changes: tuple[tuple[str, str], ...]
    leaves: tuple[str, ...]
    leak: bool = True

    def may_match(self, small: str) -> bool:
        """A quick look at a text in small letters: False where the pattern cannot be."""
        for word in self.needs:  # no any(): this runs twenty times for every prompt
            if word in small:
                return True
        return not self.needs


def _rule(
    name: str, why: str, needs: str, pattern: str, to: str | Callable[[re.Match[str]], str], **more: object
) -> Rule:
    return Rule(name, why, tuple(needs.split()), re.compile(pattern, _FLAGS), to, **more)  # type: ignore[arg-type]


def _with_article(match: re.Match[str]) -> str:
    """``a concise explanation`` without its adjective is ``an explanation``; a capital stays one."""
    article = match["article"]
    if article.lower() in ("a", "an"):
        small = "an" if match["noun"][0].lower() in "aeiou" else "a"
        article = small.capitalize() if article[0].isupper() else small
    return f"{article} {match['noun']}"


RULES: tuple[Rule, ...] = (
    _rule(
        BEHEADED,
        "A removed introduction left its comma behind.",
        "",
        r"\A[\s,;:.!?)\]}…–—]*(?:[,;)\]}…–—]|[:.!?](?=\s|\Z))\s*",
        "",
        changes=(
            (", how do we read a learning curve?", "How do we read a learning curve?"),
            (". Name two loss functions.", "Name two loss functions."),
            ("…: what is a checkpoint?", "What is a checkpoint?"),
            (",why is it slow?", "Why is it slow?"),
        ),
        leaves=(
            ".NET or Java: which one compiles to bytecode?",
            "-5 is the input. What does ReLU return?",
            "- one\n- two",
        ),
        leak=False,
    ),
    _rule(
        "compare-it",
        "“Briefly compare it to another method.” asks for a second answer that the first does not contain.",
        "compare contrast",
        rf"{START}(?:please\s+)?(?:also\s+)?(?:{BRIEF}\s+)?(?:compare|contrast)\s+{IT}\s+(?:to|with|against)\s+"
        r"(?:an?\s+|the\s+|some\s+|any\s+)?(?:alternatives?|similar|related|other|another|different|competing)"
        rf"(?:\s+(?:approach|approache|method|technique|concept|model|idea|option)s?)?{STOP}",
        "",
        changes=(
            ("What is bagging? Briefly compare it to another method.", "What is bagging?"),
            ("Explain gossip protocols. Contrast them with an alternative technique.", "Explain gossip protocols."),
        ),
        leaves=(
            "Compare TCP and UDP",
            "Explain UDP. Compare it with TCP.",
            "Compare it to an alternative.",
            "How does it compare to other methods?",
        ),
    ),
    _rule(
        "brief-first",
        "“Briefly explain …” asks for a length.",
        "brief concise succinct nutshell shortly",
        rf"{START}(?:{BRIEF}|shortly)(?:\s+(?:and|but)\s+\w+ly)?\s*,?\s+(?={ASK}\b)",
        "",
        changes=(
            ("Briefly compare TCP and UDP.", "Compare TCP and UDP."),
            ("Briefly, what is a feature store?", "What is a feature store?"),
            (
                "Look at the loss curve. Concisely explain what it shows.",
                "Look at the loss curve. Explain what it shows.",
            ),
        ),
        leaves=(
            "Compare TCP and UDP",
            "Shortly after the release the error doubled. Why?",
            "The server was briefly down. What should the client do?",
        ),
    ),
    _rule(
        "brief-inside",
        "“Can you briefly explain …” asks for a length.",
        "brief concise succinct nutshell",
        rf"(?<=\w)(?P<mark>,?)\s+{BRIEF}\s+(?={VERB}\b)",
        r"\g<mark> ",
        changes=(
            ("Can you briefly explain backpropagation?", "Can you explain backpropagation?"),
            ("Define dropout and concisely describe its effect.", "Define dropout and describe its effect."),
        ),
        leaves=("Why does the loss briefly rise after a restart?", "He left briefly. Where did he go?"),
        leak=False,
    ),
    _rule(
        "brief-last",
        "“Explain … briefly.” asks for a length.",
        "brief concise succinct nutshell",
        rf"(?P<ask>{START}{ASK}\b[^.?!\n]*?\w),?\s+{BRIEF}{END}",
        r"\g<ask>",
        changes=(
            ("Explain early stopping briefly.", "Explain early stopping."),
            ("What is a tensor, in a nutshell?", "What is a tensor?"),
        ),
        leaves=("The lamp flashed briefly. Which fault is that?", "In brief bursts, how many requests can it serve?"),
        leak=False,
    ),
    _rule(
        "brief-noun",
        "“Give a concise definition …” asks for a length.",
        "brief concise short succinct",
        r"(?P<give>\b(?:give|provide|write|offer|present|formulate|state)(?:\s+me)?\s+)"
        r"(?P<article>an?|the|your)\s+(?:(?:very|brief|concise|short|succinct)\s+(?:and\s+\w+\s+)?)+"
        r"(?P<noun>definition|explanation|overview|description|answer|account|introduction|outline|discussion|comparison)\b",
        lambda match: match["give"] + _with_article(match),
        changes=(
            ("Give a concise definition of logistic regression.", "Give a definition of logistic regression."),
            ("Please provide a brief explanation of caching.", "Please provide an explanation of caching."),
        ),
        leaves=(
            "What is a short position?",
            "Write a short story about a robot.",
            "Give an example of overfitting",
            "Give a summary of the passage.",
        ),
        leak=False,
    ),
    _rule(
        "length-first",
        "“In two sentences, …” asks for a length.",
        "sentence word line paragraph bullet",
        rf"{START}{LENGTH}\s*[,:]\s*(?=\w)",
        "",
        changes=(
            ("In two sentences, explain weight decay.", "Explain weight decay."),
            ("In no more than 50 words: what is drift?", "What is drift?"),
        ),
        leaves=("In two words the vowel is silent. Which ones?", "In three layers, how many biases are there?"),
    ),
    _rule(
        "length-last",
        "“Explain … in 100 words” asks for a length.",
        "sentence word line paragraph bullet",
        rf"(?P<ask>{START}{ASK}\b[^.?!\n]*?\w),?\s+{LENGTH}{END}",
        r"\g<ask>",
        changes=(
            ("Explain the bias-variance trade-off in three sentences.", "Explain the bias-variance trade-off."),
            ("What is a p-value, in at most 40 words?", "What is a p-value?"),
            ("Define recall in one sentence, please.", "Define recall, please."),
            ("Describe a perceptron in one short paragraph.", "Describe a perceptron."),
        ),
        leaves=(
            "Write a poem in three lines.",
            "How many characters are there in two words of eight letters?",
            "Explain the role of attention in sentences with two clauses.",
        ),
        leak=False,
    ),
    _rule(
        "length-brackets",
        "“(max. 3 sentences)” or “(5 points)” is about the answer, not the question.",
        "( [",
        rf"[ \t]*[(\[](?:(?:in\s+)?{MANY}{UNIT}(?:\s+(?:or\s+(?:less|fewer)|max(?:imum)?))?|{BRIEF}|"
        r"\d+\s*(?:points?|pts?\.?|marks?|p\.?))[)\]]",
        "",
        changes=(
            ("Explain pooling (max. 3 sentences).", "Explain pooling."),
            ("What is an epoch? (2 points)", "What is an epoch?"),
            ("Describe a trie (briefly).", "Describe a trie."),
        ),
        leaves=("What does f(3) return?", "Plot the line through (2, 3) and (4, 7).", "Is the list [1, 2] sorted?"),
        leak=False,
    ),
    _rule(
        "example-sentence",
        "“Include an example from industry.” is an order about the answer.",
        "example case illustrat",
        rf"{START}(?:please\s+)?(?:also\s+)?(?:(?:include|add|provide|mention|use)\s+{EXAMPLE}(?:{FROM})?"
        rf"|(?:give|name)\s+{EXAMPLE}{FROM}|illustrate\s+(?:it|this|your\s+answer)?\s*with\s+{EXAMPLE}(?:{FROM})?){IF}{STOP}",
        "",
        changes=(
            ("What is caching? Include an example from industry.", "What is caching?"),
            ("Explain drift. Please provide a concrete example where possible.", "Explain drift."),
            ("Use at least one real-world example. Why do caches go stale?", "Why do caches go stale?"),
        ),
        leaves=(
            "Give an example of overfitting",
            "What is a gerund? Give an example.",
            "Provide an example of a convex function.",
            "Which of these is an example from industry?",
        ),
    ),
    _rule(
        "example-clause",
        "“…, and include an example from industry” is an order about the answer.",
        "example case illustrat",
        rf"(?<=\w)\s*,?\s+(?:and|then|while|but)?\s*(?:also\s+)?(?:(?:include|including|add|adding|provide|providing)\s+"
        rf"{EXAMPLE}(?:{FROM})?|(?:give|giving|with|using|citing|mention|mentioning)\s+{EXAMPLE}{FROM}){IF}{END}",
        "",
        changes=(
            ("Explain batch inference and include an example from industry.", "Explain batch inference."),
            ("What is A/B testing, including a practical example?", "What is A/B testing?"),
            ("Describe a feature store with an example from industry.", "Describe a feature store."),
        ),
        leaves=(
            "Explain recursion with an example",
            "Define a monoid and give an example.",
            "How do I include an example in a docstring?",
        ),
        leak=False,
    ),
    _rule(
        "relate-sentence",
        "“Relate it to …” is an order about the answer.",
        "relat connect link tie",
        rf"{START}(?:please\s+)?(?:also\s+|then\s+)?(?:try\s+to\s+)?{RELATE}{STOP}",
        "",
        changes=(
            ("Explain momentum. Relate it to the course project.", "Explain momentum."),
            ("What is skew? Please also connect your answer to monitoring.", "What is skew?"),
            ("Why do we scale inputs? Try to link this to convergence.", "Why do we scale inputs?"),
        ),
        leaves=(
            "How does it relate to ridge regression?",
            "Relate the learning rate to the batch size.",
            "Relate it to transformers.",
        ),
    ),
    _rule(
        "relate-clause",
        "“… and relate it to …” is an order about the answer.",
        "relat connect link tie",
        rf"(?<=\w)\s*,?\s+(?:and|then|while)\s+(?:also\s+)?{RELATE.replace('relate|', 'relate|relating|', 1)}{END}",
        "",
        changes=(
            ("Define entropy and relate it to decision trees.", "Define entropy."),
            ("What is a replica, and link this to availability?", "What is a replica?"),
        ),
        leaves=("How do bias and variance relate to each other?", "Compare and relate the two losses."),
        leak=False,
    ),
    _rule(
        "own-words",
        "“In your own words” is about the answer.",
        "own",
        rf"{START}{OWN}\s*,?\s+(?=\w)|\s*,?\s+{OWN}{END}",
        "",
        changes=(
            ("In your own words, what is a gradient?", "What is a gradient?"),
            ("Explain recall in your own words.", "Explain recall."),
        ),
        leaves=("What do you mean by the words in your own title?", "Which words of your own would you add?"),
        leak=False,
    ),
    _rule(
        "style-sentence",
        "“Be concise.”, “Use bullet points.”, “Keep it under 100 words.” are about the answer.",
        "brief concise short succinct keep answer response yourself bullet own sentence jargon step max most more",
        rf"{START}(?:please\s*,?\s+)?(?:but\s+|and\s+)?{STYLE}(?:\s*,?\s*please)?{STOP}",
        "",
        changes=(
            ("What is TCP? Be concise.", "What is TCP?"),
            ("Keep your answer under 100 words. Why is the sky blue?", "Why is the sky blue?"),
            ("Compare SGD and Adam. Use bullet points. Please be brief and precise.", "Compare SGD and Adam."),
            ("How does Raft elect a leader? Think step by step.", "How does Raft elect a leader?"),
        ),
        leaves=(
            "What does it mean to be concise?",
            "Why should slides use bullet points?",
            "Justify your answer.",
            "What is the maximum of 3 words and 5 words?",
        ),
    ),
    _rule(
        "emphasis",
        "“Emphasise intuition over formulas.” is about the answer.",
        "emphasi stress favor favour prefer focus",
        rf"{START}(?:please\s+)?(?:emphasi[sz]e|stress|favou?r|prefer|focus\s+on)\s+(?:the\s+)?[\w-]+(?:\s+[\w-]+){{0,3}}?"
        rf"\s+(?:rather\s+than|over|instead\s+of|and\s+not|not)\s+(?:the\s+)?[\w-]+(?:\s+[\w-]+)?{STOP}",
        "",
        changes=(
            ("What is a kernel? Emphasise intuition over formulas.", "What is a kernel?"),
            ("Focus on the ideas rather than the mathematics. What is a prior?", "What is a prior?"),
        ),
        leaves=(
            "Why do some losses emphasise recall over precision?",
            "Focus on the second layer. What is its input size?",
        ),
    ),
    _rule(
        "also-mention",
        "“Can you also mention a pitfall?” asks for a second answer that the first does not contain.",
        "also",
        rf"{START}(?:(?:can|could|would)\s+you\s+(?:please\s+)?also\s+|(?:please\s+)?also\s+)"
        rf"(?:mention|name|give|add|include|point\s+out)\s+(?:an?|one|some|any|the)\s+[^.?!\n]{{2,60}}{STOP}",
        "",
        changes=(
            ("Explain checkpoints. Could you also name a common pitfall?", "Explain checkpoints."),
            ("What is a queue? Also mention one drawback.", "What is a queue?"),
        ),
        leaves=(
            "Name one benefit and one risk of caching.",
            "Can you mention a pitfall of early stopping?",
            "Does the index also include the deleted rows?",
        ),
    ),
    _rule(
        "course-context",
        "“… in the context of this course” says nothing to a reader who is not in the room.",
        "course lecture class module",
        r"(?:\A|(?<=[.?!]\s))(?:in|within)\s+(?:the\s+(?:context|scope)\s+of\s+)?(?:this|our|the)\s+"
        r"(?:course|lecture|class|module)\s*,\s*(?=\w)"
        r"|\s+(?:in|within)\s+(?:the\s+(?:context|scope)\s+of\s+)?(?:this|our)\s+(?:course|lecture|class|module)"
        r"(?=\s*[.?!,;]|\s*$)",
        "",
        changes=(
            ("Explain replication in the context of this course.", "Explain replication."),
            ("In our lecture, what is meant by a shard?", "What is meant by a shard?"),
        ),
        leaves=(
            "What is covered in the first lecture of the course?",
            "In this class of models, which is the fastest?",
        ),
        leak=False,
    ),
    _rule(
        "fellow-student",
        "“… to a classmate who was ill” describes a listener that the answer does not know.",
        "fellow mate",
        r"\s+to\s+(?:an?|your)\s+(?:fellow\s+student|class-?mate|fellow\s+learner)"
        r"(?:\s+who\s+[^.?!,\n]{2,60})?(?=\s*[.?!,]|\s*$)",
        "",
        changes=(
            ("How would you explain entropy to a classmate who was ill?", "How would you explain entropy?"),
            ("Describe two-phase commit to a fellow student.", "Describe two-phase commit."),
        ),
        leaves=("What should I say to a student who copies code?", "Explain entropy to a five-year-old."),
        leak=False,
    ),
)
