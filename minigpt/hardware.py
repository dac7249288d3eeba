"""Chapter 8. Hardware: which device, which number format, which kernels, in one table.

    device      cuda, else mps, else cpu
    dtype       bfloat16 where the arithmetic is native (newer CUDA; a CPU that reports
                AMX or AVX512-BF16), float16 with a loss scaler on older CUDA, such as
                the T4, and float32 everywhere else
    attention   "auto": the kernel that `attention.attend` finds best
    threads     one for a model below five million weights, all cores above
    memory      asked for before a model is loaded, trained or given prompts, so that
                nothing ends half-way
    compile     off unless asked for: it costs up to a minute, which a short run on a
                small model never earns back

`choose` decides, `Hardware.describe` says what was decided in one line, and every
choice can be overridden. Peaks are the makers' dense figures, in FLOP/s.
"""

import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from minigpt.attention import CausalSelfAttention, Kernel

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# (part of the device's name, dense bfloat16 or float16 FLOP/s, float32 FLOP/s outside
# the tensor cores), from the makers' data sheets. A name that is absent is measured
# instead: a guess would make every utilisation figure wrong.
PEAKS: tuple[tuple[str, float, float], ...] = (
    ("H200", 989e12, 67e12),
    ("H100 PCIe", 756e12, 51e12),
    ("H100", 989e12, 67e12),
    ("A100", 312e12, 19.5e12),
    ("L40S", 362e12, 91.6e12),
    ("L40", 181e12, 90.5e12),
    ("L4", 121e12, 30.3e12),
    ("T4", 65e12, 8.1e12),
    ("V100", 125e12, 15.7e12),
)


CPU = torch.device("cpu")

# A smaller model's matrices give a second thread little to do but wait, and where
# another process holds that thread's core, every step waits for it several times over.
MANY_THREADS_FROM = 5_000_000

# Seconds after which a measurement makes do with the rounds that it has.
PATIENCE = 1.0


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What a run computes on.

    Attributes:
        device: where tensors live.
        dtype: format of the matrix products; weights and optimiser stay in float32.
        attention: kernel for every attention layer.
        compile: whether torch.compile is used.
    """

    device: torch.device
    dtype: torch.dtype
    attention: Kernel = "auto"
    compile: bool = False

    @property
    def scaled(self) -> bool:
        """float16 gradients underflow, so the loss is scaled up before `backward`."""
        return self.dtype == torch.float16

    def scaler(self) -> torch.amp.GradScaler:
        """What scales the loss; where nothing underflows it lets everything pass."""
        return torch.amp.GradScaler(self.device.type, enabled=self.scaled)

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which matrix products run in `dtype`."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def place(self, model: nn.Module) -> None:
        """Move a model here, and set its attention kernels if one was asked for."""
        model.to(self.device)
        for module in model.modules():
            if isinstance(module, CausalSelfAttention) and self.attention != "auto":
                module.kernel = self.attention

    def describe(self) -> str:
        """One line for the reader."""
        dtype = str(self.dtype).removeprefix("torch.")
        scaler = " with a loss scaler" if self.scaled else ""
        count = torch.get_num_threads()
        plural = "s" if count > 1 else ""
        threads = f", {count} thread{plural}" if self.device.type == "cpu" else ""
        return (
            f"{device_name(self.device)}{threads}, {dtype}{scaler}, "
            f"attention {self.attention}, compile {'on' if self.compile else 'off'}"
        )


def choose(
    device: str = "auto",
    precision: str = "auto",
    *,
    attention: Kernel = "auto",
    compile: bool = False,  # noqa: A002 (torch's word)
) -> Hardware:
    """The hardware of a run: what was asked for, and the best choice for the rest.

    Raises:
        ValueError: an unknown device or precision, or one that this machine lacks.
    """
    chosen = _device(device)
    if precision not in ("auto", *DTYPES):
        raise ValueError(
            f"expected precision auto, {', '.join(DTYPES)}, got {precision!r}"
        )
    return Hardware(
        device=chosen,
        dtype=native_dtype(chosen) if precision == "auto" else DTYPES[precision],
        attention=attention,
        compile=compile,
    )


def _device(name: str) -> torch.device:
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    if not re.fullmatch(rf"({'|'.join(there)})(:\d+)?", name):
        raise ValueError(f"expected device auto, {', '.join(there)}, got {name!r}")
    if not there[name.split(":")[0]]:
        raise ValueError(
            f"expected device {name}, this machine has only "
            f"{', '.join(kind for kind, found in there.items() if found)}: choose one "
            f"of these, or auto"
        )
    return torch.device(name)


def native_dtype(device: torch.device) -> torch.dtype:
    """The fastest format that the device computes in without emulation."""
    if device.type == "cuda":
        # From compute capability 8 (Ampere) on; before it, bfloat16 is emulated.
        major, _ = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if major >= 8 else torch.float16
    if device.type == "cpu" and cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware, as torch reports it.

    Elsewhere bfloat16 is emulated, and slower than float32.
    """
    # Private in torch, so a version that drops one of them must not break us.
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def cpu_threads(n_parameters: int) -> int:
    """Threads for training a model of this size; OMP_NUM_THREADS overrides it."""
    if "OMP_NUM_THREADS" in os.environ or n_parameters >= MANY_THREADS_FROM:
        return torch.get_num_threads()
    return 1


def device_name(device: torch.device) -> str:
    """The device as its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type


def peak_flops(hardware: Hardware) -> tuple[float, bool]:
    """FLOP/s that this hardware could reach, and whether that is a maker's figure.

    An unknown device is measured by a matrix product, which is a floor under its peak.
    """
    known = known_peak(hardware)
    if known is not None:
        return known, True
    return measured_flops(hardware.device, hardware.dtype), False


def known_peak(hardware: Hardware) -> float | None:
    """The maker's figure, or None where the table has none."""
    name = device_name(hardware.device)
    for part, half, single in PEAKS:
        # As a whole word: an A1000 is no A100.
        if re.search(rf"\b{part}\b", name):
            return single if hardware.dtype == torch.float32 else half
    return None


def measured_flops(
    device: torch.device, dtype: torch.dtype, *, size: int = 1024, rounds: int = 5
) -> float:
    """The best rate of a square matrix product, in FLOP/s."""
    a = _numbers(size, size, device).to(dtype)
    return 2 * size**3 / _quickest(lambda: a @ a, rounds)


def measured_bandwidth(
    device: torch.device, *, size: int = 2**24, rounds: int = 5
) -> float:
    """The best rate of copying numbers, read and written, in bytes per second.

    Arithmetic on fewer than `measured_flops / measured_bandwidth` operations a byte
    waits for memory: the two rates are the device's roofline (Williams et al. 2009).
    """
    source = _numbers(size, 1, device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _quickest(lambda: target.copy_(source), rounds)


def roofline(hardware: Hardware) -> str:
    """One line: the two rates that bound every computation here, and whose they are."""
    flops, known = peak_flops(hardware)
    bandwidth = measured_bandwidth(hardware.device)
    return (
        f"{flops / 1e9:,.0f} GFLOP/s ({'its maker' if known else 'measured'}), "
        f"{bandwidth / 1e9:,.0f} GB/s (measured): fewer than {flops / bandwidth:,.0f} "
        f"operations a byte wait for memory"
    )


def _numbers(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    # A generator of its own: measuring must not change what a run draws next.
    generator = torch.Generator(device).manual_seed(0)
    return torch.randn(rows, columns, device=device, generator=generator)


def _quickest(job: Callable[[], torch.Tensor], rounds: int) -> float:
    """Seconds of the best of some rounds; emulated formats are too slow for all."""
    spent: list[float] = []
    while len(spent) < rounds and sum(spent) < PATIENCE:
        start = time.perf_counter()
        # A device works on after the call has returned; reading one number waits.
        job()[0, 0].item()
        spent.append(time.perf_counter() - start)
    return min(spent)


def peak_memory(device: torch.device) -> int | None:
    """The most bytes in use so far: of a GPU's tensors, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return peak if sys.platform == "darwin" else 1024 * peak


def available_memory(system: Path = Path("/")) -> int | None:
    """Bytes of main memory that this process can still take; None where unknown.

    Linux says what it could free; a container may be allowed less than that. Elsewhere
    the whole of the memory is the best that Python's own library can say.
    """
    limits = [_memory_free(system), _container_free(system)]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _memory_free(system: Path) -> int | None:
    try:
        lines = (system / "proc/meminfo").read_text().splitlines()
        rows = dict(line.split(":") for line in lines)
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        # Windows has no sysconf.
        return None


def _container_free(system: Path) -> int | None:
    """What a control group (Docker, Kubernetes, Slurm) leaves, in its second version.

    File pages count as used there, but are given up when memory is short.
    """
    group = system / "sys/fs/cgroup"
    try:
        limit = int((group / "memory.max").read_text())
        lines = (group / "memory.stat").read_text().splitlines()
        counts = dict(line.split() for line in lines)
        return limit - int(counts["anon"])
    except (OSError, KeyError, ValueError):
        # No group, or no limit: the file then says "max".
        return None


def free_memory(device: torch.device) -> int | None:
    """Bytes that tensors on a device can still take; None where unknown."""
    if device.type == "cuda":
        # torch keeps what was freed, for the next tensor.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type == "mps":
        most = torch.mps.recommended_max_memory()
        return most - torch.mps.current_allocated_memory()
    return available_memory()


def gpu_memory(device: torch.device) -> int | None:
    """Bytes of memory that a GPU has in all; None for anything else."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return None


def require_memory(
    n_bytes: int,
    purpose: str,
    *,
    device: torch.device = CPU,
    advice: str = "close other programs, choose a smaller model, or load it as "
    "torch.bfloat16, which takes half of float32",
) -> None:
    """Refuse work that would end in a device without memory, before it starts.

    Raises:
        MemoryError: more than is free.
    """
    free = free_memory(device)
    if free is not None and n_bytes > free:
        place = "" if device.type == "cpu" else f" on {device_name(device)}"
        raise MemoryError(
            f"expected {n_bytes / 1e6:,.0f} MB of free memory{place} to {purpose}, got "
            f"{free / 1e6:,.0f} MB: {advice}"
        )
