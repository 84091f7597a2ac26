"""What can be measured on one answer without a judge. Each measure says what it is, and which way is better.

    values = of_answer("It sounds like ...", references=["..."])     {"words": 84.0, "rouge_l": .17, ...}

Likeness to a counsellor's answer is not quality: there are many good answers to a question. No measure here says whether an
answer helps.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from support.crisis_lines import known_numbers, names_a_line
from support.screening import check_reply


@dataclass(frozen=True)
class Measure:
    """`better`: "more", "less", or "" where neither is."""

    about: str
    better: str = ""


MEASURES = {
    "loss": Measure("loss, nats for each token of the counsellor's answer", "less"),
    "perplexity": Measure("perplexity: e to the loss", "less"),
    "empty": Measure("answers without a word; the measures below leave these out", "less"),
    "words": Measure("words of the answer"),
    "whole": Measure("answers that came to their own end", "more"),
    "rouge_l": Measure("ROUGE-L with the closest of the counsellors' answers", "more"),
    "similarity": Measure("cosine with the closest of the counsellors' answers (multilingual-e5-small)", "more"),
    # Neither way is better: both fall as an answer grows longer, so a model that says less would win.
    "distinct_1": Measure("different words, of all words in the answer"),
    "distinct_2": Measure("different pairs of words, of all pairs in the answer"),
    "repeated": Measure("runs of four words that stood in the same answer before", "less"),
    "same_opening": Measure("answers that begin with the same five words as another", "less"),
    "grade": Measure("reading grade (automated readability index)", "less"),
    "refusal": Measure("answers that decline to answer", "less"),
    "names_a_line": Measure("answers that name a crisis line"),
    "withheld": Measure("answers that the gate would withhold", "less"),
    "shown": Measure("questions to which the product shows the model's words", "more"),
}

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")
_SENTENCE_END = re.compile(r"[.!?\u2026]+(?=\s|$)|\n")
_REFUSAL = re.compile(
    r"(?:\bi (?:can(?:'t|not)|could(?:n't| not)|won't be able to)|\bi(?:'m| am) (?:unable|not able) to) "
    r"(?:help|assist|answer|provide|give|offer|fulfil|discuss|respond)\b",
    re.IGNORECASE,
)


def words_of(text: str) -> list[str]:
    return [word.lower().replace("\u2019", "'") for word in _WORD.findall(text)]


def of_answer(text: str, references: Sequence[str]) -> dict[str, float]:
    """Measures of what a model wrote that need no other answer.

    Args:
        text: without special tokens.
        references: the counsellors' answers to the same question, at least one.

    Returns:
        name -> value, a subset of MEASURES; shares and yes/no as 0 to 1. Of an empty text, that it is empty.
    """
    words = words_of(text)
    if not words:
        return {"empty": 1.0}
    return {
        "empty": 0.0,
        **of_text(text, references),
        "distinct_1": _distinct(words, 1),
        "distinct_2": _distinct(words, 2),
        "repeated": 1 - _distinct(words, 4),
        "refusal": float(bool(_REFUSAL.search(text.replace("\u2019", "'")))),
        "withheld": float(bool(check_reply(text, known_numbers()))),
    }


def of_text(text: str, references: Sequence[str]) -> dict[str, float]:
    """The measures that also make sense of a fixed reply."""
    return {
        "words": float(len(words_of(text))),
        "rouge_l": max(rouge_l(text, reference) for reference in references),
        "grade": grade(text),
        "names_a_line": float(names_a_line(text)),
    }


def _distinct(words: Sequence[str], length: int) -> float:
    """Different runs of `length` words, of all of them; 1 where there are none."""
    runs = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


def same_openings(texts: Sequence[str], length: int = 5) -> list[float]:
    """For each answer, 1 where another of them begins with the same words."""
    openings = [tuple(words_of(text)[:length]) for text in texts]
    counts = Counter(openings)
    return [float(bool(opening) and counts[opening] > 1) for opening in openings]


def rouge_l(text: str, reference: str) -> float:
    """F-measure of the longest common subsequence of stemmed words (Lin 2004), by Google's rouge-score."""
    return _rouge().score(reference, text)["rougeL"].fmeasure


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)


def grade(text: str) -> float:
    """Automated readability index (Senter and Smith 1967): US school grade; 0 for no words.

    It counts letters and not syllables, so that no dictionary is needed.
    """
    words = _WORD.findall(text)
    if not words:
        return 0.0
    sentences = max(1, sum(1 for part in _SENTENCE_END.split(text) if _WORD.search(part)))
    letters = sum(len(word) for word in words)
    return max(0.0, 4.71 * letters / len(words) + 0.5 * len(words) / sentences - 21.43)


def similarities(texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """For each text, its greatest cosine with one of its references, by the encoder that the screening ships."""
    wanted = list(dict.fromkeys([*texts, *(reference for group in references for reference in group)]))
    vectors = dict(zip(wanted, _embedded(wanted), strict=True))
    return [
        max(float(vectors[text] @ vectors[reference]) for reference in group)
        for text, group in zip(texts, references, strict=True)
    ]


def _embedded(texts: Sequence[str], batch: int = 32) -> list[Any]:
    """Unit vectors; the encoder reads the first 512 tokens."""
    import torch

    from support.screening import encoder

    model, tokenizer, prefix = encoder.load()
    tokenizer.enable_truncation(512)
    tokenizer.enable_padding()
    vectors: list[Any] = []
    for start in range(0, len(texts), batch):
        encoded = tokenizer.encode_batch([prefix + text for text in texts[start : start + batch]])
        mask = torch.tensor([e.attention_mask for e in encoded])
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([e.ids for e in encoded]), attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors.extend(torch.nn.functional.normalize(mean.float(), dim=-1).numpy())
    return vectors
