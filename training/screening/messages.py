"""What the classifier of messages learns: the level, as three ordinal outputs, and the category.

A third of the examples of each epoch is put among others of its language, so that a clause in a long text is found. The others
are harmless: a text may not be at risk for its length.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from support.screening.classifier import LEVELS, Classifier
from support.screening.ngrams import Ngrams
from support.screening.rules import CATEGORIES
from support.screening.state import AT_RISK
from training.screening.dataset import Example
from training.screening.ngrams import fit
from training.screening.tuning import Row

AMONG_OTHERS = 0.33
OTHERS = (1, 1, 2, 3)
MOST_TOGETHER = 700  # characters of all texts in one: more, and the window would cut one of them off
WEIGHT_OF_LEVELS = torch.tensor([0.5, 1.0, 0.5])
WEIGHT_OF_CATEGORY = 0.2
BUCKETS = 2**18
# From which probability on a score counts. Chosen on the development file and the totals of the frozen conversations, so
# the figures on both are a little too good.
THRESHOLDS = {"at_risk": 0.9, "after_risk": 0.5, "part": 0.98, "joined": 0.97, "imminent": 0.7, "doubt": 0.05}


class Messages:
    """A `tuning.Task` over examples."""

    outputs = Classifier.outputs
    thresholds = THRESHOLDS

    def __init__(
        self, examples: Sequence[Example], drawn: Sequence[Example] | None = None, *, by_wording: bool = True
    ) -> None:
        """`drawn`: those that the encoder reads, unless it is all of them. The n-grams, where `by_wording`, are fitted to all."""
        self._by_wording = by_wording
        self.examples, self._all = drawn or examples, examples
        self.sources = {"examples": len(self.examples), "authors": len({e.author for e in self.examples})}
        self._harmless: dict[str, list[Example]] = {}
        for example in examples:
            if example.level < AT_RISK:
                self._harmless.setdefault(example.language, []).append(example)

    def epoch(self, draw: random.Random) -> list[Row[Example]]:
        rows = []
        for example in self.examples:
            if draw.random() < AMONG_OTHERS:
                others = draw.choices(self._harmless.get(example.language, [example]), k=draw.choice(OTHERS))
                example = _together([example, *others], draw)
            rows.append(Row(example.text, example))
        return rows

    def loss(self, outputs: Any, truths: Sequence[Example]) -> Any:
        level = torch.tensor([[float(e.level >= n) for n in range(1, LEVELS + 1)] for e in truths])
        category = torch.tensor([CATEGORIES.index(e.category) for e in truths])
        losses = binary_cross_entropy_with_logits(outputs[:, :LEVELS], level, reduction="none")
        named = cross_entropy(outputs[:, LEVELS:], category)
        return (losses * WEIGHT_OF_LEVELS).sum(-1).mean() + WEIGHT_OF_CATEGORY * named

    def ngrams(self) -> Ngrams | None:
        """Of level 2 or more, and of level 3."""
        if not self._by_wording:
            return None
        texts = [example.text for example in self._all]
        return fit(texts, [[e.level >= level for e in self._all] for level in (2, 3)], BUCKETS)


def _together(examples: list[Example], draw: random.Random) -> Example:
    """As many as fit, in any order, as one message. What is most at risk says what the whole is."""
    while sum(len(example.text) for example in examples) > MOST_TOGETHER and len(examples) > 1:
        examples.pop()
    worst = max(examples, key=lambda example: example.level)
    draw.shuffle(examples)
    return replace(worst, text=". ".join(example.text for example in examples))
