"""Padding, the window past the context, and the modes that reading leaves alone."""

import pytest
import torch
from torch import Tensor, nn

from minigpt.decoding import Window, checked, padded, reading
from minigpt.model import GPT, GPTConfig


def small(context_length: int = 8, **changes: object) -> GPT:
    config = GPTConfig(
        vocab_size=11,
        context_length=context_length,
        n_layer=2,
        n_head=3,
        d_model=12,
        **changes,  # type: ignore[arg-type]
    )
    model = GPT(config).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def rows(*lists: list[int]) -> list[Tensor]:
    return [torch.tensor(values) for values in lists]


def test_padding_repeats_a_rows_own_first_token() -> None:
    tokens, mask = padded(rows([7, 8, 9], [5]), "left")
    assert tokens.tolist() == [[7, 8, 9], [5, 5, 5]]
    assert mask is not None
    assert mask.tolist() == [[True] * 3, [False, False, True]]
    tokens, mask = padded(rows([7, 8, 9], [5, 6]), "right")
    assert tokens.tolist() == [[7, 8, 9], [5, 6, 5]]
    assert mask is not None
    assert mask.tolist() == [[True] * 3, [True, True, False]]
    assert padded(rows([1, 2], [3, 4]), "left")[1] is None


def test_modes_are_restored_module_by_module() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2)).train()
    model[0].eval()
    with reading(model):
        assert not any(module.training for module in model.modules())
        assert torch.is_inference_mode_enabled()
    assert [module.training for module in model.modules()] == [True, False, True]
    with pytest.raises(KeyError), reading(model):
        raise KeyError
    assert [module.training for module in model.modules()] == [True, False, True]
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_full_context_keeps_its_last_half_and_starts_anew(use_cache: bool) -> None:
    model = small(context_length=6)
    prompt = [1, 2, 3, 4, 5]
    with reading(model):
        window = Window(model, rows(prompt), 9, use_cache=use_cache)
        window.logits()
        window.append(torch.tensor([6]))
        assert window.tokens.tolist() == [[1, 2, 3, 4, 5, 6]]
        window.logits()
        window.append(torch.tensor([7]))
        assert window.tokens.tolist() == [[5, 6, 7]]
        expected = model(torch.tensor([[5, 6, 7]]))[:, -1]
        torch.testing.assert_close(window.logits(), expected)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("padding", ["left", "right"])
def test_every_rows_logits_are_those_it_has_alone(
    use_cache: bool, padding: str
) -> None:
    model = small(context_length=6)
    texts = [[1, 2, 3, 4, 5], [6, 7], [8]]
    with reading(model):
        window = Window(model, rows(*texts), 9, use_cache=use_cache, padding=padding)
        alone = [Window(model, rows(t), 9, use_cache=use_cache) for t in texts]
        for step in range(12):  # past the context, each row at its own time
            each = torch.cat([own.logits() for own in alone])
            torch.testing.assert_close(window.logits(), each)
            picks = torch.tensor([step % 11, (3 * step) % 11, 10])
            window.append(picks)
            for own, pick in zip(alone, picks, strict=True):
                own.append(pick[None])


def test_selected_rows_go_on_as_they_were() -> None:
    model = small()
    texts = [[1, 2, 3], [4, 5], [6]]
    with reading(model):
        window = Window(model, rows(*texts), 5, use_cache=True)
        all_rows = window.logits()
        fresh = Window(model, rows(*texts), 5, use_cache=True)
        fresh.logits()
        fresh.select(torch.tensor([2, 0]))
        fresh.append(torch.tensor([7, 8]))
        window.append(torch.tensor([8, 0, 7]))
        assert all_rows.shape == (3, 11)
        torch.testing.assert_close(fresh.logits(), window.logits()[[2, 0]])


def test_the_cache_takes_no_more_room_than_the_text_can_need() -> None:
    for new, capacity in ((2, 5), (100, 8)):
        window = Window(small(), rows([1, 2, 3]), new, use_cache=True)
        assert window.cache is not None
        assert window.cache.capacity == capacity


def test_half_precision_logits_are_added_up_in_float32() -> None:
    window = Window(small().bfloat16(), rows([1, 2]), 3, use_cache=True)
    with reading(window.model):
        assert window.logits().dtype == torch.float32


def test_bad_prompts_are_refused() -> None:
    model = small()
    with pytest.raises(ValueError, match="at least one prompt, got none"):
        checked(model, [], 1)
    with pytest.raises(ValueError, match=r"prompts of 1 to 8 tokens .* got one of 9:"):
        checked(model, [[1], [1] * 9], 1)
    with pytest.raises(ValueError, match="got one of 0: shorten it, or pass its end"):
        checked(model, [[]], 1)
    with pytest.raises(ValueError, match="ids from 0 to 10, got 1 to 11: encode"):
        checked(model, [[1, 11]], 1)
    with pytest.raises(ValueError, match="ids from 0 to 10, got -1 to 3"):
        checked(model, [[-1, 3]], 1)
    with pytest.raises(ValueError, match="max_new_tokens of at least 0, got -1"):
        checked(model, [[1]], -1)
    with pytest.raises(ValueError, match=r"stop at from 0 to 10, got \[3, 11\]: no"):
        checked(model, [[1]], 1, stop=[3, 11])


@pytest.mark.parametrize("padding", ["left", "right"])
def test_a_band_counts_tokens_wherever_the_padding_stands(padding: str) -> None:
    model = small(band=2)
    texts = [[1, 2, 3, 4, 5], [6, 7], [8]]
    with reading(model):
        window = Window(model, rows(*texts), 9, use_cache=True, padding=padding)
        alone = [Window(model, rows(t), 9, use_cache=True) for t in texts]
        for pick in (3, 1, 4, 1, 5):  # past the context of 8 too
            each = torch.cat([own.logits() for own in alone])
            torch.testing.assert_close(window.logits(), each)
            window.append(torch.tensor([pick] * 3))
            for own in alone:
                own.append(torch.tensor([pick]))
