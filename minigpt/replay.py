"""Chapter 8. Replay: one step of generation, recorded once and started as a whole.

A step for one new token is a few hundred kernels, each of which the processor has to
start on a GPU that finishes it sooner than the next arrives. A CUDA graph records them
all, with the addresses they read and write, and one call starts them again: so nothing
may move and no size may change. Keys and values therefore stand in fixed slots, every
slot is read at every step, and a mask says which of them are real. Attention does not
mind in which order its keys stand.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt.attention import PreallocatedKVCache
from minigpt.model import GPT

# Where steps are recorded, and from how many new tokens on: recording takes a step
# several times over, so that a short text would gain nothing. 32 is a guess.
DEVICES: tuple[str, ...] = ("cuda",)
WORTH = 32
WARM_UP = 3


class SlotKVCache:
    """A cache's memory, of which a step writes one slot and reads all.

    To the model it looks like one in which all positions but the newest are held.
    """

    def __init__(self, cache: PreallocatedKVCache) -> None:
        self.keys, self.values = cache.keys, cache.values
        self.slot = torch.zeros(1, dtype=torch.long, device=self.keys.device)

    @property
    def length(self) -> int:
        """All slots but one."""
        return self.keys.shape[3] - 1

    def update(
        self, layer: int, k: Float[Tensor, "B H 1 D"], v: Float[Tensor, "B H 1 D"]
    ) -> tuple[Float[Tensor, "B H S D"], Float[Tensor, "B H S D"]]:
        """Write the slot, return all of them."""
        keys, values = self.keys[layer], self.values[layer]
        keys.index_copy_(2, self.slot, k)
        values.index_copy_(2, self.slot, v)
        return keys, values


class Replay:
    """Steps of one token for each row, whose cache has been filled with a prompt.

    The first step is recorded. The cache must not change its memory afterwards.
    """

    def __init__(self, model: GPT, cache: PreallocatedKVCache) -> None:
        self.model, self.cache = model, cache
        self._slots = SlotKVCache(cache)
        n_rows, capacity = cache.keys.shape[1], cache.capacity
        device = cache.keys.device
        self._tokens = torch.zeros(n_rows, 1, dtype=torch.long, device=device)
        self._real = torch.zeros(n_rows, capacity, dtype=torch.bool, device=device)
        self._recorded: tuple[torch.cuda.CUDAGraph, Tensor] | None = None

    def logits(
        self, tokens: Int[Tensor, "B 1"], mask: Bool[Tensor, "B S"] | None
    ) -> Float[Tensor, "B V"]:
        """Of the token after these; `mask` is True at real positions, these included.

        Valid until the next step, which writes the same memory.
        """
        at = self.cache.length
        self._tokens.copy_(tokens)
        self._slots.slot.fill_(at)
        self._real.zero_()
        if mask is None:
            self._real[:, : at + 1] = True
        else:
            self._real[:, : at + 1] = mask
        self.cache.count_one_more()
        if self._tokens.device.type != "cuda":
            return self._compute()
        if self._recorded is None:
            self._recorded = self._record()
        graph, logits = self._recorded
        graph.replay()
        return logits

    def _compute(self) -> Float[Tensor, "B V"]:
        """What is recorded; its inputs stand where the next step's will."""
        hidden = self.model.hidden(self._tokens, mask=self._real, cache=self._slots)
        return self.model.unembed(hidden)[:, 0]

    def _record(self) -> tuple[torch.cuda.CUDAGraph, Float[Tensor, "B V"]]:
        # Libraries take their working memory at a first call, which must not be
        # recorded; it goes beside the stream that others wait for.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._compute()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self._compute()
        return graph, logits
