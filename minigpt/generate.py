"""Chapter 6. Generating: ask for the next token, draw one, append it, ask again.

The model gives logits for the next token. A sampler changes them, and one draw ends
the step:

    logits → sampler(logits, tokens) → softmax → draw → append

`generate` works on token ids, `complete` and `stream` on text. The samplers are in
`sampling.py`, the loop itself in `decoding.py`.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from minigpt.decoding import Padding, Window, checked, decode, reading
from minigpt.model import GPT
from minigpt.sampling import (
    Chain,
    Generators,
    Greedy,
    RepetitionPenalty,
    Sampler,
    Temperature,
    TopK,
    TopP,
    draw,
)
from minigpt.tokenizer import CharTokenizer, Tokenizer, WordTokenizer

__all__ = [
    "Chain",
    "Greedy",
    "RepetitionPenalty",
    "Sampler",
    "Temperature",
    "TopK",
    "TopP",
    "beam_search",
    "complete",
    "draw",
    "generate",
    "generate_batch",
    "prompt_ids",
    "reading",
    "stream",
]


def generate(
    model: GPT,
    tokens: Int[Tensor, "B T"],
    *,
    max_new_tokens: int,
    sampler: Sampler = Greedy(),  # noqa: B008
    stop: Sequence[int] = (),
    generator: Generators = None,
    use_cache: bool = True,
) -> Int[Tensor, "B T_plus_N"]:
    """The prompt and up to `max_new_tokens` more, for each row.

    A row that draws a token of `stop` is finished, and repeats that token until the
    last row is. `generator` may be one for all rows or one for each. The model reads
    in eval mode, and has its mode back afterwards.

    Raises:
        ValueError: an empty prompt, one longer than the context, ids outside the
            vocabulary (those of `stop` too), or a negative max_new_tokens.
    """
    texts = generate_batch(
        model,
        tokens.tolist(),
        max_new_tokens=max_new_tokens,
        sampler=sampler,
        stop=stop,
        generator=generator,
        use_cache=use_cache,
    )
    if not texts:
        return tokens
    width = max(map(len, texts))
    full = [text + text[-1:] * (width - len(text)) for text in texts]
    return torch.tensor(full, device=next(model.parameters()).device)


def generate_batch(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampler: Sampler = Greedy(),  # noqa: B008
    stop: Sequence[int] = (),
    generator: Generators = None,
    use_cache: bool = True,
    padding: Padding = "left",
) -> list[list[int]]:
    """Prompts of unequal length together, each answered as it would be alone.

    Returns each prompt with its new tokens, up to and including a token of `stop`.

    Raises:
        ValueError: as `generate`; a number of generators that is not the number of
            prompts.
    """
    if not prompts:
        return []
    texts = [list(prompt) for prompt in prompts]
    steps = decode(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        sampler=sampler,
        stop=stop,
        generator=generator,
        use_cache=use_cache,
        padding=padding,
    )
    with reading(model):
        for active, picks in steps:
            for i, pick in zip(active, picks, strict=True):
                texts[i].append(pick)
    return texts


def beam_search(
    model: GPT,
    tokens: Int[Tensor, "1 T"],
    *,
    max_new_tokens: int,
    n_beam: int = 4,
    length_penalty: float = 1.0,
    stop: Sequence[int] = (),
    use_cache: bool = True,
) -> Int[Tensor, "1 T_plus_N"]:
    """The likeliest continuation that `n_beam` texts grown side by side can find.

    A text's score is its log-probability over its length to the power
    `length_penalty`. It ends once `n_beam` texts have stopped and no other scores more
    than the worst of them now; with a penalty above 0 one still might later.

    Raises:
        ValueError: as `generate`; fewer than one beam, or a length penalty that is no
            number.
    """
    if n_beam < 1:
        raise ValueError(f"expected n_beam of at least 1, got {n_beam}")
    if not math.isfinite(length_penalty):
        raise ValueError(
            f"expected length_penalty to be a number, got {length_penalty}: 0 leaves "
            f"the sum of log-probabilities, 1 takes their mean"
        )
    rows = checked(model, tokens.tolist(), max_new_tokens, stop)
    done: list[tuple[float, list[int]]] = [] if max_new_tokens else [(0.0, [])]
    with reading(model):
        window = Window(model, rows, max_new_tokens, use_cache=use_cache)
        texts: list[list[int]] = [[]]
        scores = torch.zeros(1, 1, device=rows[0].device)
        for n in range(1, max_new_tokens + 1):
            totals = scores + window.logits().log_softmax(-1)
            # So many that enough go on, even if every beam stops in every way.
            n_best = max(2, 1 + len(stop)) * n_beam
            best = totals.flatten().topk(min(n_best, totals.numel()))
            going: list[tuple[float, int, int]] = []
            for rank, (total, i) in enumerate(
                zip(*map(Tensor.tolist, best), strict=True)
            ):
                beam, token = divmod(i, totals.shape[1])
                if token not in stop and n < max_new_tokens:
                    going.append((total, beam, token))
                elif rank < n_beam:
                    done.append((total / n**length_penalty, [*texts[beam], token]))
            going = going[:n_beam]
            done = sorted(done, key=lambda item: -item[0])[:n_beam]
            full = len(done) == n_beam
            if not going or (full and going[0][0] / n**length_penalty <= done[-1][0]):
                break
            totals_of, beams, picks = zip(*going, strict=True)
            texts = [[*texts[beam], token] for _, beam, token in going]
            scores = totals.new_tensor(totals_of)[:, None]
            window.select(torch.tensor(beams, device=scores.device))
            window.append(torch.tensor(picks, device=scores.device))
    return torch.cat(
        [tokens, torch.tensor([done[0][1]], dtype=torch.long).to(tokens)], 1
    )


def prompt_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a prompt, as training showed the model the beginning of a text.

    Stories have a row each and begin after their end mark, so theirs comes first, once.
    Running text was cut anywhere, so its prompts stand alone, as in `transformers`. No
    text at all begins at the end mark; where there is none, on a new line; and where no
    line ever broke, with the vocabulary's first token.

    Raises:
        ValueError: a text that this tokenizer cannot encode, or makes nothing of.
    """
    end, ids = tokenizer.end_id, tokenizer.encode(text)
    if end is not None and (not ids or isinstance(tokenizer, WordTokenizer)):
        return ids if ids[:1] == [end] else [end, *ids]
    if not text:
        known = not isinstance(tokenizer, CharTokenizer) or "\n" in tokenizer.characters
        ids = tokenizer.encode("\n") if known else [0]
    if not ids:
        raise ValueError(
            f"expected a text with at least one token, got {text!r}: this tokenizer "
            f"has no end-of-document token to start from"
        )
    return ids


def stream(
    model: GPT,
    tokenizer: Tokenizer,
    text: str,
    *,
    max_new_tokens: int = 100,
    sampler: Sampler = Greedy(),  # noqa: B008
    stop: Sequence[str] = (),
    seed: int | None = None,
    use_cache: bool = True,
) -> Iterator[str]:
    """The continuation of a text, piece by piece as it is drawn.

    It ends before the first of the texts in `stop`, at the tokenizer's end of
    document, or after `max_new_tokens`. `prompt_ids` says what the model reads.

    Raises:
        ValueError: as `generate` and `prompt_ids`; an empty text in `stop`.
    """
    if "" in stop:
        raise ValueError("expected texts to stop at, got an empty one: leave it out")
    end, prompt = tokenizer.end_id, prompt_ids(tokenizer, text)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    steps = decode(
        model,
        [prompt],
        max_new_tokens=max_new_tokens,
        sampler=sampler,
        stop=() if end is None else (end,),
        generator=generator,
        use_cache=use_cache,
    )
    new = itertools.takewhile(lambda i: i != end, _one_row(model, steps))
    # The tokenizer sees the prompt too: a word's space depends on the word before it.
    pieces = tokenizer.decode_stream(itertools.chain(prompt, new))
    return _until(stop, itertools.islice(pieces, len(prompt), None))


def _one_row(model: GPT, steps: Iterator[tuple[list[int], list[int]]]) -> Iterator[int]:
    while True:
        # Inside the loop: between two tokens the caller's own modes must hold.
        with reading(model):
            step = next(steps, None)
        if step is None:
            return
        yield step[1][0]


def _until(stop: Sequence[str], pieces: Iterator[str]) -> Iterator[str]:
    """The text before any of `stop`; what may be the start of one is held back."""
    held = ""
    for piece in pieces:
        held += piece
        found = [held.index(end) for end in stop if end in held]
        if found:
            yield held[: min(found)]
            return
        starts = (end[:n] for end in stop for n in range(len(end)))
        keep = max((len(s) for s in starts if held.endswith(s)), default=0)
        sure = len(held) - keep
        yield held[:sure]
        held = held[sure:]
    yield held


def complete(
    model: GPT,
    tokenizer: Tokenizer,
    text: str,
    *,
    max_new_tokens: int = 100,
    sampler: Sampler = Greedy(),  # noqa: B008
    stop: Sequence[str] = (),
    seed: int | None = None,
    use_cache: bool = True,
) -> str:
    """The text and its continuation; `stream` in one piece.

    Raises:
        ValueError: as `stream`.
    """
    pieces = stream(
        model,
        tokenizer,
        text,
        max_new_tokens=max_new_tokens,
        sampler=sampler,
        stop=stop,
        seed=seed,
        use_cache=use_cache,
    )
    return text + "".join(pieces)
