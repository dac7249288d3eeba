"""Chapter 10. Batches: rows of unequal length together, and where the head reads.

A decoder reads from left to right, so that only the last real token has seen all of
its row. Padding may stand on either side of it and changes nothing: a batch gives what
its rows give one by one. Letters: B examples, R rows, T positions, N positions read.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from minigpt.adapt.inputs import SINGLE, Item, Layout
from minigpt.decoding import Padding
from minigpt.labelled import Kind


class Batch(NamedTuple):
    """Items of unequal length as rows of one."""

    tokens: Int[Tensor, "R T"]
    mask: Bool[Tensor, "R T"]  # True at real tokens
    reads: Bool[Tensor, "R T"]  # True where the head reads
    sizes: tuple[int, ...]  # positions read, for each of B examples
    targets: Tensor | None
    padding: Padding

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        targets = None if self.targets is None else self.targets.to(device)
        tokens, mask, reads = (part.to(device) for part in self[:3])
        return Batch(tokens, mask, reads, self.sizes, targets, self.padding)


def last_real(mask: Bool[Tensor, "R T"]) -> Bool[Tensor, "R T"]:
    """True at the last real token of each row, whichever side is padded.

    >>> last_real(torch.tensor([[True, True, False], [False, True, True]])).int()
    tensor([[0, 1, 0],
            [0, 0, 1]], dtype=torch.int32)

    Raises:
        ValueError: a row without a real token.
    """
    if not mask.any(-1).all():
        raise ValueError("expected a real token in each row, got a row of padding")
    left = mask.flip(-1).cumsum(-1).flip(-1)  # real tokens from here on
    return mask & (left == 1)


def first_real(mask: Bool[Tensor, "R T"]) -> Bool[Tensor, "R T"]:
    """True at the first real token of each row."""
    return last_real(mask.flip(-1)).flip(-1)


def collate(
    items: Sequence[Item], layout: Layout, *, padding: Padding = "right"
) -> Batch:
    """Pad the rows of some items to one length."""
    rows = [row for item in items for row in item.rows]
    width = max(map(len, rows))
    shape = len(rows), width
    tokens = torch.full(shape, layout.marks.padding)
    mask, reads = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    for i, row in enumerate(rows):
        at = slice(width - len(row), None) if padding == "left" else slice(len(row))
        tokens[i, at] = torch.tensor(row)
        mask[i, at] = True
    if layout.kind in SINGLE:
        reads = (last_real if layout.read == "last" else first_real)(mask)
        sizes = tuple(len(item.rows) for item in items)
    else:  # one row to an item
        for i, item in enumerate(items):
            shift = width - len(item.rows[0]) if padding == "left" else 0
            reads[i, torch.tensor(item.reads, dtype=torch.long) + shift] = True
        sizes = tuple(len(item.reads) for item in items)
    return Batch(tokens, mask, reads, sizes, _targets(items, layout.kind), padding)


def _targets(items: Sequence[Item], kind: Kind) -> Tensor | None:
    targets = [item.target for item in items]
    if any(target is None for target in targets):
        return None
    if kind in ("tags", "text"):  # of all rows in one row
        every = [one for target in targets for one in target]  # type: ignore[union-attr]
        return torch.tensor(every, dtype=torch.long)
    whole = kind in ("classes", "choice", "spans")
    return torch.tensor(targets, dtype=torch.long if whole else torch.float32)


def like_lengths(items: Sequence[Item], batch_size: int) -> list[list[int]]:
    """Batches of items of about the same length: little of them is padding.

    >>> [len(b) for b in like_lengths([], 2)]
    []
    """
    order = sorted(range(len(items)), key=lambda i: items[i].length)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def shuffled_batches(
    items: Sequence[Item],
    batch_size: int,
    *,
    generator: torch.Generator,
    pool: int = 50,
) -> list[list[int]]:
    """Each item once, in batches of like lengths that come in a random order.

    Items are shuffled first and sorted only within `pool` batches, so that a batch is
    made of other items in each epoch.
    """
    order = torch.randperm(len(items), generator=generator).tolist()
    batches: list[list[int]] = []
    for at in range(0, len(order), pool * batch_size):
        some = order[at : at + pool * batch_size]
        groups = like_lengths([items[i] for i in some], batch_size)
        batches += [[some[i] for i in group] for group in groups]
    mixed = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[i] for i in mixed]
