"""Which topics to learn when there is not time for all: a knapsack with prerequisites, solved exactly by HiGHS.

Every topic can be learned in full, in short (half the time, for most of the worth) or not at all, and only together
with its prerequisites. What is chosen is worth most of all that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import highspy

from iris.errors import PlanError

SHORT_WORTH = 0.75
"""What the first half of a topic's learning time is worth of the whole."""


@dataclass(frozen=True, slots=True)
class Need:
    """Slots that a topic still takes: ``short`` for one half, ``rest`` for the other; ``total`` from the start."""

    total: int
    short: int
    rest: int
    worth: float
    prerequisites: tuple[str, ...] = ()


def choose(needs: Mapping[str, Need], room: int) -> dict[str, int | None]:
    """Slots for each topic, None for what is left out; together they are at most ``room``.

    A topic that was begun and needs no more for its short form is never left out.
    """
    if sum(need.short + need.rest for need in needs.values()) <= room:
        return {name: need.short + need.rest for name, need in needs.items()}
    solver = _Quiet()
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("mip_abs_gap", 0.0)
    short = {name: solver.addBinary() for name in needs}
    rest = {name: solver.addBinary() for name in needs}
    for name, need in needs.items():
        solver.addConstr(rest[name] <= short[name])
        if not need.short:
            solver.addConstr(short[name] >= 1)
        for earlier in need.prerequisites:
            if need.short:
                solver.addConstr(short[name] <= short[earlier])
    solver.addConstr(sum(need.short * short[name] + need.rest * rest[name] for name, need in needs.items()) <= room)
    solver.maximize(
        sum(need.worth * (SHORT_WORTH * short[name] + (1 - SHORT_WORTH) * rest[name]) for name, need in needs.items())
    )
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise PlanError("Iris could not decide what to leave out. Choose fewer topics, or more hours.")
    chosen: dict[str, int | None] = {}
    for name, need in needs.items():
        if solver.val(short[name]) < 0.5:
            chosen[name] = None
        else:
            chosen[name] = need.short + (need.rest if solver.val(rest[name]) > 0.5 else 0)
    return chosen


class _Quiet(highspy.Highs):  # type: ignore[misc]
    """The solver without its greeting, which it would print before it can be told not to."""

    def enableCallbacks(self) -> None:  # which the constructor calls
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()
