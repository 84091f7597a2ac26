"""From a dataset of questions and answers to a LoRA adapter. Read `prepare`, `qlora`, `evaluate`, `card`, in this order.

Each is a command (`python -m training.prepare`). Nothing here knows the page.
"""

from __future__ import annotations


class TrainingError(RuntimeError):
    """A step of the training cannot go on. The message names the fix. The commands end with it, without a traceback."""
