"""Rows as token ids and labels: only the response is learnt.

    rows, digest = read_split(Path("outputs/data"), "train")
    dataset = encode_all(rows, tokenizer, max_length=512)
    collate = SupervisedCollator(tokenizer)

The prompt is what the app sends (`support.prompt`), so that a model is trained on what it will read. Knows nothing about
models, optimizers or the recipe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import DataCollatorForSeq2Seq

from support import prompt
from training import TrainingError

MULTIPLE = 8  # of tokens, in which cards compute fastest
IGNORED = -100  # the label that the loss leaves out (torch.nn.CrossEntropyLoss.ignore_index)


def read_split(folder: Path, name: str) -> tuple[list[dict[str, str]], str]:
    """Rows of one split, and the SHA-256 of its file.

    Raises:
        TrainingError: training.prepare has not written it.
    """
    path = folder / f"{name}.jsonl"
    try:
        content = path.read_bytes()
        rows = [json.loads(line) for line in content.decode().split("\n") if line]
    except FileNotFoundError:
        raise TrainingError(f"There is no {path}; run `python -m training.prepare --out {folder}` first.") from None
    except ValueError as error:
        raise TrainingError(f"{path} is not what training.prepare writes ({error}); run it again.") from None
    if not rows or any(not isinstance(row, dict) or not {"context", "response"} <= row.keys() for row in rows):
        raise TrainingError(f"{path} holds no rows of context and response; run training.prepare again.")
    return rows, hashlib.sha256(content).hexdigest()


def encode(row: dict[str, str], tokenizer: Any, max_length: int) -> dict[str, list[int]]:
    """One row as token ids and labels: the prompt is masked, the response and its end are supervised.

    The prompt is what the app would send for this question, trimmed as the app trims. A response that is too long is
    cut and then has no end-of-sequence token: a model should not learn to stop in the middle of a sentence.

    Returns:
        input_ids, attention_mask, labels: lists of one length, at most `max_length`.

    Raises:
        TrainingError: max_length is too short, or the chat template rewrites what came before the response.
    """
    answer = prompt.Message(role="assistant", content=row["response"])
    messages = prompt.build([prompt.Message(role="user", content=row["context"])])
    wanted = len(_completion(messages, answer, tokenizer))
    room = max_length - min(wanted, max_length // 4)  # a long question leaves its response at least a quarter
    messages = prompt.trim(messages, lambda candidate: len(prompt.render(candidate, tokenizer)) <= room)
    prompt_ids = prompt.render(messages, tokenizer)
    if len(prompt_ids) > room:
        raise TrainingError(
            f"max_length {max_length} leaves no room beside the system prompt; use {2 * len(prompt_ids)}."
        )
    completion = _completion(messages, answer, tokenizer)
    ids = (prompt_ids + completion)[:max_length]
    return {
        "input_ids": ids,
        "attention_mask": [1] * len(ids),
        "labels": [IGNORED] * len(prompt_ids) + ids[len(prompt_ids) :],
    }


def _completion(messages: list[prompt.Message], answer: prompt.Message, tokenizer: Any) -> list[int]:
    """Ids of the response as the chat template writes it, up to the end-of-sequence token."""
    before = prompt.render(messages, tokenizer)
    whole = prompt.render([*messages, answer], tokenizer, for_reply=False)
    if whole[: len(before)] != before:
        raise TrainingError("The chat template changes the prompt once there is a reply; choose another base_model.")
    completion = whole[len(before) :]
    end = tokenizer.eos_token_id
    if end not in completion:
        return [*completion, end]
    return completion[: len(completion) - completion[::-1].index(end)]  # ChatML puts a newline after its end


def encode_all(rows: Sequence[dict[str, str]], tokenizer: Any, max_length: int) -> Dataset:
    """`encode` over rows, as the Trainer takes it."""
    return Dataset.from_list([encode(row, tokenizer, max_length) for row in rows])


def with_padding(tokenizer: Any, side: str) -> Any:
    """The tokenizer, padding on this side with a token that is already in its vocabulary: a new one would resize the model.

    Not the end of the sequence where there is another: the repetition penalty would count it as said before.
    """
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.padding_side = side
    return tokenizer


class SupervisedCollator:
    """Pads a batch, and asks the model for logits of the supervised tokens only.

    A vocabulary of 32,000 makes logits the largest activation, and a third of them is of prompt and padding. With a boolean
    mask as `logits_to_keep` the last layer runs on the others alone; loss and gradients are the same (tested). Needs a model
    whose forward takes `logits_to_keep`, as transformers' Llama family does, and one process for each device.
    """

    def __init__(self, tokenizer: Any, *, count_shared: bool = False) -> None:
        """`count_shared`: also tell how many tokens all rows begin with, for a model that `shared_prompt` has prepared."""
        self._pad = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED, pad_to_multiple_of=MULTIPLE)
        self._count_shared = count_shared

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """input_ids, attention_mask, labels, logits_to_keep: [rows, tokens]; shift_labels: [supervised tokens]; shared_tokens."""
        import torch

        batch = self._pad(rows)
        following = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
        keep = following != IGNORED
        shared = {"shared_tokens": _shared(rows)} if self._count_shared else {}
        return {**batch, "logits_to_keep": keep, "shift_labels": following[keep], **shared}


def _shared(rows: Sequence[dict[str, Any]]) -> int:
    """How many tokens all rows begin with, before the last of any prompt; a multiple of what is padded to."""
    prompts = [
        [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label == IGNORED] for row in rows
    ]
    alike = takewhile(lambda ids: len(set(ids)) == 1, zip(*(ids[:-1] for ids in prompts), strict=False))
    common = sum(1 for _ in alike)
    return common - common % MULTIPLE
