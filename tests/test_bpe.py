"""Byte-pair encoding against hand-worked merges and a trainer that recounts."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from minigpt.bpe import (
    BYTES,
    GPT2_PATTERN,
    LONG_WORD,
    Merger,
    count_words,
    gpt1_words,
    train_merges,
    unwritten,
    written,
)


def recounted(words: dict[bytes, int], n_tokens: int) -> list[tuple[bytes, bytes]]:
    """The definition itself: count every pair anew before every merge."""
    split = {word: [bytes([b]) for b in word] for word in words}
    made, merges = set(BYTES), []
    while len(made) < n_tokens:
        counts: Counter[tuple[bytes, bytes]] = Counter()
        for word, parts in split.items():
            for pair in pairwise(parts):
                counts[pair] += words[word]
        if not counts:
            break
        pair = max(counts, key=lambda p: (counts[p], p))
        merges.append(pair)
        made.add(b"".join(pair))
        for parts in split.values():
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == pair:
                    parts[i : i + 2] = [b"".join(pair)]
                i += 1
    return merges


def test_merges_equal_an_example_worked_by_hand() -> None:
    # hug 10, pug 5, pun 12, bun 4, hugs 5: u·g stands 20 times, u·n 16, h·u 15.
    # Then un: u·n 16; h·ug 15; p·un 12; hug·s 5 and p·ug 5, where "p" > "hug"
    # (the greater pair of byte strings goes first).
    words = {b"hug": 10, b"pug": 5, b"pun": 12, b"bun": 4, b"hugs": 5}
    assert train_merges(words, 256 + 6) == [
        (b"u", b"g"),
        (b"u", b"n"),
        (b"h", b"ug"),
        (b"p", b"un"),
        (b"p", b"ug"),
        (b"hug", b"s"),
    ]


@pytest.mark.parametrize("letters", ["ab", "abc", "aé "])
def test_incremental_counts_equal_recounting_on_random_words(letters: str) -> None:
    draw = random.Random(len(letters))
    for _ in range(30):
        words = {
            "".join(draw.choices(letters, k=draw.randint(1, 12))).encode(): (
                draw.randint(1, 4)
            )
            for _ in range(draw.randint(1, 8))
        }
        n_tokens = 256 + draw.randint(1, 20)
        assert train_merges(words, n_tokens) == recounted(words, n_tokens)


def test_training_ends_when_every_word_is_one_symbol() -> None:
    assert train_merges({b"ab": 2, b"c": 9}, 300) == [(b"a", b"b")]


def test_two_ways_to_the_same_bytes_make_one_token() -> None:
    # "ab" and "bc" are both made, then "abc" from either side.
    words = {b"ab": 9, b"bc": 8, b"abc": 4, b"xbc": 3, b"abcd": 1, b"aabc": 1}
    merges = train_merges(words, 400)
    assert merges == recounted(words, 400)
    merges = [(b"a", b"b"), (b"b", b"c"), (b"ab", b"c"), (b"a", b"bc")]
    ids = {
        t: i for i, t in enumerate(dict.fromkeys(BYTES + tuple(map(b"".join, merges))))
    }
    merger = Merger([(ids[a], ids[b], ids[a + b]) for a, b in merges])
    assert merger.merge([ids[b"a"], ids[b"b"], ids[b"c"]]) == [ids[b"abc"]]


def test_long_words_are_merged_as_short_ones_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = random.Random(0)
    text = "".join(draw.choices("abc", k=2000))
    merges = train_merges({text.encode(): 1}, 300)
    ids = {
        t: i for i, t in enumerate(dict.fromkeys(BYTES + tuple(map(b"".join, merges))))
    }
    merger = Merger([(ids[a], ids[b], ids[a + b]) for a, b in merges])
    for n in (LONG_WORD + 1, 500, 1500):
        for word in ("a" * n, "".join(draw.choices("abcd", k=n))):
            symbols = [ids[c.encode()] for c in word]
            heap = merger.merge(list(symbols))
            monkeypatch.setattr("minigpt.bpe.LONG_WORD", 10_000)
            assert merger.merge(list(symbols)) == heap
            monkeypatch.undo()
            assert len(heap) < n


def test_words_are_cut_where_gpt2_cuts_them() -> None:
    cut = GPT2_PATTERN.findall("We'll sell 12 nets!!  Can't  wait\n")
    assert cut == [
        *("We", "'ll", " sell", " 12", " nets", "!!", " ", " Can", "'t"),
        *(" ", " wait", "\n"),
    ]


def test_words_are_counted_over_all_texts() -> None:
    assert count_words(["tide, tide", "tide"]) == {b"tide": 2, b",": 1, b" tide": 1}


def test_a_word_is_written_in_gpt2s_alphabet_and_read_back() -> None:
    assert written(b" caf\xc3\xa9\n") == "ĠcafÃ©Ċ"
    assert all(unwritten(written(token)) == token for token in BYTES)
    assert unwritten("燕") is None
    assert BYTES[0] == b"!"
    assert len(set(BYTES)) == 256


def test_gpt1_sees_lower_case_words_without_accents() -> None:
    assert gpt1_words("Ada's CAFÉ\tis 燕鸥 $3\x00!") == [
        *("ada", "'", "s", "cafe", "is", "燕", "鸥", "$", "3", "!"),
    ]
