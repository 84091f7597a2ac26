"""The classifier's examples and its training, for real and short."""

import pytest

from support.screening.classifier import Classifier
from training.screening.dataset import EXAMPLES, read_examples


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


def test_examples_lie_beside_the_code():
    assert EXAMPLES.is_dir()


@pytest.mark.model
def test_training_saves_what_the_app_loads(tmp_path, capsys):
    from training.screening.messages import Messages
    from training.screening.tuning import make

    examples = [example for example in read_examples() if len(example.text) < 60][:64]
    make(Messages(examples), "embedded", 1, None, tmp_path)
    before = Classifier(tmp_path)([examples[0].text])[0]
    assert 0 < before.at_risk < 1
    make(Messages(examples), "embedded", 1, tmp_path, tmp_path / "next")
    assert len(Classifier(tmp_path / "next").card["passes"]) == 2
    assert Classifier(tmp_path / "next")([examples[0].text])[0].at_risk != before.at_risk


@pytest.mark.model
def test_holdout_and_baseline_print_their_tables(monkeypatch, capsys):
    from training.screening import __main__ as command

    few = [e for e in read_examples() if e.author in ("en_young", "es", "en_adults") and len(e.text) < 60]
    monkeypatch.setattr(command, "read_examples", lambda: few[::4])
    assert command.main(["holdout", "es", "--epochs", "1"]) == 0
    assert "~ all" in capsys.readouterr().out
    assert command.main(["baseline"]) == 0
    assert "en_adults" in capsys.readouterr().out
