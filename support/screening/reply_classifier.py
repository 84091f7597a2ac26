"""The learned half of the gate: what a reply says where no phrase of gate.yaml names its words.

    problems_of(["Been there myself, years ago."])  ->  ["claims_to_be_human"]

A tuned encoder (`tuned`) in `assets/screening/reply_classifier/`. Where it cannot be loaded or breaks, `problems_of` gives
nothing, the gate's phrases go on alone, and `shared.state()` tells the page and /health.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from support.screening.normalise import ASSETS
from support.screening.tuned import Shared, Tuned

# Ids of gate.yaml, but for invented contacts, and for methods: no example of those is written down. Outputs of the head:
# whether there is a problem at all, then one for each of these.
PROBLEMS = (
    "affirms_delusion",
    "cannot_do",
    "claims_to_be_clinician",
    "claims_to_be_human",
    "diagnosis",
    "discourages_help",
    "encourages_harm",
    "medication",
    "minimising",
    "romance",
)


@dataclass(frozen=True)
class Score:
    """What the classifier says of a part of a reply: the probability of a problem, and the likeliest of PROBLEMS."""

    problem: float
    name: str


class ReplyClassifier(Tuned[Score]):
    """Of replies. Make it once: `problems_of` does."""

    folder = ASSETS / "reply_classifier"
    outputs = 1 + len(PROBLEMS)
    by_wording = slice(0, 1)
    threshold_names = ("problem",)

    def score(self, outputs: Any) -> Score:
        """Of the worst window."""
        best = outputs[int(outputs[:, 0].argmax())]
        return Score(float(best[0].sigmoid()), PROBLEMS[int(best[1:].argmax())])


# One for the process

shared = Shared("reply classifier", ReplyClassifier)


def problems_of(texts: Sequence[str], least: float | None = None) -> list[str | None]:
    """For each text, the problem it most likely has, or None; nothing at all where the classifier cannot be used.

    `least`: the probability from which on it counts; without it the one that the classifier was saved with.
    """
    if not texts:
        return []
    if least is None:
        least = shared.thresholds().get("problem", 1.0)
    return [score.name if score.problem >= least else None for score in shared.scores(texts) or []]
