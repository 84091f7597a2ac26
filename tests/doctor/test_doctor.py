"""What the doctor finds and advises: against a Hub on loopback, real folders, and cards that are not there."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from support import doctor
from support.engines.choice import Hardware
from support.settings import Settings

LLAMA = "meta-llama/Llama-2-7b-chat-hf"
INFO = {
    "id": LLAMA,
    "gated": "manual",
    "private": False,
    "siblings": [],
    "safetensors": {"parameters": {}, "total": 6_738_415_616},
}
T4 = Hardware(cuda=True, capability=(7, 5))


class TheHub(BaseHTTPRequestHandler):
    """One gated model, which one token may read."""

    def do_GET(self) -> None:
        allowed = self.headers.get("Authorization") == "Bearer hf_allowed"
        if not self.path.startswith(f"/api/models/{LLAMA}"):
            self.answer(404, {}, "RepoNotFound")
        elif self.path.endswith("/auth-check") and not allowed:
            self.answer(403, {}, "GatedRepo")
        else:
            self.answer(200, INFO)

    def answer(self, status: int, body: dict, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), TheHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    yield server
    server.shutdown()
    server.server_close()


def examined(scripted, monkeypatch, hardware=T4, **settings) -> dict[str, doctor.Check]:
    monkeypatch.setattr(Hardware, "detect", classmethod(lambda cls: hardware))
    if hardware.cuda and not hardware.zero_gpu:
        import torch

        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
        properties = type("Properties", (), {"total_memory": 15.8e9})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    return {check.name: check for check in doctor.checks(Settings(**settings), scripted())}


def test_a_copy_without_a_token_is_told_how_to_get_one(scripted, monkeypatch):
    access = examined(scripted, monkeypatch)["access"]
    assert not access.ok and "accept its licence" in access.fix and "HF_TOKEN" in access.fix


def test_a_token_without_access_is_told_to_ask_for_it(scripted, monkeypatch):
    access = examined(scripted, monkeypatch, hf_token="hf_other")["access"]
    assert not access.ok and "ask for access" in access.fix
    assert "hf_other" not in str(access), "a token is shown"


def test_a_token_with_access(scripted, monkeypatch):
    found = examined(scripted, monkeypatch, hf_token="hf_allowed")
    assert found["access"].ok and found["memory"].ok and found["accelerator"].ok
    assert "Tesla T4" in found["accelerator"].found
    assert "needs about 5.2 GB" in found["memory"].found, "7B in 4 bits"
    assert "13.5 GB" in found["disk"].found


def test_a_precision_that_does_not_fit_the_card(scripted, monkeypatch):
    quantized = examined(scripted, monkeypatch, hf_token="hf_allowed", quantization="none")
    assert not quantized["memory"].ok and "QUANTIZATION=nf4" in quantized["memory"].fix


def test_a_model_that_is_not_there(scripted, monkeypatch):
    access = examined(scripted, monkeypatch, model_id="nobody/nothing")["access"]
    assert not access.ok and "not found" in access.fix and "MODEL_ID" in access.fix


def test_the_hub_out_of_reach(scripted, monkeypatch, hub):
    hub.server_close()
    hub.shutdown()
    access = examined(scripted, monkeypatch)["access"]
    assert not access.ok and "cannot be reached" in access.fix


def test_without_a_card_the_embedded_model_answers(scripted, monkeypatch):
    found = examined(scripted, monkeypatch, Hardware())
    assert found["accelerator"].ok and "ZeroGPU" in found["accelerator"].found and found["memory"].ok


def test_a_large_model_without_a_card(scripted, monkeypatch):
    found = examined(scripted, monkeypatch, Hardware(), model_id=LLAMA, hf_token="hf_allowed")
    assert not found["accelerator"].ok and "REMOTE_BASE_URL" in found["accelerator"].fix


def test_zero_gpu(scripted, monkeypatch):
    found = examined(
        scripted, monkeypatch, Hardware(cuda=True, zero_gpu=True, capability=(12, 0)), hf_token="hf_allowed"
    )
    assert found["accelerator"].ok and found["memory"].ok


def test_an_adapter_of_another_model(scripted, monkeypatch, tmp_path):
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": "someone/else"}))
    adapter = examined(scripted, monkeypatch, adapter_id=str(tmp_path))["adapter"]
    assert not adapter.ok and adapter.fix == "Set MODEL_ID to someone/else."
    config.write_text(json.dumps({"base_model_name_or_path": LLAMA}))
    assert examined(scripted, monkeypatch, adapter_id=str(tmp_path))["adapter"].ok
    config.write_text("no adapter")
    adapter = examined(scripted, monkeypatch, adapter_id=str(tmp_path))["adapter"]
    assert not adapter.ok and "ADAPTER_ID" in adapter.fix


def test_a_part_of_the_screening_that_is_broken(scripted, monkeypatch):
    monkeypatch.setattr(doctor.health, "problems", lambda: {"screening": "suicide.yaml: not a list."})
    found = examined(scripted, monkeypatch)
    assert not found["screening"].ok and "suicide.yaml" in found["screening"].found and "safety" not in found


def test_no_model_at_all(scripted, monkeypatch):
    engine = scripted()
    monkeypatch.setattr(
        engine, "describe", lambda: {"status": "unavailable", "problem": "Set MODEL_ID.", "device": None, "model": "x"}
    )
    found = {check.name: check for check in doctor.checks(Settings(), engine)}
    assert not found["model"].ok and found["model"].fix == "Set MODEL_ID."
