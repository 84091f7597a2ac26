"""The fixed replies: what the policy asks of each, for every category, country and turn."""

import re

import pytest

from support import crisis_lines, replies

CATEGORIES = [*replies.load()["categories"], "distress", "unheard of"]
COUNTRIES = ["US", "GB", "JP", "FR", "CL", "ID", ""]
BANNED = re.compile(r"\b(therap|treatment|diagnos|promise me|commit suicide|committed suicide)", re.IGNORECASE)
EVERY = [
    (level, category, country, turn)
    for level in (2, 3)
    for category in CATEGORIES
    for country in COUNTRIES
    for turn in range(6)
]


@pytest.mark.parametrize("category", CATEGORIES)
def test_policy(category):
    for level, _, country, turn in [case for case in EVERY if case[1] == category]:
        reply = replies.crisis(level, category, country, turn)
        assert "{" not in reply and not BANNED.search(reply)
        assert len(re.findall(r"^\d\.", reply, flags=re.MULTILINE)) <= 3
        assert "AI" in reply
        assert reply.count("Are you thinking about killing yourself?") <= 1
        assert crisis_lines.lines_for(country)[0]["name"] in reply
        shown = re.sub(r"\(https?://[^)]*\)|24/7|\d\d:\d\d|24 h on the 10th|150\+|^\d\.", "", reply, flags=re.MULTILINE)
        for number in re.findall(r"\+?\d(?:[\d \-]*\d)?", shown):
            assert re.sub(r"\D", "", number) in crisis_lines.known_numbers(), number


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("country", COUNTRIES)
def test_level_3_opens_with_the_emergency_number(category, country):
    reply = replies.crisis(3, category, country)
    assert reply.startswith(f"**Please call {crisis_lines.emergency_number(country)} now")


def test_the_direct_question_is_asked_once():
    first = replies.crisis(2, "suicide", "US", 1)
    turns = [{"role": "user", "content": "…"}, {"role": "assistant", "content": first}]
    assert not replies.already_asked(turns[:1]) and replies.already_asked(turns)
    assert "killing yourself?" not in replies.crisis(2, "suicide", "US", 2, asked=True)


def test_wordings_rotate():
    assert len({replies.crisis(2, "suicide", "US", turn) for turn in range(3)}) == 3


@pytest.mark.parametrize("content", [None, "a: [", "[]", "question: x"])
def test_a_broken_file_still_gives_words(tmp_path, monkeypatch, content):
    path = tmp_path / "en.yaml"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(replies, "FILE", path)
    replies._loaded.cache_clear()
    try:
        assert "en.yaml" in replies.problem()
        for reply in (replies.crisis(3, "suicide", "US"), replies.fault("US"), replies.withheld("US")):
            assert "911" in reply and "988" in reply
    finally:
        replies._loaded.cache_clear()
