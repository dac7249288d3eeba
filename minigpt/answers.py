"""Chapter 7. Answers: what a model prefers, how often it is right, and how sure.

    choice      the answer of the greatest log-likelihood, summed (what
                lm-evaluation-harness calls acc) and per character (its acc_norm): a
                long answer has more tokens to lose on
    winogrande  the rest of the sentence is scored after each name; the names are not,
                for the rarer one would lose (Trinh and Le 2018, partial scoring)
    pairs       the sentence of the greater log-likelihood, all its tokens summed

A tie is a miss. CrowS-Pairs' own metric scores only what the two sentences share, each
token seen from both sides, which a model that reads forwards cannot do; ours compares
whole sentences, and half is what an unbiased model would choose (Nangia et al. 2020).

Accuracies have Wilson's 95 % interval (1927), over questions of the same kind.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from minigpt.model import GPT
from minigpt.questions import Question
from minigpt.scoring import NORMAL, Scored, Watch, score_rows, text_row
from minigpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Result:
    """One figure.

    Attributes:
        task: what was asked.
        metric: what the figure is, convention included.
        value: the figure.
        interval: 95 %, low and high; None where there is too little to say.
        n: how many units stand behind it.
        unit: what they are.
    """

    task: str
    metric: str
    value: float
    interval: tuple[float, float] | None
    n: int
    unit: str

    def __str__(self) -> str:
        spread = "no interval"
        if self.interval is not None:
            spread = "[{:.4g}, {:.4g}]".format(*self.interval)
        return (
            f"{self.task:11} {self.metric:40} {self.value:8.4g}  {spread:18}  "
            f"n = {self.n:,} {self.unit}"
        )


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share of hits (1927); inside [0, 1] at any n.

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    z2, p = NORMAL**2 / n, hits / n
    middle = (p + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * (p * (1 - p) + z2 / 4)) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(task: str, metric: str, hits: Sequence[bool], unit: str) -> Result:
    """How many of the questions were met."""
    n, met = len(hits), sum(map(bool, hits))
    return Result(task, metric, met / n, wilson(met, n), n, unit)


def score_candidates(
    model: GPT,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    watch: Watch | None = None,
) -> list[list[Scored]]:
    """Every candidate's scored tokens, after the end mark (if any) and what is read.

    The two texts are encoded apart, so that no token reaches across.

    Raises:
        ValueError: no questions; a text that the tokenizer cannot encode.
    """
    if not questions:
        raise ValueError("expected at least one question, got none: bring a test set")
    rows = []
    for read, scored in (pair for one in questions for pair in one.candidates):
        scored = f" {scored}" if read else scored
        rows.append(
            text_row(tokenizer, tokenizer.encode(scored), _ids(tokenizer, read))
        )
    found = iter(score_rows(model, rows, watch=watch))
    return [[next(found) for _ in question.candidates] for question in questions]


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text) if text else []


def _won(scores: Sequence[float], answer: int) -> bool:
    """Whether the answer's score is greater than every other: a tie is a miss."""
    return all(scores[answer] > s for i, s in enumerate(scores) if i != answer)


def multiple_choice(
    model: GPT,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    task: str = "choice",
    watch: Watch | None = None,
) -> list[Result]:
    """Accuracy by summed log-likelihood, and by log-likelihood per character.

    Raises:
        ValueError: as `score_candidates`.
    """
    plain, normed = [], []
    found = score_candidates(model, tokenizer, questions, watch=watch)
    for question, scored in zip(questions, found, strict=True):
        sums = [-float(one.nats.sum()) for one in scored]
        lengths = [max(1, len(text)) for _, text in question.candidates]
        each = [total / length for total, length in zip(sums, lengths, strict=True)]
        plain.append(_won(sums, question.answer))
        normed.append(_won(each, question.answer))
    return [
        share(task, "accuracy, summed (acc)", plain, "questions"),
        share(task, "accuracy, per character (acc_norm)", normed, "questions"),
    ]


def partial_scoring(
    model: GPT,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    task: str = "winogrande",
    watch: Watch | None = None,
) -> list[Result]:
    """Accuracy where candidates differ in what is read and share what is scored.

    Raises:
        ValueError: as `score_candidates`.
    """
    hits = _summed(model, tokenizer, questions, watch)
    return [share(task, "accuracy, partial scoring", hits, "questions")]


def minimal_pairs(
    model: GPT,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    task: str = "pairs",
    watch: Watch | None = None,
) -> list[Result]:
    """How often the first sentence of a pair is the likelier one; then for each kind.

    Raises:
        ValueError: as `score_candidates`.
    """
    hits = _summed(model, tokenizer, questions, watch)
    results = [share(task, "first sentence likelier", hits, "pairs")]
    for kind in sorted({question.kind for question in questions} - {""}):
        own = [h for h, q in zip(hits, questions, strict=True) if q.kind == kind]
        results.append(share(task, f"first sentence likelier: {kind}", own, "pairs"))
    return results


def _summed(
    model: GPT,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    watch: Watch | None,
) -> list[bool]:
    found = score_candidates(model, tokenizer, questions, watch=watch)
    return [
        _won([-float(one.nats.sum()) for one in scored], question.answer)
        for question, scored in zip(questions, found, strict=True)
    ]
