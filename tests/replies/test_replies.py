"""The fixed replies: what the policy asks of each, for every language, category, country and turn."""

import copy
import re

import pytest
import yaml

from support import crisis_lines, replies
from support.languages import languages

ENGLISH = replies.load(replies.FOLDER / "en.yaml")
CATEGORIES = [*ENGLISH["categories"], "distress", "unheard of"]
COUNTRIES = ["US", "GB", "JP", "FR", "CL", "ID", ""]
BANNED = re.compile(
    r"\b(therap|treatment|diagnos|prescri|disorder|promise|guarantee|commit suicide|committed suicide)", re.IGNORECASE
)
METHODS = re.compile(
    r"\b(pills?|overdos|gun|firearm|knife|knives|blades?|razor|rope|bridge|cut|cutting|hang|jump|poison|mg)",
    re.IGNORECASE,
)
QUESTION = "Are you thinking about killing yourself?"
EVERY = [
    (level, category, country, turn)
    for level in (2, 3)
    for category in CATEGORIES
    for country in COUNTRIES
    for turn in range(6)
]


OTHERS = [
    text
    for country in COUNTRIES
    for text in (replies.withheld(country), replies.fault(country), replies.unavailable("No model is set.", country))
] + [replies.empty(), replies.too_long(8000), replies.refused("history must be a list.")]


def numbers(text):
    """Digits of every phone number that a reader sees; list marks, hours and addresses are none."""
    text = re.sub(r"\]\([^)]*\)|24/7|\d\d:\d\d|24 h on the 10th|150\+|8,000|^\d\.", "", text, flags=re.MULTILINE)
    return [re.sub(r"\D", "", number) for number in re.findall(r"\+?\d(?:[\d \-]*\d)?", text)]


def fits_the_words(text):
    return not ("{" in text or "}" in text or BANNED.search(text) or METHODS.search(text))


@pytest.mark.parametrize("category", CATEGORIES)
def test_policy(category):
    for level, _, country, turn in [case for case in EVERY if case[1] == category]:
        reply = replies.crisis(level, category, country, turn)
        assert fits_the_words(reply)
        assert len(re.findall(r"^\s*(?:\d+\.|[-*] )", reply, flags=re.MULTILINE)) <= 3
        assert "AI" in reply and re.search(r"\bwrit(e|ing)\b", reply.splitlines()[-1])
        assert reply.count(QUESTION) <= 1
        assert crisis_lines.lines_for(country)[0]["name"] in reply
        assert set(numbers(reply)) <= crisis_lines.known_numbers()


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("country", COUNTRIES)
def test_level_3_opens_with_the_emergency_number(category, country):
    for turn in range(6):
        reply = replies.crisis(3, category, country, turn)
        numbers_or_words = " / ".join(crisis_lines.emergency_numbers(country)) or ENGLISH["emergency_in_words"]
        assert reply.startswith(f"**Please call {numbers_or_words} now")
        assert numbers(reply)[0] == (crisis_lines.emergency_numbers(country) or ["112"])[0]
        assert QUESTION not in reply


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("country", [code for code, _ in crisis_lines.countries()] + [""])
def test_level_2_links_the_first_line(category, country):
    line = crisis_lines.lines_for(country)[0]
    reply = replies.crisis(2, category, country)
    for shown, link in (("dial", "tel"), ("sms", "sms_link"), ("url", "url")):
        assert line[shown] is None or f"]({line[link]})" in reply
    for shown in ("dial", "sms"):
        assert line[shown] is None or line[shown] in reply


@pytest.mark.parametrize("category", [name for name in CATEGORIES if name != "distress"])
def test_level_2_names_a_person_and_what_makes_contact_hard(category):
    for turn in range(6):
        reply = replies.crisis(2, category, "US", turn)
        assert "doctor" in reply and re.search(r"\btrust\b|someone|person", reply)
        assert (
            re.search(r"cost|money", reply)
            and "police" in reply
            and re.search(r"privacy|who will know|who gets", reply)
        )
        assert "I only want to talk" in reply


def test_the_direct_question_is_for_ones_own_risk():
    asking = {category for category in CATEGORIES if QUESTION in replies.crisis(2, category, "US")}
    assert asking == {"suicide", "self_harm"}


@pytest.mark.parametrize("text", OTHERS)
def test_other_replies_are_whole(text):
    assert text.strip() and fits_the_words(text) and set(numbers(text)) <= crisis_lines.known_numbers()


def test_what_went_wrong_is_said():
    assert "8,000" in replies.too_long(8000) and "history must be" in replies.refused("history must be a list.")
    assert "No model is set." in replies.unavailable("No model is set.", "US")
    for text in (replies.withheld("GB"), replies.fault("GB"), replies.unavailable("", "GB")):
        assert "(tel:116123)" in text


def test_the_direct_question_is_asked_once():
    first = replies.crisis(2, "suicide", "US", 1)
    turns = [{"role": "user", "content": "…"}, {"role": "assistant", "content": first}]
    assert not replies.already_asked(turns[:1]) and replies.already_asked(turns)
    assert "killing yourself?" not in replies.crisis(2, "suicide", "US", 2, asked=True)


def test_wordings_rotate():
    assert len({replies.crisis(2, "suicide", "US", turn) for turn in range(3)}) == 3


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Puts bytes (None: no file) where the words are read from."""

    def put(content):
        path = tmp_path / "en.yaml"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setattr(replies, "FOLDER", tmp_path)
        forget()

    yield put
    forget()


def forget():
    replies._loaded.cache_clear()
    replies._requests_by_words.cache_clear()


@pytest.mark.parametrize("content", [None, b"a: [", b"[]", b"question: x", b"\xff\xfe\x00"])
def test_a_broken_file_still_gives_words(broken, content):
    broken(content)
    assert "en.yaml" in replies.problem()
    for reply in (replies.crisis(3, "suicide", "US"), replies.fault("US"), replies.withheld("US")):
        assert "911" in reply and "988" in reply and fits_the_words(reply)
    assert replies.already_asked([{"role": "assistant", "content": QUESTION}]) is False


@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        ("categories", ["suicide"], "categories"),
        ("categories", {"default": None}, "default"),
        ("shape", {"level_2": "{opening}"}, "level_3"),
        ("barriers", "one wording, not a list", "barriers"),
        ("ai", [], "ai"),
        ("question", None, "question"),
        ("ways", {"call": "call {0}"}, "ways"),
        ("ways", {"call": "call", "text": "text {0}", "website": "website"}, "ways"),
        ("barrier_choices", {"cost": {"say": "x", "answer": "y"}}, "barrier_choices"),
    ],
)
def test_a_slip_names_the_part(broken, part, value, says):
    texts = {**ENGLISH, part: value}
    broken(yaml.safe_dump(texts).encode())
    assert says in replies.problem() and "911" in replies.crisis(3, "suicide", "US")


def test_a_slip_in_a_category_names_it(broken):
    texts = copy.deepcopy(ENGLISH)
    texts["categories"]["abuse"]["opening"] = "one wording, not a list"
    broken(yaml.safe_dump(texts).encode())
    assert "abuse" in replies.problem() and "988" in replies.crisis(2, "abuse", "US")


# Other languages: the same parts, their own words, nothing left in English

LANGUAGES = list(languages())
OTHER = [code for code in LANGUAGES if code != "en"]


def test_a_number_keeps_its_order_in_arabic():
    """From right to left, "116 123" would stand as "123 116"."""
    assert "\u2066116 123\u2069](tel:116123)" in replies.crisis(2, "suicide", "GB", language="ar")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_is_complete(language):
    texts = replies.load(replies.FOLDER / f"{language}.yaml")
    assert set(texts) == set(ENGLISH) and set(texts["categories"]) == set(ENGLISH["categories"])
    assert texts["language"] == languages()[language]
    for part, words in leaves(texts):
        english = dict(leaves(ENGLISH)).get(part, "")
        assert set(re.findall(r"{\w+}", words)) == set(re.findall(r"{\w+}", english)), part
        assert language == "en" or words != english or not re.search("[a-z]{4}", re.sub(r"{\w+}", "", words)), part


def leaves(value, name=""):
    """("categories.abuse.opening.0", text) of every text."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from [(f"{name}.{key}", child)] if isinstance(child, str) else leaves(child, f"{name}.{key}")


@pytest.mark.parametrize("language", OTHER)
@pytest.mark.parametrize("category", CATEGORIES)
def test_policy_in_other_languages(language, category):
    question = replies.load(replies.FOLDER / f"{language}.yaml")["question"]
    for level, country, turn in [
        (level, country, turn) for level in (2, 3) for country in COUNTRIES for turn in range(6)
    ]:
        reply = replies.crisis(level, category, country, turn, language=language)
        assert "{" not in reply and QUESTION not in reply
        assert len(re.findall(r"^\s*(?:\d+\.|[-*] )", reply, flags=re.MULTILINE)) <= 3
        assert crisis_lines.lines_for(country)[0]["name"] in reply
        assert reply.count(question) == (level == 2 and category in ("suicide", "self_harm"))
        assert set(numbers(reply)) <= crisis_lines.known_numbers()
        if level == 3:
            first = (crisis_lines.emergency_numbers(country) or ["112"])[0]
            assert first in reply.split("\n\n")[0]
    asked = [{"role": "assistant", "content": replies.crisis(2, "suicide", "US", language=language)}]
    assert replies.already_asked(asked)


# Requests and barriers


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["human", "method", "diagnosis", "medication", "barriers"])
def test_requests(name, language):
    for turn in range(2):
        reply = replies.request(name, "FR", turn, language)
        assert reply.strip() and "{" not in reply and set(numbers(reply)) <= crisis_lines.known_numbers()
    if language == "en":
        assert fits_the_words(reply) or name in ("diagnosis", "medication")


@pytest.mark.parametrize("language", LANGUAGES)
def test_barriers_are_chosen_by_their_words(language):
    choices = replies.barrier_choices(language)
    for name, words in choices.items():
        assert replies.chosen_barrier(f" {words}. ") == f"barriers.{name}"
        answer = replies.request(f"barriers.{name}", "US", language=language)
        assert "988" in answer and "{" not in answer
    opening, here = replies.choices("crisis", language)
    assert replies.chosen_barrier(opening) == "barriers" and here == choices["only_talk_here"]
    assert replies.choices("barriers", language) == list(choices.values())
    assert all(words in replies.request("barriers", "US", language=language) for words in choices.values())


def test_other_words_choose_nothing():
    assert (
        replies.chosen_barrier("I worry about the cost of the wedding") is None and replies.chosen_barrier("") is None
    )


def test_a_language_without_a_file_speaks_english(broken):
    broken(yaml.safe_dump(ENGLISH).encode())
    assert replies.crisis(2, "suicide", "US", language="fr") == replies.crisis(2, "suicide", "US")
    assert replies.crisis(2, "suicide", "US", language="xx") == replies.crisis(2, "suicide", "US")
    assert "yaml" in replies.problem()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_crisis_reply_names_a_line(language):
    """What the conversation's state looks for before it calls a risk carried."""
    for country in [code for code, _ in crisis_lines.countries()] + [""]:
        for level in (2, 3):
            assert crisis_lines.names_a_line(replies.crisis(level, "suicide", country, language=language)), country
