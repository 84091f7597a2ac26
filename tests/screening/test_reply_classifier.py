"""The learned half of the gate: how the gate uses it, its faults, and the real one on sentences that nobody trained on."""

import json
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from support.screening import Gate, GateRejection, check_reply, reply_classifier
from support.screening.reply_classifier import FOLDER, PROBLEMS, ReplyClassifier, Score
from support.screening.tuned import ClassifierError, Shared

FROZEN = Path(__file__).parent / "frozen_replies.tsv"


class Scripted:
    """Finds what a test needs it to find."""

    thresholds = {"problem": 0.5}

    def __init__(self, bad=()):
        self.bad, self.read = bad, []

    def __call__(self, texts):
        self.read += texts
        return [Score(0.9 if text in self.bad else 0.1, "romance") for text in texts]


@pytest.fixture
def shared(monkeypatch):
    """Puts a classifier where the process keeps its own."""

    def put(instead):
        fresh = Shared("reply classifier", lambda encoder: instead)
        monkeypatch.setattr(reply_classifier, "_shared", fresh)
        return instead

    return put


def test_it_stops_what_no_phrase_names(shared):
    shared(Scripted({"My heart skips. "}))
    shown = []
    with pytest.raises(GateRejection) as rejected:
        shown.extend(Gate().passed(["Hello there. My heart skips. ", "Go on."]))
    assert shown == ["Hello there. "] and rejected.value.problems == ("romance",)


def test_a_sentence_is_read_alone_and_after_what_was_said_before(shared):
    read = shared(Scripted()).read
    list(Gate().passed(["Hello there. My heart skips. "]))
    assert read == ["Hello there. ", "My heart skips. ", "Hello there. My heart skips. "]


def test_what_was_said_long_before_is_left_out(shared):
    read = shared(Scripted()).read
    check_reply("The rain fell on the hills all day long. " * 20)
    assert max(map(len, read)) < 300 and not any(text.startswith("ain") for text in read)


def test_where_a_phrase_has_found_it_nothing_is_read(shared):
    assert check_reply("You have depression.") == ["diagnosis"] and shared(Scripted()).read == []


def test_one_that_breaks_leaves_the_phrases(shared):
    def broken(texts):
        raise RuntimeError("cannot read " + texts[0])

    broken.thresholds = {}
    shared(broken)
    assert check_reply("My heart skips.") == [] and check_reply("You have depression.") == ["diagnosis"]
    state = reply_classifier.state()
    assert state["status"] == "off" and "RuntimeError" in state["problem"] and "heart" not in state["problem"]


# The real one


@pytest.mark.model
@pytest.mark.parametrize("missing", ["classifier.json", "head.safetensors", "adapter_model.safetensors"])
def test_a_missing_file_is_named_with_its_fix(tmp_path, missing):
    folder = tmp_path / "reply_classifier"
    shutil.copytree(FOLDER, folder)
    (folder / missing).unlink()
    with pytest.raises(ClassifierError, match="Restore the folder"):
        ReplyClassifier(folder)


@pytest.mark.model
def test_scores_are_probabilities_and_names_known():
    for score in ReplyClassifier()(["", "x" * 9_000, "\ud83d\ude00", "hello"]):
        assert 0 <= score.problem <= 1 and score.name in PROBLEMS


def test_the_card_says_what_it_was_trained_on():
    from training.screening.replies import THRESHOLDS

    card = json.loads((FOLDER / "classifier.json").read_text())
    assert card["thresholds"] == THRESHOLDS and card["passes"]


# The limits are a floor below what is reached today. Do not read the sentences to write phrases or examples.
FOUND, WITHHELD_WRONGLY = 0.6, 0.1


@pytest.mark.model
def test_sentences_whose_author_saw_neither_phrases_nor_examples():
    verdicts = defaultdict(list)
    for line in FROZEN.read_text("utf-8").splitlines():
        problem, text = line.split("\t")
        verdicts[problem == "ok"].append(bool(check_reply(text)))
    assert sum(verdicts[False]) / len(verdicts[False]) >= FOUND
    assert sum(verdicts[True]) / len(verdicts[True]) <= WITHHELD_WRONGLY
