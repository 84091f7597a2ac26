"""The lines: every one usable, links as phones dial them, unknown countries and broken files never without help."""

import copy
import json
import re
import subprocess
import sys
from datetime import date, timedelta

import phonenumbers
import pytest

from support import crisis_lines

ALL = crisis_lines.load()
LINES = [(code, line) for code, country in ALL.items() for line in country["lines"]]


def test_the_file_is_whole():
    assert crisis_lines.problem() is None
    assert len(crisis_lines.countries()) >= 60 and len(LINES) >= 80


@pytest.mark.parametrize(("code", "line"), LINES, ids=[f"{code}-{line['name']}" for code, line in LINES])
def test_line(code, line):
    assert line["evidence"], "a line needs evidence"
    assert line["checked_on"] is None or re.fullmatch(r"20\d\d-\d\d-\d\d", line["checked_on"])
    assert line["url"] is None or line["url"].startswith("https://")
    digits = re.sub(r"\D", "", line["dial"] or "")
    if len(digits) >= 9 and " then " not in line["dial"] and not digits.startswith("116"):
        assert phonenumbers.is_possible_number(phonenumbers.parse(line["dial"], code))


@pytest.mark.parametrize(("code", "line"), LINES, ids=[f"{code}-{line['name']}" for code, line in LINES])
def test_checked_on_is_what_the_evidence_says(code, line):
    found = re.findall(r"listed as verified (\d{4}-\d\d)(-\d\d)?", " ".join(line["evidence"]))
    dates = [date.fromisoformat(month + (day or "-01")).isoformat() for month, day in found]
    assert line["checked_on"] == max(dates, default=None)
    assert all(re.fullmatch(r"[a-z]{2,3}|many", language) for language in line["languages"])


def test_no_line_twice():
    keys = [(code, line["name"]) for code, line in LINES]
    assert len(keys) == len(set(keys))
    contacts = [(code, line["dial"], line["sms"], line["url"]) for code, line in LINES]
    assert len(contacts) == len(set(contacts))


@pytest.mark.parametrize(
    ("code", "name", "tel", "sms_link"),
    [
        ("US", "988 Suicide & Crisis Lifeline", "tel:988", "sms:988"),
        ("US", "Crisis Text Line", None, "sms:741741?body=HOME"),
        ("US", "Veterans Crisis Line", "tel:988,1", "sms:838255"),
        ("GB", "Samaritans", "tel:116123", None),
        ("CL", "Linea Prevencion del Suicidio", "tel:*4141", None),
        ("ID", "SEJIWA (Kemenkes)", "tel:119,8", None),
        ("BD", "Kaan Pete Roi", "tel:+8809612119911", None),
        ("HU", "LESZ", "tel:116123", None),
    ],
)
def test_links_dial_what_is_written(code, name, tel, sms_link):
    (line,) = [line for line in crisis_lines.lines_for(code) if line["name"] == name]
    assert (line["tel"], line["sms_link"]) == (tel, sms_link)


@pytest.mark.parametrize("code", [code for code, _ in crisis_lines.countries()])
def test_links(code):
    for line in crisis_lines.lines_for(code):
        assert line["tel"] is None or re.fullmatch(r"tel:[+*]?\d+(,\d+)?", line["tel"])
        assert line["sms_link"] is None or re.fullmatch(r"sms:\d+(\?body=[A-Z]+)?", line["sms_link"])
        assert line["emergency"] and re.sub(r"\D", "", crisis_lines.emergency_numbers(code)[0])


@pytest.mark.parametrize("given", ["US", "us", " us ", "United States", "united states"])
def test_a_country_is_found(given):
    assert crisis_lines.lines_for(given)[0]["dial"] == "988"


@pytest.mark.parametrize("given", ["UK", "uk", "United Kingdom", "England", "great britain"])
def test_uk_is_gb(given):
    assert crisis_lines.lines_for(given) == crisis_lines.lines_for("GB")


def test_other_names_lead_to_listed_countries():
    assert set(crisis_lines.ALIASES.values()) <= set(ALL)
    assert not set(crisis_lines.ALIASES) & set(ALL)


def test_countries_are_sorted_by_name_and_hold_no_international():
    names = [name for _, name in crisis_lines.countries()]
    assert names == sorted(names) and "INT" not in dict(crisis_lines.countries())


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


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Puts bytes (None: no file) where the lines are read from."""

    def put(content):
        path = tmp_path / "crisis_lines.json"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setattr(crisis_lines, "FILE", path)
        for cached in (crisis_lines._loaded, crisis_lines.known_numbers):
            cached.cache_clear()
        return path

    yield put
    for cached in (crisis_lines._loaded, crisis_lines.known_numbers):
        cached.cache_clear()


@pytest.mark.parametrize(
    "content",
    [None, b"not json", b"\xff\xfe\x00", b"[]", b"{}", b'{"countries": {}}', b'{"countries": {"INT": {"name": "x"}}}'],
)
def test_a_broken_file_still_gives_help(broken, content):
    path = broken(content)
    with pytest.raises(crisis_lines.CrisisLinesError, match=r"crisis_lines\.json"):
        crisis_lines.load(path)
    urls = [line["url"] for line in crisis_lines.lines_for("US")]
    assert urls == ["https://findahelpline.com", "https://befrienders.org"]
    assert crisis_lines.emergency_number("US") == crisis_lines.EMERGENCY_IN_WORDS
    assert crisis_lines.countries() == [] and crisis_lines.known_numbers() == {"112", "911"}
    assert "crisis_lines.json" in crisis_lines.problem()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dial": 988}, "988 Suicide & Crisis Lifeline"),
        ({"dial": None, "sms": None, "url": None}, "needs a dial"),
        ({"url": "http://988lifeline.org"}, "https://"),
        ({"checked_on": "2025-10"}, "2026-06-02"),
        ({"languages": "en"}, "lists"),
        ({"name": None}, "needs a name"),
    ],
)
def test_a_slip_in_one_line_names_the_entry(broken, change, says):
    data = {"countries": copy.deepcopy(ALL)}
    data["countries"]["US"]["lines"][0].update(change)
    path = broken(json.dumps(data).encode())
    with pytest.raises(crisis_lines.CrisisLinesError, match=re.escape("crisis_lines.json: US: ")) as caught:
        crisis_lines.load(path)
    assert says in str(caught.value)
    assert crisis_lines.lines_for("US")[0]["url"] == "https://findahelpline.com"


@pytest.mark.parametrize("change", [{"lines": 5}, {"lines": []}, {"lines": [None]}, {"emergency": "911"}, {"name": 1}])
def test_a_slip_in_a_country_names_it(broken, change):
    data = {"countries": copy.deepcopy(ALL)}
    data["countries"]["US"].update(change)
    with pytest.raises(crisis_lines.CrisisLinesError, match=re.escape("crisis_lines.json: US: ")):
        crisis_lines.load(broken(json.dumps(data).encode()))


def test_no_verified_line_is_older_than_told():
    """Fails when it is time to verify lines again: `python -m support.crisis_lines` lists them."""
    late = [row for row in crisis_lines.to_verify(date.today()) if row[2]]
    assert late == []


def test_what_is_to_be_verified():
    far = crisis_lines.to_verify(date.today() + timedelta(days=3650))
    assert len(far) == len(LINES)
    never = [row for row in crisis_lines.to_verify(date(2026, 1, 1)) if row[2] is None]
    assert {name for _, name, _ in never} == {line["name"] for _, line in LINES if line["checked_on"] is None}


def test_the_report_names_the_lines():
    done = subprocess.run([sys.executable, "-m", "support.crisis_lines"], capture_output=True, text=True, check=True)
    assert "to verify" in done.stdout and "never" in done.stdout


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("You can call 988.", True),
        ("Samaritans: 116 123", True),
        ("Look at https://findahelpline.com", True),
        ("I am 100 percent here for you, and so are 135 people.", False),
        ("Call 911.", False),
        ("I am 98 years old, and in 2019 I was 91.", False),
        ("", False),
    ],
)
def test_whether_a_reply_names_a_line(text, named):
    assert crisis_lines.names_a_line(text) is named
