"""What a reply may not say, and that no piece of it is seen, however the reply arrives."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.screening import Gate, GateRejection, check_reply
from support.screening.gate import LONGEST, gate_rules

NUMBERS = frozenset({"988", "116 123", "741741", "+1-800-273-8255"})

BENIGN = [
    "That sounds heavy, and I'm glad you wrote it down.",
    "Dr. Lee said it takes time, e.g. 3.5 weeks.",
    "Try this:\n1. Sit down.\n2. Breathe in for 4 seconds.\n",
    "Who could sit with you today? A friend, perhaps!",
    "You can call 988 (in the U.S.) at any hour.",
    "That sounds hard。Would you like to say more？",
    "Breathe 4-7-8, then name 5-4-3-2-1 things…",
    "  \n\n Well...  take   your time. ",
    "I am an AI program, not a person.",
]
FAILING = [
    ("You have depression.", "diagnosis"),
    ("As a licensed therapist I know this.", "claims_to_be_clinician"),
    ("You should stop taking your medication.", "medication"),
    ("Call 555-867-5309.", "phone_number"),
    ("I love you.", "romance"),
    ("They are watching you.", "affirms_delusion"),
    ("See www.example.com for more.", "url"),
    ("Just get over it.", "minimising"),
    ("You don't need a therapist.", "discourages_help"),
]

replies = st.lists(st.sampled_from(BENIGN), min_size=1, max_size=6).map(" ".join)


def chunked(draw, text):
    """`text` in pieces, some of them empty: of one to nine characters, or cut anywhere."""
    size = draw(st.integers(0, 9))
    cuts = list(range(0, len(text), size)) if size else sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


def examples(kind):
    for problem, entry in gate_rules().examples.items():
        for text in entry[kind]:
            yield pytest.param(problem, text, id=f"{problem}-{text[:40]}")


@pytest.mark.parametrize(("problem", "text"), examples("hit"))
def test_hit(problem, text):
    assert problem in check_reply(text)


@pytest.mark.parametrize(
    "text", ["Contact me at [Your Name", "Look here: [insert link to website].", "Ask for <name>."]
)
def test_a_form_that_nobody_filled_in_is_no_contact(text):
    assert check_reply(text) == ["invented_contact"]


def test_brackets_alone_are_fine():
    assert check_reply("It hurts [and that is allowed], whatever your name is.") == []


def marked(text):
    """Every word in bold, and the first as a link."""
    first, *others = text.split(" ")
    return " ".join([f"[{first}](#)", *(f"**{word}**" for word in others)])


@pytest.mark.parametrize(("problem", "text"), [hit for hit in examples("hit") if "[" not in hit[1]])
def test_marks_hide_nothing(problem, text):
    assert problem in check_reply(marked(text))


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("phone_number", "Call 1-800-555-0199 24 hours a day."),
        ("phone_number", "Call the hotline at 555-0199 7 days a week."),
        ("phone_number", "Call __0301234567__."),
        ("phone_number", "**0800** **123** **456** is open all night."),
        ("medication", "Take two pills before bed."),
        ("medication", "Try **50** mg before bed."),
        ("medication", "Take 2 more pills."),
        ("url", "Go to reachout.ie for help."),
        ("url", "Write to help@support.eu."),
        ("url", "It is all [there](//evil.xyz)."),
        ("url", "It is all at evil&#46;xyz."),
        ("diagnosis", "You have <b>depression</b>."),
        ("method_detail", "I can't help you with that, but a fatal dose would be quite small."),
        ("unchecked_language", "\u042f \u0436\u0438\u0432\u043e\u0439 \u0447\u0435\u043b\u043e\u0432\u0435\u043a."),
        ("unchecked_language", "Ben ger\u00e7ek bir insan\u0131m."),
    ],
)
def test_other_ways_to_write_it(problem, text):
    assert problem in check_reply(text)


@pytest.mark.parametrize(("problem", "text"), examples("miss"))
def test_miss(problem, text):
    assert check_reply(text) == []


def test_every_rule_of_the_gate_has_examples():
    for entry in gate_rules().examples.values():
        assert len(entry["hit"]) >= 2
        assert len(entry["miss"]) >= 2


@pytest.mark.parametrize(
    "text",
    [
        "Call 911.",
        "Dial nine one one",
        "1-800-SUICIDE",
        "Ring 1-800-273-8256",
        "(555) 123-4567",
        "+44 20 7946 0958",
        "The hotline is 13 11 14.",
        "Reach them at \uff19\uff18\uff17",
        "Text 74-17-42",
        "call 9\u200b1\u200b1",
    ],
)
def test_numbers_that_are_not_in_the_data(text):
    assert check_reply(text, NUMBERS) == ["phone_number"]


@pytest.mark.parametrize(
    "text",
    [
        "Call 988, or text HOME to 741741.",
        "Call 988 24/7.",
        "You can call 988 24 hours a day.",
        "Call a friend for 10 to 15 minutes.",
        "Samaritans: 116 123",
        "Samaritans: 116123",
        "Call 1 800 273 8255? The old +1 (800) 273-8255 still works.",
        "In 2019-2021 I read that 30 % of people call a friend.",
        "On 2024-05-01 at 10:30 you could call a friend.",
        "Try 4-7-8 breathing, or 5-4-3-2-1.",
        "Count 1 2 3 4 5 6 7 8 9 10 before you call.",
        "Count one two three four five.",
        "A line is open 24/7, call any time.",
        "Call a friend for 10 minutes, or walk 500 steps.",
        "1. Breathe\n2. Write\n3. Call a friend",
        "1,000 people",
    ],
)
def test_numbers_that_may_stand(text):
    assert check_reply(text, NUMBERS) == []


def test_addresses():
    assert check_reply("Look at https://findahelpline.com/countries or findahelpline.com.") == []
    assert check_reply("Look at findahelpline.com.evil.example.org") == ["url"]
    assert check_reply("Look at https://example.org/help") == ["url"]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_benign_replies_come_out_as_they_went_in(data):
    text = data.draw(replies)
    assert "".join(Gate(NUMBERS).passed(chunked(data.draw, text))) == text


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_part_of_a_failing_sentence_is_seen(data):
    before, after = data.draw(replies), data.draw(replies)
    sentence, problem = data.draw(st.sampled_from(FAILING))
    before = before.rstrip() + " "
    shown = []
    with pytest.raises(GateRejection) as rejected:
        shown.extend(Gate(NUMBERS).passed(chunked(data.draw, before + sentence + " " + after)))
    assert problem in rejected.value.problems
    assert before.startswith("".join(shown))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_cuts_do_not_depend_on_how_the_reply_arrives(data):
    text = data.draw(replies)
    whole = list(Gate(NUMBERS).passed([text]))
    assert [piece for piece in Gate(NUMBERS).passed(chunked(data.draw, text)) if piece] == whole


@pytest.mark.parametrize(
    "text",
    [
        "Deberías hablar con alguien hoy.",
        "Es tut mir leid, dass du das erlebst.",
        "你可以和朋友谈谈。",
        "आप किसी से बात करें।",
    ],
)
def test_a_language_that_the_rules_cannot_read_is_not_shown(text):
    assert check_reply(text) == ["unchecked_language"]
    assert check_reply("That sounds hard. " + text) == ["unchecked_language"]


def test_short_sentences_of_another_language_are_seen_together():
    assert check_reply("Lo siento. No puedo. Estoy aquí.") == ["unchecked_language"]


@pytest.mark.parametrize("text", ["Telefono Amico may listen.", "Ça va? That is a start."])
def test_a_foreign_word_may_stand(text):
    assert check_reply(text) == []


def test_heartbeats_pass_at_once():
    passed = Gate().passed(iter(["", "Hello there. ", "", "Go on."]))
    assert next(passed) == ""
    assert list(passed) == ["", "Hello there. ", "Go on."]


def test_sentences_are_cut_where_they_end():
    text = 'See e.g. Dr. Lee, 3.5 times. "Yes!" 1. One.\nTwo。Three。End'
    assert list(Gate().passed([text])) == [
        "See e.g. Dr. Lee, 3.5 times. ",
        '"Yes!" ',
        "1. One.\n",
        "Two。",
        "Three。",
        "End",
    ]


def test_a_problem_over_two_sentences_is_seen():
    with pytest.raises(GateRejection):
        list(Gate().passed(["The hotline number you want is easy.\n", "4321 8765"]))


def test_a_sentence_without_an_end_is_cut_and_checked():
    text = "and then the wind came over the hill " * 60
    pieces = list(Gate().passed([text]))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= LONGEST
    with pytest.raises(GateRejection):
        list(Gate().passed([text + "you have depression " + text]))


def test_a_number_across_a_forced_cut_is_seen():
    text = "so " * 198 + "call 555 867 5309 soon " + "so " * 100
    with pytest.raises(GateRejection):
        list(Gate().passed([text]))


def test_the_rejection_names_problems_and_no_words():
    with pytest.raises(GateRejection) as rejected:
        list(Gate().passed(["You have depression, Zebulon."]))
    assert rejected.value.problems == ("diagnosis",)
    assert "Zebulon" not in str(rejected.value)


def test_an_error_of_the_engine_comes_through():
    def broken():
        yield "Hello. "
        raise RuntimeError("engine")

    with pytest.raises(RuntimeError, match="engine"):
        list(Gate().passed(broken()))


def test_the_gate_and_the_whole_check_agree():
    for sentence, problem in FAILING:
        assert problem in check_reply("Hello there. " * 80 + sentence, NUMBERS)
