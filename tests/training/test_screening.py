"""The classifier's examples and its training, for real and short."""

import json
import random

import pytest
import torch

from support.screening.classifier import Classifier
from support.screening.normalise import normalise
from support.screening.reply_classifier import PROBLEMS, ReplyClassifier
from tests.conftest import ROOT
from training.screening.dataset import read_examples, read_replies
from training.screening.messages import Messages
from training.screening.replies import Replies
from training.screening.tuning import make

FROZEN = ROOT / "tests/screening/frozen"
FROZEN_REPLIES = ROOT / "tests/screening/frozen_replies.tsv"


def test_examples_are_many_varied_and_balanced():
    examples = read_examples()
    texts = [example.text for example in examples]
    at_risk = sum(example.level >= 2 for example in examples)
    assert len(texts) >= 4000 and len(set(texts)) >= 0.995 * len(texts)
    hard = sum(example.level < 2 and example.kind != "everyday" for example in examples)
    assert at_risk >= 2000 and hard >= 0.75 * at_risk and len(examples) - at_risk >= at_risk
    assert {example.language for example in examples} == {
        "en",
        "es",
        "pt",
        "fr",
        "de",
        "it",
        "hi",
        "ar",
        "zh",
        "ja",
        "ko",
    }
    assert all((example.level >= 2) == (example.category not in ("none", "distress")) for example in examples)


def test_a_malformed_line_is_named_by_file_and_number(tmp_path):
    (tmp_path / "en_x.tsv").write_text("0\tnone\teveryday\tfine\nnot a line\n")
    with pytest.raises(ValueError, match=r"en_x\.tsv line 2"):
        read_examples(tmp_path)


def test_sentences_of_replies_are_many_and_fine_ones_are_half():
    sentences = read_replies()
    texts = [sentence.text for sentence in sentences]
    assert len(texts) >= 3000 and len(set(texts)) >= 0.995 * len(texts)
    assert {sentence.problem for sentence in sentences} == {"", *PROBLEMS}
    assert 0.4 <= sum(not sentence.problem for sentence in sentences) / len(texts) <= 0.7


def test_what_is_measured_was_not_learned():
    read = {sentence.text for sentence in read_replies()}
    frozen = [line.partition("\t")[2] for line in FROZEN_REPLIES.read_text("utf-8").splitlines()]
    assert len(frozen) > 300 and not read & set(frozen)
    examples = {normalise(example.text) for example in read_examples()}
    rows = [json.loads(line) for path in FROZEN.glob("*.jsonl") for line in path.read_text("utf-8").split("\n") if line]
    asked = {turn["content"] for row in rows for turn in row["messages"] if turn["role"] == "user"}
    assert len(asked) > 1000 and not [text for text in asked if normalise(text) in examples]


def test_a_malformed_reply_is_named_by_file_and_number(tmp_path):
    (tmp_path / "a.tsv").write_text("ok\tfine\nromanse\tI love you\n")
    with pytest.raises(ValueError, match=r"a\.tsv line 2"):
        read_replies(tmp_path)


def test_a_problem_stays_one_wherever_the_sentence_stands():
    task = Replies(read_replies()[::40])
    rows = task.epoch(random.Random(1))
    assert [row.truth for row in rows] == [sentence.problem for sentence in task.sentences]
    assert all(sentence.text in row.text for row, sentence in zip(rows, task.sentences, strict=True))
    assert any(row.text != sentence.text for row, sentence in zip(rows, task.sentences, strict=True))


@pytest.mark.parametrize("truths", [["", ""], ["romance", ""]])
def test_the_loss_of_right_answers_is_small(truths):
    outputs = torch.full((2, Replies.outputs), -9.0)
    for row, name in zip(outputs, truths, strict=True):
        if name:
            row[0] = row[1 + PROBLEMS.index(name)] = 9.0
    task = Replies(read_replies()[:9])
    assert task.loss(outputs, truths).item() < 0.01 < task.loss(-outputs, truths).item()


def test_unknown_authors_are_named():
    from training.screening import __main__ as command

    with pytest.raises(SystemExit, match="No examples by nobody"):
        command.main(["holdout", "nobody"])


@pytest.mark.model
def test_training_saves_what_the_app_loads(tmp_path):
    examples = [example for example in read_examples() if len(example.text) < 60][:64]
    make(Messages(examples), "embedded", 1, None, tmp_path / "one")
    before = Classifier(tmp_path / "one")([examples[0].text])[0]
    assert 0 < before.at_risk < 1
    make(Messages(examples), "embedded", 1, tmp_path / "one", tmp_path / "next")
    assert len(Classifier(tmp_path / "next").card["passes"]) == 2
    assert Classifier(tmp_path / "next")([examples[0].text])[0].at_risk != before.at_risk
    with pytest.raises(RuntimeError, match="size mismatch"):
        make(Replies(read_replies()[::200]), "embedded", 1, tmp_path / "one", tmp_path / "other")


@pytest.mark.model
def test_training_on_replies_saves_what_the_gate_loads(tmp_path, monkeypatch):
    from training.screening import __main__ as command

    monkeypatch.setattr(command, "read_replies", lambda: read_replies()[::60])
    assert command.main(["train-replies", "--epochs", "1", "--out", str(tmp_path / "out")]) == 0
    assert 0 < ReplyClassifier(tmp_path / "out")(["Hello there."])[0].problem < 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.model
def test_holdout_and_baseline_print_their_tables(monkeypatch, capsys):
    from training.screening import __main__ as command

    few = [e for e in read_examples() if e.author in ("en_young", "es", "en_adults") and len(e.text) < 60]
    monkeypatch.setattr(command, "read_examples", lambda: few[::4])
    assert command.main(["holdout", "es", "--epochs", "1"]) == 0
    assert "~ all" in capsys.readouterr().out
    assert command.main(["baseline"]) == 0
    assert "en_adults" in capsys.readouterr().out
