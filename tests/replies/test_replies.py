"""The fixed replies: what the policy asks of each, for every category, country and turn."""

import re

import pytest
import yaml

from support import crisis_lines, replies

CATEGORIES = [*replies.load()["categories"], "distress", "unheard of"]
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
        assert reply.startswith(f"**Please call {crisis_lines.emergency_number(country)} now")
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
        monkeypatch.setattr(replies, "FILE", path)
        replies._loaded.cache_clear()

    yield put
    replies._loaded.cache_clear()


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
    ],
)
def test_a_slip_names_the_part(broken, part, value, says):
    texts = {**replies.load(), part: value}
    broken(yaml.safe_dump(texts).encode())
    assert says in replies.problem() and "911" in replies.crisis(3, "suicide", "US")


def test_a_slip_in_a_category_names_it(broken):
    texts = replies.load()
    texts["categories"]["abuse"]["opening"] = "one wording, not a list"
    broken(yaml.safe_dump(texts).encode())
    assert "abuse" in replies.problem() and "988" in replies.crisis(2, "abuse", "US")
