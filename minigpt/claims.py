"""Chapter 11. Claims: sentences about a story that are true, false, or neither.

A claim says one thing about one plot, with a hole for one role of the story: "{friend}
borrowed it to {why} ." Filled with what the story drew, it is true; with something
else, false; of another plot, the story does not say it. False claims say the values of
other true ones, just as often, so that a claim by itself tells nothing: who does not
read the story has to guess.
"""

import re
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import NamedTuple

from minigpt.grammar import ENTRIES, KINDS, LEXICON, PLOTS
from minigpt.stories import Story, generate, join

BLOCK = 40_000  # stories in one pool
CAST = ("owner", "friend", "helper", "guest")


class Claim(NamedTuple):
    """A sentence about one plot; the hole that may be filled falsely is `role`."""

    plot: str
    role: str
    says: str
    asks: str  # the question that the role answers
    others: tuple[str, ...] = ()  # roles whose values make it false; none: any value
    near: tuple[str, ...] = ()  # plots that are not quite silent about it


def _claims(table: str) -> tuple[Claim, ...]:
    rows = [re.split(r" *\| *", row.strip()) for row in table.strip().split("\n")]
    whole = [[*row, "", ""] for row in rows]
    return tuple(
        Claim(plot, role, says, asks, tuple(others.split()), tuple(near.split()))
        for plot, role, says, asks, others, near, *_ in whole
    )


# False values that the story does not have: finding the value is enough.
VALUES = _claims("""
lent   | deadline | {owner} wanted it back {deadline} .    | When was it wanted back ?
lent   | why      | {friend} borrowed it to {why} .        |
lost   | place    | It was lost at {place} .               | Where was it lost ?
lost   | reward   | {owner} promised {reward} .            |
lost   | junk     | {friend} found {junk} .                |
gift   | place    | {owner} hid it at {place} .            | Where was it hidden ?
gift   | hour     | {friend} was invited for {hour} .      | When was {friend} invited ?
gift   | because  | {friend} once {because} .              |
errand | chore    | {friend} stopped to {chore} .          |
errand | place    | {friend} was sent to {place} .         | Where was {friend} sent ?
bet    | outcome  | It began to {outcome} .                |
bet    | stake    | The {stake} was lost .                 |
swap   | flaw     | The {thing2} {flaw} .                  |
swap   | why2     | {owner} swapped to {why2} .            |
""")
# False values that the story has too: who did what is the question.
ROLES = _claims("""
lent   | friend  | {friend} borrowed it .            | Who borrowed it ?           \
| owner helper
lost   | helper  | {helper} found it .               | Who found it ?              \
| friend owner | gift
lost   | spot2   | {helper} found it {spot2} .       | Where was it found ?        \
| spot | gift
gift   | friend  | It was a present for {friend} .   | Who was the present for ?   \
| owner helper
errand | helper  | {helper} went instead .           | Who went instead ?          \
| friend owner guest
errand | guest   | {guest} came with the {thing} .   | Who came with the {thing} ? \
| friend helper
errand | hour    | {owner} wanted supper at {hour} . | When was supper ?           \
| hour2
bet    | winner  | {winner} won the bet .            | Who won the bet ?           \
| loser
bet    | outcome | It began to {outcome} .           |                             \
| forecast forecast2
swap   | friend  | {owner} swapped with {friend} .   | Who swapped with {owner} ?  \
| helper
""")


class Pool:
    """Stories in the order of their seeds, each given out once.

    What is in `told` is never given out; what is given out is added to it.
    """

    def __init__(self, first: int, told: set[str]) -> None:
        self.random = Random(first)
        self.first, self.next = first, first
        self.waiting: dict[str, deque[Story]] = {plot: deque() for plot in PLOTS}
        self.told = told

    def take(
        self,
        plots: Collection[str] = tuple(PLOTS),
        fits: Callable[[Story], bool] = lambda _: True,
    ) -> Story:
        """The first story of one of the plots that fits and has not been given out.

        Raises:
            ValueError: no story is left.
        """
        for plot in plots:
            for story in self.waiting[plot]:
                if fits(story):
                    self.waiting[plot].remove(story)
                    return story
        while self.next < self.first + BLOCK:
            story = generate(self.next)
            self.next += 1
            if story.text in self.told:
                continue
            self.told.add(story.text)
            if story.facts.plot in plots and fits(story):
                return story
            self.waiting[story.facts.plot].append(story)
        raise ValueError(
            f"expected at most the examples that {BLOCK} stories give, got none for "
            f"the next one: ask for fewer"
        )

    def one_of(self, values: Sequence[str]) -> str:
        """One of some values; only `random()` is used, as in the stories."""
        return values[int(self.random.random() * len(values))]


def known(story: Story) -> Mapping[str, str]:
    """Every role of the story, and who or what plays it."""
    return story.told[-1][1]


def holes(template: str) -> set[str]:
    """The roles that a template names.

    >>> sorted(holes("{owner} hid it at {place} ."))
    ['owner', 'place']
    """
    return set(re.findall(r"\{(\w+)\}", template))


def filled(template: str, roles: Mapping[str, str], *, trades: bool = False) -> str:
    """The sentence, as the stories write it; people by name or by trade.

    >>> filled("{friend} borrowed it .", {"friend": "Bram"}, trades=True)
    'The baker borrowed it.'
    """

    def said(hole: re.Match[str]) -> str:
        value = roles[hole[1]]
        person = KINDS[hole[1]] == "person"
        return str(LEXICON["person"][value][3]) if trades and person else value

    text = join(re.sub(r"\{(\w+)\}", said, template).split())
    return text[0].upper() + text[1:]


# What is told, and what is false.
def telling(claim: Claim, pool: Pool, asks: str = "") -> Story:
    """A story that says what the claim is about, and has a false value for it."""

    def fits(story: Story) -> bool:
        roles = known(story)
        false = not claim.others or bool(_false_roles(claim, roles))
        return false and holes(asks) <= roles.keys()

    return pool.take((claim.plot,), fits)


def silent(claim: Claim, pool: Pool, asks: str = "") -> Story:
    """A story that has the claim's other roles and says nothing about it."""
    named = holes(claim.says) - {claim.role} | holes(asks)
    plots = [plot for plot in PLOTS if plot not in (claim.plot, *claim.near)]
    # The plots take turns, or the last of them would never be asked.
    plots.sort(key=lambda _: pool.random.random())
    return pool.take(plots, lambda story: named <= known(story).keys())


def _false_roles(claim: Claim, roles: Mapping[str, str]) -> list[str]:
    true = roles[claim.role] if claim.role in roles else None
    return [o for o in claim.others if o in roles and roles[o] != true]


def true_values(claim: Claim, stories: Sequence[Story]) -> list[str]:
    """What each story drew."""
    return [known(story)[claim.role] for story in stories]


def false_values(claim: Claim, stories: Sequence[Story], pool: Pool) -> list[str]:
    """For each story a value that makes the claim false."""
    every = [known(story) for story in stories]
    if claim.others:
        return [roles[pool.one_of(_false_roles(claim, roles))] for roles in every]
    taken = [_values_of(KINDS[claim.role], roles) for roles in every]
    return _exchanged(true_values(claim, stories), taken, KINDS[claim.role], pool)


def _exchanged(
    values: Sequence[str], taken: Sequence[set[str]], kind: str, pool: Pool
) -> list[str]:
    """The same values, each in a story that does not have it: false, and as often."""
    order = sorted(range(len(values)), key=lambda _: pool.random.random())
    turned = [values[i] for i in order]
    for i, own in enumerate(taken):
        if turned[i] not in own:
            continue
        fine = [
            j
            for j, other in enumerate(taken)
            if turned[j] not in own and turned[i] not in other
        ]
        if fine:
            j = fine[int(pool.random.random() * len(fine))]
            turned[i], turned[j] = turned[j], turned[i]
        else:  # there are too few to change places
            turned[i] = pool.one_of([v for v in _of_kind(kind) if v not in own])
    return turned


def _values_of(kind: str, roles: Mapping[str, str]) -> set[str]:
    return {value for role, value in roles.items() if KINDS.get(role) == kind}


def _of_kind(kind: str) -> list[str]:
    return [phrase for k, phrase in ENTRIES if k == kind]


def silent_values(
    claim: Claim, true: Sequence[str], stories: Sequence[Story], pool: Pool
) -> list[str]:
    """For each story a value that the claim may have there, though it is not told.

    Where false values are the story's own, so are these.
    """
    kind, found = KINDS[claim.role], []
    for roles in map(known, stories):
        own = _values_of(kind, roles)
        if not claim.others:
            some = [value for value in true if value not in own]
        elif kind == "person":
            besides = {roles[hole] for hole in holes(claim.says) - {claim.role}}
            some = [roles[r] for r in CAST if r in roles and roles[r] not in besides]
        else:
            some = sorted(own)
        found.append(pool.one_of(some or _of_kind(kind)))
    return found
