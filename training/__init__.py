"""From a dataset of questions and answers to a LoRA adapter. Read `prepare`, `qlora`, `evaluate`, `card`, in this order.

Each is a command (`python -m training.prepare`). Nothing here knows the page.
"""

from __future__ import annotations

import tempfile
from pathlib import Path


class TrainingError(RuntimeError):
    """A step of the training cannot go on. The message names the fix. The commands end with it, without a traceback."""


def named(error: Exception) -> str:
    """Its kind and its first line, for a message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['?'])[0][:200]}"


def writable(folder: Path) -> Path:
    """The folder, made where it is not there. To be asked before the work, not after it.

    Raises:
        TrainingError: nothing can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise TrainingError(
            f"Nothing can be written into {folder} ({error.strerror}); name a folder that is yours, or free some of the disk."
        ) from None
    return folder
