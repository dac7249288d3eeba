"""One process of a run that is spread over several; `test_distributed` starts it.

    torchrun --nproc-per-node 2 tests/spread.py ddp all CHECKPOINT RESULT

`all` takes twenty steps and saves after ten; `rest` loads that and takes the other ten.
Each writes its losses and gradient norms, and a sum over the weights, as JSON.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from minigpt.data import IGNORE, Batch, shift
from minigpt.distributed import Loss, Strategy, joined
from minigpt.model import GPT, GPTConfig
from minigpt.run import TrainConfig, make_optimizer, parts

SHAPE = GPTConfig(vocab_size=50, context_length=16, n_layer=2, n_head=4, d_model=32)
MIDDLE, END = 10, 20


def batches() -> Iterator[Batch]:
    """Four rows a batch, one of them half padding: its mean must count for less."""
    draws = torch.Generator().manual_seed(1)
    while True:
        rows = torch.randint(SHAPE.vocab_size, (4, 17), generator=draws)
        rows[0, 9:] = IGNORE
        yield shift(rows)


def run(strategy: Strategy | None, part: str, folder: Path) -> dict[str, object] | None:
    torch.manual_seed(0)
    model = GPT(SHAPE)
    module = Loss(model) if strategy is None else strategy.wrap(model)
    config = TrainConfig(optimizer="adamw", learning_rate=1e-3, device="cpu")
    optimizer = make_optimizer(model, config)
    if strategy is not None:
        for one in parts(optimizer):
            strategy.adapt(one)
    if part == "rest" and strategy is not None:
        strategy.load(folder, module, parts(optimizer))
    losses, norms = [], []
    for step, batch in zip(range(END), batches(), strict=False):
        if part == "rest" and step < MIDDLE:
            continue
        if part == "all" and step == MIDDLE and strategy is not None:
            strategy.save(folder, module, parts(optimizer))
        count = int((batch.targets != IGNORE).sum())
        mine = batch if strategy is None else strategy.share(batch)
        optimizer.zero_grad()
        loss = module(*mine) * ((mine.targets != IGNORE).sum() / count)
        (loss * (1 if strategy is None else strategy.scale())).backward()
        if strategy is None:
            norm = float(torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0))
        else:
            norm = float(strategy.clip(module, 1.0))
        optimizer.step()
        losses.append(loss.item() if strategy is None else strategy.add(loss.item()))
        norms.append(norm)
    weights = model.state_dict() if strategy is None else strategy.whole(module)
    if strategy is not None and strategy.rank:
        return None
    # A signed sum over each weight: a row in another place would change it.
    marks = {
        name: float((w.double().flatten() * torch.arange(w.numel())).sum())
        for name, w in weights.items()
    }
    return {"losses": losses, "norms": norms, "marks": marks}


def main() -> None:
    kind, part, folder, result = sys.argv[1:]
    if kind == "alone":
        found = run(None, part, Path(folder))
    else:
        with joined(kind) as strategy:
            found = run(strategy, part, Path(folder))
    if found is not None:
        Path(result).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main()
