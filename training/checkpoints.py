"""An unfinished run in a folder: which recipe and data it is of, and where to go on.

    checkpoint = begin(recipe, {"train": sha256, "validation": sha256}, resume=True)      # None: from the beginning
    finish(output)                                                                        # what was for going on, away

Knows nothing about models.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from training import TrainingError, named, writable
from training.recipe import Recipe
from training.record import RUN

UNFINISHED = "unfinished.json"  # beside the checkpoints: which run they are of

log = logging.getLogger(__name__)


def begin(recipe: Recipe, data: dict[str, str], resume: bool) -> str | None:
    """The folder to go on from, or None to begin. Notes in the output what is being trained, so that `--resume` can tell.

    Raises:
        TrainingError: going on would mix two runs, or beginning would write over an unfinished or a finished one.
    """
    output, note = Path(recipe.output), Path(recipe.output) / UNFINISHED
    if (output / RUN).exists() and not note.exists():
        raise TrainingError(
            f"{output} holds a finished run; publish it with training.publish, choose another --output, or delete it."
        )
    settings = {**recipe.shareable(), "data": data}
    if resume and recipe.publish_to and not written(output):
        from training.publish import fetch_checkpoint  # which needs this file

        fetch_checkpoint(recipe.publish_to, output, settings)
    if note.exists() and (checkpoints := written(output)):
        if not resume:
            raise TrainingError(f"{output} holds an unfinished run: add --resume, or choose another --output.")
        if other := differing(json.loads(note.read_text(encoding="utf-8")), settings):
            raise TrainingError(
                f"The unfinished run in {output} has another {other}; use the same, or another --output."
            )
        log.info("Going on from %s.", checkpoints[-1].name)
        return str(checkpoints[-1])
    if resume:
        log.info("%s holds no checkpoint; beginning.", output)
    writable(output)
    # Of a run that did not end well: its adapter will be written over, and so is its evaluation.
    (output / RUN).unlink(missing_ok=True)
    shutil.rmtree(output / "evaluation", ignore_errors=True)
    note.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return None


@contextlib.contextmanager
def saving(output: Path) -> Iterator[None]:
    """Around what writes a run's files. Each library has its own words for a full disk, and none of them says so.

    Raises:
        TrainingError: they could not be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(
            f"{output} could not be written ({named(error)}). Where the disk is full, free some of it, then go on with --resume."
        ) from error


def differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Names of the settings that differ, as words; "" where none does."""
    return ", ".join(sorted(key for key in {*one, *other} if one.get(key) != other.get(key)))


def written(output: Path) -> list[Path]:
    """Whole ones, the oldest first: the Trainer writes trainer_state.json last, so a kill while saving leaves none."""
    states = output.glob("checkpoint-*/trainer_state.json")
    return sorted((state.parent for state in states), key=lambda folder: int(folder.name.split("-")[1]))


def finish(output: Path) -> None:
    """The run is whole: its checkpoints and the note about them go."""
    for folder in written(output):
        shutil.rmtree(folder)
    (output / UNFINISHED).unlink()


def ended(checkpoint: str) -> bool:
    """Whether the run was over when it wrote `checkpoint`: all steps taken, or stopped early."""
    state = _state(checkpoint)
    stopping = state["stateful_callbacks"]["EarlyStoppingCallback"]
    used_up = stopping["attributes"]["early_stopping_patience_counter"] >= stopping["args"]["early_stopping_patience"]
    return state["global_step"] >= state["max_steps"] or used_up


def best_of(checkpoint: str) -> Path:
    """The folder with the best adapter of the run that wrote `checkpoint`, beside it.

    Raises:
        TrainingError: it is not there any more.
    """
    best = Path(checkpoint).with_name(Path(_state(checkpoint)["best_model_checkpoint"] or checkpoint).name)
    if not (best / "adapter_model.safetensors").exists():
        raise TrainingError(
            f"The run had ended, but {best}, its best adapter, is gone; train again in another --output."
        )
    return best


def tokens_seen(checkpoint: str | None) -> float:
    """Tokens without padding that a run had trained on when it wrote `checkpoint`."""
    if not checkpoint:
        return 0
    return _state(checkpoint)["num_input_tokens_seen"]


def _state(checkpoint: str) -> dict[str, Any]:
    return json.loads((Path(checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))
