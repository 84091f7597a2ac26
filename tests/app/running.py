"""The real app on a free port of loopback, as a person starts it: `python app.py`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from support.settings import Settings
from tests.conftest import ROOT

START_S = 90


@dataclass
class App:
    """A running app: its address, its log file, the folders that it may write to, and its process."""

    url: str
    log: Path
    home: Path
    process: subprocess.Popen

    def wait_for_model(self, seconds: float = 120) -> dict:
        """/health once the model has left "loading"."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            health = httpx.get(f"{self.url}/health", timeout=30).json()
            if health["model"]["status"] != "loading":
                return health
            time.sleep(1)
        raise TimeoutError(self.log.read_text())


def call(url: str, name: str, data: list) -> list:
    """One call as curl makes it: POST, then the stream; the last event's data."""
    base = f"{url}/gradio_api/call/{name}"
    event = httpx.post(base, json={"data": data}, timeout=30).json()["event_id"]
    last: list = []
    with httpx.stream("GET", f"{base}/{event}", timeout=120) as response:
        kind = ""
        for line in response.iter_lines():
            if line.startswith("event:"):
                kind = line.split(":", 1)[1].strip()
            elif line.startswith("data:") and kind in ("generating", "complete"):
                last = json.loads(line.split(":", 1)[1]) or last
            elif line.startswith("data:") and kind == "error":
                raise RuntimeError(line)
    return last


@contextmanager
def served(engine, **settings) -> Iterator[str]:
    """The app in this process, around an engine of the test's own: its address."""
    from app import serve  # seconds to import, and only these tests need it

    demo = serve(Settings(port=_free_port(), **settings), engine, prevent_thread_lock=True)
    url = demo.local_url.rstrip("/")
    try:
        call(url, "screen", ["hello", []])  # loads what screens, and /health the texts, so that no test waits for it
        call(url, "health", [])
        yield url
    finally:
        demo.close(verbose=False)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(tmp: Path, project: Path = ROOT, **env: str) -> Iterator[App]:
    port = _free_port()
    log = tmp / "app.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIO_", "MODEL_", "ADAPTER_"))}
    environment = {
        **kept,
        "PORT": str(port),
        "GRADIO_TEMP_DIR": str(tmp / "gradio"),
        "TMPDIR": str(tmp),
        "MAX_NEW_TOKENS": "96",
        **env,
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=project, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + START_S
        while True:
            try:
                httpx.get(url, timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(log.read_text()) from None
                time.sleep(0.3)
        yield App(url, log, tmp, process)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def app(tmp_path_factory) -> Iterator[App]:
    """The app with the embedded model, loaded."""
    for running in start(tmp_path_factory.mktemp("app")):
        running.wait_for_model()
        yield running


@pytest.fixture(scope="session")
def app_without_model(tmp_path_factory) -> Iterator[App]:
    """The app where the model cannot load."""
    for running in start(tmp_path_factory.mktemp("bare"), MODEL_ID="/no/such/model", DEFAULT_COUNTRY="GB"):
        running.wait_for_model()
        yield running
