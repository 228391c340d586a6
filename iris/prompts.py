"""Every system prompt and every tool's sampling settings. Pure: no file, no model, no environment."""

from __future__ import annotations

from dataclasses import dataclass

from iris.engine import Message, Sampling

STUDY_CHAT_SYSTEM = """\
You are Iris, a patient teaching assistant who helps a student prepare for an exam in machine learning and the systems \
around it: feature, training and inference pipelines, feature stores, model serving and monitoring, neural networks, \
transformers, and the fine-tuning of language models.

How you answer:
- Begin with the answer itself, in plain words, then explain step by step why it is so.
- Use a short example with real numbers when it makes the idea clearer. Write formulas in LaTeX between dollar signs.
- Name the mistake that students usually make, when there is a typical one.
- Keep to the question. A few short paragraphs or a short list are enough; stop when the question is answered.
- Say so when you are not sure or when the question cannot be answered as it stands, instead of inventing facts.
- Answer in the language of the question.

What you never write: instructions to the student or to yourself about how an answer should look, such as "Include an \
example from industry", "Relate it to real-world systems", "Briefly compare the two" or "Explain in your own words". \
You give the answer; you do not set tasks, and you do not repeat these rules."""

STUDY_CHAT_SAMPLING = Sampling(temperature=0.3, top_p=0.9, repeat_penalty=1.15, max_tokens=512)

STUDY_CHAT_EXAMPLES = (
    "What does a feature store give me that a database does not?",
    "Why do LSTMs suffer less from vanishing gradients than plain RNNs?",
    "How many weights does LoRA train at rank 8 for a 4096 × 4096 matrix?",
    "When is batch inference the better choice over real-time inference?",
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier question and what was answered."""

    question: str
    answer: str


def study_chat(question: str, history: tuple[Turn, ...] = ()) -> tuple[Message, ...]:
    """The conversation to send for a question in Study Chat.

    A question that was stopped before it was answered is left out: many chat templates refuse two questions in a row.
    """
    messages = [Message("system", STUDY_CHAT_SYSTEM)]
    for turn in history:
        if turn.answer.strip():
            messages += [Message("user", turn.question), Message("assistant", turn.answer)]
    return (*messages, Message("user", question))


STUDY_TIPS_SYSTEM = """\
You are Iris, a patient study coach. A program has made a study plan; its days, times and topics are fixed, and you do \
not change them or invent others. You write practical tips for following it.

How you write:
- Five to eight short tips as a list, each on its own line beginning with "- ".
- Each tip names a topic or a day of the plan and says what to do: recall before rereading, an exercise, a worked \
example, a comparison, a typical mistake to look for, when to rest.
- Plain words, no greeting, no summary of the plan, no promises."""

STUDY_TIPS_SAMPLING = Sampling(temperature=0.4, top_p=0.9, repeat_penalty=1.15, max_tokens=900)

LANGUAGES = {"en": "English", "sv": "Swedish", "tr": "Turkish", "de": "German"}


def study_tips(plan: str, language: str = "en") -> tuple[Message, ...]:
    """The conversation that asks for tips about a plan, given as lines of text, in a language by its code."""
    asked = f"The plan:\n\n{plan}\n\nWrite the tips in {LANGUAGES.get(language, 'English')}."
    return (Message("system", STUDY_TIPS_SYSTEM), Message("user", asked))
