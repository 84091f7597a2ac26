"""The learned half of screening: what a message means where no rule names its words, in any of the claimed languages.

    classify(["I won't be a problem for anyone much longer"])  ->  [Score(at_risk=.98, imminent=.41, category="suicide")]

A sentence encoder (`encoder`) with a LoRA adapter of this project and a linear head, and a linear model over runs of letters
and words (`ngrams`), whose log-odds are added; in `assets/screening/classifier/`, made by `python -m training.screening`.
What its scores do beside the rules is `state`'s matter. Where it cannot be loaded or breaks, `classify` says so by None, the
rules go on alone, and `state()` tells the page and /health.

Keeps no text: scores of the last messages stay in memory under a digest, so that a long conversation is not read anew
at every turn.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.screening.encoder import EncoderError, load
from support.screening.ngrams import Ngrams
from support.screening.normalise import ASSETS, undisguised
from support.screening.rules import CATEGORIES
from support.settings import Settings, SettingsError

FOLDER = ASSETS / "classifier"
CARD = "classifier.json"
HEAD = "head.safetensors"
PREFIX = "query: "  # what multilingual-e5 was trained to read before a text (its model card)
TURN = " || "  # between turns that are read as one message
LEVELS = 3  # outputs of the head: level >= 1, >= 2, >= 3; then one for each category
MOST_TOKENS = 256  # of one window: about 180 words
MOST_WINDOWS = 3  # of one message: beginning, middle and end; the rules read all of it
READ_CHARS = 8_000  # that are cut into tokens; of a longer text, the beginning and the end
KEPT_SCORES = 4_096
THRESHOLDS = ("at_risk", "after_risk", "joined", "imminent", "doubt")  # what the card must name; see `thresholds`

log = logging.getLogger(__name__)


class ClassifierError(RuntimeError):
    """The classifier cannot be used. The message says what is missing and how to get it."""


@dataclass(frozen=True)
class Score:
    """What the classifier says of one message.

    Attributes:
        at_risk: probability that the level is 2 or more.
        imminent: probability that the level is 3.
        category: the likeliest of the categories that can be at risk.
    """

    at_risk: float
    imminent: float
    category: str


class Classifier:
    """Encoder, adapter, head and thresholds. Make it once: `classify` does."""

    def __init__(self, folder: Path = FOLDER, encoder: str = "") -> None:
        """`encoder`: another one than the card names, of the same shape. Raises ClassifierError."""
        try:
            self.card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
            self.thresholds = {name: float(self.card["thresholds"][name]) for name in THRESHOLDS}
            self.ngram_weight = float(self.card["ngram_weight"])
            self.ngrams = Ngrams.load(folder)
            self.encoder, self.tokenizer, self.head = _with_weights(folder, encoder or self.card["encoder"])
        except EncoderError as error:
            raise ClassifierError(str(error)) from error
        except ImportError as error:
            raise ClassifierError(f"The classifier needs {error.name}: pip install -r requirements.txt") from error
        except Exception as error:  # missing, cut short or another's file: any library may be the one to say so
            raise ClassifierError(
                f"The classifier in {folder.name}/ cannot be loaded ({type(error).__name__}). "
                "Restore the folder, or make it again: python -m training.screening train"
            ) from error

    def __call__(self, texts: Sequence[str]) -> list[Score]:
        """One score for each text: of its windows, the one most at risk."""
        import torch

        texts = [_readable(text) for text in texts]
        parts = [windows(undisguised(text), self.tokenizer) for text in texts]
        flat = [ids for windows_of_text in parts for ids in windows_of_text]
        by_wording = torch.from_numpy(self.ngrams(texts)).float()
        with torch.inference_mode(), fast_arithmetic():
            outputs = self.head(pooled(self.encoder, flat)).float()
            outputs[:, 1:LEVELS] += self.ngram_weight * by_wording.repeat_interleave(torch.tensor([*map(len, parts)]), 0)
            levels = torch.sigmoid(outputs[:, :LEVELS]).tolist()
        categories = outputs[:, LEVELS:].tolist()
        scores, start = [], 0
        for windows_of_text in parts:
            end = start + len(windows_of_text)
            best = max(range(start, end), key=lambda i: levels[i][1])
            scores.append(
                Score(levels[best][1], max(row[2] for row in levels[start:end]), _likeliest(categories[best]))
            )
            start = end
        return scores


def _readable(text: str) -> str:
    """The part that is read, without halves of characters: the tokenizer takes none."""
    if len(text) > READ_CHARS:
        text = f"{text[: READ_CHARS // 2]} {text[-READ_CHARS // 2 :]}"
    return text.encode("utf-8", "replace").decode("utf-8")


def _likeliest(values: Sequence[float]) -> str:
    at_risk = [
        (value, name) for value, name in zip(values, CATEGORIES, strict=True) if name not in ("none", "distress")
    ]
    return max(at_risk)[1]


# What training and use share


def windows(text: str, tokenizer: Any) -> list[list[int]]:
    """Token ids of a text without disguises, in at most MOST_WINDOWS windows that overlap by a quarter; at least one."""
    begin, *ids, end = tokenizer.encode(PREFIX + text).ids
    size = MOST_TOKENS - 2
    prefix = len(tokenizer.encode(PREFIX.strip()).ids) - 2
    if len(ids) <= size:
        return [[begin, *ids, end]]
    head, ids = ids[:prefix], ids[prefix:]
    size -= prefix
    starts = list(range(0, len(ids) - size // 4, size * 3 // 4))
    if len(starts) > MOST_WINDOWS:
        starts = [starts[i * (len(starts) - 1) // (MOST_WINDOWS - 1)] for i in range(MOST_WINDOWS)]
    return [[begin, *head, *ids[start : start + size], end] for start in starts]


def fast_arithmetic() -> Any:
    """A context in which matrices are multiplied in bf16, where the processor has instructions for it.

    Half the time of fp32 there, probabilities within .02; elsewhere bf16 is emulated and slower, so that nothing changes.
    """
    import torch

    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())


def pooled(encoder: Any, windows: Sequence[Sequence[int]]) -> Any:
    """Mean of the last layer over each window's tokens, of length sqrt(width). -> [windows, width], fp32."""
    import torch

    longest = max(map(len, windows))
    ids = torch.zeros(len(windows), longest, dtype=torch.long)
    mask = torch.zeros(len(windows), longest, dtype=torch.long)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = torch.tensor(window)
        mask[row, : len(window)] = 1
    states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    weights = mask.unsqueeze(-1).float()
    mean = (states * weights).sum(1) / weights.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1) * mean.shape[-1] ** 0.5


def new_head(width: int) -> Any:
    """A linear layer to LEVELS + categories."""
    import torch

    return torch.nn.Linear(width, LEVELS + len(CATEGORIES))


def _with_weights(folder: Path, encoder_name: str) -> tuple[Any, Any, Any]:
    from peft import PeftModel
    from safetensors.torch import load_file

    encoder, tokenizer = load(encoder_name)
    merged: Any = PeftModel.from_pretrained(encoder, str(folder)).merge_and_unload()  # type: ignore[operator]
    head = new_head(encoder.config.hidden_size)
    head.load_state_dict(load_file(folder / HEAD))
    return merged.eval(), tokenizer, head.eval()


# One classifier for the process


class _Shared:
    """Loads once, remembers scores by digest, and turns every failure into None."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._classifier: Classifier | None = None
        self._kept: OrderedDict[bytes, Score] = OrderedDict()
        self._salt = secrets.token_bytes(16)  # a digest tells nothing to anybody who has not this process
        self.problem: str | None = None

    @property
    def ready(self) -> bool:
        return self._classifier is not None

    def classifier(self) -> Classifier | None:
        with self._lock:
            if self._classifier is None and self.problem is None:
                try:
                    self._classifier = Classifier(encoder=Settings.from_env().encoder_id)
                except (ClassifierError, SettingsError) as error:
                    self.problem = str(error)
                    log.error("The screening classifier is off, the rules go on: %s", error)
            return self._classifier

    def scores(self, texts: Sequence[str]) -> list[Score] | None:
        classifier = self.classifier()
        if classifier is None:
            return None
        keys = [hashlib.blake2b(text.encode("utf-8", "replace"), key=self._salt).digest() for text in texts]
        with self._lock:
            known = {key: self._kept[key] for key in keys if key in self._kept}
        new = [i for i, key in enumerate(keys) if key not in known]
        if new:
            try:
                found = classifier([texts[i] for i in new])
            except Exception as error:  # whatever breaks in here must not keep the rules from helping
                self.problem = f"The screening classifier failed ({type(error).__name__}); the rules go on alone."
                log.error(self.problem)
                return None
            known.update((keys[i], score) for i, score in zip(new, found, strict=True))
            self._keep(known)
        self.problem = None
        return [known[key] for key in keys]

    def _keep(self, scores: dict[bytes, Score]) -> None:
        with self._lock:
            self._kept.update(scores)
            while len(self._kept) > KEPT_SCORES:
                self._kept.popitem(last=False)


_shared = _Shared()


def classify(texts: Sequence[str]) -> list[Score] | None:
    """Scores of `texts`, in their order; None where the classifier cannot be used: see `state`. Never raises."""
    return _shared.scores(texts) if texts else []


def thresholds() -> dict[str, float]:
    """From which probability on a score counts. Empty where the classifier cannot be used.

    `at_risk` of one message, `after_risk` after an earlier one was, `joined` of the last turns read as one; `imminent` of
    level 3; below `doubt`, a rule of level 2 counts as level 1.
    """
    classifier = _shared.classifier()
    return classifier.thresholds if classifier else {}


def state() -> dict[str, str | None]:
    """`status`: ready, loading (or not asked for yet) or off; `problem`: why it is off. Waits for nothing."""
    ready = _shared.ready and not _shared.problem
    return {"status": "ready" if ready else "off" if _shared.problem else "loading", "problem": _shared.problem}


def warm() -> None:
    """Load now, so that no message waits for it."""
    _shared.classifier()
