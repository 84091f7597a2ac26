"""Every setting of a training run, and how a recipe file and the command line set them.

    recipe = read_recipe(["--config", "training/recipes/seed.yaml", "--learning_rate", "1e-4"])

Knows nothing about models and data, and imports neither torch nor transformers before it is asked to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from training import TrainingError

EMBEDDED = "embedded"


def _setting(default: Any, about: str) -> Any:
    return field(default=default, metadata={"help": about})


@dataclass
class Recipe:
    """Every setting of a run. A recipe file (yaml) names the ones that it changes; the command line has the last word.

    Raises:
        TrainingError: a value cannot be used.
    """

    base_model: str = _setting(
        "meta-llama/Llama-2-7b-chat-hf", "Hub id, folder, or `embedded`: the demonstration model"
    )
    base_model_name: str = _setting("", "Hub id that the adapter names as its base, where base_model is a folder")
    data: str = _setting("outputs/data", "folder that training.prepare wrote")
    output: str = _setting("outputs/adapter", "folder for the adapter and run.json")
    publish_to: str = _setting("", "repo on the Hub for training.publish; made before training begins, private")
    licence: str = _setting("", "the Hub's id of a licence, for the card of a base model that card.py does not know")
    quantization: str = _setting("nf4", "of the base model: nf4 or none")
    rows: int = _setting(1000, "of the training rows, drawn by the seed; 0: all")
    max_length: int = _setting(512, "most tokens of prompt and response together")
    validation_length: int = _setting(
        1024, "the same for held-out rows, so that their losses compare whatever max_length is"
    )
    epochs: float = _setting(1.0, "passes over the training rows")
    max_steps: int = _setting(-1, "optimizer steps; above 0 it takes the place of epochs")
    batch_size: int = _setting(4, "rows that go through the model at once")
    gradient_accumulation: int = _setting(4, "batches for one optimizer step; LoRA likes fewer than 32 rows a step")
    learning_rate: float = _setting(2e-4, "its peak; falls along a cosine after the warmup")
    warmup: float = _setting(0.05, "share of the steps over which the learning rate rises")
    lora_r: int = _setting(16, "rank of the adapter. 16 is the highest that vLLM serves without a flag")
    lora_alpha: int = _setting(32, "scale of the adapter, over its rank")
    lora_dropout: float = _setting(0.05, "share of the adapter's inputs left out in training")
    rslora: bool = _setting(False, "scale by the root of the rank, so that high ranks learn as fast (arXiv 2312.03732)")
    neftune_alpha: float = _setting(
        0.0, "noise on the embeddings (arXiv 2310.05914); 5 is usual, answers get longer; 0: none"
    )
    activation_checkpointing: bool = _setting(
        True, "compute activations twice instead of keeping them: slower, less memory"
    )
    logging_steps: int = _setting(5, "optimizer steps between two logged losses")
    evaluations: int = _setting(
        5, "how often the held-out loss is measured and a checkpoint written, over the whole run"
    )
    patience: int = _setting(2, "evaluations without a better held-out loss before the run stops; the best one is kept")
    seed: int = _setting(0, "of the adapter's first weights, the order of rows, and dropout")

    def __post_init__(self) -> None:
        if self.quantization not in ("nf4", "none"):
            raise TrainingError(f"quantization must be nf4 or none; it is {self.quantization!r}.")
        for name in (
            "max_length",
            "validation_length",
            "batch_size",
            "gradient_accumulation",
            "lora_r",
            "lora_alpha",
            "logging_steps",
            "evaluations",
            "patience",
        ):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1; it is {getattr(self, name)}.")
        for name in ("epochs", "learning_rate"):
            if getattr(self, name) <= 0:
                raise TrainingError(f"{name} must be above 0; it is {getattr(self, name)}.")
        if self.rows < 0:
            raise TrainingError(f"rows must not be below 0; it is {self.rows}.")
        if self.neftune_alpha < 0:
            raise TrainingError(f"neftune_alpha must not be below 0; it is {self.neftune_alpha}.")
        for name in ("warmup", "lora_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 0 and below 1; it is {getattr(self, name)}.")

    def shareable(self) -> dict[str, Any]:
        """The settings without this machine's folders, for what is published."""
        values = asdict(self)
        for name in ("data", "output", "publish_to", "licence", "base_model_name"):
            del values[name]
        if Path(self.base_model).is_dir():
            values["base_model"] = self.base_model_name or Path(self.base_model).name
        return values


def read_recipe(arguments: Sequence[str]) -> Recipe:
    """The recipe that `--config FILE` and the other arguments describe.

    Raises:
        TrainingError: no such file, a setting that does not exist, or a value that cannot be used.
    """
    recipe_class: Any = Recipe  # the parser's own type for it is narrower than what it takes
    from transformers import HfArgumentParser

    parser = HfArgumentParser(
        recipe_class, allow_abbrev=False, prog="python -m training.qlora", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--config", type=Path, help="recipe file, such as training/recipes/seed.yaml")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in `output`")
    config = parser.parse_known_args(arguments)[0].config
    if config:
        parser.set_defaults(**_recipe_file(config))
    recipe, _, unknown = parser.parse_args_into_dataclasses(
        args=list(arguments), return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        raise TrainingError(f"There is no setting {unknown[0]}; `python -m training.qlora --help` lists them.")
    return recipe


def _recipe_file(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TrainingError(
            f"The recipe {path} cannot be read ({error}); see training/recipes/ for some that can."
        ) from None
    if not isinstance(values, dict):
        raise TrainingError(f"The recipe {path} must hold lines of `setting: value`.")
    unknown = sorted(set(values) - set(Recipe.__dataclass_fields__))
    if unknown:
        raise TrainingError(f"The recipe {path} has no such setting: {', '.join(map(str, unknown))}. See --help.")
    # As text, every value goes through the same parsing as on the command line: yaml reads 2e-4 as a string.
    return {name: str(value) for name, value in values.items() if value is not None}
