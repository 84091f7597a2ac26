"""One spelling for disguised words, ordinary writing left alone, and no text that takes long."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.screening.normalise import Words, WordsError, normalise, undisguised, words

NASTY = {
    "spaced letters": "a " * 50_000,
    "repeated phrase": "i want to " * 10_000,
    "one letter": "a" * 100_000,
    "mixed scripts": "a\u0430" * 50_000,
    "leetspeak": "k1l*l! " * 14_000,
    "emoji": "a\U0001f52a" * 50_000,
    "contractions": "don't " * 16_666,
    "dots": "k." * 50_000,
    "marks": "a\u0301\u0336" * 33_333,
    "white space": " \n\t" * 33_333,
}


@pytest.mark.parametrize(
    "written",
    [
        "kill myself",
        "Kill Myself",
        "k1ll mys3lf",
        "k!ll myself",
        "k*ll myself",
        "k.i.l.l myself",
        "k i l l myself",
        "k i l l m y s e l f",
        "k i l l   m y s e l f",
        "kiiiilllll myself",
        "kill-myself",
        "kill my self",
        "kill myslef",
        "kms",
        "KMS",
        "unalive myself",
        "ki\u200bll my\u00adself",  # zero-width space, soft hyphen
        "\uff4b\uff49\uff4c\uff4c myself",  # full width
        "k\u0456ll mys\u0435lf",  # Cyrillic look-alikes
        "k\u03b9ll myself",  # Greek iota
        "k\u0336i\u0336l\u0336l\u0336 myself",  # struck through
        "\u1d0b\u026a\u029f\u029f myself",  # small capitals
        "\U0001d4f4\U0001d4f2\U0001d4f5\U0001d4f5 myself",  # mathematical script
        "k\U0001f494i\U0001f494ll myself",  # emoji inside
        "kíll myself",
    ],
)
def test_disguises_are_read_as_the_plain_phrase(written):
    assert normalise(written) == "kill myself"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Don\u2019t", "do not"),
        ("don\u02bct", "do not"),
        ("I\u2019m done, can\u2019t go on", "i am done, can not go on"),
        ("i wanna", "i want to"),
        ("I want 2 die", "i want to die"),
        ("  a\n\n b\t", "a b"),
        ("sooo tired", "so tired"),
    ],
)
def test_long_forms_and_spaces(written, read):
    assert normalise(written) == read


@pytest.mark.parametrize(
    "text",
    ["take 5mg at 3am", "b12 and 24/7", "half-past ten", "covid19", "1,000 people", "я хочу спать", "good feeling"],
)
def test_ordinary_writing_is_left_alone(text):
    assert normalise(text) == text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("I want to k1ll them", "I want to kill them"),
        ("k\u0456ll mys\u0435lf", "kill myself"),
        ("\uff4b\uff49\uff4c\uff4c me", "kill me"),
        ("k\u0336i\u0336l\u0336l\u0336 me", "kill me"),
        ("I WANT TO DIE", "i want to die"),
        ("d i e", "die"),
        ("  a\n\n b\t", "a b"),
    ],
)
def test_the_classifier_reads_the_words_behind_a_disguise(written, read):
    assert undisguised(written) == read


@pytest.mark.parametrize(
    "text",
    [
        "I don't know, can't sleep",
        "Já não quero viver",
        "ich möchte schlafen, Mädchen",
        "¿Dónde está?",
        "मैं सोना चाहता हूँ",
        "أريد أن أنام",
        "我想睡觉",
        "я хочу спать",
        "good night 😀",
        "Paris in May",
    ],
)
def test_the_classifier_reads_ordinary_writing_as_it_stands(text):
    assert undisguised(text) == text


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_form_without_disguise(text):
    read = undisguised(text)
    assert "  " not in read and "\u200b" not in read and read == read.strip()


@pytest.mark.parametrize("name", NASTY)
def test_long_texts_take_no_longer_than_their_length(name):
    words()
    started = time.process_time()
    normalise(NASTY[name])
    assert time.process_time() - started < 1.0  # about 0.1 s; the limit leaves room for a busy machine


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_normal_form(text):
    read = normalise(text)
    assert "  " not in read
    assert "\u200b" not in read
    assert read == read.strip()


def test_word_lists_that_cannot_be_used_are_named(tmp_path):
    path = tmp_path / "words.yaml"
    path.write_text("plain: {2: to}\nwatch_words: kill die\n")
    with pytest.raises(WordsError, match=r"words\.yaml"):
        Words.load(path)
    path.write_text("plain: {}\n")
    with pytest.raises(WordsError, match="watch_words"):
        Words.load(path)
