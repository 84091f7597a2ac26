"""Put a trained adapter on the Hub, and prove that it loads from there as it was trained.

    python -m training.publish outputs/adapter --repo you/counselling-lora [--public]
    python -m training.publish outputs/adapter --repo you/counselling-lora --merged      and the merged model, in 16 bits

Uploads the adapter, the base's config.json (`transformers serve` and AutoConfig ask for it), generation config, tokenizer
with its chat template, run.json, the loss plot, what training.evaluate wrote to its folder `evaluation`, and a model card filled
from these. Private unless told otherwise. A push
that fails loses nothing: the folder stays as it is, and the command to push again is printed.

The proof runs in a fresh process with nothing but the repo's name: as `AutoPeftModelForCausalLM` and as the app loads it,
the logits must be those of the folder; those of a merged model must be what base and adapter give beside each other. Knows
nothing about training but the files that it leaves.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from transformers import TrainerCallback

from training import TrainingError, card, named
from training.checkpoints import UNFINISHED, differing
from training.qlora import same
from training.record import RUN

NEEDED = ("adapter_config.json", "adapter_model.safetensors", "config.json", "tokenizer_config.json", RUN)
PUBLISHED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "losses.png", "evaluation/*", "README.md"]
CHECKPOINT = "last-checkpoint"  # folder in the repo
STATE = "trainer_state.json"
TRIES = 4
FIRST_WAIT = 2.0  # seconds; doubled after each try
PROBE = [1, 20, 300, 11, 42, 7, 150, 9]  # token ids that every tokenizer of 301 tokens or more has

log = logging.getLogger(__name__)
T = TypeVar("T")


def publish(
    folder: Path,
    repo: str,
    *,
    private: bool = True,
    merged: bool = False,
    licence: str = "",
    keep_checkpoint: bool = False,
) -> dict[str, Any]:
    """Upload, then prove.

    Args:
        folder: as training.qlora wrote it.
        repo: "name" or "owner/name" on the Hub; made where it is not there.
        private: whether a new repo is private. One that is there stays as it is.
        merged: also export base and adapter as one model, to `<repo>-merged`, with a card of its own, and prove that too.
        licence: see `training.card.render`.
        keep_checkpoint: leave the last checkpoint in the repo, so that a session that ends now need not train again.

    Returns:
        {"url", "repo"}, and what the proof measured: {"autopeft", "app": greatest difference of a logit, "adapter_effect"}.
        With `merged` also "merged": {"url", "repo", "merged": greatest difference of a logit, "adapter_effect"}.

    Raises:
        TrainingError: no token, a file is missing, the push failed, or what loads from the Hub is not what was trained.
    """
    demand_token()
    missing = [name for name in NEEDED if not (folder / name).exists()]
    if missing:
        raise TrainingError(f"{folder} lacks {', '.join(missing)}; is it the output of a finished training.qlora?")
    if (folder / UNFINISHED).exists():
        raise TrainingError(
            f"The run in {folder} did not end well; go on with training.qlora --resume, or train again."
        )
    evaluated = _evaluation_of(folder)
    card.render(folder / RUN, licence, evaluated).save(folder / "README.md")
    options = [*([] if private else ["--public"]), *(["--merged"] if merged else [])]
    options += ["--licence", licence] if licence else []
    again = shlex.join(["python", "-m", "training.publish", str(folder), "--repo", repo, *options])
    url = _push(folder, repo, private, again, keep_checkpoint)
    log.info("Uploaded to %s. Loading it again in a fresh process.", url)
    done = {"url": str(url), "repo": url.repo_id, **prove(url.repo_id, folder)}
    if merged:
        whole = _merge(folder)
        card.render(folder / RUN, licence, merged_from=url.repo_id).save(whole / "README.md")
        url = _push(whole, f"{repo}-merged", private, again)
        log.info("Uploaded to %s. Loading it again in a fresh process.", url)
        done["merged"] = {"url": str(url), "repo": url.repo_id, **prove(url.repo_id, folder, merged=True)}
    return done


def _evaluation_of(folder: Path) -> card.Results | None:
    """What `training.evaluate` wrote beside the adapter. Raises TrainingError: it is of other weights."""
    results = card.Results(folder, whole=False)
    if not (folder / "evaluation" / "results.json").exists():
        log.warning(
            'There is no %s: the card will say "Not measured". `python -m training.evaluate --adapter %s` writes it.',
            folder / "evaluation" / "results.json",
            folder,
        )
        return None
    measured = results.read("evaluation/results")["systems"].get("adapter", {}).get("adapter_sha256")
    if measured != hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest():
        raise TrainingError(
            f"{folder / 'evaluation'} measured another adapter; run training.evaluate again, or delete it."
        )
    return results


def summary(proof: dict[str, Any]) -> str:
    """What `publish` gave, for people."""
    told = (
        f"{proof['url']}: loaded again, logits differ by {max(proof['autopeft'], proof['app']):.2g} at most.\n"
        f"In the app: ADAPTER_ID={proof['repo']}"
    )
    if whole := proof.get("merged"):
        told += f"\n{whole['url']}: loaded again, logits differ from base and adapter by {whole['merged']:.2g} at most."
        told += f"\nIn the app: MODEL_ID={whole['repo']}"
    return told


def demand_token() -> str:
    """The name of the account that the Hub knows the token by. Ask before hours of training, not after.

    Raises:
        TrainingError: there is no token, the Hub does not take it, or it does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        return _with_retries(lambda: HfApi().whoami())["name"]
    except LocalTokenNotFoundError:
        raise TrainingError(
            "Publishing needs a token with write access: make one at https://huggingface.co/settings/tokens and set HF_TOKEN."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise TrainingError(
                f"The Hub does not take this token ({status}); make a new one with write access and set HF_TOKEN."
            ) from None
        raise TrainingError(f"The Hub does not answer as it should ({status}); try again later.") from None
    except Exception as error:  # the client's transport raises families of its own
        raise TrainingError(
            f"The Hub cannot be reached ({type(error).__name__}); check the network, then try again."
        ) from error


def demand_repo(repo: str, base: str, licence: str = "") -> None:
    """Make the private repo that a run will publish to, before the run: hours later is too late for a missing right.

    Raises:
        TrainingError: no token with write access, a name that cannot be used, or a licence that nobody named.
    """
    from huggingface_hub import HfApi

    card.licence_of(base, licence)
    name = demand_token()
    try:
        url = _with_retries(lambda: HfApi().create_repo(repo, private=True, exist_ok=True))
    except Exception as error:
        raise TrainingError(
            f"{name} cannot make or write the repo {repo} ({named(error)}); "
            "use a token with write access, and a name that is yours."
        ) from error
    log.info("The adapter will go to %s.", url)


def _push(folder: Path, repo: str, private: bool, again: str, keep_checkpoint: bool = False) -> Any:
    """The new or known repo's url. `again`: the command that a failure names."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = _with_retries(lambda: api.create_repo(repo, private=private, exist_ok=True))
        _with_retries(
            lambda: api.upload_folder(
                repo_id=url.repo_id,
                folder_path=folder,
                allow_patterns=PUBLISHED,
                ignore_patterns=["checkpoint-*/*", UNFINISHED],
                delete_patterns=None if keep_checkpoint else f"{CHECKPOINT}/*",
                commit_message="Add the adapter, its settings and figures",
            )
        )
    except Exception as error:
        raise TrainingError(
            f"The push to {repo} failed ({named(error)}). Nothing is lost; push again with:\n  {again}"
        ) from error
    return url


def _with_retries(call: Callable[[], T]) -> T:
    """What `call` returns. Errors that pass by themselves are tried again: the connection's, and the server's own."""
    import httpx2  # the Hub client's own transport
    from huggingface_hub.errors import HfHubHTTPError

    wait = FIRST_WAIT
    for tries_left in reversed(range(TRIES)):
        try:
            return call()
        except HfHubHTTPError as error:
            if (error.response.status_code < 500 and error.response.status_code != 429) or not tries_left:
                raise
            log.warning("The Hub answered %s; trying again in %.0f s.", error.response.status_code, wait)
        except (OSError, httpx2.TransportError) as error:
            if not tries_left:
                raise
            log.warning("The connection failed (%s); trying again in %.0f s.", type(error).__name__, wait)
        time.sleep(wait)
        wait *= 2
    raise AssertionError("unreachable")


def _merge(folder: Path) -> Path:
    """Base and adapter as one model in 16 bits, for servers that take no adapter and for conversion to other formats."""
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    out = folder.with_name(folder.name + "-merged")
    try:
        model = AutoPeftModelForCausalLM.from_pretrained(str(folder), dtype=torch.float16)
        model.merge_and_unload().save_pretrained(out)  # type: ignore[operator]
        AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    except Exception as error:  # memory, the Hub, or a base that is gated
        raise TrainingError(
            f"The adapter is published; merging it failed ({type(error).__name__}: {error})."
        ) from error
    (out / RUN).write_bytes((folder / RUN).read_bytes())
    return out


# Checkpoints of a run that may be cut off, as on Kaggle


class KeepOnHub(TrainerCallback):
    """Puts each new checkpoint into the repo's folder CHECKPOINT: a session that ends takes its disk with it.

    Behind the training; where it fails, that is logged and the run goes on. `publish` takes the folder out again.
    """

    def __init__(self, repo: str) -> None:
        self._repo = repo
        self._pushing: Any = None

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        self._finish()
        try:
            self._pushing = self._push(Path(args.output_dir), state)
        except Exception as error:
            log.warning("The checkpoint of step %s is on this disk only (%s).", state.global_step, type(error).__name__)

    def _push(self, output: Path, state: Any) -> Any:
        from huggingface_hub import HfApi

        self._copy = tempfile.TemporaryDirectory()  # the Trainer deletes older checkpoints while this one is pushed
        folder, newest = Path(self._copy.name) / CHECKPOINT, f"checkpoint-{state.global_step}"
        shutil.copytree(output / newest, folder, ignore=shutil.ignore_patterns("README.md", "training_args.bin"))
        shutil.copy(output / UNFINISHED, folder / UNFINISHED)  # which run it is of
        best = Path(state.best_model_checkpoint or newest).name
        if best != newest:
            shutil.copytree(
                output / best, folder / best, ignore=lambda _, names: {n for n in names if "adapter" not in n}
            )
        _name_best(folder / STATE, best)  # without the folder of this machine
        api = HfApi()
        return api.upload_folder(
            repo_id=api.create_repo(self._repo, private=True, exist_ok=True).repo_id,
            folder_path=folder,
            path_in_repo=CHECKPOINT,
            delete_patterns="*",
            commit_message=f"Checkpoint of step {state.global_step}",
            run_as_future=True,
        )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._finish()

    def _finish(self) -> None:
        """Wait for the push before, and free its copy."""
        if self._pushing is not None:
            error = self._pushing.exception()
            if error:
                log.warning("A checkpoint is on this disk only: the push failed (%s).", type(error).__name__)
            self._pushing = None
            self._copy.cleanup()


def fetch_checkpoint(repo: str, output: Path, settings: dict[str, Any]) -> None:
    """The checkpoint that `KeepOnHub` put into `repo`, as if it had been saved in `output`; nothing where there is none.

    Raises:
        TrainingError: it is of a run with other settings, there is only a finished run's adapter, or the Hub does not give it.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    name = _whole_name(repo)
    with tempfile.TemporaryDirectory() as there:
        try:
            files = HfApi().list_repo_files(name)
            held = f"{CHECKPOINT}/{STATE}" in files
            if held:
                snapshot_download(name, allow_patterns=f"{CHECKPOINT}/*", local_dir=there)
        except RepositoryNotFoundError:
            return
        except Exception as error:
            raise TrainingError(
                f"The checkpoint in {name} could not be fetched ({type(error).__name__}); try again."
            ) from error
        if not held and RUN not in files:
            return
        if not held:
            # As on Kaggle, pushed again after its last publish: hours of training over what is there already.
            raise TrainingError(
                f"{name} holds the adapter of a finished run, and no checkpoint to go on from. To train again, choose another "
                "--publish_to (on Kaggle: ADAPTER in run.py), delete the repo, or leave --resume out."
            )
        found = Path(there) / CHECKPOINT
        if other := differing(json.loads((found / UNFINISHED).read_text(encoding="utf-8")), settings):
            raise TrainingError(
                f"{name} holds the checkpoint of a run with another {other}; use the same, another --publish_to, or delete the "
                f"folder {CHECKPOINT} there."
            )
        state = json.loads((found / STATE).read_text(encoding="utf-8"))
        output.mkdir(parents=True, exist_ok=True)
        shutil.move(found / UNFINISHED, output / UNFINISHED)
        for best in found.glob("checkpoint-*"):
            shutil.move(best, output / best.name)
        _name_best(found / STATE, str(output / state["best_model_checkpoint"]))
        shutil.move(found, output / f"checkpoint-{state['global_step']}")
    log.info("Found the checkpoint of step %s in %s.", state["global_step"], name)


def _name_best(path: Path, folder: str) -> None:
    """Write into a trainer_state.json where the best checkpoint lies."""
    state = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**state, "best_model_checkpoint": folder}, indent=2) + "\n", encoding="utf-8")


def _whole_name(repo: str) -> str:
    return repo if "/" in repo else f"{demand_token()}/{repo}"


# The proof


def prove(repo: str, folder: Path, merged: bool = False) -> dict[str, float]:
    """Load `repo` in a fresh process and compare it with `folder`, the adapter's. Raises TrainingError where it is not the same.

    Returns:
        greatest difference of a logit, by how it was loaded, and "adapter_effect": what the adapter does to them at all.
    """
    command = ["training.publish", str(folder.resolve()), "--repo", repo, "--prove", *(["--merged"] if merged else [])]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    try:
        proof = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise TrainingError(
            f"{repo} could not be loaded again: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
        ) from None
    ways = {name: distance for name, distance in proof.items() if name != "adapter_effect"}
    if not same(max(ways.values()), proof["adapter_effect"]):
        raise TrainingError(
            f"What loads from {repo} is not what was trained: logits differ by "
            f"{' and '.join(f'{distance:.3f} ({name})' for name, distance in ways.items())}, "
            f"where the adapter moves them by {proof['adapter_effect']:.3f}. Do not use it; publish again."
        )
    return proof


def _prove(repo: str, folder: Path) -> dict[str, float]:
    """In this process: greatest differences of a logit, and what the adapter does to them at all."""
    from peft import AutoPeftModelForCausalLM

    from support.engines.transformers import load
    from support.settings import Settings
    from training.qlora import compute_dtype, quantization_config, reload

    run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    base, quantization = run["base_model"], run["recipe"]["quantization"]
    here = reload(base, quantization, folder)
    expected, plain = _logits(here), _plain_logits(here)
    del here  # a T4 does not hold the model twice
    auto = AutoPeftModelForCausalLM.from_pretrained(
        repo, dtype=compute_dtype(), quantization_config=quantization_config(quantization)
    )
    differences = {"autopeft": _distance(_logits(auto), expected)}
    del auto
    app = load(Settings(model_id=base, adapter_id=repo, quantization=quantization))
    differences["app"] = _distance(_logits(app.model), expected)
    return {**differences, "adapter_effect": _distance(plain, expected)}


def _prove_merged(repo: str, folder: Path) -> dict[str, float]:
    """The same for base and adapter as one model: against both beside each other, as `_merge` loaded them."""
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    beside = AutoPeftModelForCausalLM.from_pretrained(str(folder), dtype=torch.float16)
    expected, plain = _logits(beside), _plain_logits(beside)
    del beside
    if not AutoTokenizer.from_pretrained(repo).chat_template:
        raise TrainingError("its tokenizer has no chat template.")
    whole = AutoModelForCausalLM.from_pretrained(repo, dtype="auto")
    return {"merged": _distance(_logits(whole), expected), "adapter_effect": _distance(plain, expected)}


def _logits(model: Any) -> Any:
    import torch

    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([PROBE], device=model.device), use_cache=False).logits.float().cpu()


def _plain_logits(model: Any) -> Any:
    with model.disable_adapter():
        return _logits(model)


def _distance(one: Any, other: Any) -> float:
    return (one - other).abs().max().item()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.publish", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="as training.qlora wrote it, such as outputs/adapter")
    parser.add_argument("--repo", required=True, help="name, or owner/name, on the Hub")
    parser.add_argument("--public", action="store_true", help="a new repo is public; without it, private")
    parser.add_argument("--merged", action="store_true", help="also push base and adapter as one model, to REPO-merged")
    parser.add_argument(
        "--licence", default="", help="the Hub's id of a licence, for a base model that card.py does not know"
    )
    parser.add_argument(
        "--prove", action="store_true", help="upload nothing: load REPO, compare it with FOLDER, print JSON"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # the Hub client tells each request
    try:
        if options.prove:
            print(json.dumps((_prove_merged if options.merged else _prove)(options.repo, options.folder)))
            return
        proof = publish(
            options.folder, options.repo, private=not options.public, merged=options.merged, licence=options.licence
        )
    except TrainingError as error:
        raise SystemExit(str(error)) from None
    print(summary(proof))


if __name__ == "__main__":
    main()
