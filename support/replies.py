"""Deterministic replies by level, category and language, from `assets/replies/<language>.yaml`.

Every word is in those files, for a clinician to review; this one only puts the parts together. Nothing here is random: a
conversation goes through the wordings in turn. A broken file never leaves a person without words: English speaks for it,
and a short reply in the code for English; `problem()` tells what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from support import crisis_lines
from support.languages import DEFAULT, languages
from support.languages import problem as languages_problem
from support.prompt import Message

FOLDER = Path(__file__).parent.parent / "assets" / "replies"
TEXTS = {
    "language", "emergency_in_words", "question", "method", "diagnosis", "medication", "barrier_question", "withheld",
    "fault", "unavailable", "other_language", "empty", "too_long", "refused",
}  # fmt: skip
WORDINGS = {"ai", "barriers", "grounding", "human"}
BARRIERS = {"cost", "privacy", "police", "words", "not_bad_enough", "did_not_help", "only_talk_here"}
WAYS = {"call": "call {0}", "text": "text {0}", "website": "website"}  # what a link says; {0}: the number
LAST_RESORT = (
    "If your life may be in danger, call {emergency} now. You can also talk to a person: {lines}\n\n"
    "I am an AI, and my fuller answers could not be loaded."
)


class RepliesError(ValueError):
    """A file cannot be used. The message names the file and the part."""


def load(path: Path) -> dict[str, Any]:
    """The parts of one language's file.

    Raises:
        RepliesError: the file is missing, or a part is missing or malformed.
    """
    try:
        texts = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RepliesError(f"{path.name} cannot be read: {type(error).__name__}.") from error
    fault = _fault_in(texts)
    if fault:
        raise RepliesError(f"{path.name}: {fault}.")
    return texts


def crisis(
    level: int, category: str, country: str, turn: int = 0, *, asked: bool = False, language: str = DEFAULT
) -> str:
    """The reply at level 2 or 3, as Markdown.

    Args:
        level: 2 at risk, 3 imminent.
        category: as in screening; one without words of its own gets the default ones.
        country: whose lines and emergency number to show.
        turn: how many messages the person has written; chooses the wording.
        asked: the direct question was asked in this conversation; it is not asked twice.
        language: two-letter code, see `support.languages`.
    """
    texts = _texts(language)
    if not texts:
        return _filled(LAST_RESORT, country, texts)
    parts = {**texts["categories"]["default"], **texts["categories"].get(category, {})}
    ask = bool(parts.get("ask")) and level == 2 and not asked
    blocks = {
        "opening": _in_turn(parts["opening"], turn),
        "question": texts["question"] if ask else "",
        "actions": parts["actions_3" if level >= 3 else "actions_2"].rstrip(),
        "barriers": _in_turn(texts["barriers"], turn),
        "grounding": _in_turn(texts["grounding"], turn),
        "ai": _in_turn(texts["ai"], turn),
    }
    shape = texts["shape"]["level_3" if level >= 3 else "level_2"]
    for name, block in blocks.items():
        shape = shape.replace("{" + name + "}", block)
    paragraphs = [paragraph for paragraph in shape.split("\n\n") if paragraph.strip()]
    return _filled("\n\n".join(paragraphs), country, texts, most_lines=2 if level >= 3 else 1)


def already_asked(turns: Sequence[Message]) -> bool:
    """Whether the direct question, in any language, stands in an earlier reply."""
    questions = [texts["question"] for code in languages() if (texts := _texts(code))]
    replies = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    return any(question in reply for question in questions for reply in replies)


def request(name: str, country: str, turn: int = 0, language: str = DEFAULT) -> str:
    """The fixed answer to a request that `screening.request` found ("human", "method", ...), or "barriers.<choice>"."""
    texts = _texts(language)
    if not texts:
        return _filled(LAST_RESORT, country, texts)
    kind, _, choice = name.partition(".")
    if choice:
        return _filled(texts["barrier_choices"][choice]["answer"] + "\n\n{lines}", country, texts, most_lines=1)
    if kind == "barriers":
        choices = "\n".join(f"- {entry['say']}" for entry in texts["barrier_choices"].values())
        return _filled(f"{texts['barrier_question']}\n\n{choices}", country, texts)
    words = texts[kind]
    return _filled(_in_turn(words, turn) if isinstance(words, list) else words, country, texts)


def barrier_choices(language: str = DEFAULT) -> dict[str, str]:
    """What the person can choose as an answer to "What makes it hard to contact them?": name -> words."""
    texts = _texts(language)
    return {name: entry["say"] for name, entry in texts["barrier_choices"].items()} if texts else {}


def chosen_barrier(text: str) -> str | None:
    """ "barriers.<choice>" or "barriers" where the text is a choice or the question, in any language, as a button sends it."""
    return _requests_by_words().get(_plain_words(text))


def choices(name: str, language: str = DEFAULT) -> list[str]:
    """What the page offers as buttons under a reply: "crisis", or the name of a request. Words that the person would send."""
    texts = _texts(language)
    if not texts:
        return []
    if name == "crisis":
        return [texts["barrier_question"], texts["barrier_choices"]["only_talk_here"]["say"]]
    return list(barrier_choices(language).values()) if name == "barriers" else []


@lru_cache(maxsize=1)
def _requests_by_words() -> dict[str, str]:
    found = {}
    for texts in filter(None, map(_texts, languages())):
        found[_plain_words(texts["barrier_question"])] = "barriers"
        for name, entry in texts["barrier_choices"].items():
            found[_plain_words(entry["say"])] = f"barriers.{name}"
    return found


def _plain_words(text: str) -> str:
    return text.strip().rstrip(".!?\u3002\uff1f\u061f").strip().casefold()


def withheld(country: str, language: str = DEFAULT) -> str:
    """In place of a model's reply that did not pass the gate."""
    return _plain("withheld", country, language)


def fault(country: str, language: str = DEFAULT) -> str:
    """When something broke on the way."""
    return _plain("fault", country, language)


def unavailable(problem: str, country: str, language: str = DEFAULT) -> str:
    """When no model can answer; `problem` is a sentence that names the fix."""
    return _plain("unavailable", country, language, problem=problem)


def other_language(country: str, language: str) -> str:
    """When the model does not speak the person's language."""
    return _plain("other_language", country, language)


def empty(language: str = DEFAULT) -> str:
    """For a message without words."""
    return _plain("empty", "", language)


def too_long(limit: int, language: str = DEFAULT) -> str:
    """For a message of more than `limit` characters."""
    return _plain("too_long", "", language, limit=f"{limit:,}")


def refused(problem: str, language: str = DEFAULT) -> str:
    """For a call that is not well formed."""
    return _plain("refused", "", language, problem=problem)


def problem() -> str | None:
    """What is wrong with the files; None where nothing is. A language without a file is one."""
    return languages_problem() or next(filter(None, (_loaded(code)[1] for code in languages())), None)


def _fault_in(texts: Any) -> str:
    """What keeps the parts from being used; "" where nothing does."""
    if not isinstance(texts, dict):
        return "must hold the named parts"
    missing = (TEXTS | WORDINGS | {"shape", "categories", "ways", "barrier_choices"}) - set(texts)
    if missing:
        return f"missing {', '.join(sorted(missing))}"
    wrong = [name for name in TEXTS if not _text(texts[name])] + [n for n in WORDINGS if not _wordings(texts[n])]
    if wrong:
        return f"{', '.join(sorted(wrong))}: must be a text, or a list of texts where there are several wordings"
    ways = texts["ways"]
    if not isinstance(ways, dict) or not all(
        _text(ways.get(way)) and ("{0}" in ways[way]) == ("{0}" in WAYS[way]) for way in WAYS
    ):
        return "ways: needs call and text, each with {0} for the number, and website"
    barriers = texts["barrier_choices"]
    if (
        not isinstance(barriers, dict)
        or set(barriers) != BARRIERS
        or not all(map(_says_and_answers, barriers.values()))
    ):
        return f"barrier_choices: give say and answer for each of {', '.join(sorted(BARRIERS))}"
    shape, categories = texts["shape"], texts["categories"]
    if not isinstance(shape, dict) or not all(_text(shape.get(level)) for level in ("level_2", "level_3")):
        return "shape: needs level_2 and level_3"
    if not isinstance(categories, dict) or not {"opening", "actions_2", "actions_3"} <= set(
        categories.get("default") or {}
    ):
        return "categories: default needs opening, actions_2 and actions_3"
    return next(filter(None, (_fault_in_category(*category) for category in categories.items())), "")


def _fault_in_category(name: str, parts: Any) -> str:
    if not isinstance(parts, dict) or not _wordings(parts.get("opening", ["inherited"])):
        return f"categories: {name}: opening must be a list of texts"
    if not all(_text(parts.get(actions, "inherited")) for actions in ("actions_2", "actions_3")):
        return f"categories: {name}: actions must be a text"
    return ""


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _says_and_answers(choice: Any) -> bool:
    return isinstance(choice, dict) and _text(choice.get("say")) and _text(choice.get("answer"))


def _wordings(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_text(wording) for wording in value)


def _plain(part: str, country: str, language: str, **values: str) -> str:
    texts = _texts(language)
    return _filled(texts[part] if texts else LAST_RESORT, country, texts, values=values)


def _filled(
    template: str, country: str, texts: dict[str, Any], *, most_lines: int = 2, values: Mapping[str, str] | None = None
) -> str:
    """`template` with its placeholders; `texts` of the language, empty where nothing could be loaded."""
    emergency = " / ".join(crisis_lines.emergency_numbers(country))
    values = {
        "emergency": emergency or texts.get("emergency_in_words", crisis_lines.EMERGENCY_IN_WORDS),
        "lines": _lines(country, most_lines, texts.get("ways", WAYS)),
        **(values or {}),
    }
    for name, value in values.items():
        template = template.replace("{" + name + "}", value)
    return template.strip()


def _lines(country: str, most: int, ways: dict[str, str]) -> str:
    """The country's first lines, each with what to press: call, text, website."""
    return "; ".join(_line(line, ways) for line in crisis_lines.lines_for(country)[:most]) + "."


def _line(line: dict[str, Any], words: dict[str, str]) -> str:
    ways = []
    if line["dial"]:
        ways.append(f"[{words['call'].replace('{0}', line['dial'])}]({line['tel']})")
    if line["sms"]:
        ways.append(f"[{words['text'].replace('{0}', line['sms'])}]({line['sms_link']})")
    if line["url"]:
        ways.append(f"[{words['website']}]({line['url']})")
    hours = f", {line['hours']}" if line["hours"] else ""
    return f"**{line['name']}**: {', '.join(ways)}{hours}"


def _in_turn(wordings: Sequence[str], turn: int) -> str:
    return wordings[turn % len(wordings)]


def _texts(language: str) -> dict[str, Any]:
    """The parts in this language, in English where its file cannot be used, {} where that cannot either."""
    return _loaded(language)[0] or _loaded(DEFAULT)[0]


@lru_cache(maxsize=32)
def _loaded(language: str) -> tuple[dict[str, Any], str | None]:
    if language not in languages():
        return {}, None
    try:
        return load(FOLDER / f"{language}.yaml"), None
    except RepliesError as error:
        return {}, str(error)
