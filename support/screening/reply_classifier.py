"""The learned half of the gate: what a reply says where no phrase of gate.yaml names its words.

    problem_in(["Been there myself, years ago."])  ->  "claims_to_be_human"

A tuned encoder (`tuned`) in `assets/screening/reply_classifier/`. Where it cannot be loaded or breaks, `problem_in` gives
None, the gate's phrases go on alone, and `shared.state()` tells the page and /health.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from support.screening.normalise import ASSETS
from support.screening.tuned import Shared, Tuned

# Ids of gate.yaml, but for methods: no example of those is written down. Outputs of the head: whether there is a problem at
# all, then one for each of these.
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
    """Of replies. Make it once: `problem_in` does."""

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


def problem_in(texts: Sequence[str]) -> str | None:
    """The problem of the worst of `texts` where it counts; None where none does, or the classifier cannot be used."""
    scores = shared.scores(texts)
    if not scores:
        return None
    worst = max(scores, key=lambda score: score.problem)
    return worst.name if worst.problem >= shared.thresholds()["problem"] else None
