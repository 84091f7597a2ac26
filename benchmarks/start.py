"""How long a stranger waits for `make run`: from an empty clone to the page, to help with a crisis, to the first whole reply.

    python -m benchmarks.start [--json OUT]      clones this repository, as it was last committed, into a temporary folder

The clone installs into an environment of its own and converts the embedded model anew. pip takes what it finds in its cache or
beside it; how long it took is told apart, because that depends on the network most of all.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client

from support import measured

ROOT = Path(__file__).parent.parent
AT_RISK = "I am going to kill myself tonight."
QUESTION = "I feel stressed about my exams and I cannot sleep."
LONGEST = 1_800  # seconds until it is given up
LOOK_EVERY = 0.2  # seconds


def timed() -> dict[str, float]:
    """Seconds from `make run` to: all installed, the page there, a crisis reply asked for at once, the first reply of the model
    or the gate whole."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        environment = {**os.environ, "PORT": str(port), "CACHE_DIR": str(Path(folder) / "cache")}
        start = time.perf_counter()
        app = subprocess.Popen(
            ["make", "run"], cwd=clone, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            times = {"installed": _until((clone / ".venv" / "run.done").exists, app, start)}
            times["page"] = _until(lambda: _is_there(url), app, start)
            client = Client(url, verbose=False)
            times["help"] = _until(lambda: _is_helped(client), app, start)
            times["reply"] = _until(lambda: _is_answered(client), app, start)
            return times
        finally:
            os.killpg(app.pid, signal.SIGTERM)
            app.wait()


def _until(happened: Callable[[], bool], app: subprocess.Popen[Any], start: float) -> float:
    """Seconds since `start`, once it has happened."""
    while not happened():
        if app.poll() is not None or time.perf_counter() - start > LONGEST:
            raise SystemExit("`make run` ended or took too long; what it said stands above.")
        time.sleep(LOOK_EVERY)
    return time.perf_counter() - start


def _is_there(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10).is_success
    except httpx.HTTPError:
        return False


def _is_helped(client: Client) -> bool:
    _, receipt = client.predict(AT_RISK, [], "US", api_name="/chat")
    return receipt["level"] == 3


def _is_answered(client: Client) -> bool:
    """The endpoint waits for the model while it loads; a reply that the gate replaced was written too."""
    _, receipt = client.predict(QUESTION, [], "US", api_name="/chat")
    return receipt["source"] == "model" or bool(receipt["withheld"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, help="where the times are saved, for README")
    options = parser.parse_args()
    found = timed()
    if options.json:
        measured.save(options.json, {"seconds": found}, parser.prog)
    for what, seconds in found.items():
        print(f"{what:<12}{seconds:>8.1f} s")


if __name__ == "__main__":
    main()
