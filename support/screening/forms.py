"""What a reply may not hold, by its form: phone numbers that are not the crisis lines', web addresses, doses, blanks.

    Forms(data).unknown_number("Call 030 / 12 34 56", allowed)  ->  True

Words and units are data (`assets/screening/gate.yaml`); how digits and dots are put together is told here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any


class Forms:
    """Each method reads one text, and tells whether such a form stands in it."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        """`data`: gate.yaml's number_words, units, dose_units, dose_words and allowed_sites."""
        self.allowed_sites = frozenset(data["allowed_sites"])
        self.number_word = _any_word(data["number_words"])
        self.right_after_word = re.compile(
            rf"(?<!\w)(?:{_either(data['number_words'])})[ :,(\-]{{1,3}}(?:(?:at|on|to|is|us|them|now)[ :,]{{1,2}}){{0,2}}$",
            re.IGNORECASE,
        )
        self._harmless = _harmless(data["units"])
        self._dose = _dose(data["dose_units"], data["dose_words"])

    def unknown_number(self, text: str, allowed: frozenset[str]) -> bool:
        """A number to call that is none of `allowed`, which are digits alone."""
        text = _plain_digits(text)
        if _VANITY.search(text):
            return True
        text = _SPELLED_RUN.sub(_as_digits, _SPELLED_AGAIN.sub(_as_often_as_told, text))
        if not _NUMBER.search(text):
            return False
        text = self._harmless.sub(" | ", _LIST_NUMBER.sub("", text))
        return any(_is_invented(found, allowed, self) for found in _NUMBER.finditer(text))

    def foreign_address(self, text: str) -> bool:
        """A web or e-mail address that is none of the allowed sites."""
        text = re.sub("[\u3002\uff61]", ".", _plain_digits(text))
        for found in _ADDRESS.finditer(_DOT_IN_WORDS.sub(".", text)):
            host = re.sub(r"^(https?:)?//", "", found[0].lower())
            if re.split(r"[/?#:]", host)[0].rstrip(".,;!?") not in self.allowed_sites:
                return True
        return False

    def dose(self, text: str) -> bool:
        """An amount of a medicine."""
        return bool(self._dose.search(_plain_digits(text)))

    def blank(self, text: str) -> bool:
        """A form that nobody filled in."""
        return bool(_BLANK.search(text))


def _any_word(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile(r"(?<![^\W\d_])(?:" + _either(words) + r")(?![^\W\d_])", re.IGNORECASE)


def _either(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, words))


# Phone numbers. A number that is not in the crisis-line data was invented by the model.
#
# First goes what digits mostly are: list numbers, dates, times, shares, amounts. Digits that are left and have no words
# between them are one number, whatever separates them: "030 / 12, 34", or a list with a part of it on each line.

_LIST_NUMBER = re.compile(r"^[ \t>]{0,8}\d{1,2}[.)][ \t]", re.MULTILINE)
_MONTH = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]{0,6}\.?"
_YEAR = r"(?:19|20)\d\d"
_MARK = r"[^\w$\u00a3\u20ac!?]"
_THEN = "then|followed by|dash|hyphen|minus|slash|stroke|dot|point|comma|plus|space|ext|extension|x"
_JOINT = rf"{_MARK}{{0,6}}(?:(?:and |or )?(?:{_THEN}){_MARK}{{1,6}})?"
_NUMBER = re.compile(rf"\d(?:{_JOINT}\d){{2,60}}", re.IGNORECASE)
_TIGHT = re.compile(r"\)?[ \-.\u00a0\u2010-\u2015]?\(?")  # within one number; anything else may stand between two
_VANITY = re.compile(
    r"(?<!\w)1?[-. (]{0,2}8(?:00|33|44|55|66|77|88)[-. )]{1,2}[A-Za-z\d-]{0,8}[A-Za-z]{3}", re.IGNORECASE
)
_SPELLED = dict(
    zip(
        ("zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "eleven"),
        ("0", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "11"),
        strict=True,
    )
)
_ANY_SPELLED = _either(_SPELLED)
_SPELLED_AGAIN = re.compile(rf"(?<!\w)(double|triple)[ \-]({_ANY_SPELLED}|\d)(?!\w)", re.IGNORECASE)
_SPELLED_RUN = re.compile(
    rf"(?<!\w)(?:(?:{_ANY_SPELLED})[\s\-,./]{{1,3}}){{1,19}}(?:{_ANY_SPELLED})(?!\w)", re.IGNORECASE
)
NEAR = 60  # characters on either side in which a word such as "call" makes short digits a number
LONG_NUMBER = 7  # digits: a phone number whatever stands beside it
MOST_BEFORE_LETTERS = 4  # digits: "1990s", "100th"


def _harmless(units: Iterable[str]) -> re.Pattern[str]:
    """What is no number to call: dates, times, "24/7", "8/10", amounts of a unit or of money, round thousands."""
    amount = r"\d{1,4}(?:[.,]\d{1,3}){0,2}"
    forms = (
        rf"{_YEAR}[-./]\d{{1,2}}[-./]\d{{1,2}}",
        rf"\d{{1,2}}[-./ ]\d{{1,2}}[-./ ]{_YEAR}",
        rf"{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:,? {_YEAR})?",
        rf"\d{{1,2}} {_MONTH}(?:,? {_YEAR})?(?![a-z])",
        r"\d{1,2}:[0-5]\d",
        r"24 ?/ ?7",
        r"\d(?:\.\d)? ?/ ?(?:[2-9]|10|100)",
        r"10 ?/ ?10|\d\d ?/ ?100",
        r"[1-9]\d{0,2}(?:,\d{3})*,\d00",
        rf"[$\u00a3\u20ac] ?{amount}",
        rf"(?:\d{{1,3}}(?: ?[-\u2010-\u2015] ?| to | or | and ))?{amount}[ \-]{{0,2}}(?:{_either(units)})",
    )
    return re.compile(r"(?<![\d+])(?<!\d[-./:,])(?:" + "|".join(forms) + r")(?!\w|[-./:,]\d)", re.IGNORECASE)


def _is_invented(found: re.Match[str], allowed: frozenset[str], forms: Forms) -> bool:
    text, (start, end) = found.string, found.span()
    left = _without_known(_parts(found[0]), allowed)
    groups = [group for part in left for group in part]
    if all(re.fullmatch(_YEAR, group) for group in groups):
        return False
    if _is_counting(groups) or _is_range(groups):
        return bool(forms.right_after_word.search(text, max(0, start - NEAR), start))
    digits = "".join(groups)
    if len(digits) >= LONG_NUMBER:
        return True
    if len(digits) <= 2 or (len(digits) <= MOST_BEFORE_LETTERS and text[end : end + 1].isalpha()):
        return False
    return bool(forms.number_word.search(text, max(0, start - NEAR), end + NEAR))


def _parts(run: str) -> list[list[str]]:
    """ "988, 116 123" -> [["988"], ["116", "123"]]: groups of digits, apart where two numbers could meet."""
    parts: list[list[str]] = []
    last = 0
    for group in re.finditer(r"\d+", run):
        if parts and _TIGHT.fullmatch(run, last, group.start()):
            parts[-1].append(group[0])
        else:
            parts.append([group[0]])
        last = group.end()
    return parts


def _without_known(parts: list[list[str]], allowed: frozenset[str]) -> list[list[str]]:
    """`parts` without those that make, alone or with the next ones, a number that may be named."""
    left: list[list[str]] = []
    start = 0
    while start < len(parts):
        for end in range(len(parts), start, -1):
            joined = "".join(group for part in parts[start:end] for group in part)
            if len(joined) > 2 and joined in allowed:
                start = end
                break
        else:
            left.append(parts[start])
            start += 1
    return left


def _is_counting(groups: list[str]) -> bool:
    """ "5-4-3-2-1", "4-7-8", "10, 20, 30": breathing and grounding, not a number to call."""
    if len(groups) < 3:
        return False
    values = [int(group) for group in groups]
    steps = {after - before for before, after in pairwise(values)}
    even = len(steps) == 1 and (steps <= {1, -1} or (steps <= {5, -5, 10, -10} and max(values) <= 100))
    return even or (len(groups) <= 4 and all(len(group) == 1 for group in groups))


def _is_range(groups: list[str]) -> bool:
    """ "18-25", "5-10", and not "9-11"."""
    if len(groups) != 2 or len(groups[1]) != 2 or int(groups[0]) >= int(groups[1]):
        return False
    return len(groups[0]) == 2 or int(groups[1]) % 5 == 0


def _as_digits(found: re.Match[str]) -> str:
    """ "nine eight eight" -> "9-8-8-": the words as digits; counting stays recognisable."""
    spelled = [_SPELLED[word] for word in re.findall(r"[a-z]+", found[0].lower())]
    return ("-" if _is_counting(spelled) and len(set(spelled)) == len(spelled) else "").join(spelled)


def _as_often_as_told(found: re.Match[str]) -> str:
    """ "double nine" -> "nine nine" """
    return " ".join([found[2]] * (2 if found[1].lower() == "double" else 3))


def _plain_digits(text: str) -> str:
    """Digits of any script as 0-9, without the characters that no reader sees and the frame of a keycap emoji."""
    text = re.sub("[\u00ad\u200b-\u200f\u2060-\u2064\u20e3\ufe00-\ufe0f\ufeff]", "", text)
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text)
    return "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in text)


def digits_of(number: str) -> str:
    """The digits of a number, of any script, and nothing else."""
    return "".join(c for c in _plain_digits(number) if c in "0123456789")


# Doses and blanks


def _dose(units: Iterable[str], words: Iterable[str]) -> re.Pattern[str]:
    """ "0.5 g", "half a tablet", "a few of your pills", "the dose is 50". Whoever withholds one that is none does no harm."""
    amount = rf"(?:\d|(?<!\w)(?:{_ANY_SPELLED}|{_either(words)}))"
    between = r"[\s(),x-]{0,3}(?:(?:of|a|an|the|more|extra|your|his|her|my|those|these|de|tes|deiner) ){0,2}"
    said = r"(?<!\w)(?:dose|dosage)(?: [a-z]+){0,2}:? ?\d"
    return re.compile(rf"{amount}{between}(?:{_either(units)})(?!\w)|{said}", re.IGNORECASE)


# A form that nobody filled in: "contact me at [Your Name]". It may stand where a name or number would.
_BLANK = re.compile(
    r"[\[<{](?:insert|enter|your|name|link|url|phone|e-?mail|contact|address|website|date|number)\b", re.IGNORECASE
)

# Web addresses. Anything with a dot before small letters is one: endings are too many and too new to list. A full stop that
# lacks its space has a capital after it ("well.I"), and abbreviations have single letters ("e.g.").

_ENDINGS = (
    "com|org|net|gov|edu|info|io|co|uk|de|fr|ca|us|app|health|chat|ly|me|ie|nz|au|eu|ch|nl|br|jp|kr|za|xyz|gg|tv|online|site"
    "|support|care|help|ai|life|world|today|space|website|link|click|page|blog|live|foundation|center|community|network"
)
_LABEL = r"(?![\d_-]{0,63}\.)[\w-]{1,62}[^\W_]"  # two characters or more, not all of them digits
_ADDRESS = re.compile(
    r"(?:https?:)?//[^\s)\]>\"']{1,200}|(?i:www)\.[^\s)\]>\"']{1,200}|[\w.+-]{0,60}@[\w.-]{2,120}"
    rf"|(?<![^\W_])(?:[\w-]{{1,63}}\.){{0,4}}(?:{_LABEL}\.(?:xn--[\w-]{{2,40}}|[a-z]{{2,24}}|[A-Z]{{2,24}})|[\w-]{{1,63}}\.(?i:{_ENDINGS}))(?![\w-])"
    r"[\w.-]{0,200}|(?<![\w/])[ru]/\w{3,40}"
)
_DOT_IN_WORDS = re.compile(
    rf"\s?[(\[{{]\s?(?:\.|dot)\s?[)\]}}]\s?|\sdot\s(?=(?:{_ENDINGS})(?!\w))|(?:\s\.\s?|\.\s)(?=(?:com|org|net)(?!\w))",
    re.IGNORECASE,
)
