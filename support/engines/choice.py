"""Which model, adapter and precision: the resolution order, as one function without side effects.

    MODEL_ID, if set  ->  on CUDA: Llama 2 7B chat in NF4  ->  the embedded model

Knows nothing about loading. `choose(settings, hardware)` is pure, so tests run it for cards that are not there.
"""

from __future__ import annotations

from dataclasses import dataclass

from support.engines import embedded
from support.settings import Settings

DEFAULT_CUDA_MODEL = "meta-llama/Llama-2-7b-chat-hf"


@dataclass(frozen=True)
class Hardware:
    """What the model will run on.

    Attributes:
        cuda: a CUDA card, or ZeroGPU's promise of one.
        zero_gpu: Hugging Face ZeroGPU: a card is there only inside a call.
        capability: CUDA compute capability, such as (7, 5) for a T4.
        cpu_bf16: the CPU has AVX512-BF16, for which bitsandbytes has a fast 4-bit kernel.
    """

    cuda: bool = False
    zero_gpu: bool = False
    capability: tuple[int, int] = (0, 0)
    cpu_bf16: bool = False

    @classmethod
    def detect(cls) -> Hardware:
        import torch
        from spaces.config import Config

        if Config.zero_gpu:
            return cls(cuda=True, zero_gpu=True, capability=(12, 0))  # RTX Pro 6000 Blackwell
        if torch.cuda.is_available():
            return cls(cuda=True, capability=torch.cuda.get_device_capability())
        return cls(cpu_bf16="avx512_bf16" in _cpu_flags())

    @property
    def dtype(self) -> str:
        """The fast floating-point type. Not `torch.cuda.is_bf16_supported()`: it says yes on a T4, by emulation."""
        if self.cuda:
            return "bfloat16" if self.capability[0] >= 8 else "float16"
        return "bfloat16" if self.cpu_bf16 else "float32"


@dataclass(frozen=True)
class ModelChoice:
    """What is going to be loaded, and why.

    Attributes:
        model: Hub id or folder; for the embedded model its Hub id.
        embedded: the model is the embedded one.
        adapter: Hub id or folder, or "".
        quantization: nf4, bf16 or none.
        dtype: torch dtype of what is not quantised, and of the computation.
        why: one sentence for the log.
    """

    model: str
    embedded: bool
    adapter: str
    quantization: str
    dtype: str
    why: str


def choose(settings: Settings, hardware: Hardware) -> ModelChoice:
    """The model for these settings on this hardware."""
    if settings.model_id:
        model, why = settings.model_id, "MODEL_ID is set"
    elif hardware.cuda:
        model, why = DEFAULT_CUDA_MODEL, "MODEL_ID is empty and there is a CUDA card"
    else:
        model, why = embedded.HUB_ID, "MODEL_ID is empty and there is no CUDA card: the embedded demonstration model"
    quantization = settings.quantization if settings.quantization != "auto" else _auto(hardware)
    return ModelChoice(
        model=model,
        embedded=not settings.model_id and not hardware.cuda,
        adapter=settings.adapter_id,
        quantization=quantization,
        dtype=_dtype(quantization, hardware),
        why=f"{why}; QUANTIZATION={settings.quantization} gives {quantization}",
    )


def local_engine(settings: Settings, hardware: Hardware, *, openvino: bool) -> str:
    """`openvino` or `transformers`. On a CPU the first writes the embedded model's words several times as fast.

    Args:
        settings: ENGINE, if it names one, is obeyed.
        hardware: what the model will run on.
        openvino: it is installed.
    """
    if settings.engine != "auto":
        return settings.engine
    if settings.model_id.endswith(".gguf"):  # transformers would unpack it to fp32
        return "openvino"
    demonstration = not settings.model_id and not hardware.cuda
    return "openvino" if openvino and demonstration and settings.quantization == "auto" else "transformers"


def _auto(hardware: Hardware) -> str:
    """NF4 on any CUDA card. On a CPU what `python -m benchmarks.quantization` measured best for words a person reads:
    bf16 where the CPU computes in it, else fp32. NF4 decodes a little faster there, and costs a small model its sense."""
    if hardware.cuda:
        return "nf4"
    return "bf16" if hardware.cpu_bf16 else "none"


def _dtype(quantization: str, hardware: Hardware) -> str:
    if quantization == "bf16":
        return "bfloat16"
    if quantization == "none" and not hardware.cuda:
        return "float32"
    return hardware.dtype


def _cpu_flags() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
            return next((line for line in cpuinfo if line.startswith("flags")), "")
    except OSError:  # not Linux
        return ""
