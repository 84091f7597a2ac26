"""The reply gate: every sentence the model writes is checked before a person sees it.

    for piece in Gate(allowed_numbers).passed(engine_pieces): show(piece)     # GateRejection: show a template instead

What may not be said is data: phrases in `assets/screening/gate.yaml`, and for what no phrase names a classifier
(`reply_classifier`). Phone numbers and web addresses are found by their form.
Knows nothing about levels or templates, and its exception names problems, never words of the reply.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise

from support.languages import holds_words_of, language_of
from support.screening import reply_classifier
from support.screening.phrases import PhraseRules

BEFORE = 600  # characters of what went before that each sentence is read together with
TELLS_ALONE = 60  # characters of a sentence; the classifier reads a shorter one after NEAR_BEFORE of those before it
NEAR_BEFORE = 200
LONGEST = 600  # characters; a sentence without an end is cut here, at a space
SPOKEN = "en"  # the language that gate.yaml can check; a sentence in another one is not shown
# Words of a sentence in Latin letters: of fewer, English may have none in its list, and one or two are a greeting.
WORDS_THAT_TELL = 4
PATIENCE = 40  # spaces or line ends after a sentence that are waited for

_END = re.compile(
    r"[.!?\u2026\u061f\u0964]{1,6}[\"'\u201d\u2019)\]*_]{0,4}(?=\s)|[\u3002\uff01\uff1f][\u300d\u300f\u201d]{0,2}|\n"
)
_NOT_AN_END = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|dr|mr|mrs|ms|prof|st|approx|ca|no|cf|p\.ex|z\.b)|\b[A-Za-z]|(?:^|\n)\s{0,8}\d{1,2})\.$",
    re.IGNORECASE,
)


class GateRejection(Exception):
    """A reply may not be shown: replace all of it. `problems` are ids, never text of the reply."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("The reply was withheld: " + ", ".join(problems))
        self.problems = problems


class Gate:
    """Lets sentences through as they are written, and stops at the first that may not be said."""

    def __init__(self, allowed_numbers: Iterable[str] = frozenset()) -> None:
        """`allowed_numbers`: phone numbers and short codes that a reply may name; only their digits are compared."""
        self.allowed_numbers = frozenset(_digits(number) for number in allowed_numbers)

    def passed(self, pieces: Iterable[str]) -> Iterator[str]:
        """Whole sentences of `pieces`, with their white space: joined, they are the input. A piece without words is passed on
        at once, as it is.

        Raises:
            GateRejection: a sentence failed. Neither it nor anything after it is yielded.
        """
        shown: list[str] = []
        waiting = ""
        for piece in pieces:
            if not piece:
                yield piece
                continue
            waiting += piece
            while cut := _first_cut(waiting):
                sentence, waiting = waiting[:cut], waiting[cut:]
                self._check(shown, sentence)
                shown = _latest([*shown, sentence])
                yield sentence
        if waiting:
            self._check(shown, waiting)
            yield waiting

    def _check(self, shown: list[str], sentence: str) -> None:
        before = "".join(shown)
        problems = problems_in(before, sentence, self.allowed_numbers)
        if not problems:
            problems = [learned for learned in reply_classifier.problems_of([_told(before, sentence)]) if learned]
        if problems:
            raise GateRejection(tuple(problems))


def _latest(sentences: list[str]) -> list[str]:
    """As many of the last sentences as fit into BEFORE characters: whole ones, for half a number is another number."""
    kept, length = len(sentences), 0
    while kept and length + len(sentences[kept - 1]) <= BEFORE:
        kept -= 1
        length += len(sentences[kept])
    return sentences[kept:]


def check_reply(text: str, allowed_numbers: Iterable[str] = frozenset()) -> list[str]:
    """Problems of a whole reply, sorted; [] where it may be shown."""
    return sorted({problem for _, problems in checked_sentences(text, allowed_numbers) for problem in problems})


def checked_sentences(
    text: str, allowed_numbers: Iterable[str] = frozenset(), least: float | None = None
) -> list[tuple[str, list[str]]]:
    """Each sentence with the space after it, and its problems, as the gate would find them one after the other.

    `least` is the classifier's probability from which on its problem counts; None: as at the gate.
    What phrases and forms withhold is no context for the sentences after it: nobody would have seen it.
    """
    allowed = frozenset(_digits(number) for number in allowed_numbers)
    checked: list[tuple[str, list[str]]] = []
    unclear: dict[int, str] = {}  # where phrases and forms find nothing: what the classifier reads
    shown: list[str] = []
    while text:
        cut = _first_cut(text) or len(text)
        before, sentence, text = "".join(shown), text[:cut], text[cut:]
        problems = problems_in(before, sentence, allowed)
        if not problems:
            unclear[len(checked)] = _told(before, sentence)
            shown = _latest([*shown, sentence])
        checked.append((sentence, problems))
    for i, learned in zip(unclear, reply_classifier.problems_of([*unclear.values()], least), strict=False):
        checked[i][1].extend([learned] if learned else [])
    return checked


def problems_in(before: str, sentence: str, allowed_numbers: frozenset[str]) -> list[str]:
    """Ids of what phrases and forms find in `sentence`, read together with what went before; sorted."""
    rules = gate_rules()
    text = before + sentence
    seen = _as_seen(text)
    problems = rules.names_in(seen)
    if _unknown_number(seen, allowed_numbers, rules) or _unknown_number(text, allowed_numbers, rules):
        problems.add("phone_number")
    if _foreign_address(html.unescape(text), rules.allowed_sites) or _foreign_address(seen, rules.allowed_sites):
        problems.add("url")
    if _BLANK.search(sentence):
        problems.add("invented_contact")
    if rules.dose.search(_plain_digits(seen)):
        problems.add("medication")
    if _in_another_language(sentence) or _in_another_language(text):
        problems.add("unchecked_language")
    return sorted(problems)


_MARKS = re.compile(r"<[^<>]{0,200}>|[*_`~\\]")
_LINK = re.compile(r"\[([^\[\]]{0,200})\]\([^()]{0,400}\)")


def _as_seen(text: str) -> str:
    """`text` as the page shows it: without the marks of Markdown and HTML, in which a phrase or a number could hide."""
    return _MARKS.sub("", _LINK.sub(r"\1", html.unescape(text)))


def _told(before: str, sentence: str) -> str:
    """What the classifier reads: the sentence, and where it is short ("Me too.") what was said just before it too."""
    if len(sentence) >= TELLS_ALONE:
        return sentence
    near = before[-NEAR_BEFORE:]
    return (near if len(near) == len(before) else near.partition(" ")[2]) + sentence


_INNER_DOT = re.compile(r"\w\.\w")  # of an address, which tells no language: "com" is Portuguese too


def _in_another_language(sentence: str) -> bool:
    """Also in one that `languages` has no words of: in other letters, or without any English word."""
    letters = [letter for letter in sentence if letter.isalpha()]
    if 2 * sum(not unicodedata.name(letter, "").startswith("LATIN") for letter in letters) > len(letters):
        return True
    words = [word for word in sentence.split() if any(map(str.isalpha, word)) and not _INNER_DOT.search(word)]
    if len(words) < WORDS_THAT_TELL - 1:
        return False
    sentence = " ".join(words)
    return language_of([sentence]) != SPOKEN or (len(words) >= WORDS_THAT_TELL and not holds_words_of(SPOKEN, sentence))


def _first_cut(text: str) -> int:
    """Length of the first whole sentence of `text` with the white space after it; 0 where more must come first.

    Depends on the text from its beginning only, so that the same reply is cut alike however it arrives.
    """
    for end in _END.finditer(text, 0, LONGEST):
        if text[end.start()] == "." and _NOT_AN_END.search(text, max(0, end.start() - 12), end.start() + 1):
            continue
        cut = end.end()
        while cut < len(text) and cut < end.end() + PATIENCE and text[cut].isspace():
            cut += 1
        if cut < len(text) or cut == end.end() + PATIENCE:
            return cut
        return 0  # more white space may follow
    if len(text) <= LONGEST:
        return 0
    space = text.rfind(" ", LONGEST // 2, LONGEST)
    return space + 1 if space > 0 else LONGEST


# Phrases


class GateRules(PhraseRules):
    """gate.yaml: a problem is a phrase that no `unless` explains; and what is found by its form."""

    def __init__(self) -> None:
        super().__init__("gate.yaml")
        self.allowed_sites = frozenset(self.data["allowed_sites"])
        self.number_word = _any_word(self.data["number_words"])
        self.right_after_word = re.compile(
            rf"(?<!\w)(?:{_either(self.data['number_words'])})[ :,(\-]{{1,3}}(?:(?:at|on|to|is|us|them|now)[ :,]{{1,2}}){{0,2}}$",
            re.IGNORECASE,
        )
        self.harmless = _harmless(self.data["units"])
        self.dose = _dose(self.data["dose_units"], self.data["dose_words"])


@lru_cache(maxsize=1)
def gate_rules() -> GateRules:
    """The rules of this project's gate, loaded once. Raises RulesError: gate.yaml cannot be used."""
    return GateRules()


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


def _unknown_number(text: str, allowed: frozenset[str], rules: GateRules) -> bool:
    text = _plain_digits(text)
    if _VANITY.search(text):
        return True
    text = _SPELLED_RUN.sub(_as_digits, _SPELLED_AGAIN.sub(_as_often_as_told, text))
    if not _NUMBER.search(text):
        return False
    text = rules.harmless.sub(" | ", _LIST_NUMBER.sub("", text))
    return any(_is_invented(found, allowed, rules) for found in _NUMBER.finditer(text))


def _is_invented(found: re.Match[str], allowed: frozenset[str], rules: GateRules) -> bool:
    text, (start, end) = found.string, found.span()
    left = _without_known(_parts(found[0]), allowed)
    groups = [group for part in left for group in part]
    if all(re.fullmatch(_YEAR, group) for group in groups):
        return False
    if _is_counting(groups) or _is_range(groups):
        return bool(rules.right_after_word.search(text, max(0, start - NEAR), start))
    digits = "".join(groups)
    if len(digits) >= LONG_NUMBER:
        return True
    if len(digits) <= 2 or (len(digits) <= MOST_BEFORE_LETTERS and text[end : end + 1].isalpha()):
        return False
    return bool(rules.number_word.search(text, max(0, start - NEAR), end + NEAR))


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


def _digits(number: str) -> str:
    return "".join(c for c in _plain_digits(number) if c in "0123456789")


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


def _foreign_address(text: str, allowed_sites: frozenset[str]) -> bool:
    text = re.sub("[\u3002\uff61]", ".", _plain_digits(text))
    for found in _ADDRESS.finditer(_DOT_IN_WORDS.sub(".", text)):
        host = re.sub(r"^(https?:)?//", "", found[0].lower())
        if re.split(r"[/?#:]", host)[0].rstrip(".,;!?") not in allowed_sites:
            return True
    return False
