"""What all rows of a batch begin with is computed once, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.encoding import SupervisedCollator, encode
from training.shared_prompt import share_prompt

QUESTIONS = (
    "My exam is on Friday and I cannot concentrate.",
    "My dog died.",
    "I argue with my sister about our mother.",
)


@pytest.fixture
def batch(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = [{"context": q, "response": f"That is hard. {q} " * (i + 1)} for i, q in enumerate(QUESTIONS)]
    return SupervisedCollator(tokenizer, count_shared=True)([encode(row, tokenizer, 512) for row in rows])


@pytest.fixture
def model(tiny_model):
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    base.requires_grad_(False)
    share_prompt(base)
    model = get_peft_model(
        base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False)
    )
    return model.train()


def loss_and_gradients(model, batch):
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    return output.loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


def tokens_computed(model, batch):
    """How many tokens the first layer reads."""
    seen = []
    layer = model.get_base_model().model.layers[0]
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[:2].numel()))
    model(**batch)
    hook.remove()
    return sum(seen)


def test_loss_and_gradients_are_those_of_whole_rows(model, batch):
    assert batch["shared_tokens"] > 40 and batch["shared_tokens"] % 8 == 0
    shared, gradients = loss_and_gradients(model, batch)
    whole, expected = loss_and_gradients(model, {**batch, "shared_tokens": 0})
    assert shared == pytest.approx(whole, rel=1e-5)
    assert gradients and len(gradients) == len(expected)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_it_is_computed_once(model, batch):
    once = tokens_computed(model, batch)
    assert once == tokens_computed(model, {**batch, "shared_tokens": 0}) - 2 * batch["shared_tokens"]


def test_where_activations_are_checkpointed_rows_are_computed_whole(model, batch):
    expected = loss_and_gradients(model, {**batch, "shared_tokens": 0})[0]
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert tokens_computed(model, batch) == batch["input_ids"].numel()
    assert loss_and_gradients(model, batch)[0] == pytest.approx(expected, rel=1e-6)


def test_noise_is_that_of_whole_rows(model, batch):
    """NEFTune's grows smaller with the number of tokens, so all of them must be embedded together."""
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    model(**batch)
    assert seen == [tuple(batch["input_ids"].shape)]


def test_rows_that_begin_differently_or_stand_alone_share_nothing(tiny_model, batch, model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    collate = SupervisedCollator(tokenizer, count_shared=True)
    row = encode({"context": QUESTIONS[0], "response": "That is hard."}, tokenizer, 512)
    other = copy.deepcopy(row)
    other["input_ids"][0] += 1
    assert collate([row, other])["shared_tokens"] == 0
    alone = collate([row])
    assert tokens_computed(model, alone) == alone["input_ids"].numel()
