"""Chapter 3. Attention: each position reads from the positions before it.

A query asks, every earlier position answers with a key, and the values of those
that match flow in (Vaswani et al., 2017, eq. 1, with a causal mask M):

    weights = softmax(q kᵀ / √D + M),   M = 0 where a query may attend, −∞ elsewhere
    output  = weights v

Letters: B batch, T query positions, S key positions (S = T without a cache),
C channels, H heads, D = C / H. The T queries are always the last T of the S positions.
A mask is True where a query may attend; `None` everywhere means plain causal attention.
"""

from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

Kernel = Literal["auto", "explicit", "fused"]

# Up to this many queries, on a CPU in half precision, torch's fused kernel is slower
# than the plain formula: its backward pass does not use the matrix units.
EXPLICIT_UP_TO = 256


@runtime_checkable
class KVCache(Protocol):
    """What attention asks of a key–value cache: how much it holds, and one more write.

    Each layer appends its new keys and values and gets back all that it holds.
    """

    @property
    def length(self) -> int:
        """Positions that every layer holds already."""
        ...

    def update(
        self, layer: int, k: Float[Tensor, "B H T D"], v: Float[Tensor, "B H T D"]
    ) -> tuple[Float[Tensor, "B H S D"], Float[Tensor, "B H S D"]]:
        """Append to one layer and return all that it holds."""
        ...


def causal_mask(
    n_query: int,
    n_key: int | None = None,
    *,
    window: int | None = None,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "T S"]:
    """True where a query may attend: at itself and before, at most `window` positions.

    >>> causal_mask(3).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)

    Raises:
        ValueError: fewer keys than queries, or a window below 1.
    """
    n_key = n_query if n_key is None else n_key
    if n_key < n_query:
        raise ValueError(
            f"expected at least as many keys as queries, got {n_key} keys and "
            f"{n_query} queries: the queries are the last of the key positions"
        )
    if window is not None and window < 1:
        raise ValueError(f"expected a window of at least 1 position, got {window}")
    query = torch.arange(n_key - n_query, n_key, device=device)[:, None]
    key = torch.arange(n_key, device=device)[None, :]
    allowed = key <= query
    return allowed if window is None else allowed & (query - key < window)


def visible(
    n_query: int,
    n_key: int,
    *,
    real: Bool[Tensor, "B S"] | None,
    window: int | None,
    device: torch.device,
) -> Bool[Tensor, "..."] | None:
    """What each query may see: causal, inside the window, and no padding.

    `None` where plain causal attention says it all, so that the fast path is taken.
    """
    window = None if window is None or window >= n_key else window
    if real is None and window is None:
        return None
    if real is None:
        return causal_mask(n_query, n_key, window=window, device=device)
    allowed = causal_mask(n_query, n_key, device=device) & real[:, None, None, :]
    if window is None:
        return allowed
    # A band counts tokens, not columns: padding may stand between two of them.
    place = real.cumsum(-1)
    near = place[:, -n_query:, None] - place[:, None, :] < window
    return allowed & near[:, None]


def attention_weights(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B H S D"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "B H T S"]:
    """How much each query reads from each key: rows sum to 1 (Vaswani et al., eq. 1).

    `mask` broadcasts to (B, H, T, S). A query that may attend to nothing, as padding
    does, gets a row of zeros.
    """
    plain = mask is None
    if mask is None:
        mask = causal_mask(q.shape[-2], k.shape[-2], device=q.device)
    # The scale goes onto q first: float16 scores could overflow before it is applied.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    # Of half-precision scores, too, torch's softmax computes in float32.
    weights = scores.softmax(-1).to(q.dtype)
    return weights if plain else weights.masked_fill(~mask, 0.0)


def explicit_attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B H S D"],
    v: Float[Tensor, "B H S D"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T D"]:
    """The formula as it stands: every weight is computed, kept, and multiplied by v."""
    return F.dropout(attention_weights(q, k, mask=mask), dropout) @ v


def fused_attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B H S D"],
    v: Float[Tensor, "B H S D"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T D"]:
    """The same numbers from torch's kernel, which never stores the (T, S) weights."""
    n_query, n_key = q.shape[-2], k.shape[-2]
    whole = mask is None and n_query == n_key
    if mask is None and 1 < n_query < n_key:
        mask = causal_mask(n_query, n_key, device=q.device)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=whole
    )


def attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B H S D"],
    v: Float[Tensor, "B H S D"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    dropout: float = 0.0,
    kernel: Kernel = "auto",
) -> Float[Tensor, "B H T D"]:
    """Each query's weighted mean of the values it may see; causal unless masked."""
    if kernel == "auto":
        half = q.dtype in (torch.bfloat16, torch.float16)
        small = q.device.type == "cpu" and half and q.shape[-2] <= EXPLICIT_UP_TO
        kernel = "explicit" if small else "fused"
    function = explicit_attend if kernel == "explicit" else fused_attend
    return function(q, k, v, mask=mask, dropout=dropout)


class PreallocatedKVCache:
    """Keys and values of every layer, written in place into memory taken once.

    For inference: what it returns carries no gradient to the keys and values written.

    Attributes:
        keys: of shape (n_layer, B, H, capacity, D).
        values: likewise.
    """

    def __init__(
        self,
        *,
        n_layer: int,
        n_head: int,
        head_dim: int,
        batch_size: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        shape = (n_layer, batch_size, n_head, capacity, head_dim)
        # Zeros, so that no stray NaN in unused memory can ever reach a product.
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self._lengths = [0] * n_layer

    @property
    def length(self) -> int:
        """Positions that every layer holds already."""
        return min(self._lengths)

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self.keys.shape[3]

    def update(
        self, layer: int, k: Float[Tensor, "B H T D"], v: Float[Tensor, "B H T D"]
    ) -> tuple[Float[Tensor, "B H S D"], Float[Tensor, "B H S D"]]:
        """Append to one layer and return all that it holds, as views.

        Raises:
            ValueError: another batch size, or more positions than fit.
        """
        start = self._lengths[layer]
        end = start + k.shape[2]
        if k.shape[0] != self.keys.shape[1]:
            raise ValueError(
                f"expected the cache's batch of {self.keys.shape[1]}, got "
                f"{k.shape[0]} rows: make a cache for this batch"
            )
        if end > self.capacity:
            raise ValueError(
                f"expected at most {self.capacity} positions, got {end}: "
                f"make a larger cache, or reset it and start again"
            )
        self.keys[layer, :, :, start:end] = k.detach()
        self.values[layer, :, :, start:end] = v.detach()
        self._lengths[layer] = end
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def count_one_more(self) -> None:
        """One position was written into `keys` and `values` by somebody else."""
        self._lengths = [length + 1 for length in self._lengths]

    def reset(self) -> None:
        """Forget every position, keep the memory."""
        self._lengths = [0] * len(self._lengths)

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch, in that order (repeats allowed)."""
        self.keys = self.keys.index_select(1, rows)
        self.values = self.values.index_select(1, rows)


class CausalSelfAttention(nn.Module):
    """GPT-2's attention: one projection to q, k, v, H heads, one projection out.

    Raises:
        ValueError: d_model is not a multiple of n_head.
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        window: int | None = None,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__()
        if d_model % n_head:
            raise ValueError(
                f"d_model must be divisible by n_head, got {d_model} and {n_head}"
            )
        self.n_head = n_head
        self.dropout = dropout
        self.window = window
        self.kernel: Kernel = kernel
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)

    def project(
        self, x: Float[Tensor, "B T C"]
    ) -> tuple[
        Float[Tensor, "B H T D"], Float[Tensor, "B H T D"], Float[Tensor, "B H T D"]
    ]:
        """Queries, keys and values, split into heads."""
        q, k, v = (
            part.unflatten(-1, (self.n_head, -1)).transpose(1, 2)  # (B, H, T, D)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        return q, k, v

    def mask(
        self,
        n_query: int,
        real: Bool[Tensor, "B S"] | None,
        n_key: int,
        device: torch.device,
    ) -> Bool[Tensor, "..."] | None:
        """What each query may see: causal, inside the window, and no padding."""
        return visible(n_query, n_key, real=real, window=self.window, device=device)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Bool[Tensor, "B S"] | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "B T C"]:
        """Read from the positions before; `mask` is True at real tokens."""
        q, k, v = self.project(x)
        if cache is not None:
            k, v = cache.update(layer, k, v)
        allowed = self.mask(x.shape[1], mask, k.shape[2], x.device)
        dropout = self.dropout if self.training else 0.0
        heads = attend(q, k, v, mask=allowed, dropout=dropout, kernel=self.kernel)
        return self.out(heads.transpose(1, 2).flatten(2))

    def weights(
        self, x: Float[Tensor, "B T C"], *, mask: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B H T S"]:
        """The attention map of every head, for looking at."""
        q, k, _ = self.project(x)
        allowed = self.mask(x.shape[1], mask, x.shape[1], x.device)
        return attention_weights(q, k, mask=allowed)
