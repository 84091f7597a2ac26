"""The rules: what a text says about risk, in phrases that a clinician can read and change.

    book = rule_book()
    book.judge(book.read("I want to die"))  ->  [Hit(rule="suicide.wish_to_die", level=2, category="suicide")]

Loads `assets/screening/*.yaml`; how they are written is told in `assets/screening/README.md`. Knows one text at a time:
what earlier turns add is `state`'s matter, and what a reply may not say is `gate`'s, which reads its phrases here too.

How it stays fast: every pattern must begin with letters, so the first few characters at each word of the text pick the
patterns that can begin there. The time grows with the number of words, hardly with the number of rules.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
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

CATEGORIES = (
    "none",
    "distress",
    "suicide",
    "self_harm",
    "harm_to_others",
    "abuse",
    "medical_emergency",
    "eating_disorder",
    "psychosis",
    "someone_else",
)
# Where two categories have the same level, the first of these speaks: a body in danger needs another number to call.
PRIORITY = ("medical_emergency", *(name for name in CATEGORIES if name != "medical_emergency"))
NOT_RULES = ("words.yaml", "groups.yaml", "guards.yaml", "signs.yaml", "gate.yaml", "version.yaml")
WHERE = ("over", "sentence", "text")
KEY_LENGTH = 5
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
_GROUP = re.compile(r"\{([a-z_]+)\}")

Span = tuple[int, int]


class RulesError(ValueError):
    """A rule file cannot be used. The message names the file, the rule and what to change."""


@dataclass(frozen=True)
class Hit:
    """One rule that holds: its id, level 1-3 and category."""

    rule: str
    level: int
    category: str


@dataclass(frozen=True)
class Rule:
    """One entry of a rule file. Names in `unless`, `together_with`, `raised_by`, `after_reply` are names of phrases.

    Attributes:
        unless: guards. Any of them beside the phrase makes it not count.
        together_with: at least one of these must stand in the same text (or in a neighbouring turn).
        raised_by: signs that make it level 3.
        after_reply: at least one of these must stand in the assistant's turn just before.
    """

    id: str
    level: int
    category: str
    language: str
    unless: tuple[str, ...] = ()
    together_with: tuple[str, ...] = ()
    raised_by: tuple[str, ...] = ()
    after_reply: tuple[str, ...] = ()
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Reading:
    """Where each phrase stands in one normalised text: name -> spans in order. Holds no text of its own."""

    spans: Mapping[str, Sequence[Span]]
    sentence_ends: Sequence[int]

    def sentence(self, span: Span) -> Span:
        """The bounds of the sentence (or the row of sentences) that `span` lies in."""
        first = bisect_left(self.sentence_ends, span[0])
        last = bisect_left(self.sentence_ends, span[1])
        start = self.sentence_ends[first - 1] if first else 0
        end = self.sentence_ends[last] if last < len(self.sentence_ends) else 1 << 60
        return start, end

    def meets(self, name: str, window: Span) -> bool:
        """Whether the phrase `name` overlaps `window`."""
        return any(start < window[1] and end > window[0] for start, end in self.spans.get(name, ()))


class PhraseBook:
    """Named patterns, and the search for all of them in one pass."""

    def __init__(self) -> None:
        self._patterns: dict[str, dict[str, list[str]]] = {}
        self._index: dict[str, tuple[re.Pattern[str], list[tuple[str, re.Pattern[str]]]]] = {}

    def add(self, name: str, pattern: str) -> None:
        """Raises ValueError: the pattern is not a regular expression, can run long, or begins with no letters."""
        pattern = fold(pattern).strip()
        plain = re.compile(pattern.replace(" .. ", " "))  # checked without the gap, which is bounded by itself
        parsed: Any = sre_parser.parse(plain.pattern)
        _check_bounded(parsed)
        for key in _beginnings(parsed):
            self._patterns.setdefault(key, {}).setdefault(name, []).append(pattern.replace(" .. ", GAP))

    def compile(self) -> None:
        for key, by_name in self._patterns.items():
            members = [(name, _compiled(patterns)) for name, patterns in by_name.items()]
            self._index[key] = (_compiled([p for patterns in by_name.values() for p in patterns]), members)

    def find(self, text: str) -> dict[str, list[Span]]:
        """Name -> where it stands in `text`, which is normalised; at most MOST_SPANS a name."""
        found: dict[str, list[Span]] = {}
        index = self._index
        for word in _WORD_START.finditer(text):
            start = word.start()
            for length in range(SHORTEST, KEY_LENGTH + 1):
                candidates = index.get(text[start : start + length])
                if candidates is not None and candidates[0].match(text, start):
                    _collect(candidates[1], text, start, found)
        return found


def _collect(
    patterns: Sequence[tuple[str, re.Pattern[str]]], text: str, start: int, found: dict[str, list[Span]]
) -> None:
    for name, pattern in patterns:
        if len(found.get(name, ())) < MOST_SPANS and (match := pattern.match(text, start)):
            found.setdefault(name, []).append(match.span())


class PhraseReader:
    """Phrases of a folder, and the reading of texts for them. The base of the rule book and of the gate's rules."""

    def __init__(self, folder: Path) -> None:
        self.phrases = PhraseBook()
        self.groups = {name: _alternatives(values) for name, values in load_yaml(folder / "groups.yaml").items()}
        self.guards: dict[str, dict[str, Any]] = {}

    def read(self, text: str) -> Reading:
        text = normalise(text)
        return Reading(self.phrases.find(text), [found.start() for found in _SENTENCE_END.finditer(text)])

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


class RuleBook(PhraseReader):
    """All rules of a folder, ready to judge texts. Make it once: `rule_book()`."""

    def __init__(self, folder: Path = ASSETS) -> None:
        """Raises RulesError: a file is missing something, or a rule cannot be used."""
        super().__init__(folder)
        self.guards = self._load_phrases(folder / "guards.yaml")
        self.signs = self._load_phrases(folder / "signs.yaml")
        self.across_turns = frozenset(name for name, sign in self.signs.items() if sign.get("across_turns"))
        self.overriding = tuple(name for name, sign in self.signs.items() if sign.get("overrides_guards"))
        self.rules: dict[str, Rule] = {}
        self.files: dict[str, str] = {}
        for path in sorted(folder.glob("*.yaml")):
            if path.name not in NOT_RULES:
                self._load_rules(path)
        self.phrases.compile()

    def judge(self, reading: Reading, beside: Iterable[str] = (), before: Reading | None = None) -> list[Hit]:
        """Rules that hold in one text.

        Args:
            reading: the text, read.
            beside: names of phrases that neighbouring turns hold; of these only signs marked `across_turns` count.
            before: the assistant's turn just before, read.

        Returns:
            hits, the highest level first.
        """
        beside = self.across_turns.intersection(beside)
        hits = []
        for name, spans in reading.spans.items():
            rule = self.rules.get(name)
            if rule is None or not _said_after(rule, before):
                continue
            level = max((self._level(rule, span, reading, beside) for span in spans), default=0)
            if level:
                hits.append(Hit(rule.id, level, rule.category))
        return sorted(hits, key=lambda hit: (-hit.level, PRIORITY.index(hit.category), hit.rule))

    def _level(self, rule: Rule, span: Span, reading: Reading, beside: frozenset[str]) -> int:
        """Level of one place where the rule's phrase stands; 0 where it does not count."""
        together = rule.together_with
        if together and not any(name in reading.spans or name in beside for name in together):
            return 0
        if self._guarded(rule, span, reading):
            return 0
        raised = any(self._stands(name, self.signs, span, reading) or name in beside for name in rule.raised_by)
        return 3 if raised else rule.level

    def _guarded(self, rule: Rule, span: Span, reading: Reading) -> bool:
        """Whether a guard stands beside `span`; never where means, plan, time or farewell stand in the same text."""
        if any(name in reading.spans for name in self.overriding):
            return False
        return any(self._stands(name, self.guards, span, reading) for name in rule.unless)

    def _stands(self, name: str, table: Mapping[str, Mapping[str, Any]], span: Span, reading: Reading) -> bool:
        if name not in reading.spans:
            return False
        where = table[name]["where"]
        if where == "text":
            return True
        return reading.meets(name, span if where == "over" else reading.sentence(span))

    # Loading

    def _load_phrases(self, path: Path) -> dict[str, dict[str, Any]]:
        """guards.yaml and signs.yaml: name -> {about, where, patterns}."""
        table = load_yaml(path)
        for name, entry in table.items():
            if not isinstance(entry, dict) or entry.get("where") not in WHERE or not entry.get("patterns"):
                raise RulesError(f"{path.name}: {name} needs `patterns` and `where`, one of {', '.join(WHERE)}.")
            self._add(path.name, name, name, entry["patterns"])
        return table

    def _load_rules(self, path: Path) -> None:
        data = load_yaml(path)
        if data.get("category") not in CATEGORIES[1:]:
            raise RulesError(f"{path.name}: `category` must be one of {', '.join(CATEGORIES[1:])}.")
        for entry in data.get("rules") or []:
            rule = self._rule(path.name, entry, data)
            if rule.id in self.rules:
                raise RulesError(f"{path.name}: rule id {rule.id} is used twice.")
            self.rules[rule.id] = rule
            self.files[rule.id] = path.name

    def _rule(self, file: str, entry: Mapping[str, Any], data: Mapping[str, Any]) -> Rule:
        rule_id = str(entry.get("id", ""))
        if not rule_id:
            raise RulesError(f"{file}: a rule has no id.")
        unknown = set(entry) - _RULE_KEYS
        if unknown:
            raise RulesError(f"{file}: {rule_id}: unknown entry {', '.join(sorted(unknown))}.")
        if entry.get("level") not in (1, 2, 3):
            raise RulesError(f"{file}: {rule_id}: `level` must be 1, 2 or 3.")
        category = entry.get("category", data["category"])
        if category not in CATEGORIES[1:]:
            raise RulesError(f"{file}: {rule_id}: unknown category {category}.")
        examples = entry.get("examples") or {}
        if len(examples.get("hit") or []) < 2 or len(examples.get("miss") or []) < 2:
            raise RulesError(f"{file}: {rule_id}: give at least two `hit` and two `miss` examples.")
        self._add(file, rule_id, rule_id, entry.get("pattern"))
        return Rule(
            id=rule_id,
            level=entry["level"],
            category=category,
            language=entry.get("language", data.get("language", "en")),
            unless=self._names(file, rule_id, "unless", entry, self.guards),
            together_with=self._names(file, rule_id, "together_with", entry, self.signs),
            raised_by=self._names(file, rule_id, "raised_by", entry, self.signs),
            after_reply=self._names(file, rule_id, "after_reply", entry, self.signs),
            examples=examples,
        )


_RULE_KEYS = {
    "id", "about", "level", "category", "language", "pattern", "unless", "together_with", "raised_by", "after_reply",
    "examples",
}  # fmt: skip


@lru_cache(maxsize=1)
def rule_book() -> RuleBook:
    """The rules of this project, loaded once."""
    return RuleBook()


@lru_cache(maxsize=1)
def rules_version() -> str:
    """ "<date of the last review>+<short hash of every rule file>", such as 2025-11-23+1a2b3c4d5e."""
    return version_of(ASSETS)


def version_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.yaml")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return f"{load_yaml(folder / 'version.yaml')['date']}+{digest.hexdigest()[:10]}"


def load_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = "" if line is None else f" near line {line + 1}; put quotes around what begins with {{"
        raise RulesError(f"{path.name} cannot be read{place} ({type(error).__name__}).") from None
    if not isinstance(data, dict):
        raise RulesError(f"{path.name} must be a list of named entries.")
    return data


def _said_after(rule: Rule, before: Reading | None) -> bool:
    return not rule.after_reply or (before is not None and any(name in before.spans for name in rule.after_reply))


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _alternatives(values: Sequence[str]) -> str:
    return "(?:" + "|".join(fold(value) for value in values) + ")"


def _compiled(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("(?:" + "|".join(f"(?:{pattern})" for pattern in patterns) + rf")(?:(?<=[{_UNSPACED}])|(?![^\W_]))")


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
        elif operator not in (sre.LITERAL, sre.NOT_LITERAL, sre.IN, sre.ANY, sre.AT, sre.ASSERT, sre.ASSERT_NOT):
            raise ValueError("only words, (a|b), (a|b)?, [ab], {0,9} and look-ahead are understood")


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
