"""One process answers for all: it has every row, and its sums are the sums."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from minigpt.alone import ALONE, SHARDED, Processes
from minigpt.checkpoint import load_folder
from minigpt.data import IGNORE, Batch, shift
from minigpt.model import GPT, GPTConfig
from minigpt.optim import adamw
from minigpt.recipe import TrainConfig
from minigpt.train import next_token_loss, training_steps

B, T, V = 2, 5, 11
SHAPE = GPTConfig(vocab_size=V, context_length=T, n_layer=2, n_head=3, d_model=12)


def a_batch() -> Batch:
    rows = torch.randint(V, (B, T + 1), generator=torch.Generator().manual_seed(0))
    rows[0, 4:] = IGNORE
    return shift(rows)


def stepped(model: GPT) -> torch.optim.Optimizer:
    optimizer = adamw(model.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    next_token_loss(model, *a_batch()).backward()
    optimizer.step()
    return optimizer


def test_one_process_is_an_answer_to_all_that_is_asked():
    assert isinstance(ALONE, Processes)
    assert ALONE.first
    assert ALONE.size == ALONE.scale() == 1


def test_one_process_takes_all_rows_and_the_plain_loss():
    torch.manual_seed(0)
    model, batch = GPT(SHAPE), a_batch()
    before = {name: w.clone() for name, w in model.state_dict().items()}
    ALONE.spread(model, TrainConfig())
    assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert ALONE.share(batch) is batch
    loss = ALONE.loss_of(model, next_token_loss)(*batch)
    assert torch.equal(loss, next_token_loss(model, *batch))
    assert ALONE.add(loss) is loss
    assert [ALONE.agree(stop) for stop in (False, True)] == [False, True]


def test_the_norm_is_torchs_and_the_gradient_is_clipped():
    torch.manual_seed(0)
    model = GPT(SHAPE)
    next_token_loss(model, *a_batch()).backward()
    gradients = [p.grad.flatten() for p in model.parameters()]
    whole = torch.cat(gradients).norm()
    assert_close(ALONE.clip(model, 0.5), whole)
    clipped = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert_close(clipped, torch.tensor(0.5), rtol=1e-4, atol=0)


def test_a_batch_of_padding_alone_is_refused_before_it_moves_anything():
    nothing = torch.full((B, T), IGNORE)
    batch = Batch(nothing.clamp(min=0), nothing)
    said = r"at least one target in a batch, got 10 that are all -100 \(ignored\)"
    with pytest.raises(ValueError, match=said):
        next(training_steps(GPT(SHAPE), [batch], TrainConfig(device="cpu")))


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path):
    torch.manual_seed(0)
    first, second = GPT(SHAPE), GPT(SHAPE)
    optimizer, other = stepped(first), stepped(second)
    kept = ALONE.save(tmp_path, first, None, [optimizer])
    drawn = torch.rand(3)
    ALONE.restore(tmp_path, second, [other], kept)
    assert torch.equal(torch.rand(3), drawn)
    assert_close(second.state_dict(), first.state_dict(), rtol=0, atol=0)
    states = [o.state_dict()["state"] for o in (optimizer, other)]
    assert_close(states[0], states[1], rtol=0, atol=0)
    ALONE.export(tmp_path / "best", first, None)
    exported = load_folder(tmp_path / "best").model
    assert_close(exported.state_dict(), first.state_dict(), rtol=0, atol=0)


def test_a_run_of_several_processes_is_not_gone_on_with_by_one(tmp_path: Path):
    model = GPT(SHAPE)
    (tmp_path / SHARDED).mkdir()
    with pytest.raises(ValueError, match=r"expected a run of one process in .*, got o"):
        ALONE.restore(tmp_path, model, [stepped(model)], {})


def test_the_new_folder_takes_the_old_ones_place(tmp_path: Path):
    for text in ("old", "new"):
        with ALONE.in_turn(), ALONE.replacing(tmp_path / "last") as folder:
            (folder / "file").write_text(text)
            assert not (tmp_path / "last" / "file").exists() or text == "new"
    assert (tmp_path / "last" / "file").read_text() == "new"
