"""Chapter 8. Packed weights: the matrices laid out for one new token at a time.

A step of generation multiplies every matrix with one row, x W: two operations for each
weight that is fetched from memory, so that fetching is all the time there is. `pack`
copies a model into a form that is read faster:

    float32   the same numbers, each matrix stored in the order in which one row needs
              it: x W is the sum of W's rows, weighted by x (`embedding_bag`)
    float16   half the bytes; products and sums in float32
    int8      a quarter: the weights of an output are w ≈ s · i with i from −127 to 127
              and s = max |w| / 127, and so is each row of inputs; sums of integers
              (Dettmers et al. 2022, §2.1 and §3.1; outliers are not kept apart here)

The copy is a `GPT` that reads and writes as the original does. It cannot be trained or
saved: keep the original. What int8 costs is in `results/generation.json`.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minigpt.attention import CausalSelfAttention, KVCache, attend, visible
from minigpt.checkpoint import blank
from minigpt.model import GPT, Block

Weights = Literal["float32", "float16", "int8"]
Product = Callable[[Tensor], Tensor]
# Numbers in a matrix that no longer fits beside the others in a core's own memory.
LARGE = 2**18
# Keeps a row of zeros from being divided by zero.
TINY = 1e-30


class RowSum:
    """x W + b in the weights' own numbers; one row is summed from W's rows."""

    def __init__(self, weight: Float[Tensor, "N K"], bias: Tensor | None) -> None:
        self.weight = weight.T.clone(memory_format=torch.contiguous_format).T
        self.bias = bias
        n_rows = weight.shape[1]
        # A small matrix stays near the processor, where any product is quick.
        self._one = n_rows if weight.numel() >= LARGE else 0
        self._index = torch.arange(n_rows)
        # Where there are threads, each sums a share of the rows.
        shares = torch.get_num_threads()
        self._starts = torch.arange(shares) * n_rows // shares

    def __call__(self, x: Float[Tensor, "*B K"]) -> Float[Tensor, "*B N"]:
        if x.numel() != self._one:
            return F.linear(x, self.weight, self.bias)
        sums = F.embedding_bag(
            self._index,
            self.weight.T,
            self._starts,
            mode="sum",
            per_sample_weights=x.flatten(),
        )
        y = sums[0] if len(sums) == 1 else sums.sum(0)
        y = y if self.bias is None else y + self.bias
        return y.view(*x.shape[:-1], -1)


class Half:
    """x W + b with W rounded to float16."""

    def __init__(self, weight: Float[Tensor, "N K"], bias: Tensor | None) -> None:
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)

    def __call__(self, x: Float[Tensor, "*B K"]) -> Float[Tensor, "*B N"]:
        return torch.ops.quantized.linear_dynamic_fp16(x, self.packed)


def rounded(
    rows: Float[Tensor, "N K"], most: int
) -> tuple[Int[Tensor, "N K"], Float[Tensor, "N 1"]]:
    """Whole numbers from −most to most, and the scale of each row."""
    scale = rows.abs().amax(1, keepdim=True).clamp(min=TINY) / most
    return (rows / scale).round().to(torch.int8), scale


def exact_up_to() -> int:
    """The largest whole weight with which this processor's kernel adds exactly.

    Without VNNI, two products are added up in 16 bits: weights of 8 bits overflow there
    and the sum is cut off, without a word.

    Raises:
        ValueError: the kernel is exact for none.
    """
    inputs = torch.full((2, 64), 127, dtype=torch.int8)
    for most in (127, 63):
        weights = torch.full((64, 64), most, dtype=torch.int8)
        if (torch._int_mm(inputs, weights) == 64 * 127 * most).all():
            return most
    raise ValueError(
        "expected a processor that adds products of 8 bits exactly, got one that does "
        "not: choose float32 or float16"
    )


class Int8:
    """x W + b with W in 8 bits, each row of x rounded as well, and sums of integers.

    The integers are exact, so a row's result never depends on its neighbours.
    """

    def __init__(self, weight: Float[Tensor, "N K"], bias: Tensor | None) -> None:
        self.whole, scale = rounded(weight, exact_up_to())
        self.scale = scale.flatten()
        self.bias = bias

    def __call__(self, x: Float[Tensor, "*B K"]) -> Float[Tensor, "*B N"]:
        rows, scale = rounded(x.reshape(-1, x.shape[-1]), 127)
        sums = torch._int_mm(rows, self.whole.T)
        y = (sums * scale).mul_(self.scale)
        y = y if self.bias is None else y.add_(self.bias)
        return y.view(*x.shape[:-1], -1)


KINDS: dict[Weights, Callable[[Tensor, Tensor | None], Product]] = {
    "float32": RowSum,
    "float16": Half,
    "int8": Int8,
}


class PackedHead(nn.Module):
    """Logits from a packed matrix, in the place of the tied or own head."""

    def __init__(self, product: Product) -> None:
        super().__init__()
        self.product = product

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """One score for each token of the vocabulary."""
        return self.product(x)


class PackedBlock(nn.Module):
    """A block's own computation, without the parts that only training needs.

    Raises:
        ValueError: it is to be trained, or saved.
    """

    def __init__(self, block: Block, pack_one: Callable[[nn.Linear], Product]) -> None:
        super().__init__()
        attention: CausalSelfAttention = block.attention
        self.pre, self.window = block.pre, attention.window
        self.n_head, self.kernel = attention.n_head, attention.kernel
        self.norm1, self.norm2 = deepcopy(block.norm1), deepcopy(block.norm2)
        self.qkv, self.out = pack_one(attention.qkv), pack_one(attention.out)
        self.up, self.down = pack_one(block.mlp.up), pack_one(block.mlp.down)
        self.register_state_dict_pre_hook(_refuse_saving)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Bool[Tensor, "B S"] | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "B T C"]:
        """As `Block.forward`, in eval mode.

        Raises:
            ValueError: in training mode.
        """
        if self.training:
            raise ValueError(
                "expected a model to train, got a packed one: train the model that it "
                "was made from, and pack that again"
            )
        x = x + self._attend(self.norm1(x) if self.pre else x, mask, cache, layer)
        if self.pre:
            return x + self._mlp(self.norm2(x))
        x = self.norm1(x)
        return self.norm2(x + self._mlp(x))

    def _attend(
        self, x: Tensor, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        parts = self.qkv(x).unflatten(-1, (3, self.n_head, -1))  # (B, T, 3, H, D)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind()
        if cache is not None:
            k, v = cache.update(layer, k, v)
        seen = visible(
            x.shape[1], k.shape[2], real=mask, window=self.window, device=x.device
        )
        heads = attend(q, k, v, mask=seen, kernel=self.kernel)
        return self.out(heads.transpose(1, 2).flatten(2))

    def _mlp(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


def pack(model: GPT, weights: Weights = "float32") -> GPT:
    """A copy of a model that generates faster on a CPU, and can only read and write.

    Its numbers are those of the model in float32; in float16 and int8 they are near.

    Raises:
        ValueError: an unknown format, a model that is packed already, on another device
            or of other numbers than float32, or a CPU for which torch has no kernel.
    """
    check_packable(model, weights)
    kind = KINDS[weights]

    def pack_one(linear: nn.Linear) -> Product:
        bias = None if linear.bias is None else linear.bias.detach().clone()
        return kind(linear.weight.detach(), bias)

    packed = blank(model.config)
    table = model.token_embedding.weight.detach()
    head = table if model.head is None else model.head.weight.detach()
    product = kind(head, None)
    if isinstance(product, RowSum) and model.head is None:
        # One table serves both ends, as in the model itself.
        table = product.weight
    else:
        table = table.clone()
    positions = model.position_embedding.weight.detach().clone()
    packed.token_embedding = nn.Embedding.from_pretrained(table, freeze=False)
    packed.position_embedding = nn.Embedding.from_pretrained(positions, freeze=False)
    packed.final_norm = deepcopy(model.final_norm)
    packed.blocks = nn.ModuleList(
        PackedBlock(block, pack_one)
        for block in model.blocks
        if isinstance(block, Block)
    )
    packed.head = PackedHead(product)  # type: ignore[assignment]
    return packed.eval()


def check_packable(model: GPT, weights: str) -> None:
    """Whether a model can be packed so.

    Raises:
        ValueError: as `pack`.
    """
    if weights not in KINDS:
        raise ValueError(f"expected weights {', '.join(KINDS)}, got {weights!r}")
    if any(isinstance(block, PackedBlock) for block in model.blocks):
        raise ValueError(
            "expected a model that is not packed, got a packed one: pack the model "
            "that it was made from"
        )
    table = model.token_embedding.weight
    if table.device.type != "cpu" or table.dtype != torch.float32:
        raise ValueError(
            f"expected a model of torch.float32 on the cpu, got {table.dtype} on "
            f"{table.device}: call .float().cpu() first; only there are the kernels"
        )
    # Not every processor has them: ARM's engine knows no float16.
    if weights == "float16" and "fbgemm" not in engines():
        raise ValueError(
            f"expected an x86 processor for float16 weights, got one with the kernels "
            f"{', '.join(engines())}: choose float32 or int8"
        )


def engines() -> list[str]:
    """The libraries of kernels for few bits that this torch was built with."""
    return list(torch.backends.quantized.supported_engines)


def _refuse_saving(module: nn.Module, prefix: str, keep: bool) -> None:
    raise ValueError(
        "expected weights to save, got packed ones: save the model that was packed"
    )
