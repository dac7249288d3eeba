"""Chapter 7. The last word: LAMBADA, in the two conventions that are both in use.

Each passage was chosen so that people guess its last word from the whole of it, and
not from the last sentence alone (Paperno et al. 2016). A model that prefers "the" there
is no fool: the passage might go on. Hence two ways to ask:

    strict                         every token of the word is the likeliest at its place
    paper: with stop-word filter   the likeliest next word that can end a sentence

The second is GPT-2's (Radford et al. 2019, §3.3). Neither its code nor its list of stop
words was published; what is here is our reading of one sentence of the paper.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
import torch

from minigpt.answers import Result, score_candidates, share
from minigpt.data import pad_rows
from minigpt.decoding import reading
from minigpt.generate import generate_batch
from minigpt.model import GPT
from minigpt.questions import Question
from minigpt.scoring import NORMAL, Watch, text_row
from minigpt.tokenizer import Tokenizer

RANKED = 32  # likeliest first tokens that are tried as the beginning of the last word
GROWN = 8  # tokens that are drawn after one, to see where the word ends
ROWS = 64  # passages that are continued at once

# Closed classes of English: they end few sentences whose last word was worth guessing.
# The paper names no list; this one is ours.
STOP_WORDS = frozenset(
    """
    a an the this that these those some any each every either neither both all such
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he
    him his himself she her hers herself it its itself they them their theirs
    themselves one who whom whose which what where when why how there here
    and or but nor so yet if because although though while as than until unless since
    whether of in on at by for from to into onto with without within about against
    between among through during before after above below over under up down out off
    around toward towards upon across behind beside beyond near
    am is are was were be been being do does did doing done have has had having will
    would shall should can could may might must
    not no only just very too also then now again once ever never even still more most
    much many few other own same
    """.split()
)


def last_words(
    model: GPT,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    task: str = "lambada",
    watch: Watch | None = None,
) -> list[Result]:
    """LAMBADA in both conventions, and the perplexity of the last word.

    Strict: every token of the word is the likeliest at its place. Paper: as GPT-2's
    authors say of theirs, with a stop-word filter; `filtered_words` is our reading of
    that, since neither their code nor their list was published.

    Raises:
        ValueError: as `score_candidates`.
    """
    found = score_candidates(model, tokenizer, questions, watch=watch)
    strict = [bool(one.greedy.all()) for (one,) in found]
    nats = np.array([one.nats.sum() for (one,) in found])
    reads, targets = zip(*(one.candidates[0] for one in questions), strict=True)
    guesses = filtered_words(model, tokenizer, reads, watch=watch)
    met = [
        guess == _first_word(target)
        for guess, target in zip(guesses, targets, strict=True)
    ]
    n, mean = len(nats), float(nats.mean())
    half = NORMAL * float(nats.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    ends = (exp(mean - half), exp(mean + half)) if n > 1 else None
    return [
        share(task, "accuracy, strict", strict, "passages"),
        share(task, "accuracy, paper: with stop-word filter", met, "passages"),
        Result(task, "perplexity of the last word", exp(mean), ends, n, "passages"),
    ]


def exp(nats: float) -> float:
    """e to this power, infinite where no float is so large."""
    return math.exp(nats) if nats < 700 else math.inf


def filtered_words(
    model: GPT,
    tokenizer: Tokenizer,
    reads: Sequence[str],
    *,
    watch: Watch | None = None,
) -> list[str]:
    """The likeliest next word of each text that is no stop word; "" if none is found.

    Of the likeliest first tokens the best is taken that begins with a space, holds a
    letter and is no stop word by itself, and continued greedily to the end of its word;
    the next one, where that makes a stop word after all. A word whose first token
    looks like a stop word ("a" of "aboard") is never found.
    """
    longest = max(1, model.config.context_length - GROWN - 1)
    prompts = [
        list(text_row(tokenizer, tokenizer.encode(read)).tokens[-longest:])
        for read in reads
    ]
    words = [""] * len(prompts)
    left = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(left), ROWS):
        some = left[start : start + ROWS]
        ranked = _first_tokens(model, [prompts[i] for i in some])
        starts = {
            i: iter([t for t in tokens if _opens(tokenizer, prompts[i], t)])
            for i, tokens in zip(some, ranked, strict=True)
        }
        while begun := {i: t for i in some if (t := next(starts[i], None)) is not None}:
            grown = generate_batch(
                model,
                [[*prompts[i], token] for i, token in begun.items()],
                max_new_tokens=GROWN,
            )
            for i, row in zip(begun, grown, strict=True):
                word = _first_word(_after(tokenizer, prompts[i], row))
                words[i] = "" if word.lower() in STOP_WORDS else word
            some = [i for i in begun if not words[i]]
        if watch is not None:
            watch(min(start + ROWS, len(left)), len(left))
    return words


def _first_tokens(model: GPT, prompts: Sequence[list[int]]) -> list[list[int]]:
    """The likeliest next tokens of each prompt, best first."""
    device = next(model.parameters()).device
    with reading(model):
        tokens = pad_rows(prompts).long().clamp(min=0).to(device)
        last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
        hidden = model.hidden(tokens)[torch.arange(len(prompts)), last]  # (B, C)
        logits = model.unembed(hidden[:, None])[:, 0].float()
    return logits.topk(min(RANKED, logits.shape[1])).indices.tolist()


def _after(tokenizer: Tokenizer, prompt: list[int], row: list[int]) -> str:
    """The text that a row adds to its prompt, with the space that may stand between."""
    tail = prompt[-1:]
    return tokenizer.decode([*tail, *row[len(prompt) :]])[len(tokenizer.decode(tail)) :]


def _opens(tokenizer: Tokenizer, prompt: list[int], token: int) -> bool:
    """Whether a word that is no stop word may begin with this token."""
    text = _after(tokenizer, prompt, [*prompt, token])
    word = _first_word(text)
    return text == " " or (
        text[:1] == " " and word != "" and word.lower() not in STOP_WORDS
    )


def _first_word(text: str) -> str:
    """The first run of letters and digits; "don't" and "half-open" are one each."""
    found = re.search(r"[^\W_]+(?:['’-][^\W_]+)*", text)
    return found[0] if found else ""
