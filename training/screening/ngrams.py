"""Fit the linear model over runs of letters and words (`support.screening.ngrams`): seconds, on any machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from support.screening.ngrams import Ngrams, counts

STRENGTH = 30.0  # inverse of the penalty: of 1 to 40, the higher ranked new authors better


def fit(texts: Sequence[str], answers: Sequence[Sequence[bool]], buckets: int) -> Ngrams:
    """One logistic regression for each output.

    Args:
        texts: what to learn from.
        answers: for each output, whether it holds of each text.
        buckets: that runs are hashed into, of each of the two kinds.
    """
    idf = np.stack([TfidfTransformer(sublinear_tf=True).fit(counted).idf_ for counted in counts(texts, buckets)])
    empty = Ngrams(idf, np.zeros((2 * buckets, len(answers))), np.zeros(len(answers)))
    features = empty.features(texts).tocsr()
    models = [
        LogisticRegression(C=STRENGTH, solver="liblinear", max_iter=300).fit(features, answer) for answer in answers
    ]
    return Ngrams(
        idf,
        np.concatenate([model.coef_ for model in models]).T,
        np.concatenate([model.intercept_ for model in models]),
    )
