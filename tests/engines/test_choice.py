"""The resolution order, for hardware that is not here: pure, so every card can be asked about."""

import pytest

from support.engines.choice import DEFAULT_CUDA_MODEL, Hardware, choose, local_engine
from support.engines.embedded import HUB_ID
from support.settings import Settings

T4 = Hardware(cuda=True, capability=(7, 5))
L4 = Hardware(cuda=True, capability=(8, 9))
ZERO = Hardware(cuda=True, zero_gpu=True, capability=(12, 0))
CPU = Hardware()
CPU_BF16 = Hardware(cpu_bf16=True)


@pytest.mark.parametrize(
    ("settings", "hardware", "model", "quantization", "dtype"),
    [
        (Settings(), CPU, HUB_ID, "none", "float32"),
        (Settings(), CPU_BF16, HUB_ID, "bf16", "bfloat16"),
        (Settings(), T4, DEFAULT_CUDA_MODEL, "nf4", "float16"),
        (Settings(), L4, DEFAULT_CUDA_MODEL, "nf4", "bfloat16"),
        (Settings(), ZERO, DEFAULT_CUDA_MODEL, "nf4", "bfloat16"),
        (Settings(model_id="org/chat"), CPU, "org/chat", "none", "float32"),
        (Settings(model_id="org/chat", quantization="nf4"), CPU, "org/chat", "nf4", "float32"),
        (Settings(quantization="none"), T4, DEFAULT_CUDA_MODEL, "none", "float16"),
        (Settings(quantization="bf16"), L4, DEFAULT_CUDA_MODEL, "bf16", "bfloat16"),
    ],
)
def test_resolution_order(settings, hardware, model, quantization, dtype):
    choice = choose(settings, hardware)
    assert (choice.model, choice.quantization, choice.dtype) == (model, quantization, dtype)
    assert choice.embedded == (model == HUB_ID)


def test_the_reason_is_logged_in_words():
    assert "MODEL_ID is set" in choose(Settings(model_id="x"), CPU).why
    assert "demonstration" in choose(Settings(), CPU).why


@pytest.mark.parametrize(
    ("settings", "hardware", "openvino", "engine"),
    [
        (Settings(), CPU, True, "openvino"),
        (Settings(adapter_id="org/adapter"), CPU, True, "openvino"),
        (Settings(), CPU, False, "transformers"),
        (Settings(), T4, True, "transformers"),
        (Settings(), ZERO, True, "transformers"),
        (Settings(model_id="org/chat"), CPU, True, "transformers"),
        (Settings(quantization="nf4"), CPU, True, "transformers"),
        (Settings(engine="transformers"), CPU, True, "transformers"),
        (Settings(engine="openvino"), T4, False, "openvino"),
        (Settings(model_id="/models/chat.gguf"), T4, False, "openvino"),
    ],
)
def test_which_engine_answers_here(settings, hardware, openvino, engine):
    assert local_engine(settings, hardware, openvino=openvino) == engine


def test_detect_finds_this_machine():
    hardware = Hardware.detect()
    assert hardware.dtype in ("float32", "float16", "bfloat16")
