"""What both classifiers share: windows, faults, and what is kept of a text."""

import json
import shutil
from itertools import pairwise

import pytest

from support.screening import LEARNED
from support.screening.classifier import Classifier, EnglishClassifier
from support.screening.encoder import english_files
from support.screening.reply_classifier import ReplyClassifier
from support.screening.tuned import CARD, HEAD, MOST_TOKENS, MOST_WINDOWS, ClassifierError, Shared, windows
from tests.conftest import use

NO_ENGLISH = not english_files()
KINDS = (
    Classifier,
    ReplyClassifier,
    pytest.param(
        EnglishClassifier,
        marks=pytest.mark.skipif(NO_ENGLISH, reason="the wheels of requirements-english.txt are not installed"),
    ),
)


class Fake:
    """Answers with whatever `answers` gives of the texts."""

    def __init__(self, answers):
        self.answers, self.thresholds = answers, {}

    def __call__(self, texts):
        return self.answers(texts)


@pytest.fixture
def shared(monkeypatch):
    def put(answers):
        kept = Shared("test classifier", Classifier)
        use(Fake(answers), kept, monkeypatch)
        return kept

    return put


# Shared


def test_a_text_is_read_once(shared):
    read = []
    kept = shared(lambda texts: read.extend(texts) or texts)
    assert kept.scores(["one", "two", "one"]) == ["one", "two", "one"]
    assert kept.scores(["two", "three"]) == ["two", "three"]
    assert read == ["one", "two", "three"]


def test_no_text_is_kept(shared):
    kept = shared(lambda texts: [0.5 for _ in texts])
    kept.scores(["Zebulon was here"])
    assert b"Zebulon" not in b"".join(kept._kept) and all(isinstance(key, bytes) for key in kept._kept)


def raises(texts):
    raise RuntimeError("cannot read " + texts[0])


@pytest.mark.parametrize("answers", [raises, lambda texts: [], lambda texts: None], ids=["raises", "too few", "none"])
def test_one_that_breaks_gives_none_and_says_so_without_the_text(shared, answers, caplog):
    kept = shared(answers)
    assert kept.scores(["Zebulon"]) is None
    state = kept.state()
    assert state["status"] == "off" and "failed" in state["problem"]
    assert "Zebulon" not in state["problem"] + caplog.text


def test_what_was_read_before_a_fault_does_not_hide_it(shared):
    kept = shared(lambda texts: texts)
    kept.scores(["one"])
    kept._made.answers = raises
    assert kept.scores(["two"]) is None and kept.scores(["one"]) == ["one"]
    assert kept.state()["status"] == "off"
    kept._made.answers = lambda texts: texts
    assert kept.scores(["two"]) == ["two"] and kept.state()["status"] == "ready"


# Files


@pytest.fixture(params=KINDS, ids=["classifier", "reply_classifier", "english_classifier"])
def copied(request, tmp_path):
    """(kind, a copy of its folder)"""
    shutil.copytree(request.param.folder, tmp_path / "copy")
    return request.param, tmp_path / "copy"


def test_the_app_has_one_of_each():
    assert {learned._kind for learned in LEARNED.values()} == {Classifier, ReplyClassifier, EnglishClassifier}


@pytest.mark.model
@pytest.mark.parametrize("missing", [CARD, HEAD, "adapter_model.safetensors", "ngrams.safetensors", "all"])
def test_a_missing_file_is_named_with_its_fix(copied, missing):
    kind, folder = copied
    if missing != "all" and not (folder / missing).exists():
        pytest.skip(f"it does without {missing}")
    shutil.rmtree(folder) if missing == "all" else (folder / missing).unlink()
    with pytest.raises(ClassifierError, match="Restore the folder"):
        kind(folder)


@pytest.mark.model
@pytest.mark.parametrize("name", [HEAD, "ngrams.safetensors"])
def test_a_file_cut_short(copied, name):
    kind, folder = copied
    if not (folder / name).exists():
        pytest.skip(f"it does without {name}")
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(ClassifierError):
        kind(folder)


@pytest.mark.parametrize("value", [None, 1.5, float("nan")])
def test_a_threshold_that_is_none_is_refused(copied, value):
    kind, folder = copied
    card = json.loads((folder / CARD).read_text())
    card["thresholds"][kind.threshold_names[0]] = value
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(ClassifierError, match="make it again"):
        kind(folder)


def test_a_card_without_a_threshold_is_refused(copied):
    kind, folder = copied
    card = json.loads((folder / CARD).read_text())
    del card["thresholds"][kind.threshold_names[-1]]
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(ClassifierError, match="make it again"):
        kind(folder)


@pytest.mark.model
def test_a_head_of_another_width_is_refused(copied):
    kind, folder = copied
    other = Classifier if kind is ReplyClassifier else ReplyClassifier
    shutil.copy(other.folder / HEAD, folder / HEAD)
    with pytest.raises(ClassifierError, match="make it again"):
        kind(folder)


@pytest.mark.model
def test_outputs_that_are_no_numbers_are_a_fault(copied):
    kind, folder = copied
    broken = kind(folder)
    broken.head.weight.data[0] = float("nan")
    with pytest.raises(ClassifierError, match="not numbers"):
        broken(["hello"])


# Windows


@pytest.mark.model
def test_windows_are_few_and_short():
    from support.screening.encoder import load

    encoder = load()
    for text in ("", "one word", "word " * 400, "word " * 40_000):
        cut = windows(text, encoder)
        assert 1 <= len(cut) <= MOST_WINDOWS and max(len(window.ids) for window in cut) <= MOST_TOKENS
    assert windows("word " * 40_000, encoder)[0].ids[:2] == windows("one", encoder)[0].ids[:2]


@pytest.mark.model
def test_a_window_has_the_characters_of_its_tokens():
    from support.screening.encoder import load

    encoder = load()
    text = " ".join(f"stone{i}" for i in range(200)) + " 最後の一言です"
    cut = windows(text, encoder)
    assert len(cut) > 1 and cut[0].text.startswith("stone0 stone1 ") and cut[-1].text.endswith("最後の一言です")
    for before, after in pairwise(cut):  # nothing is lost between them
        assert text.index(after.text) < text.index(before.text) + len(before.text)


@pytest.mark.model
@pytest.mark.parametrize("kind", KINDS)
def test_many_texts_at_once_score_as_one_by_one(kind):
    classifier = kind()
    texts = [f"This is line {i}, and that was line {i - 1}." for i in range(40)]
    together, alone = classifier(texts), [classifier([text])[0] for text in texts[::13]]
    first = kind.threshold_names[0]
    assert all(abs(getattr(a, first) - getattr(b, first)) < 0.03 for a, b in zip(together[::13], alone, strict=True))
