"""What of a counselling dataset is fit to learn from: rows that are left out, sentences that are cut, names that are masked.

    cleaned, counts = clean(rows)

Everything is counted by its reason, and nothing is mended by guessing:

- A *row* goes where question or answer is missing, is not English, is too short or too long; where it repeats another one,
  word for word or nearly; and where the question is at risk by this project's own screening. In the product such a message
  gets a fixed reply and no model is asked, so the model is not taught to answer it either.
- A *sentence* of an answer goes where the reply gate would surely withhold it from a model (`support.screening.gate`:
  diagnosis, medication, a claim to be a clinician, an unknown number ...), and where it holds a link, an e-mail address, a
  phone number, a person's name, or speaks of the therapist's own practice. An answer that loses too much of itself goes whole.
- In a *question*, which is not learned from but read, links, numbers and names are masked: "[name]".

Presidio finds what identifies a person. Names need spaCy's English model (`python -m spacy download en_core_web_sm`); without
it only names that stand beside a title, a credential or "my name is" are found, and the report says so.

Knows nothing about files, splits or models.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tqdm import tqdm

from support.crisis_lines import known_numbers
from support.languages import DEFAULT as ENGLISH
from support.languages import language_of
from support.screening import assess, import_libraries
from support.screening.gate import checked_sentences
from support.screening.state import AT_RISK

FEWEST_WORDS = {"context": 4, "response": 20}
MOST_WORDS = {"context": 800, "response": 900}
LEAST_LEFT = 0.6  # of an answer's characters after cutting; with less it is no longer that answer
ALIKE = 0.9  # cosine of two texts' runs of words, from which on one repeats the other
# Of the gate's classifier, where the gate takes half. It learned from what models write; of 43 sentences of
# counsellors that it found below this, some six had the problem (read by hand).
SURE = 0.9
NAMES_MODEL = "en_core_web_sm"

Row = dict[str, str]
_WORD = re.compile(r"\w+")


@dataclass
class Counts:
    """How much went, by reason. `rows`: left out; `sentences`: cut from answers; `masked`: replaced in questions."""

    rows: Counter[str] = field(default_factory=Counter)
    sentences: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    names_found_by: str = ""


def clean(rows: Sequence[Row], progress: bool = True) -> tuple[list[Row], Counts]:
    """Rows of {"context", "response"} that are fit to learn from, cleaned, in their order; and what went."""
    import_libraries()
    finder = _finder()
    counts = Counts(names_found_by=finder.names_found_by)
    kept = []
    for row in tqdm(list(_different(map(_plain, rows), counts)), unit="row", disable=not progress):
        reason = _unfit(row)
        if reason is None:
            row = {
                "context": _masked(row["context"], finder, counts),
                "response": _cut(row["response"], finder, counts),
            }
            reason = "little_left" if not row["response"] else None
        if reason:
            counts.rows[reason] += 1
        else:
            kept.append(row)
    kept = list(_unlike(kept, counts))
    return kept, counts


def alike(texts: Sequence[str], least: float = ALIKE) -> Iterator[tuple[int, int]]:
    """Pairs (earlier, later) of texts that say nearly the same: cosine of their runs of one to three words, at least `least`."""
    from sklearn.feature_extraction.text import HashingVectorizer

    if not texts:
        return
    vectorizer = HashingVectorizer(token_pattern=r"\w+", ngram_range=(1, 3), alternate_sign=False)
    vectors: Any = vectorizer.transform(texts)
    for start in range(0, len(texts), 512):
        similar = (vectors[start : start + 512] @ vectors.T).tocoo()
        pairs = (similar.data >= least) & (similar.col < similar.row + start)
        for row, other in zip(similar.row[pairs], similar.col[pairs], strict=True):
            yield int(other), int(start + row)


# Rows


def _plain(row: Row) -> Row:
    """Entities read, tags taken out, spaces made even."""
    return {name: _without_markup(text) for name, text in row.items()}


_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,300}>|<!--.{0,2000}?-->", re.DOTALL)
_BREAK = re.compile(r"</?(?:p|br|div|li|ul|ol|h\d)\b[^<>]{0,300}>", re.IGNORECASE)


# The dataset lost its line ends: "... your life.Also, ...". Presidio takes that for an address; real ones stay whole.
_LOST_BREAK = re.compile(r"((?:[a-z]{2}|[)\]\"'\u2019])[.!?:]{1,3})(?=[A-Z](?:[a-z'\u2019]|$))(?!\S*\.[A-Za-z])")
_WHOLE = re.compile(r"@|://|^www\.", re.IGNORECASE)


def _without_markup(text: str) -> str:
    text = html.unescape(_TAG.sub(" ", _BREAK.sub("\n", text)) if "<" in text else text)
    text = re.sub(r"[^\S\n]+", " ", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = re.sub(r"\S+", lambda run: run[0] if _WHOLE.search(run[0]) else _LOST_BREAK.sub(r"\1 ", run[0]), text)
    return re.sub(r" ?\n ?", "\n", re.sub(r"\n{3,}", "\n\n", text)).strip()


def _different(rows: Iterable[Row], counts: Counts) -> Iterator[Row]:
    """Rows with a question and an answer, each pair once."""
    seen: set[tuple[str, str]] = set()
    for row in rows:
        pair = row["context"], row["response"]
        if not all(pair):
            counts.rows["empty_response" if row["context"] else "empty_context"] += 1
        elif pair in seen:
            counts.rows["duplicate"] += 1
        else:
            seen.add(pair)
            yield row


def _unlike(rows: Sequence[Row], counts: Counts) -> Iterator[Row]:
    """Rows whose answer is not nearly that of an earlier one. Questions repeat: one has several answers."""
    repeated = {later for _, later in alike([row["response"] for row in rows])}
    counts.rows["near_duplicate"] += len(repeated)
    return (row for i, row in enumerate(rows) if i not in repeated)


def _unfit(row: Row) -> str | None:
    """Why the row cannot be learned from; None where it can."""
    for name, text in row.items():
        words = len(_WORD.findall(text))
        if words < FEWEST_WORDS[name]:
            return "too_short"
        if words > MOST_WORDS[name]:
            return "too_long"
        if language_of([text]) != ENGLISH:
            return "not_english"
    return "at_risk" if _risk_of(row["context"]) >= AT_RISK else None


@lru_cache(maxsize=4_096)
def _risk_of(question: str) -> int:
    return assess([{"role": "user", "content": question}]).level


# Sentences of answers

# Numbers that were the right ones once: a model that learned them would still give them.
_OUTDATED = re.compile(r"273[-. ]?(?:8255|talk)|784[-. ]?2433|suicide[-. ]?(?:2433|line)\b", re.IGNORECASE)
_ADVERTISING = re.compile(
    r"\bmy (?:own )?(?:\w+ ){0,2}(?:practice|office|clinic|website|web ?site|blog|books?|podcast|workbook|youtube|channel|page|"
    r"profile|services|sessions|newsletter|course)\b"
    r"|\b(?:contact|call|e-?mail|text|message|book|schedule|reach out to|visit) (?:me|us|my|our)\b"
    r"|\bfree (?:\d+[- ]minute |phone |initial |introductory )?consultation\b|\bi (?:offer|provide|specialize|specialise)\b",
    re.IGNORECASE,
)
# The gate reads what a model may say; people also say what they are by their degree and by their patients.
_CLINICIAN = re.compile(
    r"\b(?:LMFT|LMHC|LPCC?|LCSW|LCPC|NCC|MSW|Psy\.?D|Ph\.?D|M\.?Ed|R\.?N)\b"
    r"|\b(?i:my (?:clients?|patients?)|(?:as|i am|i'm|being) (?:a|an) (?:\w+ ){0,4}"
    r"(?:therapist|counsell?or|psychologist|psychotherapist|psychiatrist|social worker|clinician|coach|nurse|doctor))\b"
)
_OF_OUR_OWN: dict[str, Callable[[str], Any]] = {
    "outdated_number": _OUTDATED.search,
    "advertising": _ADVERTISING.search,
    "clinician": _CLINICIAN.search,
}


_GREETING = re.compile(r"(?:Hi|Hello|Hey|Dear|Greetings)\b(?: there)?(?:,? [A-Z][\w'\u2019.-]*){0,3} ?[,.!:\n-]\s*")


def _cut(answer: str, finder: Finder, counts: Counts) -> str:
    """The answer without the sentences that may not be learned; "" where too little is left."""
    greeting = _GREETING.match(answer)
    if greeting:
        counts.sentences["greeting"] += 1
        answer = answer[greeting.end() :]
    kept = []
    for sentence, problems in checked_sentences(answer, known_numbers(), SURE):
        reasons = [name for name, found in _OF_OUR_OWN.items() if found(sentence)]
        reasons = reasons or [kind for kind, _, _ in finder(sentence)] or problems
        counts.sentences.update(reasons[:1])
        if not reasons:
            kept.append(sentence)
    left = "".join(kept).strip()
    return (
        left if len(left) >= LEAST_LEFT * len(answer) and len(_WORD.findall(left)) >= FEWEST_WORDS["response"] else ""
    )


# What identifies a person


def _masked(question: str, finder: Finder, counts: Counts) -> str:
    for kind, start, end in sorted(finder(question), key=lambda found: -found[1]):
        counts.masked[kind] += 1
        question = f"{question[:start]}[{kind}]{question[end:]}"
    return question


KINDS = {"PERSON": "name", "EMAIL_ADDRESS": "e-mail", "PHONE_NUMBER": "phone", "URL": "link"}
LEAST_SCORE = 0.4  # Presidio's: its phone numbers score .4, its addresses without a scheme .5
_NAME = r"(?:[A-Z][a-z'\u2019]+|[A-Z]\.)(?:[ -][A-Z][a-z'\u2019]+){0,2}"
_NAMED = [
    rf"(?<=\bDr\. ){_NAME}|(?<=\bDr ){_NAME}|(?<=\b[MD]rs\. ){_NAME}|(?<=\bM[rs]\. ){_NAME}",
    rf"(?<=\b[Mm]y name is ){_NAME}|(?<=\b[Nn]amed ){_NAME}",
    rf"{_NAME}(?=,? (?:LMFT|LMHC|LPC|LPCC|LCSW|LCPC|MSW|NCC|MA|M\.A\.|MS|M\.S\.|Ph\.?D|Psy\.?D)\b)",
    rf"(?<=[Rr]egards, ){_NAME}|(?<=[Ss]incerely, ){_NAME}|(?<=[Bb]est, ){_NAME}|(?<=[Ww]ishes, ){_NAME}",
]


class Finder:
    """Finds what identifies a person: (kind, start, end) of each place, none overlapping."""

    def __init__(self) -> None:
        import spacy
        from presidio_analyzer import AnalyzerEngine, Pattern, PatternRecognizer, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import (
            EmailRecognizer,
            PhoneRecognizer,
            SpacyRecognizer,
            UrlRecognizer,
        )

        has_model = spacy.util.is_package(NAMES_MODEL)
        self.names_found_by = NAMES_MODEL if has_model else "titles and credentials alone"
        engine = SpacyNlpEngine(ner_model_configuration=NerModelConfiguration(labels_to_ignore={"ORG", "GPE", "DATE"}))
        # Presidio would download a model; the blank one only splits words.
        engine.nlp = {"en": spacy.load(NAMES_MODEL) if has_model else spacy.blank("en")}
        registry = RecognizerRegistry()
        for recognizer in (
            EmailRecognizer(),
            UrlRecognizer(),
            PhoneRecognizer(supported_regions=("US", "GB", "CA", "AU")),
        ):
            registry.add_recognizer(recognizer)
        if has_model:
            registry.add_recognizer(SpacyRecognizer(supported_entities=["PERSON"]))
        patterns = [Pattern(f"named {i}", regex, 0.7) for i, regex in enumerate(_NAMED)]
        registry.add_recognizer(PatternRecognizer("PERSON", patterns=patterns, global_regex_flags=re.MULTILINE))
        self._analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])

    def __call__(self, text: str) -> list[tuple[str, int, int]]:
        found = self._analyzer.analyze(text, language="en", entities=[*KINDS], score_threshold=LEAST_SCORE)
        places: list[tuple[str, int, int]] = []
        for result in sorted(found, key=lambda result: (result.start, -result.end)):
            if not places or result.start >= places[-1][2]:
                places.append((KINDS[result.entity_type], result.start, result.end))
        return places


@lru_cache(maxsize=1)
def _finder() -> Finder:
    return Finder()
