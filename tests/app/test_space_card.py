"""README as a Space card, and the promises that its first screen makes."""

import re

import yaml

from support.screening import mpnet
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CARD = yaml.safe_load(README.split("---")[1])
REQUIREMENTS = (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_the_card_is_what_a_space_needs():
    assert CARD["sdk"] == "gradio" and f"gradio[mcp]=={CARD['sdk_version']}" in REQUIREMENTS
    assert CARD["python_version"] == "3.12" and (ROOT / CARD["app_file"]).exists()
    assert len(CARD["short_description"]) <= 60 and len(CARD["title"]) <= 60
    assert {"models", "datasets", "tags", "license", "suggested_hardware"} <= set(CARD)


def test_a_space_has_the_encoder_of_english_that_the_wheels_hold():
    (line,) = CARD["preload_from_hub"]
    name, files, revision = line.split()
    assert (name, revision) == (mpnet.HUB_ID, mpnet.REVISION) and name in CARD["models"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {*files.split(",")}


def test_zerogpus_torch_is_admitted():
    from packaging.requirements import Requirement

    torch = next(Requirement(line.split("#")[0]) for line in REQUIREMENTS.splitlines() if line.startswith("torch"))
    assert all(torch.specifier.contains(version) for version in ("2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.13.0"))


def test_every_requirement_has_its_reason():
    for file in ROOT.glob("requirements*.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            assert not line.strip() or line.startswith(("#", "-r")) or re.search(r"\S\s+# \S", line), (
                f"{file.name}: {line}"
            )


def test_both_commands_stand_in_the_first_screen():
    first_screen = "\n".join(README.split("---", 2)[2].splitlines()[:20])
    assert "make run" in first_screen and "make test" in first_screen


def test_ci_runs_only_what_the_readme_names():
    commands = re.findall(r"^make \S+", (ROOT / ".ci/run").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert commands == ["make test", "make lint"] and all(command in README for command in commands)
