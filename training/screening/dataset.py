"""The examples that the classifier learns from: one file for each author and language, tab-separated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from support.screening.rules import CATEGORIES

EXAMPLES = Path(__file__).parent / "examples"


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


def read_examples(folder: Path = EXAMPLES) -> list[Example]:
    """All examples. Raises ValueError naming file and line where one is malformed."""
    examples = []
    for path in sorted(folder.glob("*.tsv")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            fields = line.split("\t")
            if len(fields) != 4 or fields[0] not in ("0", "1", "2", "3") or fields[1] not in CATEGORIES:
                raise ValueError(f"{path.name} line {number}: want level, category, kind, text, separated by tabs.")
            examples.append(Example(int(fields[0]), fields[1], fields[2], fields[3].strip(), path.stem))
    return examples
