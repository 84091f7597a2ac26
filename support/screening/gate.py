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
WORDS_THAT_TELL = 4  # of a sentence in Latin letters: fewer are a name or a greeting
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
    if _foreign_address(html.unescape(text), rules.allowed_sites):
        problems.add("url")
    if _BLANK.search(sentence):
        problems.add("invented_contact")
    if _DOSE.search(_plain_digits(seen)):
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


def _in_another_language(sentence: str) -> bool:
    """Also in one that `languages` has no words of: in other letters, or without any English word."""
    letters = [letter for letter in sentence if letter.isalpha()]
    if 2 * sum(not unicodedata.name(letter, "").startswith("LATIN") for letter in letters) > len(letters):
        return True
    if not letters or len(sentence.split()) < WORDS_THAT_TELL:
        return False
    return language_of([sentence]) != SPOKEN or not holds_words_of(SPOKEN, sentence)


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
        units = "|".join(map(re.escape, self.data["units"]))
        self.unit = re.compile(r"[ \-]{0,2}(?:" + units + r")(?!\w)", re.IGNORECASE)


@lru_cache(maxsize=1)
def gate_rules() -> GateRules:
    """The rules of this project's gate, loaded once. Raises RulesError: gate.yaml cannot be used."""
    return GateRules()


def _any_word(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)", re.IGNORECASE)


# Phone numbers. A number that is not in the crisis-line data was invented by the model.

_SEPARATOR = r"[ \t.()\-\u00a0\u2010-\u2015]"
_NUMBER = re.compile(rf"(?<![\w.])\+?\(?\d(?:{_SEPARATOR}{{0,3}}\d){{2,19}}(?!\w)")
_VANITY = re.compile(
    r"(?<!\w)1?[-. (]{0,2}8(?:00|33|44|55|66|77|88)[-. )]{1,2}[A-Za-z\d-]{0,8}[A-Za-z]{3}", re.IGNORECASE
)
_DATE = re.compile(r"(?:(?:19|20)\d\d[-.]\d{1,2}[-.]\d{1,2}|\d{1,2}[-. ]\d{1,2}[-. ](?:19|20)\d\d)$")
_YEARS = re.compile(r"(?:19|20)\d\d(?:\s{0,2}[-\u2010-\u2015]\s{0,2}(?:19|20)?\d\d)?$")
_SPELLED = dict(
    zip(
        ("zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        "00123456789",
        strict=True,
    )
)
_SPELLED_RUN = re.compile(
    r"(?<!\w)(?:(?:" + "|".join(_SPELLED) + r")[ \-,]{1,3}){2,19}(?:" + "|".join(_SPELLED) + r")(?!\w)", re.IGNORECASE
)
NEAR = 60  # characters on either side in which a word such as "call" makes short digits a number
SHORTEST_BEFORE_AMOUNT = 5  # digits: "100-150 metres" is no number to call
LONG_NUMBER = 7  # digits: a phone number whatever stands beside it


def _unknown_number(text: str, allowed: frozenset[str], rules: GateRules) -> bool:
    text = _plain_digits(text)
    if _VANITY.search(text):
        return True
    text = _SPELLED_RUN.sub(_as_digits, text)
    return any(
        _digits(shape := _without_amount(found, text, rules)) not in allowed
        and _is_phone_number(shape, found.span(), text, rules)
        for found in _NUMBER.finditer(text)
    )


def _without_amount(found: re.Match[str], text: str, rules: GateRules) -> str:
    """What stands before an amount, as in "555-0199 24 hours a day"; "" where nothing long enough to call does."""
    shape, always = found[0].strip(), text.startswith("/7", found.end())
    if not always and not rules.unit.match(text, found.end()):
        return shape
    shape = re.sub(r"\d+\D*$", "", shape).rstrip()
    return shape if always or len(_digits(shape)) >= SHORTEST_BEFORE_AMOUNT else ""


def _is_phone_number(shape: str, place: tuple[int, int], text: str, rules: GateRules) -> bool:
    digits = _digits(shape)
    groups = re.findall(r"\d+", shape)
    if not groups or groups == ["24", "7"] or _is_counting(groups) or _DATE.match(shape) or _YEARS.match(shape):
        return False
    if len(digits) >= LONG_NUMBER:
        return True
    near = text[max(0, place[0] - NEAR) : place[1] + NEAR]
    return bool(rules.number_word.search(near))


def _is_counting(groups: list[str]) -> bool:
    """ "5-4-3-2-1", "4-7-8", "1 2 3 ... 10": breathing and grounding, not a number to call."""
    if len(groups) < 3:
        return False
    values = [int(group) for group in groups]
    steps = {after - before for before, after in pairwise(values)}
    return steps in ({1}, {-1}) or (len(groups) <= 4 and all(len(group) == 1 for group in groups))


def _as_digits(found: re.Match[str]) -> str:
    """ "nine eight eight" -> "9-8-8-": the words as digits; counting stays recognisable."""
    spelled = [_SPELLED[word] for word in re.findall(r"[a-z]+", found[0].lower())]
    return ("-" if _is_counting(spelled) and len(set(spelled)) == len(spelled) else "").join(spelled)


def _plain_digits(text: str) -> str:
    """Digits of any script as 0-9, without the characters that no reader sees."""
    text = re.sub("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]", "", text)
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text)
    return "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in text)


def _digits(number: str) -> str:
    return "".join(c for c in _plain_digits(number) if c in "0123456789")


_DOSE = re.compile(
    r"(?:\d|(?<!\w)(?:" + "|".join(_SPELLED) + r"|ten|twelve|twenty|thirty|fifty|hundred))"
    r"[\s-]{0,3}(?:more |extra )?"
    r"(?:mg|milligrams?|mcg|\u00b5g|micrograms?|ml|pills?|tablets?|capsules?|puffs?)(?!\w)",
    re.IGNORECASE,
)

# A form that nobody filled in: "contact me at [Your Name]". It may stand where a name or number would.
_BLANK = re.compile(
    r"[\[<{](?:insert|enter|your|name|link|url|phone|e-?mail|contact|address|website|date|number)\b", re.IGNORECASE
)

# Web addresses

_ADDRESS = re.compile(
    r"(?:https?:)?//[^\s)\]>\"']{1,200}|www\.[^\s)\]>\"']{1,200}|[\w.+-]{1,60}@[\w-]{1,60}\.[\w.-]{1,60}"
    r"|(?<![\w.-])[\w-]{1,40}(?:\.[\w-]{1,40}){0,3}\.(?:com|org|net|gov|edu|info|io|co|uk|de|fr|ca|us|app|health|chat|ly|me|ie|nz|au|eu|ch|nl|br|jp|kr|za|xyz|gg|tv)(?![\w-])",
    re.IGNORECASE,
)


def _foreign_address(text: str, allowed_sites: frozenset[str]) -> bool:
    for found in _ADDRESS.finditer(text):
        host = re.sub(r"^(https?:)?//", "", found[0].lower())
        if re.split(r"[/?#:]", host)[0].rstrip(".,;!?") not in allowed_sites:
            return True
    return False
