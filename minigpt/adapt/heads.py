"""Chapter 10. Heads: one small matrix, and the decoder does another task.

    scores = W · h      h: what the decoder has made of the last real token, C numbers

That is all a classifier adds to a pretrained decoder, and the other tasks add no more:
what the scores say, and the loss, is in `scores.py`. Three choices are GPT-1's (Radford
et al., 2018). Its loss adds λ times that of predicting the rows' own next tokens (eq.
5); a similarity adds the vectors of both orders before W (§3.3); and each of several
choices has a row and a score of its own.

Letters: B examples, R rows, T positions, C channels, N positions read, O scores each.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, pstdev

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minigpt.adapt.batches import Batch, collate, like_lengths
from minigpt.adapt.inputs import Item, Layout, Marks, Read, Side, lay_out
from minigpt.adapt.scores import Prediction, said, scores_loss
from minigpt.data import IGNORE
from minigpt.decoding import Padding, reading
from minigpt.generate import generate_batch
from minigpt.labelled import Example, Task
from minigpt.model import GPT
from minigpt.sampling import Greedy
from minigpt.tokenizer import Tokenizer
from minigpt.train import unembedded_loss


@torch.no_grad()
def grow(model: GPT, n: int, *, generator: torch.Generator | None = None) -> None:
    """Add n tokens to a model's vocabulary, in place; the old rows stay as they are.

    New rows are drawn as at the beginning of pretraining. Make optimisers afterwards:
    the embedding is a new parameter.

    Raises:
        ValueError: fewer than no tokens.
    """
    if n < 0:
        raise ValueError(f"expected a number of tokens to add, got {n}")
    old = model.token_embedding
    model.config = replace(model.config, vocab_size=model.config.vocab_size + n)
    c, std = model.config, model.config.init_std
    model.token_embedding = nn.Embedding.from_pretrained(
        _taller(old.weight, n, std, generator), freeze=False
    )
    if model.head is not None:
        taller = _taller(model.head.weight, n, std, generator)
        model.head = nn.Linear(c.d_model, c.vocab_size, bias=False, device="meta")
        model.head.weight = nn.Parameter(taller)


def _taller(
    weight: Float[Tensor, "V C"], n: int, std: float, generator: torch.Generator | None
) -> Float[Tensor, "V_plus_n C"]:
    rows = torch.randn(n, weight.shape[1], generator=generator) * std
    return torch.cat([weight.detach(), rows.to(weight)])


def n_scores(layout: Layout) -> int:
    """How many scores the head gives at a position; none where the decoder's own do."""
    n = len(layout.labels)
    many = {"classes": n, "multilabel": n, "tags": n, "spans": 2 * n, "text": 0}
    return many.get(layout.kind, 1)


class Adapted(nn.Module):
    """A decoder, a head, and the layout of the task that both are for.

    A head that reads one vector has no bias, as GPT-1's and as
    `GPT2ForSequenceClassification`; those that read each token have one.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        layout: Layout,
        *,
        dropout: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.layout = model, tokenizer, layout
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Linear | None = None
        n = n_scores(layout)
        if n:
            like = model.token_embedding.weight
            bias = layout.kind in ("tags", "spans")
            self.head = nn.Linear(model.config.d_model, n, bias=bias).to(like)
            rows = torch.randn(self.head.weight.shape, generator=generator)
            self.head.weight = nn.Parameter((rows * model.config.init_std).to(like))
            if bias:
                nn.init.zeros_(self.head.bias)

    def hidden(self, batch: Batch) -> Float[Tensor, "R T C"]:
        """What the decoder makes of a batch's rows."""
        # No real token looks at padding on its right: it needs no mask, and the fused
        # kernel of attention takes none.
        mask = None if batch.padding == "right" else batch.mask
        return self.model.hidden(batch.tokens, mask=mask)

    def score(
        self, hidden: Float[Tensor, "R T C"], batch: Batch
    ) -> Float[Tensor, "N O"]:
        """The head's scores at each position that is read."""
        vectors = hidden[batch.reads]  # (N, C)
        if self.layout.both_orders:
            vectors = vectors.unflatten(0, (-1, 2)).sum(1)
        vectors = self.dropout(vectors)
        return (
            self.model.unembed(vectors[None])[0]
            if self.head is None
            else self.head(vectors)
        )

    def forward(self, batch: Batch) -> Float[Tensor, "N O"]:
        """Scores of a batch: `score(hidden(batch), batch)`."""
        return self.score(self.hidden(batch), batch)

    def n_read(self, batch: Batch) -> tuple[int, ...]:
        """How many rows of scores each example has: two orders make one."""
        return (1,) * len(batch.sizes) if self.layout.both_orders else batch.sizes

    def items(
        self, examples: Sequence[Example], *, labelled: bool = True
    ) -> list[Item]:
        """Examples as rows of tokens; a complaint says which of them it is about.

        Raises:
            ValueError: an example that cannot be laid out.
        """
        found = []
        for i, example in enumerate(examples, start=1):
            try:
                item = lay_out(example, self.tokenizer, self.layout, labelled=labelled)
            except ValueError as error:
                raise ValueError(f"example {i}: {error}") from None
            found.append(item)
        return found

    def predict(
        self,
        examples: Sequence[Example | str | tuple[str, str]],
        *,
        batch_size: int = 64,
        padding: Padding = "right",
    ) -> list[Prediction]:
        """What the model says of texts, pairs of texts, or examples, whose labels it
        does not look at.

        Raises:
            ValueError: an empty text, or a second one where it is due and missing.
        """
        whole = [_unlabelled(example) for example in examples]
        items = self.items(whole, labelled=False)
        device = self.model.token_embedding.weight.device
        found: dict[int, Prediction] = {}
        with reading(self):
            for group in like_lengths(items, batch_size):
                some = [items[i] for i in group]
                if self.layout.kind == "text":
                    found |= zip(group, self._write(some), strict=True)
                    continue
                batch = collate(some, self.layout, padding=padding)
                scores = self(batch.to(device)).float().cpu()
                parts = scores.split(self.n_read(batch))
                for i, own in zip(group, parts, strict=True):
                    found[i] = said(own, items[i], whole[i], self.layout)
        return [found[i] for i in range(len(items))]

    def _write(self, items: Sequence[Item]) -> list[Prediction]:
        prompts = [item.rows[0] for item in items]
        extract = self.layout.marks.extract
        # Neither the other marks nor an id that the tokenizer does not know is text.
        known = torch.arange(self.model.config.vocab_size) < self.tokenizer.vocab_size
        known[extract] = True

        def sampler(logits: Tensor, tokens: Tensor) -> Tensor:
            text = logits.masked_fill(~known.to(logits.device), -torch.inf)
            return Greedy()(text, tokens)

        written = generate_batch(
            self.model,
            prompts,
            max_new_tokens=self.layout.room,
            stop=(extract,),
            sampler=sampler,
        )
        new = [
            whole[len(prompt) :] for whole, prompt in zip(written, prompts, strict=True)
        ]
        texts = [
            self.tokenizer.decode([i for i in ids if i != extract]).strip()
            for ids in new
        ]
        return [Prediction(text, text) for text in texts]


def task_loss(
    adapted: Adapted,
    batch: Batch,
    *,
    lm_weight: float = 0.0,
    class_weights: Float[Tensor, " L"] | None = None,
) -> Float[Tensor, ""]:
    """The task's mean loss, and λ times that of the rows' own next tokens.

    GPT-1 took lm_weight = 0.5 (Radford et al., 2018, §4.1).

    Raises:
        ValueError: a batch without targets, or class weights where there are no
            classes.
    """
    if batch.targets is None:
        raise ValueError("expected a labelled batch, got one without targets")
    hidden = adapted.hidden(batch)
    kind = adapted.layout.kind
    if kind == "text":
        vectors = adapted.dropout(hidden[batch.reads])
        loss = unembedded_loss(adapted.model, vectors[None], batch.targets[None])
    else:
        scores, sizes = adapted.score(hidden, batch), adapted.n_read(batch)
        loss = scores_loss(
            kind, scores, batch.targets, sizes, class_weights=class_weights
        )
    if lm_weight:
        own = unembedded_loss(adapted.model, hidden, next_tokens(batch))
        loss = loss + lm_weight * own
    return loss


def next_tokens(batch: Batch) -> Int[Tensor, "R T"]:
    """At each position the next token of its row; -100 where there is none."""
    goals = batch.tokens.roll(-1, 1)
    real = batch.mask & batch.mask.roll(-1, 1)
    real[:, -1] = False
    return goals.masked_fill(~real, IGNORE)


def adapt(
    model: GPT,
    tokenizer: Tokenizer,
    task: Task,
    *,
    cut: Side = "right",
    both_orders: bool = False,
    start: bool = True,
    read: Read = "last",
    dropout: float = 0.1,
    room: int = 32,
    generator: torch.Generator | None = None,
) -> Adapted:
    """Give a decoder the tokens and the head that a task needs; it grows in place.

    A number is learnt as its distance from the training mean, in standard deviations.
    """
    first = model.config.vocab_size
    delimiter = first + start
    centre, spread = 0.0, 1.0
    if task.kind == "number" and task.train:
        numbers = [float(e.label) for e in task.train]  # type: ignore[arg-type]
        centre, spread = fmean(numbers), pstdev(numbers) or 1.0
    layout = Layout(
        kind=task.kind,
        labels=task.labels,
        marks=Marks(first if start else None, delimiter, delimiter + 1),
        context_length=model.config.context_length,
        cut=cut,
        both_orders=both_orders,
        read=read,
        room=room,
        centre=centre,
        spread=spread,
    )
    # Last: a decoder for which there is no layout stays as it is.
    grow(model, 3 if start else 2, generator=generator)
    return Adapted(model, tokenizer, layout, dropout=dropout, generator=generator)


def _unlabelled(example: Example | str | tuple[str, str]) -> Example:
    if isinstance(example, Example):
        return example
    if isinstance(example, str):
        return Example(example, "")
    return Example(example[0], "", example[1])
