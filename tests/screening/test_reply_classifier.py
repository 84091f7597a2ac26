"""The learned half of the gate: how the gate uses it, its faults, and the real one on sentences that nobody trained on."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from support.screening import Gate, GateRejection, check_reply, reply_classifier
from support.screening.gate import NEAR_BEFORE, TELLS_ALONE, gate_rules
from support.screening.reply_classifier import PROBLEMS, ReplyClassifier, Score
from support.screening.tuned import CARD
from tests.conftest import use

FROZEN = Path(__file__).parent


class Scripted:
    """Finds what a test needs it to find."""

    def __init__(self, bad=()):
        self.bad, self.read, self.thresholds = bad, [], {"problem": 0.5}

    def __call__(self, texts):
        self.read += texts
        return [Score(0.9 if text in self.bad else 0.1, "romance") for text in texts]


@pytest.fixture
def scripted(monkeypatch):
    """Puts one where the process keeps its own."""

    def put(*bad):
        made = Scripted(bad)
        use(made, reply_classifier.shared, monkeypatch)
        return made

    return put


def test_it_stops_what_no_phrase_names(scripted):
    scripted("The thought of you makes my evenings light, every single one. ")
    shown = []
    with pytest.raises(GateRejection) as rejected:
        shown.extend(
            Gate().passed(["Hello there. The thought of you makes my evenings light, every single one. ", "Go on."])
        )
    assert shown == ["Hello there. "] and rejected.value.problems == ("romance",)


def test_a_short_sentence_is_read_after_what_was_said_just_before(scripted):
    made = scripted("Nights are hard for many people who wait for news. Me too.")
    text = "Nights are hard for many people who wait for news. Me too."
    with pytest.raises(GateRejection):
        list(Gate().passed([text]))
    assert check_reply(text) == ["romance"]
    assert made.read[-1] == text


def test_a_long_sentence_is_read_alone(scripted):
    made = scripted()
    long = "The rain fell on the hills for the whole of the day, and then it stopped. "
    check_reply(long * 4)
    assert set(made.read) == {long}


def test_what_was_said_long_before_is_left_out(scripted):
    made = scripted()
    check_reply("The rain fell on hills. " * 30)
    assert max(map(len, made.read)) <= NEAR_BEFORE + TELLS_ALONE
    assert all(text.split()[0] in {"The", "rain", "fell", "on", "hills."} for text in made.read)


def test_where_a_phrase_has_found_it_nothing_is_read(scripted):
    made = scripted()
    assert check_reply("You have depression.") == ["diagnosis"]
    with pytest.raises(GateRejection):
        list(Gate().passed(["You have depression."]))
    assert made.read == []


def test_without_it_the_phrases_go_on(monkeypatch):
    use(None, reply_classifier.shared, monkeypatch)
    reply_classifier.shared.problem = "not there"
    assert check_reply("My heart skips.") == [] and check_reply("You have depression.") == ["diagnosis"]


def test_its_problems_are_the_gates():
    by_phrases_alone = {"method_detail", "invented_contact"}
    assert set(PROBLEMS) | by_phrases_alone == set(gate_rules().examples)


# The real one


@pytest.mark.model
def test_scores_are_probabilities_and_names_known():
    for score in ReplyClassifier()(["", "x" * 9_000, "\ud83d\ude00", "hello"]):
        assert 0 <= score.problem <= 1 and score.name in PROBLEMS


def test_the_card_says_what_it_was_trained_on():
    from training.screening.replies import THRESHOLDS

    card = json.loads((ReplyClassifier.folder / CARD).read_text())
    assert card["thresholds"] == THRESHOLDS and card["passes"]


# The limits are floors below what is reached today. Do not read the sentences to write phrases or examples.
@pytest.mark.model
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("file", "problems", "fine", "found", "withheld_wrongly"),
    [("frozen_replies", 200, 150, 0.83, 0.08), ("frozen_replies_second", 200, 100, 0.88, 0.09)],
)
def test_sentences_whose_author_saw_neither_phrases_nor_examples(file, problems, fine, found, withheld_wrongly):
    verdicts = defaultdict(list)
    for line in (FROZEN / f"{file}.tsv").read_text("utf-8").split("\n"):
        problem, _, text = line.partition("\t")
        if problem in ("ok", *PROBLEMS):
            verdicts[problem == "ok"].append(bool(check_reply(text)))
    assert reply_classifier.shared.state()["status"] == "ready"
    assert len(verdicts[False]) == problems and len(verdicts[True]) == fine
    assert sum(verdicts[False]) / problems >= found
    assert sum(verdicts[True]) / fine <= withheld_wrongly
