"""Crisis lines and emergency numbers for a country, from `assets/crisis_lines.json`.

    python -m support.crisis_lines      what is wrong with the file, and which lines are to be verified again

Knows nothing about replies or pages. A broken file never reaches a person as an error: the international directories and
the emergency in words are in the code, and `problem()` tells what is wrong.
"""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent.parent / "assets" / "crisis_lines.json"
INTERNATIONAL = "INT"
EMERGENCY_IN_WORDS = "your local emergency number (112 in many countries, 911 in others)"
ALIASES = {
    "UK": "GB", "GREAT BRITAIN": "GB", "BRITAIN": "GB", "ENGLAND": "GB", "SCOTLAND": "GB", "WALES": "GB",
    "NORTHERN IRELAND": "GB", "USA": "US", "UNITED STATES OF AMERICA": "US", "EL": "GR", "CZECH REPUBLIC": "CZ",
    "HOLLAND": "NL", "THE NETHERLANDS": "NL", "KOREA": "KR", "REPUBLIC OF KOREA": "KR",
}  # fmt: skip


def _directory(name: str, url: str) -> dict[str, Any]:
    unknown = dict.fromkeys(("dial", "sms", "checked_on"))
    return {"name": name, "url": url, "hours": "directory", "languages": ["many"], "evidence": [], **unknown}


MOST_AGE = timedelta(days=548)  # a verified line is verified again within 18 months; a test fails where one is not
_DIRECTORY_SITE = "findahelpline.com"
_CALLED = re.compile(
    r"(?:call|dial|ring|phone|text|tel:|sms:|line|samaritans)[^\d.!?]{0,30}?(\d[\d \-]*\d)", re.IGNORECASE
)
_ISO_DATE = re.compile(r"20\d\d-[01]\d-[0-3]\d")
_FALLBACK: dict[str, Any] = {
    INTERNATIONAL: {
        "name": "International",
        "emergency": [],
        "lines": [
            _directory("Find A Helpline (ThroughLine)", "https://findahelpline.com"),
            _directory("Befrienders Worldwide", "https://befrienders.org"),
        ],
    }
}


class CrisisLinesError(ValueError):
    """The file cannot be used. The message names the file and the entry."""


def load(path: Path = FILE) -> dict[str, Any]:
    """Country code -> {name, emergency, lines}, as in the file.

    Raises:
        CrisisLinesError: the file is missing or an entry is malformed.
    """
    try:
        countries = json.loads(path.read_text(encoding="utf-8"))["countries"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CrisisLinesError(f"{path.name} cannot be read: {type(error).__name__}.") from error
    if not isinstance(countries, dict) or INTERNATIONAL not in countries:
        raise CrisisLinesError(f"{path.name}: the entry {INTERNATIONAL} is missing; it serves every unknown country.")
    for code, country in countries.items():
        fault = _fault_in(country)
        if fault:
            raise CrisisLinesError(f"{path.name}: {code}: {fault}.")
    return countries


def lines_for(country: str) -> list[dict[str, Any]]:
    """The lines of a country, best first; the international ones where the country is unknown.

    Args:
        country: code in any case ("us", "UK"), English name, or "".

    Returns:
        dicts with country, country_name, emergency, name, dial, sms, url, hours, languages, evidence, checked_on (ISO date
        or None), and the links tel and sms_link (or None).
    """
    code = resolve(country)
    entry = _countries()[code]
    return [
        {
            "country": code,
            "country_name": entry["name"],
            "emergency": emergency_number(code),
            **line,
            "tel": _tel(line["dial"]),
            "sms_link": _sms(line["sms"]),
        }
        for line in entry["lines"]
    ]


def resolve(country: str) -> str:
    """The code under which a country is listed; INT where it is not."""
    given = country.strip()
    code = ALIASES.get(given.upper(), given.upper())
    if code in _countries():
        return code
    named = (code for code, entry in _countries().items() if entry["name"].casefold() == given.casefold())
    return next(named, INTERNATIONAL)


def countries() -> list[tuple[str, str]]:
    """(code, name) of every listed country, by name."""
    listed = [(code, entry["name"]) for code, entry in _countries().items() if code != INTERNATIONAL]
    return sorted(listed, key=lambda pair: pair[1])


def emergency_numbers(country: str) -> list[str]:
    """Emergency numbers as dialled, an ambulance's first; empty where the country is unknown."""
    return list(_countries()[resolve(country)]["emergency"])


def emergency_number(country: str) -> str:
    """The emergency numbers in a sentence: "119 or 110"; words where the country is unknown."""
    return " or ".join(emergency_numbers(country)) or EMERGENCY_IN_WORDS


@lru_cache(maxsize=1)
def known_numbers() -> frozenset[str]:
    """Digits of every number in the data: what a reply may hold."""
    numbers = {"112", "911"}  # named in EMERGENCY_IN_WORDS
    for entry in _countries().values():
        for written in [*entry["emergency"], *(line[key] for line in entry["lines"] for key in ("dial", "sms"))]:
            numbers.update(re.sub(r"\D", "", run) for run in re.findall(r"\d[\d \-]*\d|\d", written or ""))
    return frozenset(numbers)


def names_a_line(text: str) -> bool:
    """Whether a reply names a crisis line: its link or website, or its number after a word such as "call".

    A number alone is not enough: "100 percent" is no help.
    """
    numbers, sites = _ways_to_lines()
    if any(site in text for site in sites):
        return True
    return any(re.sub(r"\D", "", found[1]) in numbers for found in _CALLED.finditer(text))


@lru_cache(maxsize=1)
def _ways_to_lines() -> tuple[frozenset[str], frozenset[str]]:
    """Digits of the lines' numbers, without emergency numbers, and the addresses of their websites."""
    lines = [line for entry in _countries().values() for line in entry["lines"]]
    written = [line[key] or "" for line in lines for key in ("dial", "sms")]
    numbers = {re.sub(r"\D", "", run) for text in written for run in re.findall(r"\d[\d \-]*\d", text)}
    return frozenset(numbers), frozenset(filter(None, (line["url"] for line in lines))) | {_DIRECTORY_SITE}


def checked_on(lines: list[dict[str, Any]]) -> str | None:
    """The oldest verification date among these lines; None where any was never verified again."""
    dates = [line["checked_on"] for line in lines]
    return min(dates) if dates and all(dates) else None


def to_verify(today: date) -> list[tuple[str, str, str | None]]:
    """(country, line, checked_on) of lines that were never verified or longer ago than MOST_AGE; the never verified first."""
    oldest = (today - MOST_AGE).isoformat()
    rows = [(code, line["name"], line["checked_on"]) for code, entry in _countries().items() for line in entry["lines"]]
    return sorted((row for row in rows if not row[2] or row[2] < oldest), key=lambda row: (row[2] or "", row[0]))


def problem() -> str | None:
    """What is wrong with the file; None where nothing is."""
    return _loaded()[1]


def _countries() -> dict[str, Any]:
    return _loaded()[0]


@lru_cache(maxsize=1)
def _loaded() -> tuple[dict[str, Any], str | None]:
    try:
        return load(FILE), None
    except CrisisLinesError as error:
        return _FALLBACK, str(error)


def _fault_in(country: Any) -> str:
    """What keeps an entry from being used; "" where nothing does."""
    if not isinstance(country, dict) or not isinstance(country.get("name"), str):
        return "needs a name"
    if not _texts(country.get("emergency")):
        return "emergency must be a list of numbers as dialled, in quotes"
    lines = country.get("lines")
    if not isinstance(lines, list) or not lines:
        return "needs at least one line"
    return next(filter(None, (_fault_in_line(line) for line in lines)), "")


def _fault_in_line(line: Any) -> str:
    if not isinstance(line, dict) or not isinstance(line.get("name"), str):
        return "a line needs a name"
    name, optional = line["name"], ("dial", "sms", "url", "hours", "checked_on")
    missing = {*optional, "languages", "evidence"} - set(line)
    if missing:
        return f"{name}: missing {', '.join(sorted(missing))}"
    if not all(line[key] is None or isinstance(line[key], str) for key in optional):
        return f"{name}: {', '.join(optional)} must be text or null"
    if not _texts(line["languages"]) or not _texts(line["evidence"]):
        return f"{name}: languages and evidence must be lists of texts"
    if not (line["dial"] or line["sms"] or line["url"]):
        return f"{name}: needs a dial, an sms or a url"
    if line["url"] and not line["url"].startswith("https://"):
        return f"{name}: url must start with https://"
    if line["checked_on"] and not _ISO_DATE.fullmatch(line["checked_on"]):
        return f"{name}: checked_on must be a date such as 2026-06-02, or null"
    return ""


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _tel(dial: str | None) -> str | None:
    """tel: link. "988 then 1" and "119 ext 8" dial on after a pause; * and # are escaped as RFC 3966 asks of links."""
    if not dial:
        return None
    number, _, extension = re.sub(r"\s+(then|ext)\s+", ",", dial).partition(",")
    digits = re.sub(r"[^\d+*#]", "", number).replace("#", "%23")
    return f"tel:{digits}" + (f",{extension}" if extension else "")


def _sms(sms: str | None) -> str | None:
    """sms: link, with the word to send where there is one ("HOME to 741741")."""
    if not sms:
        return None
    word, _, number = sms.rpartition(" to ")
    return "sms:" + re.sub(r"\D", "", number) + (f"?body={word}" if word else "")


if __name__ == "__main__":
    rows = to_verify(date.today())
    print(problem() or f"{len(rows)} lines to verify with the operator, then set `evidence` and `checked_on`:")
    for code, name, checked in rows:
        print(f"  {code}  {checked or 'never     '}  {name}")
