"""The lines: every one usable, links as phones dial them, unknown countries and broken files never without help."""

import re

import phonenumbers
import pytest

from support import crisis_lines

ALL = crisis_lines.load()
LINES = [(code, line) for code, country in ALL.items() for line in country["lines"]]


def test_the_file_is_whole():
    assert crisis_lines.problem() is None
    assert len(crisis_lines.countries()) >= 44 and len(LINES) >= 60


@pytest.mark.parametrize(("code", "line"), LINES, ids=[f"{code}-{line['name']}" for code, line in LINES])
def test_line(code, line):
    assert line["evidence"], "a line needs evidence"
    assert line["checked_on"] is None or re.fullmatch(r"20\d\d-\d\d-\d\d", line["checked_on"])
    assert line["url"] is None or line["url"].startswith("https://")
    digits = re.sub(r"\D", "", line["dial"] or "")
    if len(digits) >= 9 and " then " not in line["dial"] and not digits.startswith("116"):
        assert phonenumbers.is_possible_number(phonenumbers.parse(line["dial"], code))


def test_no_line_twice():
    keys = [(code, line["name"]) for code, line in LINES]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("code", [code for code, _ in crisis_lines.countries()])
def test_links(code):
    for line in crisis_lines.lines_for(code):
        assert line["tel"] is None or re.fullmatch(r"tel:[+*]?\d+(,\d+)?", line["tel"])
        assert line["sms_link"] is None or re.fullmatch(r"sms:\d+(\?body=[A-Z]+)?", line["sms_link"])
        assert line["emergency"] and re.sub(r"\D", "", crisis_lines.emergency_numbers(code)[0])


@pytest.mark.parametrize("given", ["US", "us", " us ", "United States", "united states"])
def test_a_country_is_found(given):
    assert crisis_lines.lines_for(given)[0]["dial"] == "988"


def test_uk_is_gb():
    assert crisis_lines.lines_for("UK") == crisis_lines.lines_for("GB")


@pytest.mark.parametrize("given", ["", "XX", "nowhere", "INT", "<b>", "\u200b"])
def test_unknown_gives_directories_and_words(given):
    assert crisis_lines.lines_for(given)[0]["url"] == "https://findahelpline.com"
    assert crisis_lines.emergency_number(given) == crisis_lines.EMERGENCY_IN_WORDS


def test_known_numbers_hold_what_is_shown():
    assert {"988", "116123", "741741", "911", "112"} <= crisis_lines.known_numbers()


def test_checked_on_is_the_oldest_or_none():
    lines = [{"checked_on": "2026-06-02"}, {"checked_on": "2025-10-01"}]
    assert crisis_lines.checked_on(lines) == "2025-10-01"
    assert crisis_lines.checked_on([*lines, {"checked_on": None}]) is None


@pytest.mark.parametrize(
    "content", [None, "not json", "{}", '{"countries": {}}', '{"countries": {"INT": {"name": "x"}}}']
)
def test_a_broken_file_still_gives_help(tmp_path, monkeypatch, content):
    path = tmp_path / "crisis_lines.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(crisis_lines.CrisisLinesError, match=r"crisis_lines\.json"):
        crisis_lines.load(path)
    monkeypatch.setattr(crisis_lines, "FILE", path)
    crisis_lines._loaded.cache_clear()
    try:
        assert crisis_lines.lines_for("US")[0]["url"] == "https://findahelpline.com"
        assert crisis_lines.emergency_number("US") == crisis_lines.EMERGENCY_IN_WORDS
        assert "crisis_lines.json" in crisis_lines.problem()
    finally:
        crisis_lines._loaded.cache_clear()
