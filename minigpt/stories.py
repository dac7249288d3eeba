"""Chapter 0. Stories: a text whose every next-word probability is known exactly.

The stories are an instrument, as a wind tunnel is one, and are never sold as language.
They are told by one coroutine, `grammar.Tale.tell`, that offers the words which may
come next, with their probabilities. `generate` answers with a drawn word, `surprisal`
with the words of a given text: both walk the same code, so every probability is exact.
Punctuation marks and END are words too. What was drawn along the way is what is true
in the story (`Facts`), and is told once more in Chinese.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from math import inf, log
from random import Random
from typing import NamedTuple

from minigpt.grammar import (
    END,
    ENTRIES,
    KINDS,
    LEXICON,
    LINES,
    PLOTS,
    PRONOUNS,
    Line,
    Mention,
    Offer,
    Tale,
    Telling,
)

VALIDATION_SEED = 1_000_000  # training stories have smaller seeds


# What a story is, once told.
@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is true in a story; None where the story does not say."""

    plot: str
    owner: str
    quality: str
    colour: str
    thing: str
    friend: str
    holder: str  # who has the thing in the end
    quotes: tuple[tuple[str, str], ...]  # who said what, in order
    helper: str | None = None
    guest: str | None = None
    winner: str | None = None
    colour2: str | None = None
    thing2: str | None = None
    place: str | None = None
    spot: str | None = None  # where the thing was left, or looked for first
    spot2: str | None = None  # where the lost thing was found
    why: str | None = None  # what the thing is used for
    why2: str | None = None
    because: str | None = None  # why the present is given
    animal: str | None = None
    deadline: str | None = None
    hour: str | None = None
    hour2: str | None = None
    reward: str | None = None
    junk: str | None = None
    chore: str | None = None
    forecast: str | None = None  # what the owner bets on
    forecast2: str | None = None
    outcome: str | None = None
    kin: str | None = None


_FACTS = tuple(fact.name for fact in fields(Facts))


class Choice(NamedTuple):
    """A word that was not certain when it was said."""

    position: int
    word: str
    probability: float


@dataclass(frozen=True)
class Story:
    """A told story: its words end in END, its text does not.

    `choices` and `mentions` are the log: what was drawn, and where each role is named.
    """

    text: str
    words: tuple[str, ...]
    facts: Facts
    choices: tuple[Choice, ...]
    mentions: tuple[Mention, ...]
    told: tuple[tuple[Line, dict[str, str]], ...] = field(repr=False, compare=False)

    @cached_property
    def chinese(self) -> str:
        """The same story in Chinese, rendered from what was drawn."""
        return "".join(self.chinese_lines)

    @cached_property
    def chinese_lines(self) -> tuple[str, ...]:
        """The Chinese of each line that was told; nothing for END."""
        return tuple(_chinese(line, known) for line, known in self.told)

    @cached_property
    def summary(self) -> str:
        """The story in one sentence."""
        known, template = self.told[-1][1], PLOTS[self.facts.plot]["summary"]
        return join(re.sub(r"\{(\w+)\}", lambda m: known[m[1]], template).split())


def _chinese(line: Line, known: Mapping[str, str]) -> str:
    pieces = list(line.chinese)
    for i in range(1, len(pieces), 2):
        role, _, form = pieces[i].partition(".")
        entry = ENTRIES[KINDS[role], known[role]]
        if form == "he":
            pieces[i] = "她" if entry[2] == "she" else "他"
        else:
            pieces[i] = entry[{"m": 2, "trade": 4}.get(form, 1)]  # m: measure word
    return "".join(pieces)


def _facts(tale: Tale) -> Facts:
    known, first_lines = tale.known, {line.key for line, _ in tale.told}
    plot = next(p for p in PLOTS if PLOTS[p]["lines"].split()[0] in first_lines)
    speakers = (known[role] for line, known in tale.told for role in line.speakers)
    quotes = re.findall("“ (.*?) ”", " ".join(tale.words))
    return Facts(
        plot=plot,
        holder=known[PLOTS[plot]["holder"]],
        quotes=tuple(
            (who, join(q.split())) for who, q in zip(speakers, quotes, strict=True)
        ),
        **{name: known[name] for name in _FACTS if name in known},
    )


# The public face.
def words(text: str) -> list[str]:
    """Split a text into words and punctuation marks; `join` undoes it for a story."""
    return re.findall(r"<\|endoftext\|>|\w+|[^\w\s]", text)


def join(words: Sequence[str]) -> str:
    """Write words as a text, END left out, with spaces where English has them."""
    text = " ".join(word for word in words if word != END)
    return re.sub(r" (?=[.,:;?!”])|(?<=“) ", "", text)


def _draw(offer: Offer, random: Random) -> str:
    """Draw a word; only `random()` is used, so that every Python draws the same."""
    left = random.random() if len(offer) > 1 else 0.0
    for word in offer:
        left -= offer[word]
        if left < 0:
            return word
    return word  # the sum was a rounding error below 1


def generate(seed: int) -> Story:
    """Tell the story with this number, the same one on every machine.

    Raises:
        ValueError: if the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, got {seed}, count from 0")
    random, tale = Random(seed), Tale()
    teller, choices = tale.tell(), []
    offer = next(teller)
    while offer:
        word = _draw(offer, random)
        if offer[word] < 1:
            choices.append(Choice(len(tale.words), word, offer[word]))
        offer = _send(teller, word)
    said, facts = tuple(tale.words), _facts(tale)
    record = (tuple(choices), tuple(tale.mentions), tuple(tale.told))
    return Story(join(said), said, facts, *record)


def _send(teller: Telling[None], word: str) -> Offer:
    """Say a word and hear the next offer, which is empty after END."""
    try:
        return teller.send(word)
    except StopIteration:
        return {}


def offers(said: Sequence[str]) -> Iterator[Offer]:
    """Yield the next-word distribution before each word, and after the last one.

    The distributions stop (are empty) after a word that was not on offer.
    """
    teller = Tale().tell()
    offer = next(teller)
    yield offer
    for word in said:
        offer = _send(teller, word) if word in offer else {}
        yield offer


def surprisal(text: str, *, ended: bool = True) -> list[float]:
    """Return -log p(word | all words before) in nats for each word, and for END.

    An impossible word gets inf, and so does all that follows it. With `ended=False` the
    text is the beginning of a story, and END is not scored.
    """
    said = words(text) + [END] * ended
    pairs = zip(said, offers(said), strict=False)
    return [-log(offer[word]) + 0.0 if word in offer else inf for word, offer in pairs]


def is_possible(text: str) -> bool:
    """Say whether the grammar can tell exactly this story, from beginning to end."""
    return inf not in surprisal(text)


def next_words(prefix: Sequence[str]) -> dict[str, float]:
    """Return the exact distribution of the word after a prefix; empty after END.

    Raises:
        ValueError: if no story begins with the prefix.
    """
    offer: Offer = {}
    for position, offer in enumerate(offers(prefix)):
        if position < len(prefix) and prefix[position] not in offer:
            some = ", ".join(sorted(offer)[:5]) or "none, the story has ended"
            raise ValueError(
                f"expected the beginning of a story, got {prefix[position]!r} as word "
                f"{position}, put one that may stand there: {some}"
            )
    return dict(offer)


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """Return every word that a story can use, sorted, END included."""
    found = {"a", "an"}.union(*(forms.values() for forms in PRONOUNS.values()))
    found |= {word for _, phrase in ENTRIES for word in phrase.split()}
    found |= {word for e in LEXICON["person"].values() for word in e[3].split()}
    found |= {
        word
        for lines in LINES.values()
        for line in lines
        for part in line.parts
        for word in part.words.split()
    }
    return tuple(sorted(found))


def corpus(n: int, seed: int = 0) -> Iterator[Story]:
    """Yield the n stories with the seeds from `seed` on.

    Training stories have seeds below VALIDATION_SEED, validation stories start there.

    Raises:
        ValueError: if the seeds would run from training into validation stories.
    """
    if seed < VALIDATION_SEED < seed + n:
        raise ValueError(
            f"expected seeds below {VALIDATION_SEED}, got {seed} to {seed + n - 1}, "
            f"ask for at most {VALIDATION_SEED - seed} stories"
        )
    return (generate(number) for number in range(seed, seed + n))
