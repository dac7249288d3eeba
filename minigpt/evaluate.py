"""Chapter 7. Evaluation: a task and its data by name, and every figure with its width.

    perplexity         all of a text, in overlapping windows       `scoring`
    lambada            the last word of a passage                  `lastword`
    piqa, arc-easy     one of several answers                      `answers`
    winogrande         one of two names, by what follows           `answers`
    pairs              one of two sentences                        `answers`

`evaluate` finds the data, asks, and returns one `Result` for each figure: its
convention by name, n, and a 95 % interval. `minigpt evaluate` prints them.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from minigpt.answers import Result, minimal_pairs, multiple_choice, partial_scoring
from minigpt.lastword import last_words
from minigpt.model import GPT
from minigpt.questions import USUAL, load_documents, load_questions
from minigpt.scoring import TextScore, Watch, score_text
from minigpt.texts import names
from minigpt.tokenizer import Tokenizer


class Evaluation(NamedTuple):
    """What one task said of a model; `text` holds the sums behind a perplexity."""

    task: str
    data: str
    results: list[Result]
    text: TextScore | None = None

    def record(self) -> dict[str, Any]:
        """As it is written to JSON."""
        return {
            "task": self.task,
            "data": self.data,
            "results": [asdict(result) for result in self.results],
            "text": None if self.text is None else asdict(self.text),
        }


Ask = Callable[..., list[Result]]
ASKED: dict[str, Ask] = {
    "lambada": last_words,
    "piqa": multiple_choice,
    "arc-easy": multiple_choice,
    "winogrande": partial_scoring,
    "pairs": minimal_pairs,
}
TASKS = ("perplexity", *ASKED)


def evaluate(
    model: GPT,
    tokenizer: Tokenizer,
    task: str,
    data: str | Path | None = None,
    *,
    stride: int | None = None,
    limit: int | None = None,
    watch: Watch | None = None,
) -> Evaluation:
    """One task by name, on a named test set or the reader's own file.

    `limit` keeps the first so many questions; of a text, characters of each document.

    Raises:
        FileNotFoundError: the data leads nowhere.
        ValueError: an unknown task, a stride that does not fit or belongs to another
            task, a limit below 1, or data of another form.
    """
    if task not in TASKS:
        raise ValueError(f"expected a task among {', '.join(TASKS)}, got {task!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"expected a limit of at least 1, got {limit}: or none at all")
    if task != "perplexity":
        if stride is not None:
            raise ValueError(
                f"expected a stride for perplexity alone, got {stride} for {task}: "
                f"leave it out"
            )
        name = str(USUAL[task] if data is None else data)
        questions = load_questions(task, name)[:limit]
        results = ASKED[task](model, tokenizer, questions, task=task, watch=watch)
        return Evaluation(task, name, results)
    if data is None:
        raise ValueError(
            f"expected data to read for perplexity, got none: name a file or one of "
            f"{', '.join(names())}"
        )
    documents, words = load_documents(data)
    documents = [text[:limit] for text in documents]
    score = score_text(
        model,
        tokenizer,
        documents,
        stride=stride,
        words=None if limit else words,
        watch=watch,
    )
    return Evaluation(task, str(data), text_results(score), score)


def text_results(score: TextScore, *, task: str = "perplexity") -> list[Result]:
    """A text's figures, which are one number in three units, with their intervals."""
    figures = (
        ("bits per byte", float),
        (f"perplexity per token, stride {score.stride}", score.per_token),
        ("perplexity per word", score.per_word),
    )
    unit = f"tokens in {score.documents} document{'s' * (score.documents > 1)}"
    ends = score.interval
    return [
        Result(
            task,
            metric,
            of(score.bits_per_byte),
            None if ends is None else (of(ends[0]), of(ends[1])),
            score.tokens,
            unit,
        )
        for metric, of in figures
    ]
