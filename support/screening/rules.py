"""The rules: what a text says about risk, in phrases that a clinician can read and change.

    book = rule_book()
    book.judge(book.read("I want to die"))  ->  [Hit(rule="suicide.wish_to_die", level=2, category="suicide")]

Loads `assets/screening/*.yaml`; how they are written is told in `assets/screening/README.md`. Knows one text at a time:
what earlier turns add is `state`'s matter. How phrases are found is `phrases`'.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from support.screening.normalise import ASSETS
from support.screening.phrases import PhraseReader, Reading, RulesError, Span, load_yaml

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
NOT_RULES = ("words.yaml", "groups.yaml", "guards.yaml", "signs.yaml", "gate.yaml", "requests.yaml", "version.yaml")
WHERE = ("over", "sentence", "text")
EXCUSE_REACHES = 150  # characters from a phrase: a film named a page later is no excuse for what is said here


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
            return table is self.signs or reading.meets(name, (span[0] - EXCUSE_REACHES, span[1] + EXCUSE_REACHES))
        # What raises a level reaches over the end of a line; what excuses a phrase does not.
        return reading.meets(name, span if where == "over" else reading.sentence(span, lines=table is self.guards))

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


def rule_book() -> RuleBook:
    """The rules of this project, loaded once. Raises RulesError: a file cannot be used."""
    with _one_loads:  # a message that comes while the app starts waits for this, and does not begin it again
        loaded = _loaded()
    if isinstance(loaded, RulesError):
        raise loaded
    return loaded


_one_loads = threading.Lock()


@lru_cache(maxsize=1)
def _loaded() -> RuleBook | RulesError:
    """The book or what is wrong with it: a broken file is read once too, not at every message."""
    try:
        return RuleBook()
    except RulesError as error:
        return error


@lru_cache(maxsize=1)
def rules_version() -> str:
    """ "<date of the last review>+<short hash of every rule file>", such as 2025-11-23+1a2b3c4d5e."""
    return version_of(ASSETS)


def version_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.yaml")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return f"{load_yaml(folder / 'version.yaml')['date']}+{digest.hexdigest()[:10]}"


def _said_after(rule: Rule, before: Reading | None) -> bool:
    return not rule.after_reply or (before is not None and any(name in before.spans for name in rule.after_reply))
