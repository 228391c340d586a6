"""Fit a conversation into the context: the oldest turns go, the system prompt and the last question stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iris.engine import Message
from iris.errors import PromptTooLong

SHORTEST_ANSWER = 64
"""A prompt that leaves less room than this for the answer is refused."""

BLOCK = 4
"""Messages are dropped this many at a time. Each drop shifts the prompt, so that all of it must be read again; dropping
two turns ahead of need halves how often a long conversation pays for that."""


def fit(
    messages: Sequence[Message],
    encode: Callable[[Sequence[Message]], list[int]],
    *,
    context: int,
    answer: int,
) -> tuple[list[int], int, int]:
    """Encode ``messages`` so that the prompt and an answer of ``answer`` tokens fit into ``context``.

    Returns:
        (token ids, how many of the oldest messages were dropped, tokens left for the answer).

    Raises:
        PromptTooLong: the system prompt and the last message alone leave no room for a short answer.
    """
    head = 1 if messages[0].role == "system" else 0
    system, turns = list(messages[:head]), list(messages[head:])
    wanted = min(answer, max(SHORTEST_ANSWER, context // 2))

    prompt = encode(messages)
    if len(prompt) + wanted <= context:
        return prompt, 0, context - len(prompt)

    # The conversation must go on with a question: only an even number of the oldest messages can leave, when they
    # alternate. Fewest drops first, in blocks; found by bisection because every trial tokenizes the rest.
    choices = [count for count in range(BLOCK, len(turns), BLOCK) if turns[count].role == "user"]
    last = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=0)
    if last > 0 and last not in choices:
        choices.append(last)
    low, high = 0, len(choices)
    best: tuple[list[int], int] | None = None
    while low < high:
        middle = (low + high) // 2
        trial = encode(system + turns[choices[middle] :])
        if len(trial) + wanted <= context:
            best, high = (trial, choices[middle]), middle
        else:
            low = middle + 1
    if best:
        prompt, dropped = best
        return prompt, dropped, context - len(prompt)

    prompt = encode(system + turns[last:])
    shortest = min(answer, SHORTEST_ANSWER)
    if len(prompt) + shortest > context:
        raise PromptTooLong(len(prompt), context - shortest)
    return prompt, last, context - len(prompt)
