"""Chapter 2. Tokens: text becomes numbers, and numbers become text again.

A model reads integers below V, its vocabulary. A tokenizer is the agreement on which
piece of text each integer stands for, and it is saved with the model:

    decode(encode(text)) == text

Three cuts, from fine to coarse: characters, pieces of words found by byte-pair
encoding (the merging itself is in `bpe.py`), and the words of our stories.
"""

import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from minigpt import stories
from minigpt.subword import BPETokenizer, GPT1Tokenizer
from minigpt.vocabulary import (
    WORD_END,
    Ids,
    read_json,
    read_merges,
    read_pipeline,
    write_json,
)

__all__ = [
    "BPETokenizer",
    "CharTokenizer",
    "GPT1Tokenizer",
    "Tokenizer",
    "WordTokenizer",
    "load_tokenizer",
]


@runtime_checkable
class Tokenizer(Protocol):
    """What every tokenizer here offers."""

    @property
    def vocab_size(self) -> int:
        """V: ids run from 0 to V − 1."""

    @property
    def special_tokens(self) -> dict[str, int]:
        """Tokens that mark something about the text, such as its end, by name."""

    @property
    def end_id(self) -> int | None:
        """The token that ends a document, where there is one."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""

    def decode(self, ids: Ids) -> str:
        """The text of some ids."""

    def decode_stream(self, ids: Ids) -> Iterator[str]:
        """The new text after each id, as soon as it is certain."""

    def save(self, folder: Path | str) -> None:
        """Write it into a folder, beside the weights."""


def _text_of(symbols: Sequence[str], i: int) -> str:
    if not 0 <= i < len(symbols):
        raise ValueError(
            f"expected token ids from 0 to {len(symbols) - 1}, got {i}: decode with "
            f"the tokenizer that the model was trained with"
        )
    return symbols[i]


class CharTokenizer:
    """One token for each character of the vocabulary.

    >>> tokenizer = CharTokenizer.train("to be or not to be")
    >>> tokenizer.encode("bet")
    [1, 2, 6]

    Raises:
        ValueError: an entry that is no single character, or one that occurs twice.
    """

    def __init__(self, characters: Sequence[str]) -> None:
        for i, character in enumerate(characters):
            if len(character) != 1 or characters.index(character) != i:
                raise ValueError(
                    f"expected each entry to be one character, and only once, got "
                    f"{character!r} at {i}"
                )
        self.characters = tuple(characters)
        self._ids = {character: i for i, character in enumerate(characters)}

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """The vocabulary is the characters that occur, in code point order.

        Raises:
            ValueError: an empty text.
        """
        if not text:
            raise ValueError("expected a text with at least one character, got none")
        return cls(sorted(set(text)))

    @property
    def vocab_size(self) -> int:
        """V: how many characters."""
        return len(self.characters)

    @property
    def special_tokens(self) -> dict[str, int]:
        """None: every id is a character."""
        return {}

    @property
    def end_id(self) -> int | None:
        """None: running text has no end mark."""
        return None

    def encode(self, text: str) -> list[int]:
        """One id for each character.

        Raises:
            ValueError: a character that the vocabulary lacks.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            unknown = {c: text.index(c) for c in text if c not in self._ids}
        shown = ", ".join(
            f"{c!r} at position {i}" for c, i in list(unknown.items())[:3]
        )
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise ValueError(
            f"expected only the {self.vocab_size} characters of the vocabulary, got "
            f"{shown}{more}: remove them, or train on text that has them"
        )

    def decode(self, ids: Ids) -> str:
        """The characters, joined.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        return "".join(self.decode_stream(ids))

    def decode_stream(self, ids: Ids) -> Iterator[str]:
        """Each character as it comes."""
        return (_text_of(self.characters, i) for i in map(operator.index, ids))

    def save(self, folder: Path | str) -> None:
        """Write tokenizer.json, which `transformers` loads too."""
        vocabulary = {character: i for i, character in enumerate(self.characters)}
        split = {"Regex": r"[\s\S]"}
        write_json(
            Path(folder) / "tokenizer.json",
            {
                "version": "1.0",
                "added_tokens": [],
                "pre_tokenizer": {
                    "type": "Split",
                    "pattern": split,
                    "behavior": "Isolated",
                    "invert": False,
                },
                "decoder": {"type": "Fuse"},
                "model": {
                    "type": "WordLevel",
                    "vocab": vocabulary,
                    "unk_token": "[unknown]",
                },
            },
        )
        write_json(
            Path(folder) / "tokenizer_config.json",
            {"minigpt": "char", "tokenizer_class": "PreTrainedTokenizerFast"},
        )


# Chinese characters, and the marks that stand between them without a space.
_HAN = r"[\u3400-\u9fff\uf900-\ufaff]"
_HAN_OR_MARK = r"[\u3400-\u9fff\uf900-\ufaff\u3000-\u303f\uff00-\uffef]"
_HAN_OR_REST = re.compile(f"{_HAN}|(?:(?!{_HAN}).)+")
_HAN_SPACE = re.compile(f"(?<={_HAN_OR_MARK}) | (?={_HAN_OR_MARK})")


def _cut(text: str) -> list[str]:
    words = stories.words(text)
    return [part for word in words for part in _HAN_OR_REST.findall(word)]


def _join(words: Sequence[str]) -> str:
    return _HAN_SPACE.sub("", stories.join(words))


class WordTokenizer:
    """One token for each word or mark of the stories; Chinese one for each character.

    Spaces are no tokens: decoding sets them as the stories do, so that every story
    comes back as it was, and the end mark leaves no trace in the text.

    Raises:
        ValueError: a word that occurs twice in the vocabulary.
    """

    def __init__(self, words: Sequence[str] | None = None) -> None:
        self.words = tuple(stories.vocabulary() if words is None else words)
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            twice = next(w for i, w in enumerate(self.words) if self._ids[w] != i)
            raise ValueError(f"expected each word only once, got {twice!r} twice")

    @classmethod
    def train(cls, texts: Iterable[str]) -> "WordTokenizer":
        """The vocabulary is the words that occur, sorted, and the end mark."""
        return cls(sorted({stories.END}.union(*(_cut(text) for text in texts))))

    @property
    def vocab_size(self) -> int:
        """V: how many words and marks."""
        return len(self.words)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The end of a story."""
        return {stories.END: self._ids[stories.END]} if stories.END in self._ids else {}

    @property
    def end_id(self) -> int | None:
        """The token after a story's last word."""
        return self._ids.get(stories.END)

    def encode(self, text: str) -> list[int]:
        """One id for each word or mark, and for an end mark that is written out.

        Raises:
            ValueError: a word that the vocabulary lacks.
        """
        words = _cut(text)
        try:
            return [self._ids[word] for word in words]
        except KeyError:
            at = next(i for i, word in enumerate(words) if word not in self._ids)
        raise ValueError(
            f"expected only the {self.vocab_size} words of the vocabulary, got "
            f"{words[at]!r} as word {at} of the text: reword it, or choose a tokenizer "
            f"of characters or bytes"
        )

    def decode(self, ids: Ids) -> str:
        """The words, spaced as the stories are.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        return "".join(self.decode_stream(ids))

    def decode_stream(self, ids: Ids) -> Iterator[str]:
        """Each word as it comes, after the space that its neighbour calls for."""
        before: list[str] = []
        for i in map(operator.index, ids):
            word = _text_of(self.words, i)
            yield _join([*before, word])[len(_join(before)) :]
            before = before if word == stories.END else [word]

    def save(self, folder: Path | str) -> None:
        """Write vocab.json; only this package knows how the words are cut."""
        write_json(Path(folder) / "vocab.json", self._ids)
        write_json(Path(folder) / "tokenizer_config.json", {"minigpt": "word"})


def load_tokenizer(folder: Path | str) -> Tokenizer | None:
    """The tokenizer saved in a folder, or `None` where there is none.

    Ours, and what Hugging Face saves for GPT-1 and GPT-2.

    Raises:
        ValueError: a file that cannot be read or followed.
    """
    folder = Path(folder)
    config, pipeline = folder / "tokenizer_config.json", folder / "tokenizer.json"
    kind = read_json(config).get("minigpt") if config.exists() else None
    if kind == "char":
        return CharTokenizer(_in_order(read_json(pipeline)["model"]["vocab"]))
    if kind == "word":
        return WordTokenizer(_in_order(read_json(folder / "vocab.json")))
    special: dict[str, int] = {}
    if (folder / "merges.txt").exists():
        table = read_json(folder / "vocab.json")
        merges = read_merges(folder / "merges.txt")
    elif pipeline.exists():
        table, merges, special = read_pipeline(pipeline)
    else:
        return None
    if any(name.endswith(WORD_END) for name in table):
        return GPT1Tokenizer(table, merges)
    return BPETokenizer.from_written(table, merges, special)


def _in_order(table: dict[str, int]) -> list[str]:
    return sorted(table, key=table.__getitem__)
