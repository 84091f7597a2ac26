"""A tokenizer and a model small enough to make on the spot, and the fixture rows, written for these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.prompt import SYSTEM_PROMPT

FIXTURE = Path(__file__).parent / "fixtures" / "counselling.csv"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "<s>[INST] <<SYS>>\n{{ messages[0]['content'] }}\n<</SYS>>\n\n{{ messages[1]['content'] }} [/INST]"
    "{% if messages|length > 2 %} {{ messages[2]['content'] }} </s>{% endif %}"
)


def make_tokenizer(template: str, end: str):
    """Words as tokens, trained on the fixture and the system prompt."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    corpus = [
        FIXTURE.read_text(encoding="utf-8"),
        SYSTEM_PROMPT,
        "system user assistant [INST] [/INST] <<SYS>> <</SYS>>",
    ]
    words.train_from_iterator(corpus, trainers.WordLevelTrainer(special_tokens=special))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token=end, pad_token="<unk>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session", params=["chatml", "llama2"])
def tokenizer(request):
    return make_tokenizer(CHATML, "<|im_end|>") if request.param == "chatml" else make_tokenizer(LLAMA2, "</s>")


@pytest.fixture(scope="session")
def fixture_csv() -> Path:
    return FIXTURE


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder with a Llama of 50,000 weights, untrained, and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = make_tokenizer(CHATML, "<|im_end|>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
