"""Attention against torch's kernel and transformers' GPT-2, and its invariants."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from transformers import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

from minigpt.attention import (
    EXPLICIT_UP_TO,
    CausalSelfAttention,
    KVCache,
    PreallocatedKVCache,
    attend,
    attention_weights,
    causal_mask,
    explicit_attend,
    fused_attend,
)

B, T, S, C, H = 2, 5, 8, 12, 3
D = C // H
KERNELS = [explicit_attend, fused_attend]


def qkv(t: int = T, s: int = T, dtype: torch.dtype = torch.float32) -> tuple:
    q = torch.randn(B, H, t, D, dtype=dtype)
    k, v = torch.randn(2, B, H, s, D, dtype=dtype).unbind()
    return q, k, v


def attention(**kwargs) -> CausalSelfAttention:
    """With random biases: zero ones would hide a forgotten bias."""
    module = CausalSelfAttention(C, H, **kwargs)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def cache(capacity: int = S, n_layer: int = 1) -> PreallocatedKVCache:
    return PreallocatedKVCache(
        n_layer=n_layer, n_head=H, head_dim=D, batch_size=B, capacity=capacity
    )


# --- masks ---


def test_the_mask_is_true_at_oneself_and_before():
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert causal_mask(4).int().tolist() == expected


def test_the_queries_are_the_last_of_the_keys():
    assert causal_mask(2, 4).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_a_window_counts_oneself_and_ends_exactly():
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert causal_mask(4, window=2).int().tolist() == expected
    assert causal_mask(4, window=1).int().tolist() == torch.eye(4).int().tolist()


def test_fewer_keys_than_queries_are_refused():
    with pytest.raises(ValueError, match="got 3 keys and 4 queries"):
        causal_mask(4, 3)


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="at least 1 position, got 0"):
        causal_mask(4, window=0)


# --- the formula ---


def test_a_worked_example_by_hand():
    """Two positions, D = 1: the second weighs keys ln 1 and ln 4 as 1 to 4."""
    q = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1)
    k = torch.tensor([1.0, 4.0]).log().view(1, 1, 2, 1)
    v = torch.tensor([10.0, 20.0]).view(1, 1, 2, 1)
    weights = attention_weights(q, k)
    assert_close(weights[0, 0], torch.tensor([[1.0, 0.0], [0.2, 0.8]]))
    assert_close(attend(q, k, v).flatten(), torch.tensor([10.0, 18.0]))


@pytest.mark.parametrize("masked", ["causal", "band", "padding", "everything"])
def test_explicit_equals_torch_in_values_and_gradients(masked):
    masks = {
        "causal": None,
        "band": causal_mask(T, window=2),
        "padding": causal_mask(T)
        & torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]).bool().view(B, 1, 1, T),
        "everything": torch.ones(T, T, dtype=torch.bool),
    }
    mask = masks[masked]
    inputs = [x.requires_grad_() for x in qkv()]
    ours = explicit_attend(*inputs, mask=mask)
    allowed = causal_mask(T) if mask is None else mask
    torchs = F.scaled_dot_product_attention(*inputs, attn_mask=allowed)
    assert_close(ours, torchs)
    probe = torch.randn_like(ours)
    for mine, theirs in zip(
        torch.autograd.grad(ours, inputs, probe),
        torch.autograd.grad(torchs, inputs, probe),
        strict=True,
    ):
        assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("t", [1, 3, T])
def test_fused_equals_explicit_with_more_keys_than_queries(t):
    q, k, v = qkv(t, T)
    assert_close(fused_attend(q, k, v), explicit_attend(q, k, v))


def test_the_scores_of_random_vectors_keep_variance_one_at_any_width():
    """E11: without 1/√D the variance of q·k is D."""
    for width in (4, 64, 1024):
        q, k = torch.randn(2, 1, 1, 400, width).unbind()
        everything = torch.ones(400, 400, dtype=torch.bool)
        scores = attention_weights(q, k, mask=everything).log()
        centred = scores - scores.mean(-1, keepdim=True)
        assert 0.9 < centred.var() < 1.1


def test_rows_of_weights_sum_to_one_and_rows_that_see_nothing_to_zero():
    q, k, v = qkv()
    mask = causal_mask(T).clone()
    mask[2] = False
    sums = attention_weights(q, k, mask=mask).sum(-1)
    assert_close(sums, torch.tensor([1.0, 1, 0, 1, 1]).expand(B, H, T))
    for function in KERNELS:
        assert_close(
            function(q, k, v, mask=mask)[:, :, 2],
            torch.zeros(B, H, D),
            msg=str(function),
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_drifts(dtype):
    q, k, v = qkv()
    q, k = 150 * q, 150 * k  # products beyond float16's largest number, 65504
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    low = explicit_attend(q, k, v)
    exact = explicit_attend(q.double(), k.double(), v.double())
    assert low.isfinite().all()
    # Half precision keeps 8 (bfloat16) to 11 bits; scores this large decide near ties.
    agree = (low.double() - exact).abs() < 0.05
    assert agree.float().mean() > 0.9


def test_float64_stays_float64():
    q, k, v = qkv(dtype=torch.float64)
    reference = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert_close(explicit_attend(q, k, v), reference, atol=1e-14, rtol=1e-14)


def test_the_kernel_is_chosen_by_dtype_and_length(monkeypatch):
    called = []
    for name in ("explicit_attend", "fused_attend"):
        monkeypatch.setattr(
            f"minigpt.attention.{name}",
            lambda q, k, v, name=name, **_: (called.append(name), v)[1],
        )
    attend(*qkv())
    attend(*qkv(dtype=torch.bfloat16))
    long = EXPLICIT_UP_TO + 1
    attend(*qkv(long, long, dtype=torch.bfloat16))
    attend(*qkv(), kernel="explicit")
    assert called == [
        "fused_attend", "explicit_attend", "fused_attend", "explicit_attend",
    ]  # fmt: skip


def test_dropout_drops_weights_and_keeps_their_mean():
    q, k = torch.zeros(2, 1, 1, 1, D).unbind()
    v = torch.ones(1, 1, 1, D)
    for function in KERNELS:
        runs = torch.stack([function(q, k, v, dropout=0.25) for _ in range(2000)])
        assert_close(runs.unique(), torch.tensor([0, 4 / 3]))
        assert abs(runs.mean() - 1) < 4 * (1 / 3 / 2000) ** 0.5


# --- the module ---


def test_equal_to_gpt2_attention_in_transformers():
    config = GPT2Config(
        n_embd=C, n_head=H, n_positions=S, attn_implementation="eager",
        attn_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    reference = GPT2Attention(config, layer_idx=0)
    ours = attention()
    with torch.no_grad():
        reference.c_attn.weight.copy_(ours.qkv.weight.T)
        reference.c_attn.bias.copy_(ours.qkv.bias)
        reference.c_proj.weight.copy_(ours.out.weight.T)
        reference.c_proj.bias.copy_(ours.out.bias)
    x = torch.randn(B, T, C, requires_grad=True)
    # transformers wants its additive mask; the eager path of the bare layer makes none.
    hidden = torch.zeros(T, T).masked_fill(~causal_mask(T), -torch.inf)
    theirs, maps = reference(x, attention_mask=hidden[None, None])
    for kernel in ("explicit", "fused"):
        ours.kernel = kernel
        mine = ours(x)
        assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
        probe = torch.randn_like(mine)
        (a,) = torch.autograd.grad(mine, x, probe, retain_graph=True)
        (b,) = torch.autograd.grad(theirs, x, probe, retain_graph=True)
        assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert_close(ours.weights(x), maps, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", ["explicit", "fused"])
def test_future_tokens_do_not_change_the_past(kernel):
    module = attention(kernel=kernel)
    x = torch.randn(B, T, C, requires_grad=True)
    for t in range(T - 1):
        changed = x.detach().clone()
        changed[:, t + 1 :] = 1e3
        assert torch.equal(module(x)[:, : t + 1], module(changed)[:, : t + 1])
        (gradient,) = torch.autograd.grad(module(x)[:, t].sum(), x)
        assert torch.equal(gradient[:, t + 1 :], torch.zeros(B, T - t - 1, C))
        assert gradient[:, t].abs().sum() > 0


@pytest.mark.parametrize("kernel", ["explicit", "fused"])
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("steps", [(1, 1, 1, 1, 1), (3, 2), (2, 1, 2)])
def test_cached_equals_uncached_at_every_position(kernel, window, steps):
    module = attention(kernel=kernel, window=window)
    x = torch.randn(B, T, C)
    memory = cache()
    parts = [module(part, cache=memory) for part in x.split(steps, dim=1)]
    assert memory.length == T
    assert_close(torch.cat(parts, 1), module(x))


@pytest.mark.parametrize("kernel", ["explicit", "fused"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_never_leaks(kernel, side):
    """A row of 3 real tokens in a batch of 5 equals the row alone, cache or none."""
    module = attention(kernel=kernel)
    x = torch.randn(B, T, C)
    real = torch.ones(B, T, dtype=torch.bool)
    pads = slice(0, 2) if side == "left" else slice(3, 5)
    keep = slice(2, 5) if side == "left" else slice(0, 3)
    real[1, pads] = False
    alone = module(x[1:, keep])
    for filler in (0.0, 1e3, -7.0):
        x[1, pads] = filler
        out = module(x, mask=real)
        assert_close(out[1:, keep], alone)
        assert out.isfinite().all()
    memory = cache()
    parts = [
        module(x[:, t : t + 1], mask=real[:, : t + 1], cache=memory) for t in range(T)
    ]
    assert_close(torch.cat(parts, 1)[1:, keep], alone)


@pytest.mark.parametrize("kernel", ["explicit", "fused"])
def test_a_fully_padded_row_gives_no_nan_in_the_gradient(kernel):
    module = attention(kernel=kernel)
    x = torch.randn(B, T, C, requires_grad=True)
    real = torch.ones(B, T, dtype=torch.bool)
    real[1] = False
    module(x, mask=real).square().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("kernel", ["explicit", "fused"])
def test_a_band_reads_exactly_its_last_positions(kernel):
    module = attention(window=3, kernel=kernel)
    x = torch.randn(B, T, C, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x)[:, -1].sum(), x)
    reads = gradient.abs().sum((0, 2)) > 0
    assert reads.tolist() == [False, False, True, True, True]


def test_a_band_as_wide_as_the_text_is_no_band():
    x = torch.randn(B, T, C)
    module = attention(window=T)
    whole = module(x)
    module.window = None
    assert torch.equal(whole, module(x))


def test_eval_mode_drops_nothing_and_training_mode_does():
    module = attention(dropout=0.5)
    x = torch.randn(B, T, C)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="divisible by n_head, got 12 and 5"):
        CausalSelfAttention(12, 5)


# --- the cache ---


def test_the_cache_keeps_the_protocol_and_counts_whole_steps():
    memory = cache(n_layer=2)
    assert isinstance(memory, KVCache)
    k = torch.randn(B, H, 3, D)
    memory.update(0, k, k)
    assert memory.length == 0  # layer 1 has not written yet
    memory.update(1, k, k)
    assert (memory.length, memory.capacity) == (3, S)


def test_the_cache_writes_in_place_and_returns_views():
    memory = cache()
    k = torch.randn(B, H, 3, D)
    first, _ = memory.update(0, k, k)
    second, _ = memory.update(0, k, k)
    assert first.data_ptr() == second.data_ptr()
    assert_close(second, torch.cat([k, k], 2))


def test_the_cache_forgets_and_reorders():
    memory = cache()
    k = torch.randn(B, H, 2, D)
    memory.update(0, k, k)
    memory.select(torch.tensor([1, 0]))
    swapped, _ = memory.update(0, k, k)
    assert_close(swapped[:, :, :2], k[[1, 0]])
    memory.reset()
    again, _ = memory.update(0, k, k)
    assert_close(again, k)


def test_a_full_cache_is_said():
    memory = cache(capacity=4)
    k = torch.randn(B, H, 3, D)
    memory.update(0, k, k)
    with pytest.raises(ValueError, match="at most 4 positions, got 6"):
        memory.update(0, k, k)


def test_another_batch_size_is_said():
    k = torch.randn(B + 1, H, 3, D)
    with pytest.raises(ValueError, match="batch of 2, got 3 rows"):
        cache().update(0, k, k)


@pytest.mark.compile
@pytest.mark.parametrize("window", [None, 2])
def test_compiled_equals_eager(window):
    module = attention(window=window)
    compiled = torch.compile(module)
    x = torch.randn(B, T, C)
    real = torch.ones(B, T, dtype=torch.bool)
    real[1, :2] = False
    assert_close(compiled(x), module(x))
    assert_close(compiled(x, mask=real), module(x, mask=real))
