"""Chapter 11. Story tasks: what is true in a story makes tasks with exact labels.

Entailment, multiple choice, spans, tags, summaries and translation into Chinese, each
with a dial for its difficulty:

    1   a false value stands nowhere else in the story: finding it is enough
    2   it is in the story too, as somebody or something else: who did what counts
    3   people are called by their trade, which only other stories tell; one question
        in four has no answer; things have roles as people have

A summary or a translation gets longer with the dial. Every input fits a context of 128
words, labels and marks included.
"""

from collections.abc import Callable, Mapping

from minigpt.claims import (
    BLOCK,
    CAST,
    ROLES,
    VALUES,
    Claim,
    Pool,
    false_values,
    filled,
    known,
    silent,
    silent_values,
    telling,
    true_values,
)
from minigpt.grammar import KINDS, LEXICON, PRONOUNS, Line, Part
from minigpt.labelled import Example, Examples, Kind, Span, Task
from minigpt.splits import make_task
from minigpt.stories import VALIDATION_SEED, Story, join, words

# Seeds of the first story of each part; a reader's seed moves train and validation.
FIRST = {
    "train": 100_000,
    "validation": VALIDATION_SEED + 100_000,
    "test": VALIDATION_SEED + 5_000_000,
}
DIALS = (1, 2, 3)
CONTEXT = 128
MARKS = 3  # start, delimiter, extract (Radford et al., 2018, §3.3)


def _table(dial: int) -> tuple[Claim, ...]:
    return VALUES if dial == 1 else ROLES


def _shares(n: int, among: int, first: int = 0) -> list[int]:
    """How many of n each gets, as evenly as can be; the first gets what is left over.

    >>> _shares(5, 3), _shares(5, 3, first=1)
    ([2, 2, 1], [1, 2, 2])
    """
    return [len(range((at - first) % among, n, among)) for at in range(among)]


def _mixed(rows: Examples, pool: Pool) -> Examples:
    keys = [pool.random.random() for _ in rows]
    return [rows[i] for i in sorted(range(len(rows)), key=keys.__getitem__)]


# Claims: what follows from the story, and which of two does.
def _entailment(pool: Pool, n: int, dial: int) -> Examples:
    rows: Examples = []
    table = _table(dial)
    for at, claim in enumerate(table):
        agree, deny, neither = _shares(_shares(n, len(table))[at], 3, at)
        agreed = [telling(claim, pool) for _ in range(agree)]
        denied = [telling(claim, pool) for _ in range(deny)]
        open_ = [silent(claim, pool) for _ in range(neither)]
        true = true_values(claim, agreed)
        values = {
            "entailment": (agreed, true),
            "contradiction": (denied, false_values(claim, denied, pool)),
            "neutral": (open_, silent_values(claim, true, open_, pool)),
        }
        rows += [
            Example(story.text, label, _said(claim, story, value, dial))
            for label, pairs in values.items()
            for story, value in zip(*pairs, strict=True)
        ]
    return _mixed(rows, pool)


def _said(claim: Claim, story: Story, value: str, dial: int) -> str:
    return filled(claim.says, {**known(story), claim.role: value}, trades=dial == 3)


def _choice(pool: Pool, n: int, dial: int) -> Examples:
    rows: Examples = []
    table = _table(dial)
    for claim, count in zip(table, _shares(n, len(table)), strict=True):
        stories = [telling(claim, pool) for _ in range(count)]
        true, false = true_values(claim, stories), false_values(claim, stories, pool)
        for story, *values in zip(stories, true, false, strict=True):
            label = int(pool.random.random() * 2)
            both = [_said(claim, story, value, dial) for value in values]
            rows.append(Example(story.text, label, choices=(both[label], both[~label])))
    return _mixed(rows, pool)


# Places in the story: an answer, and the role of each word.
def _spans(pool: Pool, n: int, dial: int) -> Examples:
    claims = [claim for claim in _table(dial) if claim.asks]
    rows = []
    for i in range(n):
        claim = claims[i % len(claims)]
        answered = dial < 3 or (i + i // len(claims)) % 4 > 0

        story = (telling if answered else silent)(claim, pool, claim.asks)
        question = filled(claim.asks, known(story), trades=dial == 3)
        spans = (answer(story, claim.role),) if answered else ()
        rows.append(Example(story.text, spans, question))
    return _mixed(rows, pool)


def answer(story: Story, role: str) -> Span:
    """Where a role is first named in the text."""
    first = next(mention for mention in story.mentions if mention.role == role)
    at, found = 0, []
    for word in story.words[: first.end]:
        at = story.text.index(word, at)
        found.append((at, at + len(word)))
        at += len(word)
    return Span(found[first.start][0], found[-1][1])


PAIRS = ("thing", "colour", "hour", "spot")


def _tags(pool: Pool, n: int, dial: int) -> Examples:
    rows = []
    for _ in range(n):
        story = pool.take()
        tags = ["O"] * (len(story.words) - 1)
        for role, start, end, _ in story.mentions:
            tags[start:end] = [_tag(role, known(story), dial)] * (end - start)
        rows.append(Example(" ".join(story.words[:-1]), tuple(tags)))
    return rows


def _tag(role: str, roles: Mapping[str, str], dial: int) -> str:
    """The kind of what is named; from dial 2 on a person's role, then everything's."""
    kind = KINDS[role]
    if dial == 1 or kind == "place":
        return kind if kind in ("person", "place", *PAIRS) else "O"
    own: tuple[str, ...] = CAST if kind == "person" else ()
    if dial == 3 and kind in PAIRS:
        own = (kind, f"{kind}2")
    # Whoever only came to watch has no role.
    return next((r for r in own if roles.get(r) == roles[role]), "O")


# Texts to write.
LONGEST = {1: 95, 2: 103, 3: CONTEXT}
LONGEST_SENTENCE = {1: 10, 2: 15, 3: CONTEXT}


def _summary(pool: Pool, n: int, dial: int) -> Examples:
    rows: Examples = []
    while len(rows) < n:
        story = pool.take()
        whole = len(story.words) + len(words(story.summary)) + MARKS
        if len(story.words) <= LONGEST[dial] and whole <= CONTEXT:
            rows.append(Example(story.text, story.summary))
    return rows


def _chinese(pool: Pool, n: int, dial: int) -> Examples:
    rows: Examples = []
    while len(rows) < n:
        pairs = sentences(pool.take())
        short = [p for p in pairs if len(words(p[0])) <= LONGEST_SENTENCE[dial]]
        fresh = [pair for pair in short if pair[0] not in pool.told]
        if fresh:
            english, chinese = fresh[int(pool.random.random() * len(fresh))]
            pool.told.add(english)
            rows.append(Example(english, chinese))
    return rows


def sentences(story: Story) -> list[tuple[str, str]]:
    """The lines of a story in English and in Chinese, where both say the same.

    Left out are lines whose Chinese names somebody whom the English calls "it" or
    "her": no one could translate them alone.
    """
    found, at = [], 0
    for (line, roles), chinese in zip(story.told, story.chinese_lines, strict=True):
        end = at + sum(_length(part, roles) for part in line.parts)
        if chinese and _translatable(line):
            found.append((join(story.words[at:end]), chinese))
        at = end
    return found


def _length(part: Part, roles: Mapping[str, str]) -> int:
    """How many words a part of a line has become."""
    if not part.role:
        return len(part.words.split())
    if part.form == "trade":
        return len(str(LEXICON["person"][roles[part.role]][3]).split())
    if part.form in PRONOUNS["he"]:
        return 1
    return len(roles[part.role].split()) + bool(part.form)


def _translatable(line: Line) -> bool:
    called = {part.role for part in line.parts}
    named = {part.role for part in line.parts if part.form not in PRONOUNS["he"]}
    for piece in line.chinese[1::2]:
        role, _, form = piece.partition(".")
        if role not in (called if form == "he" else named):
            return False
    return True


MAKERS: dict[str, tuple[Kind, Callable[[Pool, int, int], Examples]]] = {
    "entailment": ("classes", _entailment),
    "choice": ("choice", _choice),
    "spans": ("spans", _spans),
    "tags": ("tags", _tags),
    "summary": ("text", _summary),
    "chinese": ("text", _chinese),
}


def stories_task(
    kind: str,
    n: int = 2_000,
    seed: int = 0,
    difficulty: int = 1,
    *,
    n_test: int = 2_000,
) -> Task:
    """A task about the stories: n training examples, each from a story of its own.

    The test part is the same for every n and seed; no story stands in two parts.

    Raises:
        ValueError: another kind or difficulty, or more than the stories give.
    """
    if kind not in MAKERS or difficulty not in DIALS:
        raise ValueError(
            f"expected one of {', '.join(MAKERS)} and a difficulty of 1, 2 or 3, got "
            f"{kind!r} and {difficulty}"
        )
    seeds = (VALIDATION_SEED - FIRST["train"]) // BLOCK
    if not 0 <= seed < seeds or min(n, n_test) < 1:
        raise ValueError(
            f"expected a seed from 0 to {seeds - 1} and at least one example, got "
            f"{seed}, n = {n} and n_test = {n_test}"
        )
    label_kind, make = MAKERS[kind]
    seen: set[str] = set()
    parts = {}
    for part, size in (("test", n_test), ("validation", max(n // 10, 1)), ("train", n)):
        first = FIRST[part] + (0 if part == "test" else seed * BLOCK)
        parts[part] = make(Pool(first, seen), size, difficulty)
    note = f"drawn from the stories, difficulty {difficulty}, seed {seed}"
    return make_task(f"stories-{kind}", label_kind, parts, note=note)
