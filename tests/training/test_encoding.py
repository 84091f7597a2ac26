"""Labels, and what the collator asks the model for."""

from __future__ import annotations

import pytest

from support import prompt
from training import TrainingError
from training.encoding import IGNORED, SupervisedCollator, encode

ROW = {
    "context": "My exam is on Friday and I cannot concentrate.",
    "response": "Being this tense before an exam is hard.",
}


def supervised(row):
    return [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]


def test_the_prompt_is_masked_and_the_response_and_its_end_are_supervised(tokenizer):
    row = encode(ROW, tokenizer, max_length=512)
    asked = prompt.render(prompt.build([{"role": "user", "content": ROW["context"]}]), tokenizer)
    assert row["input_ids"][: len(asked)] == asked, "training asks as the app does"
    assert row["labels"][: len(asked)] == [IGNORED] * len(asked)
    assert row["labels"][len(asked) :] == row["input_ids"][len(asked) :]
    assert row["attention_mask"] == [1] * len(row["input_ids"])
    *words, end = supervised(row)
    assert end == tokenizer.eos_token_id and end not in words
    assert words == tokenizer(ROW["response"], add_special_tokens=False)["input_ids"]


def test_a_response_that_is_cut_has_no_end(tokenizer):
    row = encode({**ROW, "response": "Breathe slowly. " * 200}, tokenizer, max_length=256)
    assert len(row["input_ids"]) == 256
    assert tokenizer.eos_token_id not in supervised(row)


def test_a_long_question_loses_its_beginning_and_the_response_stays(tokenizer):
    row = encode({**ROW, "context": "Once " * 400 + "I cannot concentrate."}, tokenizer, max_length=256)
    assert len(row["input_ids"]) <= 256
    assert supervised(row)[-1] == tokenizer.eos_token_id
    shown = tokenizer.decode(row["input_ids"])
    assert "concentrate" in shown and "warm" in shown, "the question's end and the system prompt stay"


def test_no_room_beside_the_system_prompt_says_so(tokenizer):
    with pytest.raises(TrainingError, match="max_length 64 leaves no room"):
        encode(ROW, tokenizer, max_length=64)


def test_a_template_that_rewrites_the_prompt_is_refused(tokenizer):
    import copy

    other = copy.deepcopy(tokenizer)
    other.chat_template = (
        "{{ 'exam' if messages|length > 2 else 'warm' }} {{ messages|map(attribute='content')|join(' ') }}"
    )
    with pytest.raises(TrainingError, match="chat template changes the prompt"):
        encode(ROW, other, max_length=512)


def test_logits_of_supervised_tokens_alone_give_the_same_loss_and_gradients(tiny_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = [encode(ROW, tokenizer, 512), encode({**ROW, "response": "Breathe slowly. " * 9}, tokenizer, 512)]
    batch = SupervisedCollator(tokenizer)(rows)
    plain = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    results = []
    for inputs in (batch, plain):
        model = AutoModelForCausalLM.from_pretrained(tiny_model)
        output = model(**inputs, use_cache=False)
        output.loss.backward()
        results.append((output, [p.grad for p in model.parameters()]))
    (few, gradients), (all_of_them, expected) = results
    assert few.logits.shape[0] == sum(label != IGNORED for row in rows for label in row["labels"])
    assert few.logits.numel() < all_of_them.logits.numel()
    assert few.loss.item() == pytest.approx(all_of_them.loss.item(), rel=1e-6)
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(gradients, expected, strict=True))
