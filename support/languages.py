"""Which of the languages of the fixed replies a person writes in.

    language_of(["no puedo más", "ayúdame"])  ->  "es"

By script where that tells, else by the small words that stand in almost every sentence (`assets/languages.yaml`). The
newest message counts first; one that tells little ("ok", "die") leaves it to those before. Knows nothing about replies.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import yaml

FILE = Path(__file__).parent.parent / "assets" / "languages.yaml"
DEFAULT = "en"
# Of a script's Unicode letter names, the first word. Kana stand in any Japanese sentence, Han letters in both.
SCRIPTS = {
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "DEVANAGARI": "hi",
    "ARABIC": "ar",
    "CJK": "zh",
    "IDEOGRAPHIC": "zh",
}
LATIN = {"LATIN", "MODIFIER"}  # the first words of Latin letters' names
OTHER = "other"  # stands for a script that no language of the fixed replies is written in, such as Cyrillic
READ_CHARS = 2_000
# Lead in words with which a message decides. Not more: "ayúdame" after English is one word. Not less: "die" is English
# and German.
CLEAR = 0.75
# Letters of the longest text of Han letters alone that may be Japanese: a longer one in Japanese has kana.
HAN_WORD = 8
_WORD = re.compile(r"(?:[^\W\d_]|[\u0300-\u036f])+")  # letters and loose accents


def language_of(messages: Sequence[str]) -> str:
    """Two-letter code, one of `languages()`.

    Args:
        messages: the user's, oldest first.
    """
    guess = None
    for i, message in reversed([*enumerate(messages)]):
        if found := language_by_script(message[:READ_CHARS]):
            return "ja" if _is_han_word(message[:READ_CHARS]) and _wrote_japanese(messages[:i]) else found
        found, lead = _by_words(message[:READ_CHARS])
        if lead >= CLEAR:
            return found
        guess = guess or found
    return guess or DEFAULT


def _wrote_japanese(messages: Sequence[str]) -> bool:
    """Whether the last of `messages` that is in a script of its own is in Japanese; a Han word may be in either."""
    texts = (message[:READ_CHARS] for message in reversed(messages) if not _is_han_word(message[:READ_CHARS]))
    return next((script for text in texts if (script := language_by_script(text))), None) == "ja"


def _is_han_word(text: str) -> bool:
    return language_by_script(text) == "zh" and sum(letter.isalpha() for letter in text) <= HAN_WORD


def languages() -> dict[str, str]:
    """Code -> the language's own name."""
    return {code: entry["name"] for code, entry in _table().items()}


def language_by_script(text: str) -> str | None:
    """The language of the script that most letters are in; None for Latin letters, unlisted ones and none."""
    script = _script(text)
    return script if script not in ("", OTHER) else None


def in_other_script(text: str) -> bool:
    """Whether most letters are of a script that no listed language is written in: its language is not known here."""
    return _script(text[:READ_CHARS]) == OTHER


def _script(text: str) -> str:
    """What most letters are: of a language in SCRIPTS, OTHER, or "" for Latin letters and for none."""
    counts: dict[str, int] = {}
    for letter in unicodedata.normalize("NFKC", text):  # narrow, wide and drawn letters as the plain ones
        if letter.isalpha():
            # "KATAKANA-HIRAGANA PROLONGED SOUND MARK": kana too
            script = re.split("[ -]", unicodedata.name(letter, "LATIN"))[0] if not letter.isascii() else "LATIN"
            language = SCRIPTS.get(script, "" if script in LATIN else OTHER)
            counts[language] = counts.get(language, 0) + 1
    if counts.get("ja", 0) * 10 > counts.get("zh", 0):
        counts["ja"] = counts.get("ja", 0) + counts.pop("zh", 0)
    return max(counts, key=lambda language: counts[language], default="")


def _by_words(text: str) -> tuple[str, float]:
    """The language whose words are the most, and by how many it leads; "" where none is, or English among several."""
    known = _languages_of_words()
    counts: dict[str, float] = {DEFAULT: 0, "": 0}
    for word in _WORD.findall(_small(text)):
        having = known.get(word) or known.get(_folded(word), ())
        for language in having:
            counts[language] = counts.get(language, 0) + 1 / len(having)
    (first, most), (_, second), *_ = sorted(counts.items(), key=lambda pair: -pair[1])
    return "" if most == second == counts[DEFAULT] else first, most - second


def holds_words_of(language: str, text: str) -> bool:
    """Whether one of its words stands in `text`; True where the file has none, so that nothing can be told."""
    known = _languages_of_words()
    return not known or any(language in known.get(word, ()) for word in _WORD.findall(_small(text)))


@lru_cache(maxsize=1)
def _languages_of_words() -> dict[str, tuple[str, ...]]:
    """Word -> the languages that have it: without accents, and as it stands in the file where that has them."""
    words: dict[str, list[str]] = {}
    for language, entry in _table().items():
        for word in _small(entry.get("words", "")).split():
            for form in {word, _folded(word)}:
                words.setdefault(form, []).append(language)
    return {word: tuple(dict.fromkeys(of)) for word, of in words.items()}


def _small(text: str) -> str:
    """Small letters, each with its accent in one; the typographic apostrophe as the plain one."""
    return unicodedata.normalize("NFKC", text.replace("\u2019", "'").casefold())


def _folded(text: str) -> str:
    """Small letters without accents, which many leave out.

    Less than `normalise.fold`, and not that one: screening imports this module.
    """
    letters = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def problem() -> str | None:
    """What is wrong with the file, so that every reply is in English; None where nothing is."""
    return _loaded()[1]


def _table() -> dict[str, dict[str, str]]:
    return _loaded()[0]


@lru_cache(maxsize=1)
def _loaded() -> tuple[dict[str, dict[str, str]], str | None]:
    """The file, or English alone and what is wrong: no fault in it may keep a reply from a person."""
    try:
        table = yaml.safe_load(FILE.read_text(encoding="utf-8"))
        if not all(
            isinstance(entry["name"], str) and isinstance(entry.get("words", ""), str) for entry in table.values()
        ):
            raise TypeError
        return {DEFAULT: table[DEFAULT], **table}, None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        return {DEFAULT: {"name": "English"}}, f"{FILE.name} cannot be used ({type(error).__name__})."


def texts_of_user(turns: Iterable) -> list[str]:
    """What the person wrote, oldest first."""
    return [turn["content"] for turn in turns if turn["role"] == "user"]
