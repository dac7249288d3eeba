"""A model whose probabilities a test writes by hand, and a tokenizer of bytes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from minigpt.model import GPT, GPTConfig
from minigpt.subword import BPETokenizer


class Bigrams(GPT):
    """Logits that depend on the last token alone: rows of a table that a test wrote."""

    def __init__(self, table: Tensor, context_length: int = 64) -> None:
        super().__init__(
            GPTConfig(
                vocab_size=len(table),
                context_length=context_length,
                n_layer=1,
                n_head=1,
                d_model=len(table),
            )
        )
        self.register_buffer("table", table)

    def hidden(self, tokens, *, mask=None, cache=None):
        """One-hot tokens; a window longer than the context is a fault of the caller."""
        assert tokens.shape[1] <= self.config.context_length
        return torch.nn.functional.one_hot(tokens, len(self.table)).float()

    def unembed(self, hidden):
        """The table's row of each token."""
        return hidden @ self.table


def tokenizer_of(*words: str, n_merges: int = 0) -> BPETokenizer:
    """Bytes, an end mark, and as many merges as these words yield."""
    return BPETokenizer.train([" ".join(words)], vocab_size=257 + n_merges)


def model_of(
    tokenizer: BPETokenizer, p: Mapping[tuple[str, str], float], **options: int
) -> Bigrams:
    """Probabilities of one token after another, "" the end mark; the rest is shared."""
    size = tokenizer.vocab_size

    def token(name: str) -> int:
        ids = tokenizer.encode(name) if name else [tokenizer.end_id]
        assert len(ids) == 1, name
        return ids[0]

    own: dict[int, dict[int, float]] = {}
    for (before, after), chance in p.items():
        own.setdefault(token(before), {})[token(after)] = chance
    table = torch.full((size, size), 1 / size)
    for a, row in own.items():
        table[a] = (1 - sum(row.values())) / (size - len(row))
        for b, chance in row.items():
            table[a, b] = chance
    return Bigrams(table.log(), **options)
