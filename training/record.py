"""What a run tells about itself in run.json and losses.png, for the card, for comparing runs, and for doing it again.

Knows nothing about how it was trained.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import measured
from training.encoding import IGNORED
from training.recipe import Recipe

if TYPE_CHECKING:
    from datasets import Dataset

RUN = "run.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")


def versions() -> dict[str, str]:
    """Of Python and of what decides a run's numbers."""
    return measured.versions(PACKAGES)


def data_facts(recipe: Recipe, digests: dict[str, str], encoded: dict[str, Dataset]) -> dict[str, Any]:
    """What was trained on: training.prepare's report where there is one, files' hashes and token counts as read now."""
    report = Path(recipe.data) / "report.json"
    prepared = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    facts = {key: prepared.get(key) for key in ("source", "source_sha256", "rows_read", "dropped", "seed")}
    for split, digest in digests.items():
        lengths = [len(ids) for ids in encoded[split]["input_ids"]]
        supervised = sum(label != IGNORED for labels in encoded[split]["labels"] for label in labels)
        facts[split] = {"rows": len(lengths), "sha256": digest, "tokens": sum(lengths), "supervised_tokens": supervised}
    return facts


def history(log_history: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """[{"step", "loss"}] of what the Trainer logged under `key`."""
    return [{"step": entry["step"], "loss": round(float(entry[key]), 4)} for entry in log_history if key in entry]


def peak_memory() -> int:
    """Bytes: of the card where there is one, else of the process."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows counts it itself
        return psutil.Process().memory_info().peak_wset  # type: ignore[attr-defined]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def plot(losses: dict[str, Any], path: Path) -> None:
    """Loss on the rows that are trained on and on those held out, by optimizer step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, style in (("train", "-"), ("validation", "o--")):
        axes.plot([e["step"] for e in losses[name]], [e["loss"] for e in losses[name]], style, label=name)
    axes.set(xlabel="optimizer step", ylabel="loss per supervised token")
    axes.legend()
    figure.savefig(path, dpi=110)
