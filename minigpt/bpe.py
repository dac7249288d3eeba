"""Chapter 2. Byte-pair encoding: the commonest pair of neighbours becomes one symbol.

Training starts from single bytes and counts neighbouring pairs inside words. The most
frequent pair becomes a new token, and so on; the merges in that order are the whole
result (Sennrich et al., 2016; on bytes, Radford et al., 2019, §2.2). Encoding replays
them: of all pairs in a word that some merge names, the earliest merge goes first.

No pair crosses the border of two words, so each distinct word is counted, and later
encoded, only once.
"""

import heapq
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import regex

# GPT-2's words (Radford et al., 2019, in their released code): English endings after an
# apostrophe; then letters, digits or other marks, each with the space before; then
# white space, which leaves its last character to the word that follows.
GPT2_PATTERN = regex.compile(
    r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)

Merge = tuple[bytes, bytes]

# Words longer than this are encoded with a heap: n log n steps where a scan takes n².
LONG_WORD = 100
NEVER = 1 << 62  # the rank of a pair that no merge names


def _alphabet() -> tuple[str, ...]:
    """A printable character for each byte, as GPT-2's files write it ("Ġ" is a space).

    Printable Latin-1 bytes stand for themselves; the rest are counted up from 256.
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return tuple(
        chr(byte if byte in printable else 256 + others.index(byte))
        for byte in range(256)
    )


BYTE_TO_CHARACTER = _alphabet()
CHARACTER_TO_BYTE = {c: byte for byte, c in enumerate(BYTE_TO_CHARACTER)}
# The first 256 tokens, in GPT-2's order: "!" is 0.
BYTES = tuple(bytes([CHARACTER_TO_BYTE[c]]) for c in sorted(CHARACTER_TO_BYTE))


def written(token: bytes) -> str:
    """How a vocabulary file writes a token.

    >>> written(b" the")
    'Ġthe'
    """
    return "".join(BYTE_TO_CHARACTER[byte] for byte in token)


def unwritten(name: str) -> bytes | None:
    """The token that a file means, or `None` if no bytes are written so."""
    if not all(c in CHARACTER_TO_BYTE for c in name):
        return None
    return bytes(CHARACTER_TO_BYTE[c] for c in name)


def checked_utf8(text: str) -> str:
    """The text, if UTF-8 can write it.

    Raises:
        ValueError: half a surrogate pair in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"expected a text that UTF-8 can write, got half a surrogate pair, "
            f"{text[error.start]!r}, at position {error.start}: use encode_bytes, or "
            f"remove it"
        ) from None
    return text


def count_words(texts: Iterable[str]) -> Counter[bytes]:
    """How often each word, in GPT-2's sense, occurs in the texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(GPT2_PATTERN.findall(text))
    return Counter({word.encode(): count for word, count in counts.items()})


# What BERT calls a Chinese character, and the words that GPT-1 sees: runs of letters
# and digits, each mark of punctuation alone.
_IDEOGRAPH = regex.compile(
    "[\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f"
    "\U0002b740-\U0002b81f\U0002b920-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f]"
)
_GPT1_WORDS = regex.compile(r"[\p{P}$+<=>^`|~]|[^\s\p{P}$+<=>^`|~]+")


def _clean(text: str) -> str:
    """BERT's cleaning, which the published GPT-1 tokenizer uses too.

    White space of any kind is a space and control characters are gone; Chinese
    characters stand alone; accents are gone and letters are lower case.
    """
    spaced = []
    for c in text:
        control = c == "\ufffd" or unicodedata.category(c)[0] == "C"
        if c in "\t\n\r" or (c.isspace() and not control):
            spaced.append(" ")
        elif not control:
            spaced.append(f" {c} " if _IDEOGRAPH.match(c) else c)
    parts = unicodedata.normalize("NFD", "".join(spaced))
    # Letter by letter: Python has a rule for a word's last sigma, BERT has none.
    return "".join(c.lower() for c in parts if unicodedata.category(c) != "Mn")


def gpt1_words(text: str) -> list[str]:
    """The words of a text, in GPT-1's sense: cleaned, lower case, marks apart."""
    return _GPT1_WORDS.findall(_clean(text))


class _Pairs:
    """How often each pair of neighbours occurs, kept up to date merge by merge."""

    def __init__(self, words: Mapping[bytes, int]) -> None:
        ids = {token: i for i, token in enumerate(BYTES)}
        single = [ids[bytes([byte])] for byte in range(256)]
        self.words = [[single[byte] for byte in word] for word in words]
        self.frequencies = list(words.values())
        self.counts: defaultdict[tuple[int, int], int] = defaultdict(int)
        # The words in which a pair occurs, or once did.
        self.places: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for place, word in enumerate(self.words):
            for pair in pairwise(word):
                self.counts[pair] += self.frequencies[place]
                self.places[pair].add(place)

    def merge(self, pair: tuple[int, int], token: int) -> set[tuple[int, int]]:
        """Write `token` for `pair` everywhere; return the pairs that are now new."""
        left, right = pair
        counts, places = self.counts, self.places
        new_pairs = set()
        for place in places.pop(pair):
            word, frequency = self.words[place], self.frequencies[place]
            i = 0
            while i < len(word) - 1:
                if word[i] != left or word[i + 1] != right:
                    i += 1
                    continue
                if i > 0:
                    counts[word[i - 1], left] -= frequency
                    counts[word[i - 1], token] += frequency
                    new_pairs.add((word[i - 1], token))
                    places[word[i - 1], token].add(place)
                if i + 2 < len(word):
                    counts[right, word[i + 2]] -= frequency
                    counts[token, word[i + 2]] += frequency
                    new_pairs.add((token, word[i + 2]))
                    places[token, word[i + 2]].add(place)
                word[i : i + 2] = [token]
                i += 1
        del counts[pair]
        return new_pairs


def train_merges(words: Mapping[bytes, int], n_tokens: int) -> list[Merge]:
    """The merges that make `n_tokens` tokens out of the 256 bytes, in order.

    Of pairs equally frequent, the lexicographically greater pair of byte strings goes
    first. It ends early when no word has two symbols left.
    """
    pairs = _Pairs(words)
    tokens = list(BYTES)
    ids = {token: i for i, token in enumerate(tokens)}
    # A heap gives its smallest entry: so the count is negated and every byte is
    # turned round, with an end mark above all bytes that puts "ab" before "a".
    turned = [_turn(token) for token in tokens]
    heap = [(-n, turned[a], turned[b], a, b) for (a, b), n in pairs.counts.items()]
    heapq.heapify(heap)
    merges: list[Merge] = []
    while heap and len(tokens) < n_tokens:
        negative, turned_a, turned_b, a, b = heapq.heappop(heap)
        count = pairs.counts.get((a, b), 0)
        if count != -negative:
            # Counts only fall behind the heap's back, so an entry is never too low:
            # put it back where it belongs and look again.
            if count > 0:
                heapq.heappush(heap, (-count, turned_a, turned_b, a, b))
            continue
        if count == 0:
            continue
        token = tokens[a] + tokens[b]
        # Two merges may make the same bytes ("ab" + "c", "a" + "bc"): one token.
        if token not in ids:
            ids[token] = len(tokens)
            tokens.append(token)
            turned.append(_turn(token))
        merges.append((tokens[a], tokens[b]))
        for pair in pairs.merge((a, b), ids[token]):
            x, y = pair
            heapq.heappush(heap, (-pairs.counts[pair], turned[x], turned[y], x, y))
    return merges


def _turn(token: bytes) -> str:
    return "".join(chr(255 - byte) for byte in token) + chr(256)


class Merger:
    """Replays merges on the symbols of one word.

    `ranks` says when a pair was merged, `products` what came of it.
    """

    def __init__(self, merges: Sequence[tuple[int, int, int]]) -> None:
        # A pair that is listed twice keeps its later place, as in the ecosystem.
        self.ranks = {(a, b): rank for rank, (a, b, _) in enumerate(merges)}
        self.products = [token for _, _, token in merges]

    def merge(self, ids: list[int]) -> list[int]:
        """The word's tokens: always the earliest merge that applies, leftmost first."""
        if len(ids) > LONG_WORD:
            return self._merge_long(ids)
        rank_of = self.ranks.get
        while len(ids) > 1:
            ranks = [rank_of(pair, NEVER) for pair in pairwise(ids)]
            best = min(ranks)
            if best == NEVER:
                break
            i = ranks.index(best)
            ids[i : i + 2] = [self.products[best]]
        return ids

    def _merge_long(self, ids: list[int]) -> list[int]:
        """The same tokens, with the candidate pairs in a heap and the word as links."""
        n = len(ids)
        before, after = list(range(-1, n - 1)), list(range(1, n + 1))
        rank_of = self.ranks.get
        pairs = pairwise(ids)
        heap = [(rank_of(pair, NEVER), i) for i, pair in enumerate(pairs)]
        heapq.heapify(heap)
        while heap and heap[0][0] < NEVER:
            rank, i = heapq.heappop(heap)
            j = after[i]
            # An entry is out of date if either half has changed since.
            if j >= n or rank_of((ids[i], ids[j]), NEVER) != rank:
                continue
            ids[i], ids[j] = self.products[rank], -1  # −1: swallowed by its left
            after[i] = k = after[j]
            if k < n:
                before[k] = i
                heapq.heappush(heap, (rank_of((ids[i], ids[k]), NEVER), i))
            if before[i] >= 0:
                h = before[i]
                heapq.heappush(heap, (rank_of((ids[h], ids[i]), NEVER), h))
        return [i for i in ids if i >= 0]
