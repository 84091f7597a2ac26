"""A trained adapter goes to a Hub on loopback through the real client, and loads from there in a fresh process."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError

from tests.training.hub import TOKEN, serving
from tests.training.test_qlora import KILLED
from training import TrainingError, prepare, publish
from training.qlora import train
from training.recipe import Recipe

pytestmark = pytest.mark.server
ROOT = Path(__file__).parent.parent.parent
BASE = "tester/tiny-llama"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tiny_model, fixture_csv) -> Path:
    folder = tmp_path_factory.mktemp("publish")
    prepare.prepare(fixture_csv, folder / "data")
    train(
        Recipe(
            base_model=str(tiny_model),
            base_model_name=BASE,
            data=str(folder / "data"),
            output=str(folder / "adapter"),
            max_length=256,
            max_steps=4,
            learning_rate=1e-2,
        )
    )
    return folder / "adapter"


@pytest.fixture
def hub(tiny_model):
    with serving() as hub:
        yield hub


def run(hub, tmp_path, *arguments: str, token: str = TOKEN, code: str = "") -> subprocess.CompletedProcess:
    """A process of its own, with the Hub's address: the client reads its environment once, when it is imported."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": token,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",  # the server speaks the older protocol of large files
        "OMP_NUM_THREADS": "1",
    }
    command = ["-c", code] if code else ["-m", "training.publish", *arguments]
    done = subprocess.run(
        [sys.executable, *command], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=170
    )
    print(done.stdout, done.stderr)
    return done


def put_base(hub, tmp_path, tiny_model) -> None:
    upload = f"from huggingface_hub import HfApi; a = HfApi(); a.create_repo({BASE!r}); "
    upload += f"a.upload_folder(repo_id={BASE!r}, folder_path={str(tiny_model)!r})"
    assert run(hub, tmp_path, code=upload).returncode == 0


def test_an_adapter_is_published_and_loads_again_as_it_was_trained(hub, tmp_path, tiny_model, adapter):
    put_base(hub, tmp_path, tiny_model)
    hub.faults["/commit/"] = [503, 500]  # where the client itself does not try again
    done = run(hub, tmp_path, str(adapter), "--repo", "counsel", "--licence", "apache-2.0")
    assert done.returncode == 0, done.stderr
    assert "logits differ by" in done.stdout and "ADAPTER_ID=tester/counsel" in done.stdout
    assert done.stderr.count("trying again") == 2
    repo = hub.repos["tester/counsel"]
    assert repo.private and repo.commits == 1
    assert {
        "adapter_model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "run.json",
        "losses.png",
    } <= {*repo.files}
    assert repo.files["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").read_bytes()
    assert ModelCard(repo.files["README.md"].decode()).data.base_model == BASE
    assert not [path for path in repo.files if "checkpoint" in path or "unfinished" in path]


def test_the_merged_model_has_a_card_of_its_own_and_loads_again(hub, tmp_path, tiny_model, adapter):
    put_base(hub, tmp_path, tiny_model)
    done = run(hub, tmp_path, str(adapter), "--repo", "counsel", "--merged", "--licence", "apache-2.0")
    assert done.returncode == 0, done.stderr
    assert "differ from base and adapter by" in done.stdout and "MODEL_ID=tester/counsel-merged" in done.stdout
    files = hub.repos["tester/counsel-merged"].files
    assert {"model.safetensors", "config.json", "tokenizer.json", "run.json"} <= {*files}
    assert "adapter_config.json" not in files and hub.repos["tester/counsel-merged"].private
    made, of_adapter = (
        ModelCard(hub.repos[f"tester/{name}"].files["README.md"].decode()) for name in ("counsel-merged", "counsel")
    )
    assert (made.data.library_name, made.data.base_model_relation, made.data.base_model) == (
        "transformers", "finetune", BASE,
    )  # fmt: skip
    assert (of_adapter.data.library_name, of_adapter.data.base_model_relation) == ("peft", "adapter")
    assert "lora" not in made.data.tags and "PeftModel" not in made.text and "ADAPTER_ID" not in made.text
    assert "huggingface.co/tester/counsel)" in made.text and "merged model was not measured" in made.text

    from safetensors.torch import load, save

    weights = load(files["model.safetensors"])
    files["model.safetensors"] = save({name: weight + 0.5 for name, weight in weights.items()}, {"format": "pt"})
    shutil.rmtree(tmp_path / "home")
    check = "from training.publish import prove; from pathlib import Path; "
    check += f"prove('tester/counsel-merged', Path({str(adapter)!r}), merged=True)"
    done = run(hub, tmp_path, code=check)
    assert done.returncode == 1 and "is not what was trained" in done.stderr


def test_its_evaluation_goes_with_it_and_that_of_another_is_refused(hub, tmp_path, tiny_model, adapter):
    put_base(hub, tmp_path, tiny_model)
    evaluated = tmp_path / "evaluated"
    shutil.copytree(adapter, evaluated)
    shutil.copytree(ROOT / "model_card" / "results" / "evaluation", evaluated / "evaluation")
    done = run(hub, tmp_path, str(evaluated), "--repo", "counsel", "--licence", "apache-2.0")
    assert done.returncode == 1 and "measured another adapter" in done.stderr and not hub.repos.get("tester/counsel")
    results = evaluated / "evaluation" / "results.json"
    found = json.loads(results.read_text(encoding="utf-8"))
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    found["systems"]["adapter"]["adapter_sha256"] = hashlib.sha256(weights).hexdigest()
    results.write_text(json.dumps(found), encoding="utf-8")
    assert run(hub, tmp_path, str(evaluated), "--repo", "counsel", "--licence", "apache-2.0").returncode == 0
    files = hub.repos["tester/counsel"].files
    card = ModelCard(files["README.md"].decode())
    assert card.data.eval_results and "shown to a person" in card.text
    linked = re.findall(r"\]\((evaluation/[\w.]+)\)", card.text)
    assert len(linked) == 2 and {*linked, "evaluation/results.json"} <= {*files}


def test_a_failed_push_loses_nothing_and_names_the_command(hub, tmp_path, adapter):
    hub.faults["/preupload/"] = [403] * 9
    before = sorted(path.name for path in adapter.iterdir() if path.name != "README.md")
    done = run(hub, tmp_path, str(adapter), "--repo", "counsel", "--public", "--licence", "apache-2.0")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"python -m training.publish {adapter} --repo counsel --public --licence apache-2.0" in done.stderr
    assert sorted(path.name for path in adapter.iterdir() if path.name != "README.md") == before
    assert hub.repos["tester/counsel"].commits == 0 and not hub.repos["tester/counsel"].private


@pytest.mark.parametrize(("token", "says"), [("", "set HF_TOKEN"), ("hf_other", r"does not take this token (401)")])
def test_without_a_token_that_counts_nothing_begins(hub, tmp_path, adapter, token, says):
    done = run(hub, tmp_path, str(adapter), "--repo", "counsel", token=token)
    assert done.returncode == 1 and says in done.stderr and not hub.repos


@pytest.mark.parametrize(
    ("status", "calls", "says"),
    [
        (401, 1, "does not take this token"),
        (403, 1, "does not take this token"),
        (429, publish.TRIES, r"does not answer as it should \(429\)"),
        (503, publish.TRIES, r"does not answer as it should \(503\)"),
    ],
)
def test_only_a_token_that_is_refused_is_called_one(monkeypatch, status, calls, says):
    asked = []

    def whoami(self):
        asked.append(1)
        raise HfHubHTTPError("no", response=httpx2.Response(status, request=httpx2.Request("GET", "http://hub")))

    monkeypatch.setattr(publish, "FIRST_WAIT", 0.001)
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", whoami)
    with pytest.raises(TrainingError, match=says):
        publish.demand_token()
    assert len(asked) == calls


def test_without_an_evaluation_it_says_what_the_card_will(tmp_path, caplog):
    assert publish._evaluation_of(tmp_path) is None
    assert "Not measured" in caplog.text and f"training.evaluate --adapter {tmp_path}" in caplog.text


def test_a_run_that_is_published_whole_is_not_trained_again(tmp_path, monkeypatch):
    files = ["run.json", "adapter_model.safetensors"]
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda self, name: files)
    with pytest.raises(TrainingError, match=r"you/counsel holds the adapter of a finished run.*--publish_to.*ADAPTER"):
        publish.fetch_checkpoint("you/counsel", tmp_path / "adapter", {})
    files.clear()  # just made, by demand_repo
    publish.fetch_checkpoint("you/counsel", tmp_path / "adapter", {})
    assert not (tmp_path / "adapter").exists()


def test_a_damaged_upload_is_found_out(hub, tmp_path, tiny_model, adapter):
    put_base(hub, tmp_path, tiny_model)
    assert run(hub, tmp_path, str(adapter), "--repo", "counsel", "--licence", "apache-2.0").returncode == 0
    from safetensors.torch import load, save

    files = hub.repos["tester/counsel"].files
    weights = load(files["adapter_model.safetensors"])
    files["adapter_model.safetensors"] = save({name: weight + 0.5 for name, weight in weights.items()})
    shutil.rmtree(tmp_path / "home")
    check = (
        f"from training.publish import prove; from pathlib import Path; prove('tester/counsel', Path({str(adapter)!r}))"
    )
    done = run(hub, tmp_path, code=check)
    assert done.returncode == 1 and "is not what was trained" in done.stderr


def test_a_folder_that_is_no_adapter_is_refused(hub, tmp_path):
    done = run(hub, tmp_path, str(tmp_path), "--repo", "counsel")
    assert done.returncode == 1 and "lacks adapter_config.json" in done.stderr


def test_a_run_whose_machine_is_gone_goes_on_from_the_hub(hub, tmp_path, tiny_model, fixture_csv):
    put_base(hub, tmp_path, tiny_model)
    prepare.prepare(fixture_csv, tmp_path / "data")
    settings = {
        "base_model": BASE, "data": tmp_path / "data", "output": tmp_path / "adapter", "publish_to": "counsel", "max_length": 256,
        "epochs": 3, "gradient_accumulation": 1, "learning_rate": 5e-3,
    }  # fmt: skip
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    killed = run(hub, tmp_path, code=KILLED.replace("sys.argv", str(["", "9", *arguments])))
    assert killed.returncode == -9
    held = [path for path in hub.repos["tester/counsel"].files if path.startswith("last-checkpoint/")]
    assert "last-checkpoint/trainer_state.json" in held and len(held) == len(hub.repos["tester/counsel"].files)
    shutil.rmtree(tmp_path / "adapter")
    go_on = f"import sys; sys.argv = {['qlora', *arguments, '--resume']}; from training import qlora, card; "
    go_on += f"card.LICENCES[{BASE!r}] = ('apache-2.0', 'Free.'); qlora.main()"
    done = run(hub, tmp_path, code=go_on)
    assert done.returncode == 0 and "on this disk only" not in done.stderr
    assert re.search(r"Found the checkpoint of step ([369]) .*\nGoing on from checkpoint-\1", done.stderr)
    files = hub.repos["tester/counsel"].files
    assert json.loads(files["run.json"])["resumed"] is True and "adapter_model.safetensors" in files
    assert "last-checkpoint/trainer_state.json" in files, "a session that ends now need not train again"
    done = run(hub, tmp_path, str(tmp_path / "adapter"), "--repo", "counsel", "--licence", "apache-2.0")
    assert done.returncode == 0
    assert not [path for path in hub.repos["tester/counsel"].files if path.startswith("last-checkpoint/")]


@pytest.mark.parametrize(("faults", "calls"), [(2, 3), (9, 4)])
def test_a_lost_connection_is_tried_again_and_then_told(monkeypatch, faults, calls):
    monkeypatch.setattr(publish, "FIRST_WAIT", 0.001)
    made = []

    def call():
        made.append(1)
        if len(made) <= faults:
            raise httpx2.ConnectError("")
        return "done"

    if calls > faults:
        assert publish._with_retries(call) == "done"
    else:
        with pytest.raises(httpx2.ConnectError):
            publish._with_retries(call)
    assert len(made) == calls
