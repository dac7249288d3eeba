"""Chapter 4. The decoder: embeddings, a stack of blocks, and a head over the words.

    x = token embedding + position embedding
    x = x + attention(norm(x));  x = x + mlp(norm(x))    n_layer times, GPT-2, GPT-3
    x = norm(x + attention(x));  x = norm(x + mlp(x))    n_layer times, GPT-1
    logits = final norm(x) · token embeddingᵀ            GPT-1 has no final norm

The model stops at logits: it knows no loss, optimiser or device, and no file format.
Sources: Radford et al. 2018 (GPT-1), Radford et al. 2019 §2.3 (GPT-2), Brown et al.
2020 §2.1 (GPT-3). Letters: B batch, T positions, S key positions, C channels, V words.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minigpt.attention import CausalSelfAttention, KVCache, PreallocatedKVCache


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The shape of a GPT; every field but the first two has a default.

    Attributes:
        vocab_size: V, number of tokens.
        context_length: most positions the model can see at once.
        n_layer: blocks.
        n_head: attention heads in each block; divides d_model.
        d_model: C, width of the residual stream.
        d_mlp: width inside the MLP; 4 · d_model unless given.
        norm: "pre" (GPT-2, GPT-3: LayerNorm before each sub-layer, and a final one) or
            "post" (GPT-1: after each residual add, no final one).
        norm_eps: added to the variance inside LayerNorm.
        tied: the head is the token embedding, transposed.
        bias: linear layers and LayerNorms have biases.
        band: every second layer attends only to the last `band` positions (GPT-3).
        dropout: probability, on embeddings, attention weights and both sub-layers.
        init_std: standard deviation of the initial weights.

    Raises:
        ValueError: a size below 1, a width that does not divide into heads, an unknown
            norm, or a dropout outside [0, 1).
    """

    vocab_size: int
    context_length: int
    n_layer: int = 4
    n_head: int = 4
    d_model: int = 128
    d_mlp: int | None = None
    norm: Literal["pre", "post"] = "pre"
    norm_eps: float = 1e-5
    tied: bool = True
    bias: bool = True
    band: int | None = None
    dropout: float = 0.0
    init_std: float = 0.02

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "context_length", "n_layer", "n_head", "d_model")
        for name in (*sizes, "d_mlp", "band"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.d_model % self.n_head:
            raise ValueError(
                f"d_model must be divisible by n_head, got {self.d_model} and "
                f"{self.n_head}"
            )
        if self.norm not in ("pre", "post"):
            raise ValueError(f'norm must be "pre" or "post", got {self.norm!r}')
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")

    @property
    def head_dim(self) -> int:
        """D, channels of one head."""
        return self.d_model // self.n_head

    @property
    def mlp_width(self) -> int:
        """Channels inside the MLP."""
        return 4 * self.d_model if self.d_mlp is None else self.d_mlp

    @property
    def n_parameters(self) -> int:
        """Trainable numbers, counted by formula; a tied head is counted once."""
        c, m, b = self.d_model, self.mlp_width, int(self.bias)
        attention = 4 * c * c + b * 4 * c
        mlp = 2 * c * m + b * (m + c)
        norm = c + b * c
        final = norm if self.norm == "pre" else 0
        embeddings = (self.vocab_size + self.context_length) * c
        head = 0 if self.tied else self.vocab_size * c
        return self.n_layer * (attention + mlp + 2 * norm) + embeddings + final + head

    @classmethod
    def presets(cls) -> tuple[str, ...]:
        """Names that `preset` knows."""
        return tuple(PRESETS)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "GPTConfig":
        """A published shape by name, with fields changed where asked.

        >>> GPTConfig.preset("gpt2").n_parameters
        124439808

        Raises:
            ValueError: an unknown name.
        """
        if name not in PRESETS:
            raise ValueError(f"expected one of {', '.join(PRESETS)}, got {name!r}")
        return replace(PRESETS[name], **changes)


def _gpt2(n_layer: int, n_head: int, d_model: int) -> GPTConfig:
    return GPTConfig(
        vocab_size=50257,
        context_length=1024,
        n_layer=n_layer,
        n_head=n_head,
        d_model=d_model,
        dropout=0.1,
    )


def _gpt3(n_layer: int, n_head: int, d_model: int) -> GPTConfig:
    # The paper says "locally banded" in alternate layers and gives no width:
    # 256 positions, an eighth of the context, is our choice. No dropout is reported.
    gpt2 = _gpt2(n_layer, n_head, d_model)
    return replace(gpt2, context_length=2048, band=256, dropout=0.0)


# Layers, heads and widths from the papers' tables. Two rows of GPT-3's table 2.1 do not
# divide into heads: XL (24 heads of 128 in a width of 2048) is given 16 heads here, and
# 13B (width 5140, 40 heads of 128) a width of 5120.
PRESETS: dict[str, GPTConfig] = {
    "gpt1": GPTConfig(
        vocab_size=40478,
        context_length=512,
        n_layer=12,
        n_head=12,
        d_model=768,
        norm="post",
        dropout=0.1,
    ),
    "gpt2": _gpt2(12, 12, 768),
    "gpt2-medium": _gpt2(24, 16, 1024),
    "gpt2-large": _gpt2(36, 20, 1280),
    "gpt2-xl": _gpt2(48, 25, 1600),
    "gpt3-small": _gpt3(12, 12, 768),
    "gpt3-medium": _gpt3(24, 16, 1024),
    "gpt3-large": _gpt3(24, 16, 1536),
    "gpt3-xl": _gpt3(24, 16, 2048),
    "gpt3-2.7b": _gpt3(32, 32, 2560),
    "gpt3-6.7b": _gpt3(32, 32, 4096),
    "gpt3-13b": _gpt3(40, 40, 5120),
    "gpt3-175b": _gpt3(96, 96, 12288),
}


class MLP(nn.Module):
    """Widen, bend with GELU (tanh form, as OpenAI's code), narrow again."""

    def __init__(self, d_model: int, d_mlp: int, *, bias: bool = True) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_mlp, bias=bias)
        self.down = nn.Linear(d_mlp, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """W₂ · GELU(W₁ x + b₁) + b₂ at every position alone."""
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    """One layer: attention moves between positions, the MLP works at each of them."""

    def __init__(self, config: GPTConfig, *, window: int | None = None) -> None:
        super().__init__()
        c = config
        self.pre = c.norm == "pre"
        self.norm1 = nn.LayerNorm(c.d_model, eps=c.norm_eps, bias=c.bias)
        self.attention = CausalSelfAttention(
            c.d_model, c.n_head, bias=c.bias, dropout=c.dropout, window=window
        )
        self.norm2 = nn.LayerNorm(c.d_model, eps=c.norm_eps, bias=c.bias)
        self.mlp = MLP(c.d_model, c.mlp_width, bias=c.bias)
        self.dropout = nn.Dropout(c.dropout)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Bool[Tensor, "B S"] | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "B T C"]:
        """Add what attention read, then add what the MLP made of it."""
        read = self.norm1(x) if self.pre else x
        x = x + self.dropout(self.attention(read, mask=mask, cache=cache, layer=layer))
        if self.pre:
            return x + self.dropout(self.mlp(self.norm2(x)))
        x = self.norm1(x)
        return self.norm2(x + self.dropout(self.mlp(x)))


class GPT(nn.Module):
    """A decoder-only transformer: tokens in, a score for every next token out.

    Where `recompute` is set, the backward pass makes the insides of each block once
    more instead of keeping them: less memory, more arithmetic (Chen et al., 2016).

    >>> model = GPT(GPTConfig(vocab_size=11, context_length=8))
    >>> model(torch.zeros(2, 5, dtype=torch.long)).shape
    torch.Size([2, 5, 11])
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        # GPT-3 alternates dense and banded layers, starting with a dense one.
        self.blocks = nn.ModuleList(
            Block(config, window=config.band if i % 2 else None)
            for i in range(config.n_layer)
        )
        self.final_norm = (
            nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)
            if config.norm == "pre"
            else nn.Identity()
        )
        self.head = (
            None
            if config.tied
            else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        std = self.config.init_std
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        # 2 · n_layer sub-layers add into one stream; GPT-2's paper (§2.3) scales their
        # outputs so that the sum keeps its size. GPT-1, normed after each add, did not.
        shrink = (2 * self.config.n_layer) ** -0.5 if self.config.norm == "pre" else 1
        for module in self.modules():
            if isinstance(module, Block):
                module.attention.out.weight.mul_(shrink)
                module.mlp.down.weight.mul_(shrink)

    def new_cache(
        self, batch_size: int, capacity: int | None = None
    ) -> PreallocatedKVCache:
        """An empty key–value cache of this model's shape, dtype and device."""
        weight = self.token_embedding.weight
        return PreallocatedKVCache(
            n_layer=self.config.n_layer,
            n_head=self.config.n_head,
            head_dim=self.config.head_dim,
            batch_size=batch_size,
            capacity=self.config.context_length if capacity is None else capacity,
            dtype=weight.dtype,
            device=weight.device,
        )

    def hidden(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        mask: Bool[Tensor, "B S"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The residual stream after the last norm.

        `mask` is True at real tokens, False at padding, over all S positions (those in
        the cache too); positions are counted along its True entries.

        Raises:
            ValueError: no token, more positions than the context, or a mask of another
                length.
        """
        past = 0 if cache is None else cache.length
        total = past + tokens.shape[1]
        if tokens.shape[1] < 1:
            raise ValueError("expected at least one token in each row, got none")
        if total > self.config.context_length:
            raise ValueError(
                f"expected at most {self.config.context_length} positions (the "
                f"model's context_length), got {total}: shorten the text or crop it "
                f"to its end"
            )
        if mask is not None and mask.shape[1] != total:
            raise ValueError(
                f"expected a mask over all {total} positions (cached ones too), got "
                f"{mask.shape[1]}"
            )
        if mask is None:
            positions = torch.arange(past, total, device=tokens.device)
        else:
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, past:]
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        x = self.dropout(x)
        again = self.recompute and torch.is_grad_enabled()
        for layer, block in enumerate(self.blocks):
            call = partial(block, mask=mask, cache=cache, layer=layer)
            x = checkpoint(call, x, use_reentrant=False) if again else call(x)
        return self.final_norm(x)

    def unembed(self, hidden: Float[Tensor, "B T C"]) -> Float[Tensor, "B T V"]:
        """Logits: how well each token of the vocabulary fits each position."""
        if self.head is None:
            return F.linear(hidden, self.token_embedding.weight)
        return self.head(hidden)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        mask: Bool[Tensor, "B S"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits of the next token at every position: `unembed(hidden(tokens))`."""
        return self.unembed(self.hidden(tokens, mask=mask, cache=cache))
