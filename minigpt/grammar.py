"""Chapter 0. Grammar: one coroutine that offers every next word of a story.

The lines lie in `assets/stories_lexicon.json`. In a line, `[friend=person]` draws a
person and calls that one friend; `{friend}` recalls the name, with certainty, even
sixty words later: a *callback*. What has been drawn is what is true in the story. A
plot is a row of lines; "scene<60" is one that may be told, if it begins before word 60.

`Tale.tell` is the coroutine: `word = yield {word: p, ...}` offers the words that may
come next, and is told which one came. A choice between phrases becomes choices between
words in `_tree`: phrases that begin alike part where they first differ, not before.
"""

import json
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import takewhile
from math import fsum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

END = "<|endoftext|>"

T = TypeVar("T")
Offer = Mapping[str, float]  # the next word's distribution
Telling = Generator[Offer, str, T]  # offers words, and is sent one of them
Options = tuple[tuple[str, float], ...]  # phrases and their weights
Branch = list[tuple[int, list[str], float]]  # index, words and weight of each phrase
Node = tuple[Offer, dict[str, Any]]  # an offer, and where each of its words leads
Keys = tuple[str, ...]  # names of the lines that are still to be told

_ASSETS = Path(__file__).with_name("assets")
_TEXT = (_ASSETS / "stories_lexicon.json").read_text(encoding="utf-8")
_GRAMMAR = json.loads(_TEXT, parse_int=float)  # its only numbers are weights
LEXICON: dict[str, dict[str, list[Any]]] = _GRAMMAR["lexicon"]
PLOTS: dict[str, dict[str, Any]] = _GRAMMAR["plots"]
PRONOUNS = {
    "he": {"he": "he", "his": "his", "him": "him", "He": "He", "His": "His"},
    "she": {"he": "she", "his": "her", "him": "her", "He": "She", "His": "Her"},
}
_BEGINNING: Keys = tuple(_GRAMMAR["beginning"].split())  # at "*" the plots part


# The grammar, as it is read from the file.
class Part(NamedTuple):
    """A piece of a line: a draw `[a role=kind]`, a recall `{role.form}`, or a word."""

    form: str
    role: str
    kind: str
    words: str


class Line(NamedTuple):
    key: str
    weight: float
    parts: tuple[Part, ...]
    needs: frozenset[str]  # the roles that must be known before it can be told
    chinese: tuple[str, ...]
    speakers: tuple[str, ...]  # the role that says each of its quotations


_DRAW = r"\[(?P<a>a )?(?P<draw>\w+)=?(?P<kind>.*?)\]"
_PART = re.compile(_DRAW + r"|\{(?P<recall>\w+)\.?(?P<form>\w*)\}|(?P<words>[^][{}]+)")


def _line(key: str, weight: float, english: str, chinese: str, by: str = "") -> Line:
    parts: list[Part] = []
    needs: set[str] = set()
    for found in _PART.finditer(english):
        role = found["draw"] or found["recall"] or ""
        kind = found["kind"] or found["draw"] or ""
        form = found["a"] or found["form"] or ""
        uses = {found["recall"] or ""}
        if kind and kind not in LEXICON:  # "use/thing" needs thing, "x|y" needs both
            uses = set(kind.split("/")[1:] or kind.split("|"))
        needs |= uses - {part.role for part in parts} - {""}
        words = (found["words"] or "").strip()
        parts += [Part(form, role, kind, words)] if role or words else []
    pieces = tuple(re.split(r"[{}]", chinese))
    return Line(key, weight, tuple(parts), frozenset(needs), pieces, tuple(by.split()))


LINES = {
    key: [_line(key, *variant) for variant in variants]
    for key, variants in _GRAMMAR["lines"].items()
}
ENTRIES = {  # a phrase may stand in several lists, with another Chinese in each
    (kind.split("/")[0], phrase): entry
    for kind, phrases in LEXICON.items()
    for phrase, entry in phrases.items()
}
KINDS = {
    part.role: re.split(r"[/|]", part.kind)[0]
    for lines in LINES.values()
    for line in lines
    for part in line.parts
    if part.kind
} | {"winner": "person", "loser": "person", "stake": "thing", "stake_colour": "colour"}


@cache
def _next_lines(keys: Keys) -> list[tuple[Line, float, int, Keys]]:
    """List the lines that may come next: weight, latest beginning, what follows."""
    key, optional, latest = keys[0].partition("<")
    if key == "*":
        total = fsum(plot["weight"] for plot in PLOTS.values())
        return [
            (line, weight * plot["weight"] / total, limit, later)
            for plot in PLOTS.values()
            for line, weight, limit, later in _next_lines(tuple(plot["lines"].split()))
        ]
    total, limit = fsum(line.weight for line in LINES[key]), int(latest or 1_000)
    found = [(line, line.weight / total, limit, keys[1:]) for line in LINES[key]]
    return found + _next_lines(keys[1:]) if optional else found


@lru_cache(maxsize=1 << 16)
def _tree(options: Options) -> Node | int:
    """Arrange phrases by their words; a leaf is the index of a phrase."""
    return _branch([(i, phrase.split(), w) for i, (phrase, w) in enumerate(options)], 0)


def _branch(phrases: Branch, n: int) -> Node | int:
    """Part phrases by their word n; what follows is parted when it is needed."""
    if len(phrases) == 1 and n == len(phrases[0][1]):
        return phrases[0][0]
    groups: dict[str, Any] = {}
    for phrase in phrases:
        groups.setdefault(phrase[1][n], []).append(phrase)
    total = fsum(weight for _, _, weight in phrases)
    shares = ((word, fsum(p[2] for p in group)) for word, group in groups.items())
    return {word: share / total for word, share in shares}, groups


@lru_cache(maxsize=1 << 16)
def _free(kind: str, used: frozenset[str], article: bool) -> Options:
    """List the phrases of a kind that are not used yet, with their weights."""
    phrases = [(phrase, entry[0]) for phrase, entry in LEXICON[kind].items()]
    free = [(phrase, w) for phrase, w in phrases if phrase not in used] or phrases
    if not article:
        return tuple(free)
    return tuple((f"{'an' if p[0] in 'aeiou' else 'a'} {p}", w) for p, w in free)


@cache
def _certain(phrase: str) -> list[Offer]:
    return [{word: 1.0} for word in phrase.split()]


# The coroutine.
class Mention(NamedTuple):
    """Words `start` to `end` name what plays a role: drawn at first, then recalled."""

    role: str
    start: int
    end: int
    drawn: bool


@dataclass
class Tale:
    """A story while it is being told: its words so far, and what is known."""

    words: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    mentions: list[Mention] = field(default_factory=list)
    told: list[tuple[Line, dict[str, str]]] = field(default_factory=list)

    def tell(self) -> Telling[None]:
        """Offer the next words, line by line, until END has been said."""
        keys = _BEGINNING
        while keys:
            starts = list(self._starts(keys))
            at = len(self.words)
            options = tuple((" ".join(begun), weight) for begun, weight, *_ in starts)
            chosen = yield from self._pick(options)
            begun, _, line, keys = starts[chosen]
            for i, part in enumerate(line.parts):
                said = begun[i] if i < len(begun) else (yield from self._say(part))
                end = at + said.count(" ") + 1
                if part.role:
                    self._note(part, said, at, end)
                at = end
            self._conclude()
            self.told.append((line, dict(self.known)))

    def _starts(self, keys: Keys) -> Iterator[tuple[list[str], float, Line, Keys]]:
        """List how the next line may begin: with a drawn phrase, or fixed words."""
        for line, weight, latest, later in _next_lines(keys):
            if len(self.words) >= latest or not line.needs <= self.known.keys():
                continue
            if line.parts[0].kind:
                options = self._options(line.parts[0])
                weight /= fsum(w for _, w in options)
                for phrase, w in options:
                    yield [phrase], w * weight, line, later
            else:
                fixed = takewhile(lambda part: not part.kind, line.parts)
                yield [self._fixed(part) for part in fixed], weight, line, later

    def _say(self, part: Part) -> Telling[str]:
        """Say one part of a line: a drawn phrase, or words that are certain."""
        if part.kind:
            options = self._options(part)
            chosen = yield from self._pick(options)
            return options[chosen][0]
        fixed = self._fixed(part)
        for offer in _certain(fixed):
            self.words.append((yield offer))
        return fixed

    def _pick(self, options: Options) -> Telling[int]:
        """Offer phrases word by word; return the index of the one that was said."""
        node, n = _tree(options), 0
        while not isinstance(node, int):
            offer, after = node
            word = yield offer
            self.words.append(word)
            n += 1
            if isinstance(after[word], list):
                after[word] = _branch(after[word], n)
            node = after[word]
        return node

    def _options(self, part: Part) -> Options:
        """List what may be drawn, with weights: nothing that the story already has."""
        if "|" in part.kind:
            return tuple((self.known[role], 1.0) for role in part.kind.split("|"))
        name, _, role = part.kind.partition("/")
        kind = f"{name}/{self.known[role]}" if role in self.known else part.kind
        phrases = LEXICON[kind]
        used = [phrase for phrase in self.known.values() if phrase in phrases]
        return _free(kind, frozenset(used), bool(part.form))

    def _fixed(self, part: Part) -> str:
        if not part.role:
            return part.words
        phrase = self.known[part.role]
        if not part.form:
            return phrase
        _, _, pronoun, trade, _ = LEXICON["person"][phrase]
        return str(trade) if part.form == "trade" else PRONOUNS[pronoun][part.form]

    def _note(self, part: Part, said: str, start: int, end: int) -> None:
        """Remember what was drawn, and where each role is named."""
        if part.kind:
            if part.form:
                start, said = start + 1, said.partition(" ")[2]
            self.known[part.role] = said
        if part.kind or part.form in ("", "trade"):
            self.mentions.append(Mention(part.role, start, end, bool(part.kind)))

    def _conclude(self) -> None:
        """Draw the grammar's one conclusion: who has won the bet, and what."""
        known = self.known
        if "outcome" in known and "winner" not in known:
            right = known["outcome"] == known["forecast"]
            winner, loser = ("owner", "friend") if right else ("friend", "owner")
            thing, colour = ("thing2", "colour2") if right else ("thing", "colour")
            known |= {"winner": known[winner], "loser": known[loser]}
            known |= {"stake": known[thing], "stake_colour": known[colour]}
