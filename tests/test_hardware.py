"""Hardware: the table chooses as it says, and each choice can be overridden."""

import os
import sys

import pytest
import torch

from minigpt import hardware
from minigpt.hardware import (
    Hardware,
    available_memory,
    choose,
    measured_flops,
    native_dtype,
    peak_flops,
    peak_memory,
    require_memory,
)
from minigpt.model import GPT, GPTConfig


def pretend_cuda(monkeypatch, name: str, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)


@pytest.mark.parametrize(
    ("name", "capability", "dtype", "scaled"),
    [
        ("Tesla T4", (7, 5), torch.float16, True),
        ("NVIDIA A100-SXM4-80GB", (8, 0), torch.bfloat16, False),
        ("NVIDIA H200", (9, 0), torch.bfloat16, False),
    ],
)
def test_a_gpu_computes_in_what_it_has(monkeypatch, name, capability, dtype, scaled):
    pretend_cuda(monkeypatch, name, capability)
    chosen = choose()
    assert (chosen.device.type, chosen.dtype, chosen.scaled) == ("cuda", dtype, scaled)
    assert not chosen.compile
    assert chosen.describe().startswith(name)


@pytest.mark.parametrize(
    ("amx", "avx", "dtype"),
    [
        (True, False, torch.bfloat16),
        (False, True, torch.bfloat16),
        (False, False, torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_where_it_is_native(
    monkeypatch, amx, avx, dtype
):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(
        torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False
    )
    assert native_dtype(torch.device("cpu")) == dtype


def test_a_torch_without_the_private_checks_falls_back_to_float32(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert choose("cpu").dtype == torch.float32


def test_each_choice_is_overridden():
    chosen = choose("cpu", "float16", attention="explicit", compile=True)
    assert chosen == Hardware(
        device=torch.device("cpu"),
        dtype=torch.float16,
        attention="explicit",
        compile=True,
    )
    said = chosen.describe()
    assert "float16 with a loss scaler, attention explicit, compile on" in said


def test_placing_a_model_sets_its_attention_kernels():
    model = GPT(GPTConfig(vocab_size=11, context_length=5, d_model=12, n_head=3))
    choose("cpu", attention="explicit").place(model)
    assert {block.attention.kernel for block in model.blocks} == {"explicit"}
    choose("cpu").place(model)  # "auto" leaves what the reader has set
    assert {block.attention.kernel for block in model.blocks} == {"explicit"}


def test_products_run_in_the_chosen_format():
    a = torch.randn(3, 3)
    for precision in ("float32", "bfloat16"):
        with choose("cpu", precision).autocast():
            assert (a @ a).dtype == hardware.DTYPES[precision]


def test_a_known_peak_is_the_makers_and_an_unknown_one_is_measured(monkeypatch):
    pretend_cuda(monkeypatch, "NVIDIA H100 PCIe", (9, 0))
    assert peak_flops(choose()) == (756e12, True)
    assert peak_flops(choose(precision="float32")) == (51e12, True)
    monkeypatch.setattr(hardware, "measured_flops", lambda *_: 7.0)
    assert peak_flops(choose("cpu", "float32")) == (7.0, False)


def test_measuring_leaves_the_random_numbers_of_a_run_alone():
    before = torch.get_rng_state()
    measured_flops(torch.device("cpu"), torch.float32, size=64)
    assert torch.equal(torch.get_rng_state(), before)


def test_peak_memory_is_bytes_and_never_falls():
    before = peak_memory(torch.device("cpu"))
    held = torch.ones(25_000_000)
    del held
    after = peak_memory(torch.device("cpu"))
    assert before is not None
    assert after is not None
    # Torch alone takes more than this, and no process more than the machine has.
    assert 100_000_000 < before <= after
    assert after < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_gpus_peak_is_its_tensors(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 123)
    assert peak_memory(torch.device("cuda")) == 123


def test_where_python_cannot_tell_the_peak_is_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(torch.device("cpu")) is None


def test_a_measured_rate_is_a_rate():
    assert 1e8 < measured_flops(torch.device("cpu"), torch.float32, size=128) < 1e14


def test_what_the_machine_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="expected device cuda, this machine has only"):
        choose("cuda")
    with pytest.raises(ValueError, match="device auto, cuda, mps, cpu, got 'x'"):
        choose("x")
    with pytest.raises(ValueError, match=r"precision auto, float32, .* 'int8'"):
        choose("cpu", "int8")


def test_a_name_that_contains_another_is_looked_up_as_itself(monkeypatch):
    """An L40S is no L4: a wrong peak would make every utilisation figure wrong."""
    for name, figure in (("NVIDIA L4", 121e12), ("NVIDIA L40S", 362e12)):
        pretend_cuda(monkeypatch, name, (8, 9))
        assert peak_flops(choose()) == (figure, True)


def test_a_small_model_trains_on_one_thread_unless_told(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [hardware.cpu_threads(n) for n in (800_000, 124_000_000)] == [1, 8]
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert hardware.cpu_threads(800_000) == 8


MEMINFO = "MemTotal:       16000 kB\nMemFree:  100 kB\nMemAvailable:   8000 kB\n"


def system(path, meminfo: str = MEMINFO, **group: str):
    """A root folder with the files in which Linux says what memory there is."""
    (path / "proc").mkdir(exist_ok=True)
    (path / "proc" / "meminfo").write_text(meminfo)
    (path / "sys/fs/cgroup").mkdir(parents=True, exist_ok=True)
    for name, text in group.items():
        (path / "sys/fs/cgroup" / f"memory.{name}").write_text(text)
    return path


def test_free_memory_is_what_linux_could_free_and_a_container_may_take(tmp_path):
    assert available_memory(system(tmp_path)) == 8_000 * 1024
    # Pages of files count as used in a group, and are not.
    stat = "anon 1000000\nfile 7000000\n"
    group = system(tmp_path, max="5000000\n", stat=stat)
    assert available_memory(group) == 4_000_000
    assert available_memory(system(tmp_path, max="max\n")) == 8_000 * 1024
    assert available_memory(system(tmp_path, max="90000000\n")) == 8_000 * 1024


def test_where_linux_says_nothing_the_whole_memory_counts_or_nothing(
    tmp_path, monkeypatch
):
    pages = {"SC_PHYS_PAGES": 500, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", pages.__getitem__, raising=False)
    assert available_memory(tmp_path) == 500 * 4096
    monkeypatch.delattr("os.sysconf")
    assert available_memory(tmp_path) is None


def test_this_machine_has_memory_and_too_much_is_refused(monkeypatch):
    free = available_memory()
    assert free is not None
    assert free > 100e6
    monkeypatch.setattr("minigpt.hardware.available_memory", lambda: 3_000_000_000)
    require_memory(3_000_000_000, "load x")
    said = r"6,230 MB of free memory to load x, got 3,000 MB: close other programs"
    with pytest.raises(MemoryError, match=said):
        require_memory(6_230_000_000, "load x")
    monkeypatch.setattr("minigpt.hardware.available_memory", lambda: None)
    require_memory(10**15, "load x")


def test_free_memory_of_a_gpu_counts_what_torch_keeps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000, 16_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    gpu = torch.device("cuda")
    assert hardware.free_memory(gpu) == 1_300
    require_memory(1_300, "do x", device=gpu)
    with pytest.raises(MemoryError, match=r"memory on Tesla T4 to do x, .*: go home$"):
        require_memory(1_301, "do x", device=gpu, advice="go home")


def test_free_memory_of_a_mac_is_what_is_recommended_less_what_is_taken(monkeypatch):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 900)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 200)
    assert hardware.free_memory(torch.device("mps")) == 700


def test_a_measured_bandwidth_is_one_and_counts_reading_and_writing(monkeypatch):
    assert 1e8 < hardware.measured_bandwidth(torch.device("cpu"), size=2**18) < 1e13
    monkeypatch.setattr(hardware, "_quickest", lambda job, rounds: 2.0)
    assert hardware.measured_bandwidth(torch.device("cpu"), size=100) == 2 * 400 / 2


def test_a_slow_measurement_makes_do_with_fewer_rounds(monkeypatch):
    calls: list[int] = []

    def job() -> torch.Tensor:
        calls.append(1)
        return torch.zeros(1, 1)

    monkeypatch.setattr(hardware, "PATIENCE", 1e-9)
    assert hardware._quickest(job, 5) > 0
    assert len(calls) == 1


def test_a_roofline_says_both_rates_and_whose_they_are(monkeypatch):
    monkeypatch.setattr(hardware, "measured_bandwidth", lambda device: 20e9)
    monkeypatch.setattr(hardware, "measured_flops", lambda device, dtype: 100e9)
    said = "100 GFLOP/s (measured), 20 GB/s (measured): fewer than 5 operations a byte"
    assert hardware.roofline(choose("cpu", "float32")).startswith(said)
    pretend_cuda(monkeypatch, "Tesla T4", (7, 5))
    assert hardware.roofline(choose()).startswith("65,000 GFLOP/s (its maker), 20 GB/s")


@pytest.mark.parametrize("name", ["NVIDIA RTX A1000 Laptop GPU", "NVIDIA T400 4GB"])
def test_a_name_that_begins_like_a_known_one_is_another(monkeypatch, name):
    pretend_cuda(monkeypatch, name, (8, 6))
    assert hardware.known_peak(choose()) is None


@pytest.mark.parametrize("name", ["cpu:first", "cpu:-3"])
def test_a_device_with_a_number_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match=f"expected device auto, .*, got '{name}'"):
        choose(name)
