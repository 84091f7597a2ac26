"""The learned half of screening: what a message means where no rule names its words, in any of the claimed languages.

    classify(["I won't be a problem for anyone much longer"])  ->  [Score(at_risk=.98, imminent=.41, category="suicide")]

A tuned encoder (`tuned`) in `assets/screening/classifier/`. What its scores do beside the rules is `state`'s matter. Where it
cannot be loaded or breaks, `classify` says so by None, the rules go on alone, and `shared.state()` tells the page and /health.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from support.screening.normalise import ASSETS
from support.screening.rules import CATEGORIES
from support.screening.tuned import Shared, Tuned

TURN = " || "  # between turns that are read as one message
LEVELS = 3  # outputs of the head: level >= 1, >= 2, >= 3; then one for each category


@dataclass(frozen=True)
class Score:
    """What the classifier says of one message.

    Attributes:
        at_risk: probability that the level is 2 or more.
        imminent: probability that the level is 3.
        category: the likeliest of the categories that can be at risk.
    """

    at_risk: float
    imminent: float
    category: str


class Classifier(Tuned[Score]):
    """Of messages. Make it once: `classify` does."""

    folder = ASSETS / "classifier"
    outputs = LEVELS + len(CATEGORIES)
    by_wording = slice(1, LEVELS)
    # `at_risk` of one message, `after_risk` after an earlier one was, `joined` of the last turns read as one; `imminent` of
    # level 3; below `doubt`, a rule of level 2 counts as level 1.
    threshold_names = ("at_risk", "after_risk", "joined", "imminent", "doubt")

    def score(self, outputs: Any) -> Score:
        """Of the window most at risk, and as imminent as any."""
        levels = outputs[:, :LEVELS].sigmoid()
        best = int(levels[:, 1].argmax())
        return Score(float(levels[best, 1]), float(levels[:, 2].max()), _likeliest(outputs[best, LEVELS:].tolist()))


def _likeliest(values: Sequence[float]) -> str:
    at_risk = [
        (value, name) for value, name in zip(values, CATEGORIES, strict=True) if name not in ("none", "distress")
    ]
    return max(at_risk)[1]


# One for the process

shared = Shared("screening classifier", Classifier)


def classify(texts: Sequence[str], *, wait: bool = True) -> list[Score] | None:
    """Scores of `texts`, in their order; None where the classifier cannot be used. Never raises.

    `wait`: also for its loading, where that has begun behind the page.
    """
    return shared.scores(texts, wait=wait) if texts else []


def thresholds() -> dict[str, float]:
    """From which probability on a score counts. Empty where the classifier cannot be used."""
    return shared.thresholds()
