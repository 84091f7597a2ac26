"""Where a figure comes from: every result file names its command, day, machine and versions, so that it can be made again.

    save(Path("gate.json"), {"found": 7}, "python -m benchmarks.gate")

The model card and README are filled from such files (`python -m training.card`). Knows nothing about what was measured.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from support.engines.choice import Hardware

PACKAGES = "torch", "transformers", "peft", "bitsandbytes"


def save(path: Path, found: Mapping[str, Any], program: str) -> None:
    """Writes `found` as JSON, with `measured` beside it. `program` is the command without its arguments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = {
        "command": f"{program} {shlex.join(sys.argv[1:])}",
        "date": str(date.today()),
        "machine": machine(),
        "versions": versions(PACKAGES),
    }
    path.write_text(json.dumps({**found, "measured": measured}, indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """The card's name or "cpu", the processor's, its cores, and whether it computes in bf16."""
    return {
        "device": device(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "bf16": Hardware.detect().dtype == "bfloat16",
    }


def device() -> str:
    """The card's name, or the processor's kind."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of Python and of these packages."""
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
            return next(line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a processor that does not tell
        return platform.processor() or platform.machine()
