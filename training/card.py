"""run.json -> the adapter's model card, through model_card/card.md.j2.

    python -m training.card --run outputs/adapter/run.json --out outputs/adapter/README.md

Every number on the card comes from a result file; one that is missing is an error, never a blank. Knows nothing about
training, and uploads nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined, UndefinedError

from training import TrainingError
from training.prepare import HUB_ID as AMOD

TEMPLATE = Path(__file__).parent.parent / "model_card" / "card.md.j2"
LICENCES = {  # base model's Hub id begins with -> licence id on the Hub, sentence on the card
    "meta-llama/Llama-2-": (
        "llama2",
        "Llama 2 is licensed under the LLAMA 2 Community License, Copyright © Meta Platforms, Inc. All Rights "
        "Reserved. The adapter is made for it and goes under the same licence and its acceptable use policy.",
    ),
    "HuggingFaceTB/SmolLM2-": ("apache-2.0", "The base model and the adapter are licensed under Apache-2.0."),
}
DEMONSTRATION = "HuggingFaceTB/SmolLM2-135M-Instruct"


def render(run_file: Path, licence: str = "") -> ModelCard:
    """The model card for a run.

    Args:
        run_file: run.json as training.qlora writes it.
        licence: the Hub's id of a licence; needed for base models that `LICENCES` does not know.

    Raises:
        TrainingError: the file is missing or unreadable, lacks a number, or the licence is unknown.
    """
    run = _read(run_file)
    try:
        base, source = run["base_model"], run["data"]["source"]
        licence_id, sentence = licence_of(base, licence)
        amod = source == AMOD
        # Not `ModelCard.from_template`: it renders a missing number as nothing.
        environment = Environment(undefined=StrictUndefined, finalize=_not_null, keep_trailing_newline=True)
        content = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
            metadata=_metadata(base, licence_id, amod).to_yaml(),
            run=run,
            amod=amod,
            demonstration=base == DEMONSTRATION,
            base_licence=sentence,
            written_by="`python -m training.card`",
        )
    except (KeyError, TypeError, UndefinedError) as error:
        raise TrainingError(
            f"{run_file} lacks a value that the card shows ({error}); write it anew with `python -m training.qlora`."
        ) from None
    return ModelCard(content)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainingError(
            f"There is no {path}, so the card would have no numbers; run `python -m training.qlora` first."
        ) from None
    except ValueError as error:
        raise TrainingError(f"{path} is not JSON ({error}); write it anew with `python -m training.qlora`.") from None


def licence_of(base: str, chosen: str = "") -> tuple[str, str]:
    """(the Hub's id, a sentence for the card). Raises TrainingError where the base is not known here and none was chosen."""
    if chosen:
        return chosen, f"The adapter goes under {chosen}; the licence of {base} applies beside it."
    for beginning, known in LICENCES.items():
        if base.startswith(beginning):
            return known
    raise TrainingError(f"The licence of {base} is not known here; look it up on the Hub and pass it with --licence.")


def _metadata(base: str, licence: str, amod: bool) -> ModelCardData:
    return ModelCardData(
        base_model=base,
        library_name="peft",
        pipeline_tag="text-generation",
        language="en",
        license=licence,
        datasets=[AMOD] if amod else None,
        tags=["lora", "qlora", "self-help", "mental-health"],
    )


def _not_null(value: Any) -> Any:
    """StrictUndefined finds keys that are not there; a null in the file is as missing."""
    if value is None:
        raise UndefinedError("a value is null")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.card", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("outputs/adapter/run.json"))
    parser.add_argument("--out", type=Path, help="default: README.md beside the run")
    parser.add_argument(
        "--licence", "--license", default="", help="Hub id of the licence, for base models that are not known here"
    )
    options = parser.parse_args()
    try:
        card = render(options.run, options.licence)
    except TrainingError as error:
        raise SystemExit(str(error)) from None
    out = options.out or options.run.with_name("README.md")
    card.save(out)
    print(f"Wrote {out}. Read it before you publish it.")


if __name__ == "__main__":
    main()
