"""Replayed steps read fixed slots and give the tokens of ordinary ones."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from minigpt import GPT, GPTConfig, replay
from minigpt.generate import beam_search, generate, generate_batch
from minigpt.replay import Replay, SlotKVCache
from minigpt.sampling import Temperature

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 1, 2]]


def small(**changes: object) -> GPT:
    config = GPTConfig(
        vocab_size=11,
        context_length=24,
        n_layer=3,
        n_head=3,
        d_model=12,
        **changes,  # type: ignore[arg-type]
    )
    torch.manual_seed(0)
    model = GPT(config).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def seeded() -> list[torch.Generator]:
    """One for each of two rows."""
    return [torch.Generator().manual_seed(i) for i in range(2)]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How far each replayed step had read, from here on."""
    seen: list[int] = []
    true = Replay.logits

    def logits(self: Replay, tokens: torch.Tensor, mask: torch.Tensor | None):  # type: ignore[no-untyped-def]
        seen.append(self.cache.length)
        return true(self, tokens, mask)

    monkeypatch.setattr(Replay, "logits", logits)
    return seen


@pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "post"}, {"band": 3}, {"tied": False, "bias": False}],
    ids=["gpt2", "gpt1", "gpt3", "plain"],
)
@pytest.mark.parametrize("padding", ["left", "right"])
def test_steps_from_slots_give_the_same_texts_past_the_context(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], padding: str
) -> None:
    if padding == "right" and "band" in changes:
        changes = {"band": 30}
    model = small(**changes)
    asked = {"max_new_tokens": 60, "padding": padding, "sampler": Temperature(1.0)}
    plain = generate_batch(
        model, PROMPTS, generator=torch.Generator().manual_seed(1), **asked
    )
    monkeypatch.setattr(replay, "DEVICES", ("cpu",))
    seen = counted(monkeypatch)
    again = generate_batch(
        model, PROMPTS, generator=torch.Generator().manual_seed(1), **asked
    )
    assert again == plain
    # All but the prompt and the fresh starts past the context.
    assert 45 < len(seen) < 60
    assert max(seen) == model.config.context_length - 1


def test_a_short_text_and_a_row_that_leaves_take_ordinary_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, tokens = small(), torch.tensor([[1, 2]])
    monkeypatch.setattr(replay, "DEVICES", ("cpu",))
    seen = counted(monkeypatch)
    generate(model, tokens, max_new_tokens=replay.WORTH - 1)
    assert seen == []
    beam_search(model, tokens, max_new_tokens=replay.WORTH, n_beam=2)
    assert len(seen) <= 1  # before the first choice among beams
    seen.clear()
    texts = [[1, 2], [3, 4]]
    asked = {"max_new_tokens": 40, "sampler": Temperature(2.0)}
    whole = generate_batch(model, texts, generator=seeded(), **asked)
    stop = whole[0][12]
    seen.clear()
    found = generate_batch(model, texts, generator=seeded(), stop=[stop], **asked)
    assert found[0] == whole[0][: whole[0].index(stop, 2) + 1]
    assert 0 < len(seen) < 39


def test_a_slot_is_written_and_all_are_read() -> None:
    model = small()
    cache = model.new_cache(2, 5)
    slots = SlotKVCache(cache)
    slots.slot.fill_(3)
    k, v = torch.randn(2, 2, 3, 1, 4, dtype=torch.double)
    keys, values = slots.update(1, k, v)
    assert keys.shape == (2, 3, 5, 4)
    assert_close(keys[:, :, 3], k[:, :, 0])
    assert_close(values[:, :, 3], v[:, :, 0])
    assert keys[:, :, :3].abs().sum() == 0 == cache.keys[0].abs().sum()
    assert slots.length == 4


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_recorded_graph_gives_the_same_texts_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    for changes in ({}, {"norm": "post"}, {"band": 3}):
        model = small(**changes).to("cuda", dtype)
        seen = counted(monkeypatch)
        graphed = generate_batch(model, PROMPTS, max_new_tokens=60)
        assert len(seen) > 45
        with monkeypatch.context() as patch:
            patch.setattr(replay, "DEVICES", ())
            assert generate_batch(model, PROMPTS, max_new_tokens=60) == graphed
