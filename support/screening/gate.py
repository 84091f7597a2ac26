"""The reply gate: every sentence the model writes is checked before a person sees it.

    for piece in Gate(allowed_numbers).passed(engine_pieces): show(piece)     # GateRejection: show a template instead

What may not be said is data: phrases in `assets/screening/gate.yaml`, and for what no phrase names a classifier
(`reply_classifier`). Phone numbers, web addresses and doses are found by their form (`forms`).
Knows nothing about levels or templates, and its exception names problems, never words of the reply.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

from support.languages import holds_words_of, language_of
from support.screening import reply_classifier
from support.screening.forms import Forms, digits_of
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
        self.allowed_numbers = frozenset(digits_of(number) for number in allowed_numbers)

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
    allowed = frozenset(digits_of(number) for number in allowed_numbers)
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
    forms = rules.forms
    text = before + sentence
    seen = _as_seen(text)
    problems = rules.names_in(seen)
    if forms.unknown_number(seen, allowed_numbers) or forms.unknown_number(text, allowed_numbers):
        problems.add("phone_number")
    if forms.foreign_address(html.unescape(text)) or forms.foreign_address(seen):
        problems.add("url")
    if forms.blank(sentence):
        problems.add("invented_contact")
    if forms.dose(seen):
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
        self.forms = Forms(self.data)


@lru_cache(maxsize=1)
def gate_rules() -> GateRules:
    """The rules of this project's gate, loaded once. Raises RulesError: gate.yaml cannot be used."""
    return GateRules()
