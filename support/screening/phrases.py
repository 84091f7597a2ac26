"""Named phrases, and the search for all of them in one pass: what rules, requests and the gate have in common.

    reader = PhraseReader(folder);  reader.read("I want to die").spans  ->  {"suicide.wish_to_die": [(0, 13)]}

How it stays fast: every pattern must begin with letters, so the first few characters at each word of the text pick the
patterns that can begin there. The time grows with the number of words, hardly with the number of patterns. Patterns that
could keep a search busy are refused when they are loaded.

Knows nothing about levels or categories. How patterns are written is told in `assets/screening/README.md`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from support.screening.normalise import ASSETS, fold, normalise

try:
    from re import _constants as sre  # type: ignore[attr-defined]  # Python >= 3.11
    from re import _parser as sre_parser  # type: ignore[attr-defined]
except ImportError:  # Python 3.10
    import sre_constants as sre
    import sre_parse as sre_parser

KEY_LENGTH = 5
WORDS_OF_A_LINE = 3  # from so many on, its end is the end of a sentence
SHORTEST = 2  # letters of the shortest pattern: "si"
MOST_SPANS = 64  # of one phrase in one text: enough to judge it, and a bound on what a hostile text can cost

# " .. " in a pattern: up to four words between. A word holds no space and a gap no end of a sentence, so that there is
# one way only to match it.
GAP = r",?(?: [^ .!?;]{1,30}){0,4} "
# Chinese, Japanese and Korean letters: no space, or not always one, stands between words, and endings are joined on. There
# a phrase may begin and end anywhere.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_WORD_START = re.compile(rf"(?<![^\W_])[^\W_]|[{_UNSPACED}]")
_SENTENCE_END = re.compile(rf"[.!?;\u061f](?= |$)|[\u3002\u0964]|[!?](?=[{_UNSPACED}])")
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_END_OF_WORD = r"(?![^\W_])"
_GROUP = re.compile(r"\{([a-z_]+)\}")

Span = tuple[int, int]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where PyYAML was built with it


class RulesError(ValueError):
    """A rule file cannot be used. The message names the file, the rule and what to change."""


@dataclass(frozen=True)
class Reading:
    """Where each phrase stands in one normalised text: name -> spans in order. Holds no text of its own."""

    spans: Mapping[str, Sequence[Span]]
    sentence_ends: Sequence[int]
    line_ends: Sequence[int]  # those too, and the ends of lines

    def sentence(self, span: Span, *, lines: bool = True) -> Span:
        """The bounds of the sentence (or the row of sentences) that `span` lies in; with `lines` a line ends one too."""
        ends = self.line_ends if lines else self.sentence_ends
        first = bisect_left(ends, span[0])
        last = bisect_left(ends, span[1])
        start = ends[first - 1] if first else 0
        end = ends[last] if last < len(ends) else 1 << 60
        return start, end

    def meets(self, name: str, window: Span) -> bool:
        """Whether the phrase `name` overlaps `window`."""
        return any(start < window[1] and end > window[0] for start, end in self.spans.get(name, ()))


class _Phrase:
    """A pattern of a name, compiled at the first text that it could begin in: most never are, and all of them take seconds."""

    def __init__(self, name: str, pattern: str) -> None:
        self.name, self._pattern = name, pattern

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(self._pattern)


class PhraseBook:
    """Named patterns, and the search for all of them in one pass."""

    def __init__(self) -> None:
        self._index: dict[str, list[_Phrase]] = {}

    def add(self, name: str, pattern: str) -> None:
        """Raises ValueError: the pattern is not a regular expression, can run long, or begins with no letters."""
        pattern = fold(pattern).strip()
        parsed: Any = sre_parser.parse(pattern.replace(" .. ", "."))  # the gap is bounded, and anything may begin it
        _check_bounded(parsed)
        end = "" if _HAS_UNSPACED.search(pattern) else _END_OF_WORD
        phrase = _Phrase(name, f"(?:{pattern.replace(' .. ', GAP)}){end}")
        for key in _beginnings(parsed):
            self._index.setdefault(key, []).append(phrase)

    def find(self, text: str) -> dict[str, list[Span]]:
        """Name -> where it stands in `text`, which is normalised; at most MOST_SPANS a name."""
        found: dict[str, list[Span]] = {}
        index = self._index
        for word in _WORD_START.finditer(text):
            start = word.start()
            for length in range(SHORTEST, KEY_LENGTH + 1):
                for phrase in index.get(text[start : start + length], ()):
                    if match := phrase.compiled.match(text, start):
                        _keep(found.setdefault(phrase.name, []), match.span())
        return found


def _keep(spans: list[Span], span: Span) -> None:
    if len(spans) < MOST_SPANS and span not in spans[-1:]:
        spans.append(span)


class PhraseReader:
    """Phrases of a folder, and the reading of texts for them. The base of the rule book and of the gate's rules."""

    def __init__(self, folder: Path) -> None:
        self.phrases = PhraseBook()
        self.groups = {name: _alternatives(values) for name, values in load_yaml(folder / "groups.yaml").items()}
        self.guards: dict[str, dict[str, Any]] = {}

    def read(self, text: str) -> Reading:
        normal = normalise(text)
        ends = [found.start() for found in _SENTENCE_END.finditer(normal)]
        return Reading(self.phrases.find(normal), ends, sorted({*ends, *_line_ends(text, normal)}))

    def _names(
        self, file: str, rule_id: str, key: str, entry: Mapping[str, Any], table: dict[str, dict[str, Any]]
    ) -> tuple[str, ...]:
        """Names of shared phrases stay; a pattern written in place becomes a phrase of its own, for the sentence."""
        names = []
        for i, value in enumerate(_as_list(entry.get(key))):
            if value not in table:
                if re.fullmatch("[a-z_]+", str(value)) and "_" in str(value):
                    raise RulesError(f"{file}: {rule_id}: {key} names {value}, which is not defined.")
                name = f"{rule_id}#{key}{i}"
                self._add(file, rule_id, name, value)
                table[name] = {"where": "sentence"}
                value = name
            names.append(value)
        return tuple(names)

    def _add(self, file: str, rule_id: str, name: str, patterns: Any) -> None:
        if not patterns:
            raise RulesError(f"{file}: {rule_id}: `pattern` is missing.")
        for pattern in _as_list(patterns):
            try:
                self.phrases.add(name, self._filled(str(pattern)))
            except (ValueError, re.error, KeyError) as error:
                raise RulesError(f"{file}: {rule_id}: {error}: {pattern}") from None

    def _filled(self, pattern: str) -> str:
        """{group} -> (?:its|words)."""

        def words(found: re.Match[str]) -> str:
            if found[1] not in self.groups:
                raise ValueError(f"the group {found[1]} is not in groups.yaml")
            return self.groups[found[1]]

        return _GROUP.sub(words, pattern)


class PhraseRules(PhraseReader):
    """A file of entries with id, pattern, unless and examples: which of them does a text hold?"""

    def __init__(self, file: str, folder: Path = ASSETS) -> None:
        """Raises RulesError: an entry cannot be used."""
        super().__init__(folder)
        self.data = load_yaml(folder / file)
        self.unless: dict[str, tuple[str, ...]] = {}
        self.examples: dict[str, dict[str, list[str]]] = {}
        for entry in self.data.get("rules") or []:
            name = str(entry.get("id", ""))
            if not name or set(entry) - {"id", "about", "pattern", "unless", "examples"}:
                raise RulesError(f"{file}: {name or 'a rule'}: give id, pattern, unless, examples and no more.")
            self._add(file, name, name, entry.get("pattern"))
            self.unless[name] = self._names(file, name, "unless", entry, self.guards)
            self.examples[name] = entry.get("examples") or {}

    def names_in(self, text: str) -> set[str]:
        """Ids of entries whose phrase stands in `text` where no `unless` overlaps it or stands in its sentence."""
        reading = self.read(text)
        return {
            name
            for name, guards in self.unless.items()
            if any(
                not any(reading.meets(guard, reading.sentence(span)) for guard in guards)
                for span in reading.spans.get(name, ())
            )
        }


def _line_ends(text: str, normal: str) -> set[int]:
    """Where a line of `text` ends in `normal`: many write a sentence a line, without a full stop. Not where a line is a word or
    two, as in a phrase that is spread over lines, nor where a line reads otherwise alone."""
    lines = [line for line in map(normalise, text.splitlines()) if line]
    if len(lines) < 2 or " ".join(lines) != normal:
        return set()
    ends, at = set(), -1
    for line in lines[:-1]:
        at += len(line) + 1
        if len(line.split()) >= WORDS_OF_A_LINE:
            ends.add(at)
    return ends


def load_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, yaml.YAMLError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = "" if line is None else f" near line {line + 1}; put quotes around what begins with {{"
        raise RulesError(f"{path.name} cannot be read{place} ({type(error).__name__}).") from None
    if not isinstance(data, dict):
        raise RulesError(f"{path.name} must be a list of named entries.")
    return data


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _alternatives(values: Sequence[str]) -> str:
    return "(?:" + "|".join(fold(value) for value in values) + ")"


# What a pattern may hold. Python's own parser of regular expressions tells; it has no public name.


def _check_bounded(parsed: Iterable[tuple[Any, Any]], inside_repeat: bool = False) -> None:
    """Refuse * and + and a repetition inside a repetition: with these, a text can make a search run for ever."""
    for operator, argument in parsed:
        if operator in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            _, most, inner = argument
            if most == sre.MAXREPEAT or most > 40:
                raise ValueError("repeat at most 40 times, with {0,40} instead of * or +")
            if inside_repeat and most > 1:
                raise ValueError("a repetition stands inside a repetition")
            _check_bounded(inner, inside_repeat or most > 1)
        elif operator is sre.SUBPATTERN:
            _check_bounded(argument[-1], inside_repeat)
        elif operator is sre.BRANCH:
            for branch in argument[1]:
                _check_bounded(branch, inside_repeat)
        elif operator in (sre.ASSERT, sre.ASSERT_NOT):
            direction, inner = argument
            shortest, longest = inner.getwidth()
            if direction < 0 and shortest != longest:
                raise ValueError("what is looked back at with (?<!...) must have one length")
        elif operator not in (sre.LITERAL, sre.NOT_LITERAL, sre.IN, sre.ANY, sre.AT):
            raise ValueError("only words, (a|b), (a|b)?, [ab], {0,9}, (?!...) and (?<!...) are understood")


def _beginnings(parsed: Iterable[tuple[Any, Any]]) -> set[str]:
    """The KEY_LENGTH characters that a match can begin with, all of them; fewer where it ends or varies."""
    keys = {key.rstrip(_OPEN) for key in _extended({""}, parsed)}
    if any(len(key) < SHORTEST for key in keys):
        raise ValueError(f"a pattern must begin with at least {SHORTEST} plain letters")
    return keys


_OPEN = "\0"  # ends a beginning after which anything may come


def _extended(keys: set[str], parsed: Iterable[tuple[Any, Any]]) -> set[str]:
    for operator, argument in parsed:
        done = {key for key in keys if len(key) >= KEY_LENGTH or key.endswith(_OPEN)}
        keys = keys - done
        if not keys:
            return done
        keys = done | _one_step(keys, operator, argument)
    return keys


def _one_step(keys: set[str], operator: Any, argument: Any) -> set[str]:
    if operator is sre.LITERAL:
        return {key + chr(argument) for key in keys}
    if operator is sre.SUBPATTERN:
        return _extended(keys, argument[-1])
    if operator is sre.BRANCH:
        return set().union(*(_extended(set(keys), branch) for branch in argument[1]))
    if operator is sre.IN and all(kind is sre.LITERAL for kind, _ in argument):
        return {key + chr(letter) for key in keys for _, letter in argument}
    if operator in (sre.MAX_REPEAT, sre.MIN_REPEAT) and argument[1] == 1:
        least, _, inner = argument
        return _extended(set(keys), inner) | (set(keys) if least == 0 else set())
    if operator in (sre.AT, sre.ASSERT, sre.ASSERT_NOT):
        return keys
    return {key + _OPEN for key in keys}
