"""Whether the parts work: what /health tells programs. Never blocks, reads no message, tells no token."""

from __future__ import annotations

from typing import Any

from support import conversation, crisis_lines, page, replies, screening
from support.engines import Engine
from support.metrics import Metrics


def problems() -> dict[str, str]:
    """Part -> what is wrong with it; empty where nothing is. Also loads rules, lines and texts, so that no message waits."""
    parts = {
        "crisis_lines": crisis_lines.problem(),
        "interface": page.problem(),
        "replies": replies.problem(),
        "screening": screening.problem(),
        **{part: learned.state()["problem"] for part, learned in screening.LEARNED.items()},
    }
    return {part: problem for part, problem in parts.items() if problem}


def report(engine: Engine, metrics: Metrics) -> dict[str, Any]:
    """`status` ("ok", or "degraded" when a part does not work), `model`, `rules_version`, the classifiers, `problems`, and
    `metrics` where they are on."""
    model, wrong = engine.describe(), problems()
    return {
        "status": "degraded" if wrong or model["status"] == "unavailable" else "ok",
        "model": model,
        "rules_version": conversation.rules_version(),
        **{part: learned.state()["status"] for part, learned in screening.LEARNED.items()},
        "problems": wrong,
        **({"metrics": metrics.sums()} if metrics.on else {}),
    }
