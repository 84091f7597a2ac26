"""Disguises: what is at risk stays at risk in each of them, and what is harmless stays harmless."""

import random
import re

import pytest

from support.screening.normalise import words
from support.screening.rules import rule_book
from training.screening.dataset import read_examples

LOOKALIKES = str.maketrans("aeopcyxi", "аеорсухі")  # Cyrillic
LEET = str.maketrans("aeios", "@3105")
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


def on_watch_words(change):
    """Changes only the words that people disguise, as they do."""
    return lambda text, draw: re.sub(
        r"[A-Za-z]+",
        lambda found: change(found[0], draw) if found[0].lower() in words().watch_words else found[0],
        text,
    )


def between_letters(what):
    return lambda text, draw: "".join(c + (what if c.isalpha() and draw.random() < 0.5 else "") for c in text)


def stretched(word, draw):
    place = draw.randrange(len(word))
    return word[:place] + word[place] * 4 + word[place + 1 :]


def masked(word, draw):
    place = draw.randrange(1, len(word) - 1) if len(word) > 3 else 0
    return word[:place] + "*" + word[place + 1 :] if place else word


EVERY_SCRIPT = {
    "capitals": lambda text, draw: text.upper(),
    "invisible characters": between_letters("\u200b"),
    "soft hyphens": between_letters("\u00ad"),
    "many spaces": lambda text, draw: text.replace(" ", "   \n "),
    "typographic apostrophes": lambda text, draw: text.replace("'", "\u2019"),
    "emoji at the end": lambda text, draw: text + " \U0001f622\U0001f622",
    "quotation marks": lambda text, draw: f"\u201c{text}\u201d",
    "shouting": lambda text, draw: text.rstrip(".!") + "!!!!",
}
LATIN = {
    "full width": lambda text, draw: text.translate(FULL_WIDTH),
    "accents": between_letters("\u0301"),
    "look-alike letters": on_watch_words(lambda word, draw: word.translate(LOOKALIKES) if len(word) > 3 else word),
    "leetspeak": on_watch_words(lambda word, draw: word.translate(LEET) if len(word) > 3 else word),
    "stretched letters": on_watch_words(lambda word, draw: stretched(word, draw) if len(word) > 3 else word),
    "masked letters": on_watch_words(masked),
    "dots between letters": on_watch_words(lambda word, draw: ".".join(word) if len(word) > 3 else word),
}
OF_RULES = [
    (rule.language, rule.id, text)
    for rule in rule_book().rules.values()
    if not rule.after_reply
    for text in rule.examples["hit"]
    if isinstance(text, str)
]


def level(text):
    book = rule_book()
    return max((hit.level for hit in book.judge(book.read(text))), default=0)


@pytest.mark.parametrize("name", EVERY_SCRIPT)
def test_a_disguise_hides_nothing(name):
    check(name, EVERY_SCRIPT[name], OF_RULES, least=0.995)


@pytest.mark.parametrize("name", LATIN)
def test_a_disguise_of_letters_hides_nothing_in_english(name):
    check(name, LATIN[name], [row for row in OF_RULES if row[0] == "en"], least=0.98)


def check(name, disguise, rows, least):
    """At most two points of recall may be lost (the bar); the failing rules are named, not the words."""
    draw = random.Random(name)
    lost = [rule for _, rule, text in rows if level(disguise(text, draw)) < min(2, level(text))]
    assert 1 - len(lost) / len(rows) >= least, sorted(set(lost))


@pytest.mark.parametrize("name", {**EVERY_SCRIPT, **LATIN})
def test_a_disguise_makes_nothing_risky(name):
    draw = random.Random(name)
    disguise = {**EVERY_SCRIPT, **LATIN}[name]
    harmless = [e.text for e in read_examples() if e.level == 0 and e.kind == "everyday" and level(e.text) < 2]
    raised = [text for text in harmless if level(disguise(text, draw)) >= 2]
    assert len(raised) / len(harmless) <= 0.005, len(raised)
