"""What the order of a row decides: the second half of benchmarks/story_tasks.py.

A decoder makes each token of what stands before it. So a question that stands after the
story reaches no word of the story, and the tag of a name knows nothing of what the
story tells later.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from minigpt.adapt.batches import collate, like_lengths, shuffled_batches
from minigpt.adapt.finetune import finetune
from minigpt.adapt.heads import Adapted, adapt, task_loss
from minigpt.adapt.inputs import Item
from minigpt.adapt.loop import FinetuneConfig
from minigpt.adapt.scores import said
from minigpt.grammar import LEXICON
from minigpt.labelled import Example, Examples, Label, Task
from minigpt.pretrained import load_pretrained
from minigpt.story_tasks import stories_task

N, EPOCHS, RATE, N_TEST = 500, 6, 3e-3, 2_000
PEOPLE = set(LEXICON["person"])


# The question, before the story and after it.
def asked_last(item: Item) -> Item:
    """The same row with the question moved behind the text; the places move along."""
    row, n = item.rows[0], len(item.places)
    at = len(row) - 1 - n
    start, asks, text, end = row[:1], row[1 : at - 1], row[at:-1], row[-1:]
    whole = (*start, *text, row[at - 1], *asks, *end)
    return item._replace(rows=(whole,), reads=(*range(1, 1 + n), len(whole) - 1))


def taught(task: Task, last: bool, seed: int, device: str) -> tuple[Adapted, list[Any]]:
    """A decoder that learned one of the two orders, and what it says of the test."""
    base = load_pretrained("minigpt-stories")
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    adapted = adapt(base.model, base.tokenizer, task, generator=generator)  # type: ignore[arg-type]
    where = torch.device(device if device != "auto" else _found())
    adapted.to(where)

    def items(examples: Examples) -> list[Item]:
        some = adapted.items(examples)
        return [asked_last(item) for item in some] if last else some

    train = items(task.train)
    optimizer = torch.optim.AdamW(adapted.parameters(), lr=RATE, weight_decay=0.01)
    steps = EPOCHS * -(-len(train) // 16)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(EPOCHS):
        for group in shuffled_batches(train, 16, generator=generator):
            batch = collate([train[i] for i in group], adapted.layout).to(where)
            optimizer.zero_grad()
            task_loss(adapted, batch).backward()
            torch.nn.utils.clip_grad_norm_(adapted.parameters(), 1.0)
            optimizer.step()
            falling.step()
    adapted.eval()
    test, found = items(task.test), {}
    for group in like_lengths(test, 64):
        batch = collate([test[i] for i in group], adapted.layout)
        with torch.inference_mode():
            parts = adapted(batch.to(where)).cpu().split(adapted.n_read(batch))
        for i, own in zip(group, parts, strict=True):
            found[i] = said(own, test[i], task.test[i], adapted.layout)
    return adapted, [found[i] for i in range(len(test))]


def _found() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def question(seeds: Sequence[int], device: str) -> dict[str, Any]:
    """Exact match of each question, asked first and asked last."""
    task = stories_task("spans", 2_000, 0, 2, n_test=N_TEST)
    found: dict[str, Any] = {"examples": N, "test": N_TEST, "rate": RATE}
    for name, last in (("asked first", False), ("asked last", True)):
        some = []
        for seed in seeds:
            own = replace(task, train=task.train[(seed - 1) * N : seed * N])
            _, answers = taught(own, last, seed, device)
            some.append(_shares(task.test, [a.label for a in answers]))
        found[name] = some
        print("question", name, [one["all"] for one in some], flush=True)
    return found


def _shares(examples: Examples, labels: Sequence[Label]) -> dict[str, float]:
    asked: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for example, label in zip(examples, labels, strict=True):
        for name in ("all", _kind_of(example.text_pair or "")):
            asked[name] += 1
            hits[name] += example.label == label
    return {name: round(hits[name] / n, 4) for name, n in sorted(asked.items())}


def _kind_of(asks: str) -> str:
    """A question without its names and things."""
    first, second, third, *_ = asks.split()
    return f"{first} {second} {third.rstrip('?')}"


# A role, tagged where the name stands or asked when all has been read.
def mentions(seeds: Sequence[int], device: str) -> dict[str, Any]:
    """How often a person's role is right: at the first mention, later, at the end."""
    task = stories_task("tags", 2_000, 0, 2, n_test=N_TEST)
    task = replace(task, train=task.train[: 2 * N])
    found: dict[str, Any] = {"stories": 2 * N, "test": N_TEST, "rate": RATE, "runs": []}
    config = FinetuneConfig(
        epochs=4, learning_rate=RATE, patience=None, device=device, precision="float32"
    )
    for seed in seeds:
        base = load_pretrained("minigpt-stories")
        run = finetune(base, task, replace(config, seed=seed))
        labels = [said.label for said in run.adapted.predict(task.test)]
        one = _by_mention(task, labels)
        asked = as_pairs(task)
        run = finetune(base, asked, replace(config, seed=seed))
        labels = [said.label for said in run.adapted.predict(asked.test)]
        hits = [e.label == s for e, s in zip(asked.test, labels, strict=True)]
        one["asked at the end"] = round(sum(hits) / len(hits), 4)
        for role in asked.labels:
            own = [
                hit
                for e, hit in zip(asked.test, hits, strict=True)
                if asked.labels[int(e.label)] == role  # type: ignore[arg-type]
            ]
            if own:  # a place is nobody
                one[f"asked at the end, {role}"] = round(sum(own) / len(own), 4)
        found["runs"].append(one)
        print("mentions", seed, one, flush=True)
    return found


def _by_mention(task: Task, labels: Sequence[Label]) -> dict[str, float]:
    """Share of right tags of names: first mentions, the last, and by role."""
    asked: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for example, got in zip(task.test, labels, strict=True):
        words = example.text.split()
        for person in PEOPLE & set(words):
            places = [i for i, word in enumerate(words) if word == person]
            role = task.labels[example.label[places[0]]]  # type: ignore[index]
            for which, i in (("first", places[0]), ("last", places[-1])):
                right = example.label[i] == got[i]  # type: ignore[index]
                for name in (f"{which} mention", f"{which} mention, {role}"):
                    asked[name] += 1
                    hits[name] += right
    return {name: round(hits[name] / n, 4) for name, n in sorted(asked.items())}


def as_pairs(task: Task) -> Task:
    """Each person of a story as a pair of texts: the story, then the name."""

    def pairs(examples: Examples) -> Examples:
        found = []
        for example in examples:
            words = example.text.split()
            for person in sorted(PEOPLE & set(words)):
                label = example.label[words.index(person)]  # type: ignore[index]
                found.append(Example(example.text, label, person))
        return found

    return replace(
        task,
        train=pairs(task.train),
        validation=pairs(task.validation),
        test=pairs(task.test),
        kind="classes",
    )
