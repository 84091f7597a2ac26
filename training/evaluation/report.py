"""What came of an evaluation, as files: results.json, results.md, results.png, samples.md.

Knows nothing about models: `systems` measured them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.measured import device
from training.evaluation import judge, results
from training.evaluation.systems import SEED, System, Test
from training.record import made_by, versions

SAMPLED = 8  # questions shown side by side


def write(systems: Sequence[System], test: Test, out: Path, judgement: dict[str, Any] | None = None) -> dict[str, Any]:
    """All four files into `out`; what results.json holds is returned."""
    out.mkdir(parents=True, exist_ok=True)
    found = report(systems, test, judgement)
    (out / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (out / "results.md").write_text(text(found), encoding="utf-8")
    results.plot(found, out / "results.png")
    (out / "samples.md").write_text(samples(systems, test), encoding="utf-8")
    return found


def report(systems: Sequence[System], test: Test, judgement: dict[str, Any] | None = None) -> dict[str, Any]:
    """Everything but the answers."""
    first, *others = systems
    return {
        "questions": len(test.references),
        "rows": len(test.rows),
        "test_sha256": test.sha256,
        "versions": versions(),
        "device": device(),
        "measured": made_by(),
        "systems": {
            system.name: {
                **system.about,
                "measures": results.summary(system.values),
                "product": results.summary(system.product),
                **system.facts,
            }
            for system in systems
        },
        "differences": {system.name: results.differences(system.values, first.values) for system in others},
        "judged": judgement,
    }


def text(found: dict[str, Any]) -> str:
    """Markdown of results.json."""
    return "\n".join((results.table(found), results.facts_table(found), judge.table(found["judged"])))


def samples(systems: Sequence[System], test: Test) -> str:
    """Markdown: some questions, drawn by chance, with every answer as it was written."""
    chosen = random.Random(SEED + 1).sample(sorted(test.references), min(SAMPLED, len(test.references)))
    lines = [
        "# Answers side by side",
        "",
        f"{len(chosen)} questions of the test split, drawn by chance; every answer as the model wrote it, good or bad. "
        "What the product makes of it stands below it.",
    ]
    for question in chosen:
        counsellor = test.references[question][0]
        lines += ["", "---", "", f"**Question.** {_plain(question)}", "", f"**A counsellor.** {_plain(counsellor)}"]
        for system in systems:
            if question in system.answers:
                lines += ["", f"**{system.name}.** {_plain(system.answers[question])}", ""]
                lines += [f"*In the product: {_fate(system.fates[question])}.*"]
    return "\n".join(lines) + "\n"


def _fate(fate: dict[str, Any]) -> str:
    if fate["source"] == "model":
        return "shown"
    if fate["level"] >= 2:
        return "a crisis reply instead; no model is asked"
    return f"a fixed reply instead ({', '.join(fate['withheld']) or 'a request that fixed words answer'})"


def _plain(text: str) -> str:
    """Without line ends and Markdown of its own."""
    return " ".join(text.replace("*", "\\*").replace("<", "&lt;").split())
