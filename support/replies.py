"""Deterministic replies by level and category, from `assets/replies/en.yaml`.

Every word is in that file, for a clinician to review; this one only puts the parts together. Nothing here is random: a
conversation goes through the wordings in turn. A broken file never leaves a person without words: a short reply is in the
code, and `problem()` tells what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from support import crisis_lines
from support.prompt import Message

FILE = Path(__file__).parent.parent / "assets" / "replies" / "en.yaml"
TEXTS = {"question", "withheld", "fault", "unavailable", "empty", "too_long", "refused"}
WORDINGS = {"ai", "barriers", "grounding"}
LAST_RESORT = (
    "If your life may be in danger, call {emergency} now. You can also talk to a person: {lines}\n\n"
    "I am an AI, and my fuller answers could not be loaded."
)


class RepliesError(ValueError):
    """The file cannot be used. The message names the file and the part."""


def load(path: Path = FILE) -> dict[str, Any]:
    """The parts of the file.

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


def crisis(level: int, category: str, country: str, turn: int = 0, *, asked: bool = False) -> str:
    """The reply at level 2 or 3, as Markdown.

    Args:
        level: 2 at risk, 3 imminent.
        category: as in screening; one without words of its own gets the default ones.
        country: whose lines and emergency number to show.
        turn: how many messages the person has written; chooses the wording.
        asked: the direct question was asked in this conversation; it is not asked twice.
    """
    texts, broken = _loaded()
    if broken:
        return _filled(LAST_RESORT, country)
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
    return _filled("\n\n".join(paragraphs), country, most_lines=2 if level >= 3 else 1)


def already_asked(turns: Sequence[Message]) -> bool:
    """Whether the direct question stands in an earlier reply."""
    texts, broken = _loaded()
    return not broken and any(turn["role"] == "assistant" and texts["question"] in turn["content"] for turn in turns)


def withheld(country: str) -> str:
    """In place of a model's reply that did not pass the gate."""
    return _plain("withheld", country)


def fault(country: str) -> str:
    """When something broke on the way."""
    return _plain("fault", country)


def unavailable(problem: str, country: str) -> str:
    """When no model can answer; `problem` is a sentence that names the fix."""
    return _plain("unavailable", country, problem=problem)


def empty() -> str:
    """For a message without words."""
    return _plain("empty", "")


def too_long(limit: int) -> str:
    """For a message of more than `limit` characters."""
    return _plain("too_long", "", limit=f"{limit:,}")


def refused(problem: str) -> str:
    """For a call that is not well formed."""
    return _plain("refused", "", problem=problem)


def problem() -> str | None:
    """What is wrong with the file; None where nothing is."""
    return _loaded()[1]


def _fault_in(texts: Any) -> str:
    """What keeps the parts from being used; "" where nothing does."""
    if not isinstance(texts, dict):
        return "must hold the named parts"
    missing = (TEXTS | WORDINGS | {"shape", "categories"}) - set(texts)
    if missing:
        return f"missing {', '.join(sorted(missing))}"
    wrong = [name for name in TEXTS if not _text(texts[name])] + [n for n in WORDINGS if not _wordings(texts[n])]
    if wrong:
        return f"{', '.join(sorted(wrong))}: must be a text, or a list of texts where there are several wordings"
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


def _wordings(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_text(wording) for wording in value)


def _plain(part: str, country: str, **values: str) -> str:
    texts, broken = _loaded()
    return _filled(LAST_RESORT if broken else texts[part], country, most_lines=2, **values)


def _filled(template: str, country: str, *, most_lines: int = 2, **values: str) -> str:
    values = {"emergency": crisis_lines.emergency_number(country), "lines": _lines(country, most_lines), **values}
    for name, value in values.items():
        template = template.replace("{" + name + "}", value)
    return template.strip()


def _lines(country: str, most: int) -> str:
    """The country's first lines, each with what to press: call, text, website."""
    return "; ".join(_line(line) for line in crisis_lines.lines_for(country)[:most]) + "."


def _line(line: dict[str, Any]) -> str:
    ways = []
    if line["dial"]:
        ways.append(f"[call {line['dial']}]({line['tel']})")
    if line["sms"]:
        ways.append(f"[text {line['sms']}]({line['sms_link']})")
    if line["url"]:
        ways.append(f"[website]({line['url']})")
    hours = f", {line['hours']}" if line["hours"] else ""
    return f"**{line['name']}**: {', '.join(ways)}{hours}"


def _in_turn(wordings: Sequence[str], turn: int) -> str:
    return wordings[turn % len(wordings)]


@lru_cache(maxsize=1)
def _loaded() -> tuple[dict[str, Any], str | None]:
    try:
        return load(FILE), None
    except RepliesError as error:
        return {}, str(error)
