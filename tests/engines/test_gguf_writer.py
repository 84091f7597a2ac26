"""What is written as GGUF is what transformers reads back from it."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from support.engines import ModelUnavailable, gguf_writer

SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 3}


@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_shape_come_back(tied, tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=tied, max_position_embeddings=512)
    written = LlamaForCausalLM(config).half().float()
    gguf_writer.write(written, tmp_path / "model.gguf")
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    for name, weight in written.state_dict().items():
        assert torch.equal(weight, read.state_dict()[name]), name
    for name in ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_parameters"):
        assert getattr(read.config, name) == pytest.approx(getattr(config, name)), name


@pytest.mark.parametrize(
    "model",
    [
        Qwen2ForCausalLM(Qwen2Config(**SMALL)),
        LlamaForCausalLM(
            LlamaConfig(**SMALL, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0})
        ),
    ],
    ids=["another architecture", "stretched positions"],
)
def test_what_the_file_could_not_say_is_refused(model, tmp_path):
    with pytest.raises(ModelUnavailable, match="ENGINE"):
        gguf_writer.write(model, tmp_path / "model.gguf")
