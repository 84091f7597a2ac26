"""Every reason for which training.cleaning leaves something out, and what it leaves alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.cleaning import Finder, _without_markup, alike, clean

QUESTION = "Since the spring I cannot sleep through a single night, what could I try?"
SPANISH = "Dormir mal cansa mucho y hace que el día sea muy largo. ¿Qué pasa en la hora antes de acostarse? " * 2
ANSWER = (
    "Waking at three and lying there is wearing, and it makes the next day long. Some people keep the hour of getting up fixed "
    "for two weeks and leave the bed when they are awake for long. What happens in the hour before you lie down?"
)


def kept_of(question=QUESTION, answer=ANSWER):
    rows, counts = clean([{"context": question, "response": answer}], progress=False)
    return (rows[0] if rows else None), counts


def test_a_good_row_stays_as_it_is():
    row, counts = kept_of()
    assert row == {"context": QUESTION, "response": ANSWER}
    assert not +counts.rows and not +counts.sentences and not +counts.masked


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("", ANSWER, "empty_context"),
        (QUESTION, "", "empty_response"),
        ("Why?", ANSWER, "too_short"),
        (QUESTION, "Try to sleep more.", "too_short"),
        (QUESTION, f"{ANSWER} " * 40, "too_long"),
        (QUESTION, SPANISH, "not_english"),
        ("I want to kill myself and I do not know what to do any more.", ANSWER, "at_risk"),
        (QUESTION, "Please call me at my office for a free consultation. " * 5, "little_left"),
    ],
)  # fmt: skip
def test_a_row_that_is_left_out_has_its_reason(question, answer, reason):
    row, counts = kept_of(question, answer)
    assert row is None and +counts.rows == {reason: 1}


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("There is more at www.example.org/sleep for you.", "link"),
        ("Write to anna@example.org about it.", "e-mail"),
        ("You may ring (212) 555-0143 on weekdays.", "phone"),
        ("Dr. Harriet Miller wrote on it.", "name"),
        ("The lifeline is 1-800-273-8255 day and night.", "outdated_number"),
        ("I describe this in my book and on my website.", "advertising"),
        ("Many of my clients tell me the same.", "clinician"),
        ("As a licensed therapist I see it often.", "clinician"),
        ("You have clinical depression.", "diagnosis"),
        ("You should stop taking your medication.", "medication"),
        ("Just get over it.", "minimising"),
    ],
)
def test_a_sentence_that_is_cut_has_its_reason_and_the_rest_stays(sentence, reason):
    row, counts = kept_of(answer=f"{ANSWER} {sentence}")
    assert row is not None and row["response"] == ANSWER
    assert +counts.sentences == {reason: 1}


def test_a_greeting_is_taken_off_and_nothing_else():
    row, counts = kept_of(answer=f"Hi Georgia, {ANSWER}")
    assert row is not None and row["response"] == ANSWER and +counts.sentences == {"greeting": 1}


def test_in_a_question_names_and_numbers_are_masked():
    row, counts = kept_of(f"{QUESTION} My name is Robert Lang, reach me at rob@example.org or (212) 555-0143.")
    assert row is not None
    assert row["context"] == f"{QUESTION} My name is [name], reach me at [e-mail] or [phone]."
    assert counts.masked == {"name": 1, "e-mail": 1, "phone": 1}


def test_markup_and_lost_line_ends_are_mended():
    row, _ = kept_of(answer=ANSWER.replace(". Some", ".Some").replace("fixed", "<b>fixed</b>") + "<br>&nbsp;")
    assert row is not None and row["response"].replace("  ", " ") == ANSWER


def test_addresses_and_degrees_keep_their_points():
    kept = "See www.RobinExample.com, jane.Doe@Mail.Com or Jane Doe, Ph.D. about it."
    assert _without_markup(f"It is your life.{kept}") == f"It is your life. {kept}"


def test_repetitions_go_and_a_second_answer_to_the_same_question_stays():
    other = "A warm drink, a dark room and no telephone near the bed have helped others, and so has a walk at noon each day."
    rows = [
        {"context": QUESTION, "response": text} for text in (ANSWER, ANSWER, f"{ANSWER} Take care.", other)
    ]  # fmt: skip
    kept, counts = clean(rows, progress=False)
    assert [row["response"] for row in kept] == [ANSWER, other]
    assert +counts.rows == {"duplicate": 1, "near_duplicate": 1}


def test_alike_finds_what_repeats_and_nothing_else():
    assert sorted(alike([ANSWER, QUESTION, f"{ANSWER} Take care.", ANSWER.upper()])) == [(0, 2), (0, 3), (2, 3)]
    assert list(alike([])) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=80), st.text(max_size=200)), max_size=6))
def test_any_text_is_kept_or_counted(rows):
    kept, counts = clean([{"context": a, "response": b} for a, b in rows], progress=False)
    assert len(kept) + sum(counts.rows.values()) == len(rows)


def test_the_finder_says_what_finds_names():
    assert Finder().names_found_by
