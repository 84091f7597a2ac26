"""How well the screening classifier does on examples that it has not learned from, and what it has to beat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from support.screening.classifier import Classifier, Score
from support.screening.encoder import load
from support.screening.normalise import undisguised
from support.screening.tuned import pooled, windows
from training.screening.dataset import Example

MARKS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
BATCH = 16


def in_batches(classifier: Classifier, examples: Sequence[Example]) -> Iterator[Score]:
    """One score for each example, in order."""
    for start in range(0, len(examples), BATCH):
        yield from classifier([example.text for example in examples[start : start + BATCH]])


def report(examples: Sequence[Example], scores: Sequence[float]) -> str:
    """By author and kind, the share at or above some thresholds: recall of what is at risk, false positives of the rest."""
    lines = [f"{'author':<12}{'kind':<16}{'at risk':<9}{'rows':>5}  " + "".join(f"{'>= ' + str(m):>9}" for m in MARKS)]
    groups: dict[tuple[str, str, bool], list[float]] = {}
    for example, score in zip(examples, scores, strict=True):
        risk = example.level >= 2
        groups.setdefault((example.author, example.kind, risk), []).append(score)
        groups.setdefault(("~ all", "", risk), []).append(score)
    lines += [_row(*key, groups[key]) for key in sorted(groups)]
    return "\n".join(lines)


def _row(author: str, kind: str, risk: bool, rows: Sequence[float]) -> str:
    shares = "".join(f"{sum(value >= mark for value in rows) / max(1, len(rows)):>9.3f}" for mark in MARKS)
    return f"{author:<12}{kind:<16}{'yes' if risk else 'no':<9}{len(rows):>5}  {shares}"


def baseline(examples: Sequence[Example], encoder_name: str) -> str:
    """Each author held out in turn: what a logistic regression over the untrained encoder's vectors would find."""
    encoder = load(encoder_name)
    with torch.inference_mode():
        rows = [pooled(encoder.model, [windows(undisguised(e.text), encoder)[0].ids])[0].numpy() for e in examples]
    vectors, risk = np.stack(rows), np.array([e.level >= 2 for e in examples])
    lines = [f"{'held out':<12}{'rows':>6}{'area under ROC':>16}{'recall at 5 % false positives':>31}"]
    for author in sorted({e.author for e in examples}):
        held = np.array([e.author == author for e in examples])
        if risk[held].all() or not risk[held].any():
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        found = model.fit(vectors[~held], risk[~held]).decision_function(vectors[held])
        area = roc_auc_score(risk[held], found)
        recall = (found[risk[held]] > np.quantile(found[~risk[held]], 0.95)).mean()
        lines.append(f"{author:<12}{int(held.sum()):>6}{area:>16.3f}{recall:>31.3f}")
    return "\n".join(lines)
