"""The examples that the classifiers learn from: one file for each author and language, tab-separated.

`examples/`: messages, as level, category, kind, text. `replies/`: sentences of replies, as problem or "ok", text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.screening.reply_classifier import PROBLEMS
from support.screening.rules import CATEGORIES

EXAMPLES = Path(__file__).parent / "examples"
REPLIES = Path(__file__).parent / "replies"


@dataclass(frozen=True)
class Example:
    """One message: level 0-3, category as in screening, kind, text; `author` is the file it stands in."""

    level: int
    category: str
    kind: str
    text: str
    author: str

    @property
    def language(self) -> str:
        return self.author.split("_")[0]


@dataclass(frozen=True)
class Sentence:
    """One or two sentences of a reply, and which of the reply classifier's PROBLEMS they have ("": none)."""

    problem: str
    text: str
    author: str


def read_examples(folder: Path = EXAMPLES) -> list[Example]:
    """All messages. Raises ValueError naming file and line where one is malformed."""
    examples = []
    for place, author, fields in _lines(folder):
        if len(fields) != 4 or fields[0] not in ("0", "1", "2", "3") or fields[1] not in CATEGORIES:
            raise ValueError(f"{place}: want level, category, kind, text, separated by tabs.")
        examples.append(Example(int(fields[0]), fields[1], fields[2], fields[3].strip(), author))
    return examples


def read_replies(folder: Path = REPLIES) -> list[Sentence]:
    """All sentences of replies. Raises ValueError naming file and line where one is malformed."""
    sentences = []
    for place, author, fields in _lines(folder):
        if len(fields) != 2 or fields[0] not in ("ok", *PROBLEMS):
            raise ValueError(f"{place}: want ok or a problem, text, separated by a tab.")
        sentences.append(Sentence("" if fields[0] == "ok" else fields[0], fields[1].strip(), author))
    return sentences


def _lines(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(file and line, for messages; author; fields) of each line that is not empty."""
    for path in sorted(folder.glob("*.tsv")):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if line.strip():
                yield f"{path.name} line {number}", path.stem, line.split("\t")
