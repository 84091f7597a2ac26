"""Fit the linear model over runs of letters and words (`support.screening.ngrams`): seconds, on any machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from support.screening.ngrams import OUTPUTS, Ngrams, counts
from training.screening.dataset import Example

STRENGTH = 30.0  # inverse of the penalty: of 1 to 40, the higher ranked new authors better


def fit(examples: Sequence[Example], strength: float = STRENGTH) -> Ngrams:
    """One logistic regression for each output: level 2 or more, level 3."""
    texts = [example.text for example in examples]
    idf = np.stack([TfidfTransformer(sublinear_tf=True).fit(counted).idf_ for counted in counts(texts)])
    empty = Ngrams(idf, np.zeros((2 * idf.shape[1], OUTPUTS)), np.zeros(OUTPUTS))
    features = empty.features(texts).tocsr()
    models = [
        LogisticRegression(C=strength, solver="liblinear", max_iter=300).fit(features, [e.level >= n for e in examples])
        for n in (2, 3)
    ]
    return Ngrams(
        idf,
        np.concatenate([model.coef_ for model in models]).T,
        np.concatenate([model.intercept_ for model in models]),
    )
