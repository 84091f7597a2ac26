"""Every example of every rule, what a guard may and may not do, and errors that name file and rule."""

import shutil
import time

import pytest
import yaml

from support.screening.normalise import ASSETS
from support.screening.phrases import PhraseBook, RulesError
from support.screening.rules import CATEGORIES, RuleBook, rule_book, rules_version, version_of

BOOK = rule_book()


def examples(kind):
    for rule in BOOK.rules.values():
        for example in rule.examples[kind]:
            yield pytest.param(rule, example, id=f"{rule.id}-{str(example)[:40]}")


def judge(text, before=None):
    return BOOK.judge(BOOK.read(text), before=None if before is None else BOOK.read(before))


def judged(example):
    """An example is a text, or [the app's reply, the person's answer]."""
    return judge(example[1], example[0]) if isinstance(example, list) else judge(example)


def level(text):
    hits = judge(text)
    return hits[0].level if hits else 0


@pytest.mark.parametrize(("rule", "example"), examples("hit"))
def test_hit(rule, example):
    levels = {hit.rule: hit.level for hit in judged(example)}
    assert levels.get(rule.id, 0) >= rule.level


@pytest.mark.parametrize(("rule", "example"), examples("miss"))
def test_miss(rule, example):
    assert rule.id not in {hit.rule for hit in judged(example)}


def test_every_rule_says_what_it_is():
    for rule in BOOK.rules.values():
        assert rule.category in CATEGORIES
        assert rule.level in (1, 2, 3)
        assert rule.language


@pytest.mark.parametrize(
    ("guarded", "beside"),
    [
        ("I don't want to die.", "I don't want to die. The pills are in my hand."),
        (
            "I was so embarrassed I wanted to die",
            "I was so embarrassed I wanted to die, I have a plan and goodbye letters",
        ),
        ("For my novel: he says I want to die", "For my novel: I want to die, and I wrote my suicide note"),
        ("I have never thought about suicide", "I have never thought about suicide but I'm saying goodbye to everyone"),
        ("I tried to kill myself, I am better now", "I tried to kill myself, I am better now, and the gun is loaded"),
    ],
)
def test_no_guard_counts_beside_means_plan_time_or_farewell(guarded, beside):
    assert level(guarded) < 2
    assert level(beside) >= 2


@pytest.mark.parametrize(
    "text",
    [
        "I wanna k1ll mys3lf",
        "I want to k i l l  m y s e l f",
        "gonna kms tonight",
        "I just want to unalive myself",
        "Don\u2019t wanna live anymore",
        "I don\u2019t want to be alive",
        "i w\u0430nt to di\u0435",
    ],
)
def test_disguised_phrases_are_found(text):
    assert level(text) >= 2


@pytest.mark.parametrize(
    "text",
    [
        "this homework is killing me",
        "I'm dying to see that film",
        "my phone died and I could kill for a coffee",
        "I would kill for pizza right now",
        "that joke killed me lol",
        "deadline tomorrow, wish me luck",
        "I finally quit my job and moved to the coast",
        "my plan for tonight is to cook",
        "Can you recommend a good novel about grief?",
        "I cut onions and cried",
        "Goodbye for now, talk to you tomorrow!",
        "I have a plan for the weekend",
        "the bridge was closed so I was late for work",
    ],
)
def test_ordinary_messages_are_not_at_risk(text):
    assert level(text) < 2


def test_a_sign_raises_to_imminent():
    assert level("I want to kill myself") == 2
    assert level("I want to kill myself tonight") == 3
    assert level("I want to kill myself, I have a plan") == 3


def test_evidence_is_sorted_by_level():
    levels = [hit.level for hit in judge("I feel so depressed. I'm going to kill myself tonight. I hate myself.")]
    assert levels == sorted(levels, reverse=True)


# Loading


def folder_with(tmp_path, **changes):
    folder = tmp_path / "screening"
    shutil.copytree(ASSETS, folder)
    rule = {
        "id": "suicide.test",
        "level": 2,
        "pattern": "some phrase",
        "examples": {"hit": ["some phrase", "Some phrase!"], "miss": ["other", "another"]},
        **changes,
    }
    rule = {key: value for key, value in rule.items() if value is not None}
    (folder / "extra.yaml").write_text(yaml.safe_dump({"category": "suicide", "rules": [rule]}))
    return folder


def test_a_new_rule_is_found(tmp_path):
    book = RuleBook(folder_with(tmp_path))
    assert [hit.rule for hit in book.judge(book.read("Here is SOME phrase."))] == ["suicide.test"]


@pytest.mark.parametrize(
    "changes",
    [
        {"level": 4},
        {"category": "sadness"},
        {"pattern": None},
        {"pattern": "(unclosed"},
        {"pattern": "so* much"},
        {"pattern": "some .+ words"},
        {"pattern": "really (very {1,9}){1,9}"},
        {"pattern": r"\w\w\w"},
        {"pattern": "some (?<!many|few) words"},
        {"pattern": "a"},
        {"pattern": "want {no_such_group}"},
        {"unless": ["no_such_guard"]},
        {"raised_by": ["no_such_sign"]},
        {"examples": {"hit": ["one"], "miss": ["a", "b"]}},
        {"colour": "red"},
    ],
)
def test_an_unusable_rule_is_named_with_its_file(tmp_path, changes):
    with pytest.raises(RulesError, match=r"extra\.yaml: suicide\.test"):
        RuleBook(folder_with(tmp_path, **changes))


def test_two_rules_of_one_id_are_refused(tmp_path):
    with pytest.raises(RulesError, match="used twice"):
        RuleBook(folder_with(tmp_path, id="suicide.intent"))


def test_broken_yaml_is_named(tmp_path):
    folder = folder_with(tmp_path)
    (folder / "extra.yaml").write_text("rules: [")
    with pytest.raises(RulesError, match=r"extra\.yaml"):
        RuleBook(folder)


def test_the_version_changes_with_the_rules(tmp_path):
    folder = folder_with(tmp_path)
    assert version_of(folder) != rules_version()
    (folder / "extra.yaml").unlink()
    assert version_of(folder) == rules_version()
    assert len(rules_version().split("+")[1]) == 10


@pytest.mark.parametrize("text", ["how do i write a will", "how will", "how, will"])
def test_a_gap_may_begin_with_any_word_after_a_short_one(text):
    book = PhraseBook()
    book.add("gap", "how .. will")
    assert book.find(text)


def test_a_gap_is_up_to_four_words_of_one_sentence():
    book = PhraseBook()
    book.add("gap", "wish .. dead")
    assert book.find("i wish dead")
    assert book.find("i wish that i was dead")
    assert not book.find("i wish one two three four five dead")
    assert not book.find("i wish. he is dead")


# Speed


@pytest.mark.parametrize(
    "text",
    [
        "a " * 50_000,
        "i want to " * 10_000,
        "i want to kill myself " * 4_500,
        "never thought about suicide. " * 3_400,
        "a" * 100_000,
        "going to " * 11_000,
        "I don't want to " * 6_250,
    ],
)
def test_a_hundred_thousand_characters(text):
    started = time.process_time()
    judge(text)
    assert time.process_time() - started < 1.0  # below 0.2 s on an idle machine


def test_one_message_takes_milliseconds():
    text = "I don't know what to do any more. My partner left me, I lost my job and I feel so alone and hopeless. " * 4
    times = []
    for _ in range(40):
        started = time.process_time()
        judge(text)
        times.append(time.process_time() - started)
    assert sorted(times)[20] < 0.005
