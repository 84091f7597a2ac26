"""What this project trains on a sentence encoder: a LoRA adapter, a linear head, and n-grams beside it; and how it is read.

The two classifiers, of messages (`classifier`) and of replies (`reply_classifier`), are this with other outputs. A folder
holds adapter, head, n-grams and a card, made by `python -m training.screening`. Where it cannot be loaded or breaks, the
process goes on without it: `Shared` gives None and says why.

Keeps no text: scores of the last texts stay in memory under a digest, so that a long conversation is not read anew at every
turn. torch and peft are imported on the first load.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from support.screening.encoder import Encoder, EncoderError, load
from support.screening.ngrams import Ngrams
from support.screening.normalise import undisguised
from support.settings import Settings, SettingsError

CARD = "classifier.json"
HEAD = "head.safetensors"
MOST_TOKENS = 256  # of one window: about 180 words
MOST_WINDOWS = 3  # of one text: beginning, middle and end
READ_CHARS = 8_000  # that are cut into tokens; of a longer text, the beginning and the end
AT_ONCE = 32  # windows in one batch
KEPT_SCORES = 4_096

log = logging.getLogger(__name__)
_loading = threading.Lock()  # one encoder at a time: the first imports torch and peft
S = TypeVar("S")


class ClassifierError(RuntimeError):
    """The classifier cannot be used. The message says what is missing and how to get it."""


class Tuned(Generic[S]):
    """Encoder, adapter, head, n-grams and thresholds of one folder: texts in, one score for each out."""

    folder: Path  # where the app's own lies
    outputs: int  # of the head
    by_wording: slice  # those that the n-grams' log-odds are added to
    threshold_names: tuple[str, ...]  # that the card must hold

    def __init__(self, folder: Path | None = None, encoder: str = "") -> None:
        """`encoder`: another one than the card names, of the same shape. Raises ClassifierError."""
        folder = folder or self.folder
        try:
            self.card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
            self.thresholds = {name: _probability(self.card["thresholds"][name]) for name in self.threshold_names}
            self.ngram_weight = float(self.card["ngram_weight"])
            self.ngrams = Ngrams.load(folder) if self.ngram_weight else None
            self.head = read_head(folder, self.outputs)
            self.encoder = _with_adapter(folder, encoder or self.card["encoder"])
        except EncoderError as error:
            raise ClassifierError(str(error)) from error
        except ImportError as error:
            raise ClassifierError(f"The classifier needs {error.name}: pip install -r requirements.txt") from error
        except Exception as error:  # missing, cut short or another's file: any library may be the one to say so
            raise ClassifierError(
                f"The classifier in {folder.name}/ cannot be loaded ({type(error).__name__}). "
                "Restore the folder, or make it again: see python -m training.screening --help"
            ) from error

    def __call__(self, texts: Sequence[str]) -> list[S]:
        """One score for each text, of its windows."""
        import torch

        parts = [windows(undisguised(readable(text)), self.encoder) for text in texts]
        ids = [window.ids for part in parts for window in part]
        with torch.inference_mode(), fast_arithmetic():
            batches = [ids[i : i + AT_ONCE] for i in range(0, len(ids), AT_ONCE)]
            outputs = torch.cat([self.head(pooled(self.encoder.model, batch)).float() for batch in batches])
            if self.ngrams:
                wording = self.ngrams([window.text for part in parts for window in part])
                outputs[:, self.by_wording] += self.ngram_weight * torch.from_numpy(wording).float()
        if not outputs.isfinite().all():  # no threshold would ever be reached, and nobody would see why
            raise ClassifierError("The classifier's outputs are not numbers.")
        return [self.score(part) for part in outputs.split([*map(len, parts)])]

    def score(self, outputs: Any) -> S:
        """What the head's outputs [windows of one text, outputs] say."""
        raise NotImplementedError


def _probability(value: Any) -> float:
    if not 0 <= value <= 1:
        raise ValueError("a threshold is no probability")
    return float(value)


def readable(text: str) -> str:
    """The part that is read, without halves of characters: the tokenizer takes none."""
    if len(text) > READ_CHARS:
        text = f"{text[: READ_CHARS // 2]} {text[-READ_CHARS // 2 :]}"
    return text.encode("utf-8", "replace").decode("utf-8")


# What training and use share


class Window(NamedTuple):
    """A part of a text: its token ids, and its characters."""

    ids: list[int]
    text: str


def windows(text: str, encoder: Encoder) -> list[Window]:
    """A text without disguises in at most MOST_WINDOWS windows that overlap by a quarter; at least one."""
    tokenizer, before = encoder.tokenizer, encoder.prefix
    encoding = tokenizer.encode(before + text)
    begin, *ids, end = encoding.ids
    size = MOST_TOKENS - 2
    prefix = len(tokenizer.encode(before.strip()).ids) - 2
    if len(ids) <= size:
        return [Window([begin, *ids, end], text)]
    head, ids, places = ids[:prefix], ids[prefix:], encoding.offsets[1 + prefix : -1]
    size -= prefix
    starts = list(range(0, len(ids) - size // 4, size * 3 // 4))
    if len(starts) > MOST_WINDOWS:
        starts = [starts[i * (len(starts) - 1) // (MOST_WINDOWS - 1)] for i in range(MOST_WINDOWS)]
    return [
        Window(
            [begin, *head, *ids[start : start + size], end],
            (before + text)[places[start][0] : places[min(start + size, len(places)) - 1][1]].strip(),
        )
        for start in starts
    ]


def fast_arithmetic() -> Any:
    """A context in which matrices are multiplied in bf16, where the processor has instructions for it.

    Half the time of fp32 there, probabilities within .02; elsewhere bf16 is emulated and slower, so that nothing changes.
    """
    import torch

    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16())


def has_bf16() -> bool:
    """Whether the processor has those instructions."""
    import torch

    return torch.cpu._is_avx512_bf16_supported()


def hastened(model: Any) -> Any:
    """The model with its matrices in bf16 where `fast_arithmetic` would cast them to it at every text."""
    import torch

    if has_bf16():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.bfloat16()
    return model


def pooled(model: Any, rows: Sequence[Sequence[int]]) -> Any:
    """Mean of the last layer over each row of token ids, of length sqrt(width). -> [rows, width], fp32."""
    import torch

    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for row, ids_of_row in enumerate(rows):
        ids[row, : len(ids_of_row)] = torch.tensor(ids_of_row)
        mask[row, : len(ids_of_row)] = 1
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    weights = mask.unsqueeze(-1).float()
    mean = (states * weights).sum(1) / weights.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1) * mean.shape[-1] ** 0.5


def read_head(folder: Path, outputs: int) -> Any:
    """The linear layer of a folder, in fp32. Raises RuntimeError where it has not so many outputs."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(folder / HEAD)
    head = torch.nn.Linear(weights["weight"].shape[1], outputs, dtype=torch.float32)
    head.load_state_dict(weights)
    return head.eval()


def _with_adapter(folder: Path, encoder_name: str) -> Encoder:
    with _loading:
        from peft import PeftModel

        encoder = load(encoder_name)
        merged: Any = PeftModel.from_pretrained(encoder.model, str(folder)).merge_and_unload()  # type: ignore[operator]
    return encoder._replace(model=hastened(merged.eval()))


def import_libraries() -> None:
    """What loading needs, in the calling thread. What is missing is told when a classifier is loaded.

    transformers imports its parts as they are asked for, and that fails where two threads ask at once: call this before the
    threads that load a model or a classifier begin.
    """
    with _loading, contextlib.suppress(ImportError):
        import peft  # noqa: F401
        from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel  # noqa: F401


# One of a kind for the process


class Shared(Generic[S]):
    """Loads once, remembers scores by digest, and turns every failure into None."""

    def __init__(self, name: str, kind: Callable[..., Tuned[S]]) -> None:
        """`name`: for people. `kind`: makes it, given `encoder`."""
        self.name, self._kind = name, kind
        self._lock = threading.Lock()
        self._made: Tuned[S] | None = None
        self._kept: OrderedDict[bytes, S] = OrderedDict()
        self._salt = secrets.token_bytes(16)  # a digest tells nothing to anybody who has not this process
        self._promised = False
        self.problem: str | None = None

    def promise(self) -> None:
        """Another thread will call `warm`: who cannot wait for it does not."""
        self._promised = True

    def get(self, *, wait: bool = True) -> Tuned[S] | None:
        """The classifier, loaded where it was not yet; None where it cannot be, or is promised and `wait` is False."""
        if self._promised and not wait and self._made is None:
            return None
        with self._lock:
            if self._made is None and self.problem is None:
                try:
                    self._made = self._kind(encoder=Settings.from_env().encoder_id)
                except (ClassifierError, SettingsError) as error:
                    self.problem = str(error)
                    log.error("The %s is off, the rules go on: %s", self.name, error)
            return self._made

    def warm(self) -> None:
        """Load now, so that nobody waits for it."""
        self.get()

    def scores(self, texts: Sequence[str], *, wait: bool = True) -> list[S] | None:
        """Of `texts`, in their order; None where the classifier cannot be used, or not yet (`get`). Never raises."""
        made = self.get(wait=wait)
        if made is None:
            return None
        keys = [hashlib.blake2b(text.encode("utf-8", "replace"), key=self._salt).digest() for text in texts]
        with self._lock:
            known = {key: self._kept[key] for key in keys if key in self._kept}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if new:
            try:
                scores = dict(zip(new, made([*new.values()]), strict=True))
            except Exception as error:  # whatever breaks in here must not keep the rules from helping
                self.problem = f"The {self.name} failed ({type(error).__name__}); the rules go on alone."
                log.error(self.problem)
                return None
            known |= scores
            self._keep(scores)
            self.problem = None
        return [known[key] for key in keys]

    def thresholds(self) -> dict[str, float]:
        """From which probability on a score counts. Empty where the classifier cannot be used."""
        made = self.get()
        return made.thresholds if made else {}

    def state(self) -> dict[str, str | None]:
        """`status`: ready, loading (or not asked for yet) or off; `problem`: why it is off. Waits for nothing."""
        ready = self._made is not None and not self.problem
        return {"status": "ready" if ready else "off" if self.problem else "loading", "problem": self.problem}

    def _keep(self, scores: dict[bytes, S]) -> None:
        with self._lock:
            self._kept.update(scores)
            while len(self._kept) > KEPT_SCORES:
                self._kept.popitem(last=False)
