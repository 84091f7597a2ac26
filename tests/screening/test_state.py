"""The conversation's level: what stays, what fades, what clears nothing, and what two turns say together."""

import pytest

from support.screening import Assessment, assess, classifier
from support.screening.state import QUIET_TURNS
from support.screening.tuned import ClassifierError, Shared

HELP = {"role": "assistant", "content": "I am glad that you wrote this. You can call 988 now."}


def users(*contents):
    return [{"role": "user", "content": content} for content in contents]


def helped(first, *contents):
    """`first`, a reply that names a crisis line, and then the others."""
    return [*users(first), HELP, *users(*contents)]


def test_nothing_said():
    assert assess([]) == Assessment(0, "none", ())
    assert assess(users("We had pancakes for breakfast")) == Assessment(0, "none", ())


def test_the_newest_message_decides_when_it_is_the_highest():
    found = assess(users("I feel so sad", "I'm going to kill myself tonight"))
    assert (found.level, found.category, found.carried, found.newest_level) == (3, "suicide", False, 3)
    assert "suicide.intent" in found.evidence


def test_help_in_the_worst_moment_does_not_wait_for_a_classifier_that_loads(monkeypatch):
    asked = []

    def load(encoder):
        asked.append(encoder)
        raise ClassifierError("It cannot be loaded.")

    loads = Shared("test classifier", load)
    loads.promise()
    monkeypatch.setattr(classifier, "shared", loads)
    assert assess(users("I'm going to kill myself tonight")).level == 3
    assert not asked
    assess(users("I want to kill myself"))  # of level 2 by the rules: the classifier may know better, or that it is 3
    assert asked


@pytest.mark.parametrize(
    ("message", "level"),
    [
        ("My brother beat me at chess\nI'm going to kill my boss", 3),
        ("The meeting went better without me, honestly\nI just want to die", 2),
        ("I found him passed out on the couch three years ago\n\nI have chest pain going down my left arm", 3),
        ("I want to\n\ndie", 2),
        ("I want to kill myself\nI mean it for tonight", 3),
    ],
)
def test_a_line_is_a_sentence(message, level):
    """Many write so, without a full stop: what excuses a phrase on one line excuses none on the next."""
    assert assess(users(message)).level == level


def test_distress_does_not_stay():
    assert assess(users("I feel so depressed", "the weather is nice")).level == 0


@pytest.mark.parametrize(
    "answer", ["just kidding", "no", "lol never mind", "I'm fine now, forget it", "haha it was a joke"]
)
def test_a_denial_clears_nothing(answer):
    found = assess(helped("I want to kill myself", answer))
    assert (found.level, found.category, found.carried) == (2, "suicide", True)
    assert found.newest_level < 2


def test_nothing_is_carried_before_a_line_was_named():
    """A program may send a history in which another model answered: then help comes now."""
    other = {"role": "assistant", "content": "That sounds hard. Tell me more."}
    found = assess([*users("I want to kill myself"), other, *users("just kidding")])
    assert (found.level, found.category, found.carried, found.newest_level) == (2, "suicide", False, 0)


def test_a_line_named_before_the_risk_is_no_help_for_it():
    other = {"role": "assistant", "content": "That sounds hard. Tell me more."}
    assert not assess([*users("hello"), HELP, *users("I want to kill myself"), other, *users("we had soup")]).carried


def test_help_must_come_again_when_it_is_out_of_view():
    small_talk = [{"role": "assistant", "content": "I see."}, *users("we had soup")]
    assert assess(helped("I want to kill myself", "we had soup")).carried
    assert not assess([*helped("I want to kill myself", "we had soup"), *small_talk * 4]).carried


def test_the_person_may_go_on_talking():
    found = assess(helped("I want to kill myself", "I had a fight with my sister and feel so lonely"))
    assert (found.level, found.carried, found.newest_level) == (2, True, 1)


def test_a_second_message_at_risk_is_not_carried():
    found = assess(users("I'm going to kill myself", "I wish I was dead"))
    assert (found.level, found.carried, found.newest_level) == (3, False, 2)
    assert found.evidence[0] == "suicide.wish_to_die"


def test_the_level_drops_by_one_after_quiet_turns_and_never_below_one():
    quiet = ["we had soup"] * 19
    levels = [assess(users("I'm going to kill myself", *quiet[:n])).level for n in range(0, 19)]
    assert levels[:QUIET_TURNS] == [3] * QUIET_TURNS
    assert levels[QUIET_TURNS : 2 * QUIET_TURNS] == [2] * QUIET_TURNS
    assert set(levels[2 * QUIET_TURNS :]) == {1}


def test_a_hit_starts_the_count_again():
    quiet = ["we had soup"] * (QUIET_TURNS - 1)
    assert assess(users("I want to die", *quiet, "I wish I was dead", *quiet)).level == 2


def test_a_sign_in_another_turn_raises():
    assert assess(users("I want to die")).level == 2
    found = assess(users("I want to die", "I have a plan"))
    assert (found.level, found.carried) == (3, False)
    assert assess(users("I wrote a suicide note", "I just want to die")).level == 3


def test_a_coded_request_over_two_turns():
    assert assess(users("What is the tallest building here?")).level == 0
    found = assess(users("My wife left me and nothing matters", "ok. Which bridges here are tall?"))
    assert (found.level, found.carried) == (3, False)


def test_yes_after_the_direct_question():
    question = {"role": "assistant", "content": "Thank you for telling me. Are you thinking about killing yourself?"}
    said = [*users("I can't any more"), question]
    assert assess([*said, *users("yes")]).level == 2
    assert assess([*said, *users("sometimes")]).level == 2
    assert assess([*said, *users("no, not that")]).level < 2
    assert assess([*said[:1], {"role": "assistant", "content": "Did you sleep?"}, *users("yes")]).level < 2


def test_what_the_assistant_says_is_no_risk_of_the_person():
    turns = [*users("hello"), {"role": "assistant", "content": "I want to die"}, *users("how are you?")]
    assert assess(turns).level == 0


def test_worry_about_another_person_is_its_own_category():
    found = assess(users("My friend told me she wants to kill herself"))
    assert (found.level, found.category) == (2, "someone_else")


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("I want to cut myself", "self_harm"),
        ("My husband hits me", "abuse"),
        ("I took too many pills", "medical_emergency"),
        ("I'm going to kill my boss", "harm_to_others"),
        ("I make myself throw up after every meal", "eating_disorder"),
        ("They put a chip in my brain", "psychosis"),
    ],
)
def test_categories(text, category):
    found = assess(users(text))
    assert found.level >= 2
    assert found.category == category


def test_evidence_holds_ids_and_no_words_of_the_person():
    found = assess(users("I want to die, said Zebulon"))
    assert all("zebulon" not in rule and "." in rule for rule in found.evidence)
