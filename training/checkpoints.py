"""An unfinished run in a folder: which recipe and data it is of, and where to go on.

    checkpoint = begin(recipe, {"train": sha256, "validation": sha256}, resume=True)      # None: from the beginning
    finish(output)                                                                        # what was for going on, away

Knows nothing about models.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from training import TrainingError
from training.recipe import Recipe
from training.record import RUN

UNFINISHED = "unfinished.json"  # beside the checkpoints: which run they are of

log = logging.getLogger(__name__)


def begin(recipe: Recipe, data: dict[str, str], resume: bool) -> str | None:
    """The folder to go on from, or None to begin. Notes in the output what is being trained, so that `--resume` can tell.

    Raises:
        TrainingError: going on would mix two runs, or beginning would write over an unfinished one.
    """
    output, note = Path(recipe.output), Path(recipe.output) / UNFINISHED
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
    output.mkdir(parents=True, exist_ok=True)
    (output / RUN).unlink(missing_ok=True)  # of an adapter that will be written over, and so is its evaluation
    shutil.rmtree(output / "evaluation", ignore_errors=True)
    note.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return None


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


def tokens_seen(checkpoint: str | None) -> float:
    """Tokens without padding that a run had trained on when it wrote `checkpoint`."""
    if not checkpoint:
        return 0
    return json.loads((Path(checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))["num_input_tokens_seen"]
