"""The learned half of screening: what a message means where no rule names its words, in any of the claimed languages.

    classify(["I won't be a problem for anyone much longer"])  ->  [Score(at_risk=.98, imminent=.41, category="suicide")]

A tuned encoder (`tuned`) in `assets/screening/classifier/` reads every language. English is read by a second, larger one
too (`english_classifier/`), and the two are of one mind or meet in the middle. What the scores do beside the rules is `state`'s
matter. Where the first cannot be loaded or breaks, `classify` says so by None and the rules go on alone; where the second
does, the first goes on alone; `state()` of each tells the page and /health.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

from support import languages
from support.screening.normalise import ASSETS, undisguised
from support.screening.rules import CATEGORIES
from support.screening.tuned import Shared, Tuned, readable

TURN = " || "  # between turns that are read as one message
# In letters, of which a wide one (Chinese, Japanese, Korean) counts as three:
LONG = 300  # a message above this has parts
PART = 60  # a part has at least this: out of "Scares me." alone nothing can be told
MOST_PARTS = 24  # of one text
LONGEST_SENTENCE = 300  # characters; a longer one, or a text without a full stop, is cut between words
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?;\u2026\u061f])\s+|(?<=[\u3002\uff01\uff1f\u0964])|\n+")
SURE = 0.001  # with less risk than this, says the first, the second could change nothing and is not asked
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
    # `at_risk` of one message, `after_risk` after an earlier one was, `part` of a part of it read alone, `joined` of the
    # last turns read as one; `imminent` of level 3; below `doubt`, a rule of level 2 counts as level 1.
    threshold_names = ("at_risk", "after_risk", "part", "joined", "imminent", "doubt")

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


class EnglishClassifier(Classifier):
    """The same task over a larger encoder that reads English alone."""

    folder = ASSETS / "english_classifier"

    def __init__(self, folder: Path | None = None, encoder: str = "") -> None:
        """`encoder` is for the other one, and not read."""
        super().__init__(folder)


# One of each for the process

shared = Shared("screening classifier", Classifier)
english = Shared("second classifier of English", EnglishClassifier)


def classify(texts: Sequence[str], *, wait: bool = True) -> list[Score] | None:
    """Scores of `texts`, in their order; None where the classifier cannot be used. Never raises.

    `wait`: also for its loading, where that has begun behind the page. The second one is never waited for.
    """
    scores = shared.scores(texts, wait=wait) if texts else []
    if not scores:
        return scores
    doubtful = [i for i, score in enumerate(scores) if score.at_risk >= SURE and _is_english(texts[i])]
    second = english.scores([texts[i] for i in doubtful], wait=False) if doubtful else None
    for i, other in zip(doubtful, second or (), strict=False):
        scores[i] = _between(scores[i], other)
    return scores


def _is_english(text: str) -> bool:
    return languages.language_of([undisguised(readable(text))]) == "en"


def _between(first: Score, second: Score) -> Score:
    """Halfway in risk; the category is the second's, who knows the language better."""
    return Score(_halfway(first.at_risk, second.at_risk), _halfway(first.imminent, second.imminent), second.category)


def _halfway(one: float, other: float) -> float:
    """The probability whose log-odds are the mean of theirs."""
    logits = [math.log(p / (1 - p)) for p in (min(max(p, 1e-9), 1 - 1e-9) for p in (one, other))]
    return 1 / (1 + math.exp(-sum(logits) / 2))


def thresholds() -> dict[str, float]:
    """From which probability on a score counts. Empty where the classifier cannot be used."""
    return shared.thresholds()


def parts(text: str) -> list[str]:
    """The parts of a long message that are read alone too, for the whole drowns one sentence among many; [] of a short one.

    Neighbouring sentences together, PART letters at least and MOST_PARTS at most.
    """
    text = readable(text)
    whole = _letters(text)
    if whole <= LONG:
        return []
    least = max(PART, whole / MOST_PARTS)
    found: list[list[str]] = [[]]
    size = 0
    for sentence in _sentences(text):
        if size >= least:
            found.append([])
            size = 0
        found[-1].append(sentence)
        size += _letters(sentence)
    if size < least and len(found) > 1:
        found[-2:] = [[*found[-2], *found[-1]]]
    return [" ".join(part) for part in found] if len(found) > 1 else []


def _letters(text: str) -> int:
    return sum(3 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _sentences(text: str) -> Iterator[str]:
    for sentence in _BETWEEN_SENTENCES.split(text):
        rest = sentence.strip()
        while len(rest) > LONGEST_SENTENCE:
            end = rest.rfind(" ", 1, LONGEST_SENTENCE)
            end = end if end > 0 else LONGEST_SENTENCE
            yield rest[:end]
            rest = rest[end:].strip()
        if rest:
            yield rest
