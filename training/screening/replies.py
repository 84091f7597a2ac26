"""What the classifier of replies learns: whether a sentence of a reply has a problem, and which.

In each epoch some sentences stand after or before fine ones, as they do in a reply.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from support.screening.ngrams import Ngrams
from support.screening.reply_classifier import PROBLEMS, ReplyClassifier
from training.screening.dataset import Sentence
from training.screening.ngrams import fit
from training.screening.tuning import Row

AFTER, BEFORE = 0.4, 0.1  # shares that stand after or before a fine sentence
WEIGHT_OF_NAME = 0.2
BUCKETS = 2**16
# From which probability on a sentence is withheld: a problem is likelier than not.
THRESHOLDS = {"problem": 0.5}


class Replies:
    """A `tuning.Task` over sentences of replies."""

    outputs = ReplyClassifier.outputs
    thresholds = THRESHOLDS

    def __init__(self, sentences: Sequence[Sentence], drawn: Sequence[Sentence] | None = None) -> None:
        """`drawn`: those that the encoder reads, unless it is all of them. The n-grams are fitted to all."""
        self.sentences, self._all = drawn or sentences, sentences
        self.sources = {"examples": len(self.sentences), "authors": len({s.author for s in self.sentences})}
        self._fine = [s.text for s in sentences if not s.problem]

    def epoch(self, draw: random.Random) -> list[Row[str]]:
        return [Row(self._placed(sentence.text, draw), sentence.problem) for sentence in self.sentences]

    def _placed(self, text: str, draw: random.Random) -> str:
        place = draw.random()
        if place < AFTER:
            return " ".join([*draw.choices(self._fine, k=draw.choice((1, 1, 2))), text])
        return f"{text} {draw.choice(self._fine)}" if place < AFTER + BEFORE else text

    def loss(self, outputs: Any, truths: Sequence[str]) -> Any:
        problem = torch.tensor([float(bool(name)) for name in truths])
        # Where nothing is wrong there is no name: such rows do not count for it.
        name = torch.tensor([PROBLEMS.index(name) if name else -100 for name in truths])
        found = binary_cross_entropy_with_logits(outputs[:, 0], problem)
        return found + (WEIGHT_OF_NAME * cross_entropy(outputs[:, 1:], name) if problem.any() else 0.0)

    def ngrams(self) -> Ngrams:
        return fit([s.text for s in self._all], [[bool(s.problem) for s in self._all]], BUCKETS)
