"""Runs that differ in a setting or two, one after the other, and their held-out losses side by side.

    python -m training.sweep training/sweeps/bottlenecks.yaml --out model_card/results/sweep

The file names a recipe and, for each run, what is different in it. Each is trained by `training.qlora` in a fresh process; killed
on the way, the same command goes on: finished runs are kept, an unfinished one is resumed. Writes the run.json of each as
NAME.json, `sweep.png` and `sweep.md`. Held-out losses compare: all runs are measured on the same rows and tokens.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from training import TrainingError, writable
from training.checkpoints import UNFINISHED
from training.encoding import read_split
from training.recipe import read_recipe
from training.record import RUN

SWEEPS = Path(__file__).parent / "sweeps"
COLUMNS = (
    "run | rows | longest row | steps | held-out loss before | after | minutes | tokens/s | peak GiB | planned GiB"
)


def read_sweep(path: Path) -> dict[str, list[str]]:
    """Name of each run -> the arguments of its `training.qlora`.

    Raises:
        TrainingError: the file cannot be read, or a run has a setting that does not exist.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        recipe, folder, runs = values["recipe"], Path(values["output"]), values["runs"]
        sweep = {
            name: ["--config", recipe, *_flags(settings or {}), "--output", str(folder / name)]
            for name, settings in runs.items()
        }
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{path} must name a recipe, an output and runs ({type(error).__name__}: {error}); "
            "see training/sweeps/bottlenecks.yaml."
        ) from None
    for arguments in sweep.values():
        read_recipe(arguments)
    return sweep


def _flags(settings: dict[str, Any]) -> list[str]:
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def run_all(sweep: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Train what is not trained yet. Returns name -> its run.json.

    Raises:
        TrainingError: a run failed, or a finished one is of other settings.
    """
    runs = {}
    for name, arguments in sweep.items():
        recipe = read_recipe(arguments)
        run_file = Path(recipe.output) / RUN
        if not run_file.exists():
            print(f"--- {name}: python -m training.qlora {' '.join(arguments)}", flush=True)
            if subprocess.run([sys.executable, "-m", "training.qlora", *arguments, "--resume"]).returncode:
                raise TrainingError(f"{name} failed; what it said stands above. The same command goes on from here.")
        runs[name] = json.loads(run_file.read_text(encoding="utf-8"))
        trained_on = {split: runs[name]["data"][split]["sha256"] for split in ("train", "validation")}
        there = {split: read_split(Path(recipe.data), split)[1] for split in trained_on}
        if runs[name]["recipe"] != recipe.shareable() or trained_on != there or (run_file.parent / UNFINISHED).exists():
            raise TrainingError(
                f"{recipe.output} holds a run of other settings or data, or one that failed; delete it, or choose another output."
            )
    return runs


def table(runs: dict[str, dict[str, Any]]) -> str:
    """Markdown, one line for each run."""
    lines = [COLUMNS, "|".join(["---"] * (COLUMNS.count("|") + 1))]
    for name, run in runs.items():
        losses = run["losses"]
        after_resuming = " after resuming" if run["resumed"] else ""
        cells = [
            name,
            run["data"]["train"]["rows"],
            run["recipe"]["max_length"],
            run["steps"],
            losses["validation_before"],
            losses["validation_after"],
            f"{run['training_seconds'] / 60:.0f}{after_resuming}",
            f"{run['tokens_per_second']:.0f}",
            run["peak_memory_gib"],
            run["planned_memory_gib"],
        ]
        lines.append(" | ".join(map(str, cells)))
    told = "\n".join(f"| {line} |" for line in lines) + "\n"
    if mixed := [name for name, run in runs.items() if "evaluation_seconds" not in run]:  # older files
        told += f"\nMinutes and tokens/s of {', '.join(mixed)} include evaluations.\n"
    return told


def rows_a_step(run: dict[str, Any]) -> int:
    """Rows of all processes together. Files from before "processes" was written are of one."""
    return run["recipe"]["batch_size"] * run["recipe"]["gradient_accumulation"] * run.get("processes", 1)


def plot(runs: dict[str, dict[str, Any]], path: Path) -> None:
    """Held-out loss of each run, by how many rows it has seen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, run in runs.items():
        step = rows_a_step(run)
        points = run["losses"]["validation"]
        axes.plot([point["step"] * step for point in points], [point["loss"] for point in points], "o-", label=name)
    axes.set(xlabel="rows seen", ylabel="held-out loss, nats per token")
    axes.legend()
    figure.savefig(path, dpi=110)


def write(runs: dict[str, dict[str, Any]], out: Path) -> None:
    """NAME.json of each run, sweep.md and sweep.png into `out`."""
    writable(out)
    for name, run in runs.items():
        (out / f"{name}.json").write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    (out / "sweep.md").write_text(table(runs), encoding="utf-8")
    plot(runs, out / "sweep.png")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.sweep", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sweep", type=Path, help="such as training/sweeps/bottlenecks.yaml")
    parser.add_argument("--out", type=Path, help="folder for the results; without it only the table is printed")
    options = parser.parse_args(arguments)
    try:
        if options.out:
            writable(options.out)
        runs = run_all(read_sweep(options.sweep))
    except TrainingError as error:
        raise SystemExit(str(error)) from None
    if options.out:
        write(runs, options.out)
    print(table(runs), end="")


if __name__ == "__main__":
    main()
