"""What runs on Kaggle: fetch this Space's code, install what is missing, prepare, train, publish.

Set the three names below, then see training/README.md for the three commands. Started again after the session's limit, it
goes on from the last checkpoint in the adapter's repo. Kaggle gives two T4; the second stays hidden, for on two cards without
a launcher the Trainer doubles batch and loss, and with one it was not measured to be faster.
"""

import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

SPACE = "YOUR_NAME/LLM-Assisted-Mental-Health-Support"  # the Space whose code is used
ADAPTER = "counselling-lora"  # repo on the Hub for the adapter, under the account of HF_TOKEN
RECIPE = "training/recipes/seed.yaml"

WORK = Path("/kaggle/working")
# Compiled against the image's CUDA: pip may not exchange them.
KEPT = ("torch", "torchvision", "torchaudio", "triton", "numpy")


def main() -> None:
    if SPACE.startswith("YOUR_NAME/"):
        raise SystemExit("Set SPACE in this script to the name of your Space on the Hub, such as you/its-name.")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # read when torch is imported, by the processes below
    os.environ["HF_TOKEN"] = secret("HF_TOKEN")
    code = fetch(SPACE, WORK / "space")
    constraints = WORK / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in kept().items()), encoding="utf-8")
    run(code, "pip", "install", "--quiet", "--constraint", str(constraints), "--requirement", "requirements-train.txt")
    for command in commands(WORK):
        run(code, *command)


def commands(work: Path) -> list[tuple[str, ...]]:
    """Modules and their arguments, in order."""
    data, output = str(work / "data"), str(work / "adapter")
    recipe = ("--config", RECIPE, "--data", data, "--output", output, "--publish_to", ADAPTER, "--resume")
    return [
        ("training.prepare", "--out", data),
        ("training.plan", "--hardware", "T4", *recipe),
        ("training.qlora", *recipe),
        (
            "training.evaluate",
            "--data",
            data,
            "--adapter",
            output,
            "--out",
            f"{output}/evaluation",
            "--work",
            str(work / "answers"),
        ),
        ("training.publish", output, "--repo", ADAPTER),
    ]


def kept() -> dict[str, str]:
    """Name -> version of the packages of KEPT and NVIDIA's libraries that the image has."""
    found = {(d.metadata["Name"] or "").lower(): d.version for d in distributions()}
    return {name: version for name, version in sorted(found.items()) if name in KEPT or name.startswith("nvidia-")}


def secret(name: str) -> str:
    """From Kaggle's secrets (Add-ons, Secrets), else from the environment. Stops with what to do."""
    try:
        from kaggle_secrets import UserSecretsClient  # there on Kaggle only

        return UserSecretsClient().get_secret(name)
    except Exception as error:
        if os.environ.get(name):
            return os.environ[name]
        raise SystemExit(
            f"There is no secret {name} ({type(error).__name__}). Make a token with write access on the Hub, and attach it to "
            f"this notebook as {name}: Add-ons, Secrets."
        ) from None


def fetch(space: str, folder: Path) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(space, repo_type="space", local_dir=folder))


def run(folder: Path, module: str, *arguments: str) -> None:
    """`python -m module arguments` in `folder`, its output shown as it comes. Stops where it fails."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=folder)
    if done.returncode:
        raise SystemExit(f"{module} ended with status {done.returncode}; what it said stands above.")


if __name__ == "__main__":
    main()
