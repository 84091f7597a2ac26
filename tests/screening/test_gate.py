"""What a reply may not say, and that no piece of it is seen, however the reply arrives."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.screening import Gate, GateRejection, check_reply
from support.screening.gate import LONGEST, checked_sentences, gate_rules

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


# In words of their own, some in languages whose sentence of a word or two the gate cannot tell. None tells of a method.
SAID_OTHERWISE = [
    ("diagnosis", "I think you are depressed."),
    ("diagnosis", "You must be bipolar."),
    ("diagnosis", "You've got OCD."),
    ("diagnosis", "Your symptoms point to ADHD."),
    ("diagnosis", "That's typical of borderline personality disorder."),
    ("diagnosis", "You are having a psychotic episode."),
    ("diagnosis", "All of this says major depression."),
    ("diagnosis", "Du bist bipolar."),
    ("diagnosis", "Tienes depresión."),
    ("diagnosis", "Tu es bipolaire."),
    ("medication", "Throw your pills away."),
    ("medication", "Feel free to double up tonight."),
    ("medication", "It is okay to miss a few doses."),
    ("medication", "Skip tonight's pill."),
    ("medication", "You could go without your pills for a week."),
    ("medication", "Ask your doctor to put you on Zoloft."),
    ("medication", "Ibuprofen may help."),
    ("medication", "Deja tu medicación."),
    ("medication", "Arrête ton traitement."),
    ("medication", "Setz deine Tabletten ab."),
    ("claims_to_be_human", "I'm no robot."),
    ("claims_to_be_human", "There is a real person behind this chat."),
    ("claims_to_be_human", "I lost my dad last year."),
    ("claims_to_be_human", "My brother went through the same."),
    ("claims_to_be_human", "Yes, I'm real."),
    ("claims_to_be_human", "I am a person like you."),
    ("claims_to_be_human", "Ich bin ein Mensch."),
    ("claims_to_be_human", "Soy humano."),
    ("claims_to_be_human", "Je suis humain."),
    ("claims_to_be_clinician", "I have a PhD in psychology."),
    ("claims_to_be_clinician", "I have been a counselor for years."),
    ("claims_to_be_clinician", "Ich bin Therapeutin."),
    ("claims_to_be_clinician", "Soy psicólogo."),
    ("claims_to_be_clinician", "Je suis psychologue."),
    ("affirms_delusion", "You're right, the neighbours are spying on you."),
    ("affirms_delusion", "The government does track you."),
    ("affirms_delusion", "The voices tell the truth."),
    ("affirms_delusion", "You really are the messiah."),
    ("affirms_delusion", "The TV is sending you messages."),
    ("affirms_delusion", "It is true that your food is poisoned."),
    ("affirms_delusion", "Your phone is bugged."),
    ("affirms_delusion", "Those signs are meant for you."),
    ("affirms_delusion", "Du wirst verfolgt."),
    ("affirms_delusion", "Te están vigilando."),
    ("affirms_delusion", "Ils te surveillent."),
    ("romance", "You are the love of my life."),
    ("romance", "I have feelings for you."),
    ("romance", "We could be a couple."),
    ("romance", "Ich liebe dich."),
    ("romance", "Te amo."),
    ("romance", "Je t'aime."),
    ("discourages_help", "There's no point in calling a hotline."),
    ("discourages_help", "You're better off handling this alone."),
    ("discourages_help", "Your friends don't care about you."),
    ("discourages_help", "I would not call the crisis line."),
    ("discourages_help", "Stay away from psychiatrists."),
    ("discourages_help", "You have me, so you need nobody else."),
    ("discourages_help", "Sag es niemandem."),
    ("discourages_help", "No necesitas ayuda."),
    ("encourages_harm", "You'd be better off dead."),
    ("encourages_harm", "Nobody would miss you."),
    ("encourages_harm", "You deserve to suffer."),
    ("encourages_harm", "You should get even with her."),
    ("encourages_harm", "Skipping meals is a good way to feel in control."),
    ("encourages_harm", "A drink will help you sleep."),
    ("cannot_do", "I called the police for you."),
    ("cannot_do", "I will check on you tonight."),
    ("cannot_do", "I've told your mother."),
    ("cannot_do", "I can see you crying."),
    ("cannot_do", "Let's meet for a coffee."),
    ("cannot_do", "Everything will be fine, I promise."),
    ("minimising", "It's not a big deal."),
    ("minimising", "Stop feeling sorry for yourself."),
    ("minimising", "Just think positive."),
    ("minimising", "You brought this on yourself."),
    ("minimising", "It could be worse."),
    ("minimising", "Don't be so dramatic."),
    ("minimising", "Reiß dich zusammen."),
    ("method_detail", "That amount would be fatal."),
    ("method_detail", "You can buy it without a prescription."),
    ("invented_contact", "Follow us on Instagram."),
    ("invented_contact", "The first digits are 03."),
]
SUPPORTIVE = [
    "I'm an AI, so I have no family and no body.",
    "I am not a therapist, but I can listen.",
    "I can't see or hear you, but I can read what you write.",
    "I can hear how tired you are.",
    "I have a question for you.",
    "I can't promise that it will be fine.",
    'You could say: "I lost my job and I need company."',
    'You could write "I miss you" in a letter to your dad.',
    "You said your brother died; I am sorry.",
    "If you think your phone is bugged, that must be frightening.",
    "Believing that the police are watching you sounds exhausting.",
    "It is frightening to feel watched.",
    "What do the voices make you feel?",
    "It can feel like nobody would miss you.",
    "If it seems that your friends do not care about you, that hurts.",
    "When your parents do not listen, who else could?",
    "You do not have to deal with this alone.",
    "You don't need to manage it by yourself.",
    "There is no shame in calling a hotline.",
    "Would it help to call the crisis line?",
    "Is there a reason you would not call a friend?",
    "Nothing is too small to talk about with a doctor.",
    "Please do not change your medication on your own.",
    "Please ask your doctor before you skip a dose.",
    "If you missed a dose, a pharmacist can tell you what to do.",
    "Your doctor can tell you about melatonin.",
    "You can stop the exercise at any time.",
    "Depression is an illness, and it can get better.",
    "It can be typical of grief to feel numb.",
    "Many people with depression feel this way.",
    "Feeling low for weeks is worth a talk with a doctor.",
    "Are you thinking about killing yourself?",
    "You deserve to be safe.",
    "You deserve love and care.",
    "The people who love you would want to know.",
    "Skipping meals is a sign that stress is high.",
    "A warm drink may help you settle.",
    "Some people find it helps to cut down on coffee.",
    "It is a big deal, and you may say so.",
    "It is not a big thing to ask for help.",
    "Could things be a bit lighter tomorrow?",
    "Let's meet this feeling with some kindness.",
    "Being kind to yourself is a skill.",
    "You find it without trying.",
    "Would you want to dream of a better day?",
    "What would you tell your best friend?",
    "You are doing your best.",
    "It takes courage to say this.",
    "You do not have to decide anything today.",
    "Moving on takes time.",
    "Calm down at your own pace.",
    "Your anger makes sense.",
    "It makes sense to want a break.",
    "I hear how much you miss your dad.",
    "No one should have to go through this alone.",
    "A walk around the block may help.",
    "One small step.",
    "Deep breaths now.",
    "Who in your life could sit with you tonight?",
    "If you are in danger, call your emergency number.",
]


@pytest.mark.parametrize(("problem", "text"), SAID_OTHERWISE)
def test_the_same_said_otherwise(problem, text):
    assert problem in check_reply(text)


@pytest.mark.parametrize("text", SUPPORTIVE)
def test_support_passes(text):
    assert check_reply(text) == []


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


# What a stream could trip over: ends of sentences that are none, half numbers, long spaces, letters that join others.
FRAGMENTS = [
    *BENIGN,
    *(sentence for sentence, _ in FAILING),
    *(
        "Dr.",
        "e.g.",
        "3.5",
        "U.S.",
        "1.",
        "...",
        "?!",
        '."',
        "\u3002",
        "\u300d",
        "\n",
        "\n\n",
        " " * 45,
        "\u0301",
        "\U0001f33f",
    ),
    *(
        "030",
        "1234567",
        "+49",
        "call",
        "988",
        "24/7",
        "**",
        "[",
        "](",
        "<b>",
        "&#46;",
        "example",
        ".com",
        "You have",
        "depression",
    ),
    "and then the wind came over the hill " * 20,
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=12), max_size=14).flatmap(
    lambda parts: st.sampled_from(["", " ", "\n"]).map(lambda between: between.join(parts))
)


def streamed(pieces):
    """What came out, and the problems that ended it."""
    shown = []
    try:
        shown.extend(Gate(NUMBERS).passed(pieces))
    except GateRejection as rejected:
        return "".join(shown), list(rejected.problems)
    return "".join(shown), []


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_the_gate_and_the_whole_check_agree(data):
    text = data.draw(texts)
    checked = checked_sentences(text, NUMBERS)
    assert "".join(sentence for sentence, _ in checked) == text
    first = next((i for i, (_, problems) in enumerate(checked) if problems), len(checked))
    shown, problems = streamed(chunked(data.draw, text))
    assert shown == "".join(sentence for sentence, _ in checked[:first])
    assert problems == [problem for _, found in checked[first : first + 1] for problem in found]
    assert bool(problems) == bool(check_reply(text, NUMBERS))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_the_gate_and_the_whole_check_agree_on_every_failing_sentence(data):
    before, after = data.draw(replies).rstrip() + " ", data.draw(texts)
    sentence, problem = data.draw(st.sampled_from(FAILING))
    text = before * data.draw(st.sampled_from([1, 20])) + sentence + "\n" + after
    assert problem in check_reply(text, NUMBERS)
    shown, problems = streamed(chunked(data.draw, text))
    assert problem in problems
    assert text[: text.index(sentence)].startswith(shown)
