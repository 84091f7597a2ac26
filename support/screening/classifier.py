"""The learned half of screening: what a message means where no rule names its words, in any of the claimed languages.

    classify(["I won't be a problem for anyone much longer"])  ->  [Score(at_risk=.98, imminent=.41, category="suicide")]

A tuned encoder (`tuned`) in `assets/screening/classifier/`. What its scores do beside the rules is `state`'s matter. Where it
cannot be loaded or breaks, `classify` says so by None, the rules go on alone, and `state()` tells the page and /health.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.screening.normalise import ASSETS
from support.screening.rules import CATEGORIES
from support.screening.tuned import Shared, Tuned

FOLDER = ASSETS / "classifier"
TURN = " || "  # between turns that are read as one message
LEVELS = 3  # outputs of the head: level >= 1, >= 2, >= 3; then one for each category
# `at_risk` of one message, `after_risk` after an earlier one was, `joined` of the last turns read as one; `imminent` of level
# 3; below `doubt`, a rule of level 2 counts as level 1.
THRESHOLDS = ("at_risk", "after_risk", "joined", "imminent", "doubt")


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

    wanted = THRESHOLDS
    by_wording = slice(1, LEVELS)

    def __init__(self, folder: Path = FOLDER, encoder: str = "") -> None:
        super().__init__(folder, encoder)

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

_shared = Shared("screening classifier", lambda encoder: Classifier(encoder=encoder))


def classify(texts: Sequence[str]) -> list[Score] | None:
    """Scores of `texts`, in their order; None where the classifier cannot be used: see `state`. Never raises."""
    return _shared.scores(texts) if texts else []


def thresholds() -> dict[str, float]:
    """From which probability on a score counts: THRESHOLDS. Empty where the classifier cannot be used."""
    return _shared.thresholds()


def state() -> dict[str, str | None]:
    """`status`: ready, loading (or not asked for yet) or off; `problem`: why it is off. Waits for nothing."""
    return _shared.state()


def warm() -> None:
    """Load now, so that no message waits for it."""
    _shared.get()
