"""Packed weights: the same numbers in float32, near ones in float16 and in 8 bits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt import packed
from minigpt.checkpoint import save_pretrained
from minigpt.generate import generate, generate_batch
from minigpt.model import GPT, GPTConfig
from minigpt.packed import (
    Half,
    Int8,
    RowSum,
    Weights,
    check_packable,
    exact_up_to,
    pack,
    rounded,
)
from minigpt.recipe import TrainConfig
from minigpt.train import fit

B, T, C, H, V = 2, 5, 12, 3, 11
SHAPES = {
    "gpt2": {},
    "gpt1": {"norm": "post"},
    "no bias": {"bias": False},
    "banded": {"band": 2},
    "own head": {"tied": False},
}


def small(**changes: object) -> GPT:
    config = GPTConfig(
        vocab_size=V,
        context_length=8,
        n_layer=2,
        n_head=H,
        d_model=C,
        **changes,  # type: ignore[arg-type]
    )
    model = GPT(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.eval()


@pytest.fixture(params=["products", "sums of rows", "sums in three shares"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way in which a row is multiplied, whatever the size of the matrix."""
    if request.param != "products":
        monkeypatch.setattr(packed, "LARGE", 1)
    if request.param == "sums in three shares":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_in_float32_nothing_changes(way: None, shape: dict[str, object]) -> None:
    model = small(**shape)
    copy = pack(model)
    tokens = torch.randint(V, (B, T))
    with torch.no_grad():
        torch.testing.assert_close(copy(tokens), model(tokens))
        real = torch.tensor([[False, True, True, True, True], [True] * 5])
        torch.testing.assert_close(copy(tokens, mask=real), model(tokens, mask=real))
        cache = copy.new_cache(1)
        one_by_one = [copy(tokens[:1, t : t + 1], cache=cache) for t in range(T)]
        torch.testing.assert_close(torch.cat(one_by_one, 1), model(tokens[:1]))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_packed_model_writes_the_same_text(
    way: None, shape: dict[str, object]
) -> None:
    model = small(**shape)
    copy = pack(model)
    prompt = torch.tensor([[1, 2, 3]])
    expected = generate(model, prompt, max_new_tokens=9)  # past the context
    assert torch.equal(generate(copy, prompt, max_new_tokens=9), expected)
    prompts = [[1, 2, 3, 4], [5], [6, 7]]
    assert generate_batch(copy, prompts, max_new_tokens=4) == generate_batch(
        model, prompts, max_new_tokens=4
    )


def matrix(bias: bool = True) -> tuple[Tensor, Tensor | None]:
    return torch.randn(V, C), torch.randn(V) if bias else None


@pytest.mark.parametrize("bias", [True, False])
def test_a_sum_of_rows_is_the_product(way: None, bias: bool) -> None:
    weight, vector = matrix(bias)
    for shape in ((1, 1, C), (C,), (B, T, C)):
        x = torch.randn(shape)
        product = RowSum(weight, vector)(x)
        torch.testing.assert_close(product, F.linear(x, weight, vector))


@pytest.mark.parametrize("bias", [True, False])
def test_half_is_the_product_with_weights_rounded_to_float16(bias: bool) -> None:
    weight, vector = matrix(bias)
    x = torch.randn(B, T, C)
    expected = F.linear(x, weight.half().float(), vector)
    torch.testing.assert_close(Half(weight, vector)(x), expected)


def test_a_worked_example_of_rounding() -> None:
    rows = torch.tensor([[1.0, -2.54, 0.03], [0.0, 0.0, 0.0], [127.0, 0.49, -63.6]])
    whole, scale = rounded(rows, 127)
    assert whole.tolist() == [[50, -127, 2], [0, 0, 0], [127, 0, -64]]
    torch.testing.assert_close(scale[[0, 2], 0], torch.tensor([0.02, 1.0]))
    assert rounded(rows, 63)[0].abs().amax(1).tolist() == [63, 0, 63]


def test_rounding_is_wrong_by_half_a_step_at_most() -> None:
    rows = torch.randn(V, C)
    whole, scale = rounded(rows, 127)
    assert ((whole * scale - rows).abs() <= 0.5001 * scale).all()
    assert whole.abs().amax(1).tolist() == [127] * V


@pytest.mark.filterwarnings("ignore:.*quantize.*deprecated")
@pytest.mark.parametrize("bias", [True, False])
def test_int8_is_torchs_own_quantized_product(bias: bool) -> None:
    """The oracle rounds by torch's own tensors, and multiplies in float64."""
    weight, vector = matrix(bias)
    x = torch.randn(B, T, C)
    zero = torch.zeros(V, dtype=torch.long)
    of = torch.quantize_per_channel
    w = of(weight, weight.abs().amax(1) / 127, zero, 0, torch.qint8)
    rows = x.flatten(0, 1)
    zero = torch.zeros(B * T, dtype=torch.long)
    seen = of(rows, rows.abs().amax(1) / 127, zero, 0, torch.qint8)
    exact = F.linear(seen.dequantize().double(), w.dequantize().double())
    exact = exact if vector is None else exact + vector
    product = Int8(weight, vector)(x)
    torch.testing.assert_close(product, exact.float().view(B, T, V))


def test_a_rows_integers_do_not_depend_on_its_neighbours() -> None:
    product = Int8(*matrix())
    row = torch.randn(C)
    both = product(torch.stack([row, 1000 * torch.randn(C)]))
    assert torch.equal(both[0], product(row[None])[0])
    assert torch.equal(Int8(matrix()[0], None)(torch.zeros(2, C)), torch.zeros(2, V))


def saturating(limit: int):
    """A kernel that adds two products in 16 bits, as processors without VNNI do."""

    def product(a: Tensor, b: Tensor) -> Tensor:
        # Inputs are moved from [-128, 127] to [0, 255], and the shift taken off again.
        pairs = (a.int() + 128)[:, :, None] * b.int()[None]
        sums = pairs.unflatten(1, (-1, 2)).sum(2).clamp(-limit, limit).sum(1)
        return sums - 128 * b.int().sum(0)

    return product


def test_weights_keep_seven_bits_where_eight_would_overflow(monkeypatch) -> None:
    monkeypatch.setattr(torch, "_int_mm", saturating(2**15 - 1))
    assert exact_up_to() == 63
    assert Int8(*matrix()).whole.abs().amax() == 63
    monkeypatch.setattr(torch, "_int_mm", saturating(2**30))
    assert exact_up_to() == 127
    monkeypatch.setattr(torch, "_int_mm", saturating(2**12))
    with pytest.raises(ValueError, match="a processor that adds products of 8 bits ex"):
        exact_up_to()


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["AVX2", "DEFAULT"])
def test_the_kernel_of_an_older_processor_is_exact_with_what_it_is_given(isa) -> None:
    """oneDNN cuts sums off where VNNI is missing: we ask, and it must not."""
    code = """
import torch
from minigpt.packed import exact_up_to
most = exact_up_to()
a = torch.randint(-127, 128, (5, 768), dtype=torch.int8)
w = torch.randint(-most, most + 1, (300, 768), dtype=torch.int8)
a[0], w[0], w[1] = 127, most, -most
assert torch.equal(torch._int_mm(a, w.T).double(), a.double() @ w.double().T)
"""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_fewer_bits_change_the_text_model_little(weights: Weights) -> None:
    model = small()
    tokens = torch.randint(V, (B, 8))
    with torch.no_grad():
        near = pack(model, weights)(tokens).log_softmax(-1)
        exact = model(tokens).log_softmax(-1)
    tolerance = {"float16": 0.01, "int8": 0.3}[weights]
    assert 0 < (near - exact).abs().max() < tolerance


def test_the_original_is_left_alone_and_shares_nothing() -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = pack(model)
    tokens = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        said = copy(tokens)
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(copy(tokens), said)
    model.load_state_dict(before)
    assert model.blocks[0].attention.qkv.weight.is_contiguous()


def test_a_tied_table_is_held_once() -> None:
    copy = pack(small())
    table, head = copy.token_embedding.weight, copy.head.product.weight
    assert table.data_ptr() == head.data_ptr()


def test_what_cannot_be_packed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    with pytest.raises(ValueError, match="weights float32, float16, int8, got 'int4'"):
        check_packable(model, "int4")
    with pytest.raises(ValueError, match=r"torch\.float32 on the cpu, got .*bfloat16"):
        pack(small().bfloat16())
    with pytest.raises(ValueError, match=r"on the cpu, got torch\.float32 on meta"):
        pack(small().to("meta"))
    with pytest.raises(ValueError, match="not packed, got a packed one: pack the"):
        pack(pack(model))
    monkeypatch.setattr(packed, "engines", lambda: ["qnnpack"])
    with pytest.raises(ValueError, match=r"x86 .* kernels qnnpack: choose float32 or"):
        pack(model, "float16")


def test_a_packed_model_is_neither_trained_nor_saved(tmp_path: Path) -> None:
    copy = pack(small())
    with pytest.raises(ValueError, match="weights to save, got packed ones: save the"):
        save_pretrained(copy, None, tmp_path)
    tokens = torch.randint(V, (50,))
    config = TrainConfig(steps=1, batch_size=1, device="cpu", precision="float32")
    with pytest.raises(ValueError, match="a model to train, got a packed one: train"):
        fit(copy, tokens, tokens, config)
