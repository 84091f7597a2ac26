"""The script for Kaggle: its commands exist, it keeps the image's torch, and it says what is missing."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from training import plan, prepare, qlora

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
    modules = {"training.prepare": prepare, "training.plan": plan, "training.qlora": qlora}
    (prepare_it, plan_it, train_it) = kaggle.commands(tmp_path)
    assert [command[0] for command in (prepare_it, plan_it, train_it)] == [*modules]
    monkeypatch.setattr(prepare, "prepare", lambda *args, **options: {"asked": options})
    monkeypatch.setattr(sys, "argv", list(prepare_it))
    prepare.main()
    assert '"rows": 1000' in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", list(plan_it))
    plan.main()
    assert "in all" in capsys.readouterr().out
    recipe = qlora.read_recipe(train_it[1:])
    assert recipe.base_model == "meta-llama/Llama-2-7b-chat-hf" and recipe.publish_to == kaggle.ADAPTER
    assert recipe.data == prepare_it[prepare_it.index("--out") + 1]


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
