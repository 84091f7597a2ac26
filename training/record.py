"""What a run tells about itself in run.json and losses.png, for the card, for comparing runs, and for doing it again.

Knows nothing about how it was trained.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import measured
from training import TrainingError
from training.encoding import IGNORED
from training.recipe import Recipe

if TYPE_CHECKING:
    from datasets import Dataset

RUN = "run.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")


def versions() -> dict[str, str]:
    """Of Python and of what decides a run's numbers."""
    return measured.versions(PACKAGES)


def made_by() -> dict[str, Any]:
    """Where a result file comes from, as `support.measured.save` notes it: command, day, machine.

    Folders of this machine are left out of the command: what it makes goes to the Hub.
    """
    module = getattr(sys.modules["__main__"].__spec__, "name", Path(sys.argv[0]).name).removesuffix(".__main__")
    arguments = [re.sub(r"(^|=)(/|[A-Za-z]:\\).*[/\\]", r"\1", argument) for argument in sys.argv[1:]]
    return {
        "command": shlex.join(["python", "-m", module, *arguments]),
        "date": str(date.today()),
        "machine": measured.machine(),
    }


def read_result(path: Path, command: str) -> dict[str, Any]:
    """A result file. Raises TrainingError, with the command that writes it, where it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainingError(
            f"There is no {path}, so numbers would be without their source; write it with `python -m {command}` first."
        ) from None
    except ValueError as error:
        raise TrainingError(f"{path} is not JSON ({error}); write it anew with `python -m {command}`.") from None


def data_facts(
    recipe: Recipe, digests: dict[str, str], used: dict[str, list[dict[str, str]]], encoded: dict[str, Dataset]
) -> dict[str, Any]:
    """What was trained on: training.prepare's report where there is one, token counts as read now, and two hashes of a split.

    `sha256` is of the file, `rows_sha256` of the rows that were used of it, as lines of such a file: the same where all were.
    """
    report = Path(recipe.data) / "report.json"
    prepared = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    facts = {key: prepared.get(key) for key in ("source", "source_sha256", "rows_read", "dropped", "seed")}
    for split, digest in digests.items():
        lengths = [len(ids) for ids in encoded[split]["input_ids"]]
        supervised = sum(label != IGNORED for labels in encoded[split]["labels"] for label in labels)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in used[split])
        facts[split] = {
            "rows": len(lengths),
            "sha256": digest,
            "rows_sha256": hashlib.sha256(lines.encode()).hexdigest(),
            "tokens": sum(lengths),
            "supervised_tokens": supervised,
        }
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
