"""The script for Kaggle: its commands exist, it keeps the image's torch, and it says what is missing."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from training import TrainingError, card, evaluate, plan, prepare, qlora

FOLDER = Path(qlora.__file__).parent / "kaggle"


@pytest.fixture
def kaggle() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kaggle_run", FOLDER / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_metadata_asks_for_what_the_script_needs():
    metadata = json.loads((FOLDER / "kernel-metadata.json").read_text(encoding="utf-8"))
    assert (FOLDER / metadata["code_file"]).exists()
    assert metadata["machine_shape"] == "NvidiaTeslaT4" and metadata["enable_gpu"] and metadata["enable_internet"]
    assert metadata["kernel_type"] == "script" and metadata["is_private"]


def test_every_command_takes_its_arguments(kaggle, tmp_path, monkeypatch, capsys):
    prepare_it, plan_it, train_it, evaluate_it, publish_it = commands = kaggle.commands(tmp_path)
    assert [command[0].removeprefix("training.") for command in commands] == [
        "prepare",
        "plan",
        "qlora",
        "evaluate",
        "publish",
    ]
    monkeypatch.setattr(prepare, "prepare", lambda *args, **options: {"asked": options})
    monkeypatch.setattr(sys, "argv", list(prepare_it))
    prepare.main()
    assert '"validation": 0.05' in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", list(plan_it))
    plan.main()
    assert "in all" in capsys.readouterr().out
    recipe = qlora.read_recipe(train_it[1:])
    assert recipe.base_model == "meta-llama/Llama-2-7b-chat-hf" and recipe.publish_to == kaggle.ADAPTER
    assert recipe.data == prepare_it[prepare_it.index("--out") + 1] and recipe.rows == 1000
    seen: dict = {}
    monkeypatch.setattr(evaluate, "read_test", lambda data, questions: seen.update(data=str(data)))
    monkeypatch.setattr(evaluate, "with_base_of", lambda adapter, settings: seen.update(adapter=adapter) or settings)
    monkeypatch.setattr(evaluate, "local", lambda name, *rest: seen.setdefault("systems", []).append(name))
    monkeypatch.setattr(evaluate.report, "write", lambda systems, test, out, *rest: seen.update(out=str(out)))
    monkeypatch.setattr(evaluate.report, "text", lambda found: sys.exit())
    monkeypatch.setattr(sys, "argv", list(evaluate_it))
    with pytest.raises(SystemExit):
        evaluate.main()
    folder = publish_it[1]
    assert seen == {
        "data": recipe.data,
        "adapter": folder,
        "systems": ["base", "adapter"],
        "out": f"{folder}/evaluation",
    }
    assert recipe.output == folder and publish_it[2:] == ("--repo", kaggle.ADAPTER)


def test_a_licence_named_in_the_recipe_reaches_the_card_without_being_named_again(tmp_path):
    """The last command of the script passes none."""
    run = json.loads((card.TEMPLATES / "results" / "sweep" / "seed.json").read_text(encoding="utf-8"))
    file = tmp_path / "run.json"
    file.write_text(json.dumps({**run, "base_model": "someone/model", "licence": ""}), encoding="utf-8")
    with pytest.raises(TrainingError, match="`licence` in the recipe"):
        card.render(file)
    file.write_text(json.dumps({**run, "base_model": "someone/model", "licence": "mit"}), encoding="utf-8")
    assert card.render(file).data.license == "mit"
    assert card.render(file, "apache-2.0").data.license == "apache-2.0"


def test_the_image_keeps_its_torch(kaggle):
    import torch

    assert kaggle.kept()["torch"] == torch.__version__ and "transformers" not in kaggle.kept()


def test_the_token_comes_from_kaggle_else_from_the_environment_else_it_says_so(kaggle, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(SystemExit, match="Add-ons, Secrets"):
        kaggle.secret("HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "from the environment")
    assert kaggle.secret("HF_TOKEN") == "from the environment"
    client = type("UserSecretsClient", (), {"get_secret": lambda self, name: f"Kaggle's {name}"})
    monkeypatch.setitem(sys.modules, "kaggle_secrets", ModuleType("kaggle_secrets"))
    sys.modules["kaggle_secrets"].UserSecretsClient = client  # type: ignore[attr-defined]
    assert kaggle.secret("HF_TOKEN") == "Kaggle's HF_TOKEN"


def test_a_failing_command_stops_the_rest(kaggle, tmp_path):
    with pytest.raises(SystemExit, match="no_such_module ended with status 1"):
        kaggle.run(tmp_path, "no_such_module")
