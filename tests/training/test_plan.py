"""What a recipe needs: against counted weights, known peaks, and a run of the embedded model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from training import TrainingError, plan
from training.plan import CARDS, KNOWN, Shape, changes, demand_room, memory, shape_of, tokens_of
from training.recipe import Recipe

SEED = Recipe()
SEVEN, THIRTEEN = KNOWN["meta-llama/Llama-2-7b"], KNOWN["meta-llama/Llama-2-13b"]


def needs(shape, recipe=SEED, **options):
    return sum(memory(shape, recipe, **options).values())


def test_weights_are_counted_as_torch_counts_them(tiny_model):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    shape = shape_of(str(tiny_model))
    assert shape.linear + shape.other == model.num_parameters()
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape.adapter(8) == adapted.num_parameters(only_trainable=True)


def test_the_known_models_have_the_sizes_that_their_names_say():
    assert [round((s.linear + s.other) / 1e9, 2) for s in KNOWN.values()] == [6.74, 13.02, 68.98]


def test_the_seed_recipe_fits_a_t4_as_others_measured_it():
    """unsloth's README: transformers, the same model in 4 bits, two rows at once, 7.3 GB; and 6 GB is LLaMA-Factory's figure."""
    assert 5.5 < needs(SEVEN, replace(SEED, batch_size=2)) < 8.0


def test_what_cannot_fit_is_refused_with_what_to_change():
    recipe = replace(SEED, quantization="none")
    with pytest.raises(TrainingError, match=r"needs about 2\d\.\d GiB and T4 has 14\.6.*use --quantization nf4"):
        demand_room(THIRTEEN, recipe, 14.6, "T4")
    assert demand_room(THIRTEEN, SEED, 14.6, "T4")
    with pytest.raises(TrainingError, match="smaller base_model"):
        demand_room(KNOWN["meta-llama/Llama-2-70b"], SEED, 14.6, "T4")


def test_the_mildest_changes_come_first_and_are_enough():
    recipe = replace(SEED, activation_checkpointing=False, batch_size=16, gradient_accumulation=1, max_length=1024)
    assert changes(SEVEN, replace(recipe, batch_size=4, max_length=512), 14.6) == ["--activation_checkpointing true"]
    made = changes(SEVEN, recipe, 9.0)
    assert made[0] == "--activation_checkpointing true" and "--batch_size" in " ".join(made)
    settings = dict(change.removeprefix("--").split() for change in made)
    better = replace(recipe, activation_checkpointing=True, **{k: int(v) for k, v in settings.items() if v != "true"})
    assert needs(SEVEN, better) <= 9.0
    assert better.batch_size * better.gradient_accumulation == 16, "as many rows a step as before"


def test_tokens_come_from_the_prepared_data(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"context": "one two", "response": "three"}\n' * 4, encoding="utf-8")
    few = tokens_of(replace(SEED, data=str(tmp_path)))
    assert few < tokens_of(replace(SEED, data=str(tmp_path / "nothing"))) / 100
    assert tokens_of(replace(SEED, data=str(tmp_path), epochs=3)) == pytest.approx(3 * few, abs=3)
    assert tokens_of(replace(SEED, data=str(tmp_path), max_steps=2)) == pytest.approx(8 * few, abs=8)
    assert tokens_of(replace(SEED, data=str(tmp_path), rows=1)) == pytest.approx(few / 4, abs=1)
    assert tokens_of(replace(SEED, data=str(tmp_path), rows=9)) == few, "there are no more"


def test_the_table_has_every_card_and_says_what_to_change(capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["plan", "--base_model", "meta-llama/Llama-2-13b-chat-hf", "--quantization", "none"]
    )
    plan.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == [card.name for card in CARDS]
    assert "--quantization nf4" in lines[2] and lines[-1].endswith("fits")


def test_a_shape_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(TrainingError, match="Llama-like"):
        shape_of(str(tmp_path))


def test_more_of_anything_needs_more():
    base = Shape(4, 64, 128, 64, 1000)
    for change in ({"batch_size": 8}, {"max_length": 1024}, {"lora_r": 64}, {"quantization": "none"}):
        assert needs(base, replace(SEED, **change)) > needs(base), change
    assert needs(base, replace(SEED, activation_checkpointing=False)) > needs(base)
