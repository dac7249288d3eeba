"""The decoder against transformers, its counts against the papers' shapes."""

import math

import pytest
import torch
import transformers
from torch.testing import assert_close

from minigpt.model import GPT, GPTConfig

B, T, C, H, V = 2, 5, 12, 3, 11
CONTEXT = 8


def tiny(**changes) -> GPTConfig:
    fields = dict(vocab_size=V, context_length=CONTEXT, n_layer=2, n_head=H, d_model=C)
    return GPTConfig(**{**fields, **changes})


def random_model(config: GPTConfig) -> GPT:
    """Random biases and norms too: zeros and ones would hide a swapped one."""
    model = GPT(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def tokens(t: int = T) -> torch.Tensor:
    return torch.randint(V, (B, t))


def foreign(model: GPT) -> torch.nn.Module:
    """The same weights in transformers' class, copied here name by name."""
    c = model.config
    kind = transformers.GPT2Config if c.norm == "pre" else transformers.OpenAIGPTConfig
    config = kind(
        vocab_size=c.vocab_size,
        n_positions=c.context_length,
        n_embd=c.d_model,
        n_layer=c.n_layer,
        n_head=c.n_head,
        tie_word_embeddings=c.tied,
    )
    post = c.norm == "post"
    theirs = (
        transformers.OpenAIGPTLMHeadModel(config)
        if post
        else transformers.GPT2LMHeadModel(config)
    ).eval()
    body = theirs.transformer
    tok, pos = (
        (body.tokens_embed, body.positions_embed) if post else (body.wte, body.wpe)
    )
    with torch.no_grad():
        tok.weight.copy_(model.token_embedding.weight)
        pos.weight.copy_(model.position_embedding.weight)
        for mine, block in zip(model.blocks, body.h, strict=True):
            for a, b in (
                (mine.norm1, block.ln_1),
                (mine.norm2, block.ln_2),
                (mine.attention.qkv, block.attn.c_attn),
                (mine.attention.out, block.attn.c_proj),
                (mine.mlp.up, block.mlp.c_fc),
                (mine.mlp.down, block.mlp.c_proj),
            ):
                # Conv1D stores the transpose of Linear's matrix.
                b.weight.copy_(a.weight.T if a.weight.dim() == 2 else a.weight)
                b.bias.copy_(a.bias)
        if not post:
            body.ln_f.weight.copy_(model.final_norm.weight)
            body.ln_f.bias.copy_(model.final_norm.bias)
        if model.head is not None:
            theirs.lm_head.weight.copy_(model.head.weight)
    return theirs


COUNTS = {
    "gpt1": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt3-small": 125_226_240,
    "gpt3-medium": 355_871_744,
    "gpt3-large": 760_300_032,
    "gpt3-xl": 1_315_723_264,
    "gpt3-2.7b": 2_651_553_280,
    "gpt3-6.7b": 6_658_404_352,
    "gpt3-13b": 12_853_386_240,
    "gpt3-175b": 174_604_259_328,
}


def test_the_formula_counts_the_published_shapes():
    counted = {n: GPTConfig.preset(n).n_parameters for n in GPTConfig.presets()}
    assert counted == COUNTS


@pytest.mark.parametrize(
    "changes",
    [{}, {"tied": False}, {"bias": False}, {"norm": "post"}, {"d_mlp": 20}],
    ids=str,
)
def test_the_formula_counts_what_the_modules_hold(changes):
    model = GPT(tiny(**changes))
    assert sum(p.numel() for p in model.parameters()) == model.config.n_parameters


@pytest.mark.parametrize("name", ["gpt1", "gpt2-xl", "gpt3-175b"])
def test_full_size_models_hold_what_the_formula_says(name):
    with torch.device("meta"):  # shapes without memory
        model = GPT(GPTConfig.preset(name))
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]


@pytest.mark.parametrize(
    "changes", [{}, {"tied": False}, {"norm": "post"}], ids=["gpt2", "untied", "gpt1"]
)
def test_equal_to_transformers_in_logits_and_gradients(changes):
    model = random_model(tiny(**changes))
    theirs = foreign(model)
    batch = tokens(CONTEXT)
    ours, reference = model(batch), theirs(batch).logits
    assert_close(ours, reference, atol=1e-5, rtol=1e-5)
    probe = torch.randn_like(ours) / ours[..., 0].numel()  # the size of a mean loss
    (ours * probe).sum().backward()
    (reference * probe).sum().backward()
    pairs = [
        (model.token_embedding.weight, theirs.get_input_embeddings().weight),
        (model.blocks[0].attention.qkv.bias, theirs.transformer.h[0].attn.c_attn.bias),
        (model.blocks[0].norm1.weight, theirs.transformer.h[0].ln_1.weight),
        (model.blocks[1].mlp.up.bias, theirs.transformer.h[1].mlp.c_fc.bias),
        (model.blocks[1].norm2.bias, theirs.transformer.h[1].ln_2.bias),
    ]
    for mine, other in pairs:
        assert_close(mine.grad, other.grad, atol=1e-5, rtol=1e-5)


def test_left_padding_equals_transformers():
    model = random_model(tiny())
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    batch = tokens()
    reference = foreign(model)(batch, attention_mask=mask, position_ids=positions)
    ours = model(batch, mask=mask.bool())
    assert_close(ours[mask.bool()], reference.logits[mask.bool()], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"norm": "post"}, {"band": 2}], ids=str)
def test_future_tokens_do_not_change_the_past(changes):
    model = random_model(tiny(**changes))
    batch = tokens()
    before = model(batch)
    for t in range(T - 1):
        changed = batch.clone()
        changed[:, t + 1 :] = (changed[:, t + 1 :] + 1) % V
        assert torch.equal(model(changed)[:, : t + 1], before[:, : t + 1])


@pytest.mark.parametrize("changes", [{}, {"norm": "post"}, {"band": 2}], ids=str)
@torch.inference_mode()
def test_cached_equals_uncached_at_every_position(changes):
    model = random_model(tiny(**changes))
    batch = tokens(CONTEXT)
    cache = model.new_cache(B)
    steps = [model(part, cache=cache) for part in batch.split([3, 1, 2, 1, 1], dim=1)]
    assert cache.length == CONTEXT
    assert_close(torch.cat(steps, 1), model(batch))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("band", [None, 2])
@torch.inference_mode()
def test_a_batch_of_unequal_lengths_equals_one_by_one(side, band):
    """Two prompts of 5 and 3 tokens, then two more tokens each, through the cache."""
    model = random_model(tiny(band=band))
    batch = tokens(T + 2)
    real = torch.ones(B, T + 2, dtype=torch.bool)
    real[1, slice(0, 2) if side == "left" else slice(3, 5)] = False
    cache = model.new_cache(B)
    model(batch[:, :T], mask=real[:, :T], cache=cache)
    last = [
        model(batch[:, t : t + 1], mask=real[:, : t + 1], cache=cache)[:, 0]
        for t in (T, T + 1)
    ]
    for row in range(B):
        alone = model(batch[row, real[row]][None])[0, -2:]
        assert_close(torch.stack([step[row] for step in last]), alone)


def test_every_second_layer_of_gpt3_is_banded_and_the_first_is_dense():
    windows = [b.attention.window for b in GPT(tiny(n_layer=4, band=2)).blocks]
    assert windows == [None, 2, None, 2]


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_loss_at_the_start_is_that_of_a_uniform_guess(norm):
    config = GPTConfig(vocab_size=1000, context_length=32, norm=norm)
    model, batch = GPT(config), torch.randint(1000, (8, 33))
    logits = model(batch[:, :-1])
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch[:, 1:].flatten()
    )
    assert abs(loss / math.log(1000) - 1) < 0.05


@pytest.mark.parametrize(("norm", "smaller"), [("pre", 4), ("post", 1)])  # √(2 · 8)
def test_residual_projections_start_smaller_by_the_depth_before_a_norm_only(
    norm, smaller
):
    size = {"vocab_size": V, "context_length": 8, "n_layer": 8, "d_model": 128}
    model = GPT(GPTConfig(**size, norm=norm))
    out, up = model.blocks[0].attention.out.weight, model.blocks[0].mlp.up.weight
    assert abs(up.std() / 0.02 - 1) < 0.05
    assert abs(out.std() / (0.02 / smaller) - 1) < 0.05


def test_a_tied_head_is_the_embedding_and_an_untied_one_is_not():
    assert GPT(tiny()).head is None
    model = GPT(tiny(tied=False))
    assert model.head.weight.data_ptr() != model.token_embedding.weight.data_ptr()


def test_forward_is_unembed_of_hidden():
    model, batch = random_model(tiny()), tokens()
    assert torch.equal(model(batch), model.unembed(model.hidden(batch)))
    assert model.hidden(batch).shape == (B, T, C)


def test_what_is_made_again_for_the_backward_pass_is_the_same_to_the_bit():
    """Dropout too: its random numbers are drawn a second time from the same state."""
    gradients, runs = [], []
    for recompute in (False, True):
        torch.manual_seed(1)
        model = random_model(tiny(dropout=0.2)).train()
        model.recompute = recompute
        model.blocks[0].register_forward_pre_hook(lambda *_: runs.append(recompute))  # noqa: B023
        model(tokens()).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert runs == [False, True, True]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_text_longer_than_the_context_is_said():
    model = GPT(tiny())
    with pytest.raises(ValueError, match=r"at most 8 positions .* got 9"):
        model(tokens(9))
    cache = model.new_cache(B)
    model(tokens(6), cache=cache)
    with pytest.raises(ValueError, match=r"at most 8 positions .* got 9"):
        model(tokens(3), cache=cache)


def test_no_token_is_said():
    with pytest.raises(ValueError, match="at least one token"):
        GPT(tiny())(tokens(0))


def test_a_mask_of_another_length_is_said():
    with pytest.raises(ValueError, match=r"all 5 positions .* got 4"):
        GPT(tiny())(tokens(), mask=torch.ones(B, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layer": 0}, "n_layer must be at least 1, got 0"),
        ({"band": 0}, "band must be at least 1, got 0"),
        ({"n_head": 5}, "divisible by n_head, got 12 and 5"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_an_impossible_shape_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_an_unknown_norm_is_said():
    config = object.__new__(GPTConfig)  # past the type checker, as a file would come
    vars(config).update(vars(tiny()), norm="both")
    with pytest.raises(ValueError, match=r'norm must be "pre" or "post", got \'both\''):
        config.__post_init__()


def test_an_unknown_preset_is_said():
    with pytest.raises(ValueError, match=r"expected one of gpt1, gpt2, .* got 'gpt5'"):
        GPTConfig.preset("gpt5")


def test_a_preset_takes_changes():
    config = GPTConfig.preset("gpt2", context_length=256, dropout=0.0)
    assert (config.context_length, config.dropout, config.d_model) == (256, 0.0, 768)


@pytest.mark.compile
def test_compiled_equals_eager():
    model, batch = random_model(tiny(band=2)), tokens()
    assert_close(torch.compile(model)(batch), model(batch))
