"""The linear model over runs of letters and words: fitted, kept and read again."""

import numpy as np
import pytest

from support.screening.ngrams import Ngrams
from training.screening.ngrams import fit

RISKY = ["the tide can have me", "the tide may take me soon", "let the tide have me tonight"]
PLAIN = ["the tide is at noon", "we swam at noon", "noon is lunch time"]


@pytest.fixture(scope="module")
def model():
    risky = [True] * len(RISKY) + [False] * len(PLAIN)
    return fit([*RISKY, *PLAIN], [risky, risky], buckets=2**12)


def test_it_tells_apart_what_it_has_not_read(model):
    odds = model(["the tide takes me", "lunch at noon"])
    assert odds.shape == (2, 2) and (odds[0] > 0).all() and (odds[1] < 0).all()


def test_a_disguise_changes_nothing(model):
    plain, disguised = model(["I want to kill me", "I w\u200bant to k1ll me"])
    assert np.allclose(plain, disguised)


def test_what_is_saved_reads_the_same(model, tmp_path):
    model.save(tmp_path)
    texts = [*RISKY, *PLAIN, "", "an unseen text", "\ud83d"]
    assert np.abs(Ngrams.load(tmp_path)(texts) - model(texts)).max() < 0.05  # kept in fp16


def test_no_words_are_kept(model, tmp_path):
    model.save(tmp_path)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"tide" not in kept and b"noon" not in kept
