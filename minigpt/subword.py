"""Chapter 2. Subwords: the tokenizers of GPT-2 and GPT-1, and the files they live in.

GPT-2 merges bytes, so it can write any text and lose nothing. GPT-1 merges letters of
lower-cased words and marks the end of a word with "</w>"; what it has no letter for
becomes "<unk>". Both are one ordered list of merges (`bpe.py`) and a table of ids, kept
in vocab.json and merges.txt as OpenAI wrote them and Hugging Face still reads them.
"""

import codecs
import operator
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import regex

from minigpt.bpe import (
    BYTES,
    GPT2_PATTERN,
    Merge,
    Merger,
    checked_utf8,
    count_words,
    gpt1_words,
    train_merges,
    unwritten,
    written,
)
from minigpt.vocabulary import WORD_END, Ids, read_json, read_merges, save_bpe

END_OF_TEXT = "<|endoftext|>"
MEMO_WORDS = 1 << 17  # words remembered with their ids
MEMO_LENGTH = 32  # characters of the longest word that is remembered

Specials = Collection[str] | Literal["all"]


class _Memo(dict[str, list[int]]):
    """Words met so far, with their ids; forgets all of them when it is full."""

    def __init__(self, tokenizer: "BPETokenizer") -> None:
        self.tokenizer = tokenizer

    def __missing__(self, word: str) -> list[int]:
        ids = self.tokenizer.encode_word(word.encode("utf-8", "surrogateescape"))
        if len(word) <= MEMO_LENGTH:
            if len(self) >= MEMO_WORDS:
                self.clear()
            self[word] = ids
        return ids


class BPETokenizer:
    """GPT-2's tokenizer: byte-pair encoding on the bytes of a text.

    >>> tokenizer = BPETokenizer.train(["low lower lowest"], vocab_size=260)
    >>> [tokenizer.decode([i]) for i in tokenizer.encode("low slow")]
    ['low', ' ', 's', 'low']

    Every text without half surrogate pairs is encoded, and decoding gives it back. The
    names of special tokens are ordinary text unless `encode` is told to allow them.

    Raises:
        ValueError: a vocabulary that lacks a byte or the product of a merge.
    """

    def __init__(
        self,
        vocabulary: Mapping[bytes, int],
        merges: Sequence[Merge],
        *,
        special_tokens: Mapping[str, int] | None = None,
    ) -> None:
        needed = (*BYTES, *(a + b for a, b in merges))
        missing = next((token for token in needed if token not in vocabulary), None)
        if missing is not None:
            raise ValueError(
                f"expected all 256 bytes and every merge in the vocabulary, got none "
                f"for {missing!r}: use the vocabulary and the merges of one tokenizer"
            )
        self.vocabulary = dict(vocabulary)
        self.merges = list(merges)
        self._special = dict(special_tokens or {})
        ids = self.vocabulary
        self._merger = Merger([(ids[a], ids[b], ids[a + b]) for a, b in merges])
        self._single = [ids[bytes([byte])] for byte in range(256)]
        self._bytes = {i: token for token, i in ids.items()}
        self._bytes |= {i: name.encode() for name, i in self._special.items()}
        self._memo = _Memo(self)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab_size: int,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
    ) -> "BPETokenizer":
        """Learn merges until there are `vocab_size` tokens, special ones included.

        Special tokens come last, as in GPT-2. Texts with little in them end earlier.

        Raises:
            ValueError: a vocab_size that has no room for the bytes and the special
                tokens, a text that UTF-8 cannot write, or one str in place of texts.
        """
        least = len(BYTES) + len(special_tokens)
        if vocab_size < least:
            raise ValueError(
                f"expected a vocab_size of at least {least} (256 bytes and "
                f"{len(special_tokens)} special tokens), got {vocab_size}"
            )
        if isinstance(texts, str):
            raise ValueError("expected several texts, got one str: put it in a list")
        words = count_words(checked_utf8(text) for text in texts)
        merges = train_merges(words, vocab_size - len(special_tokens))
        # A dict keeps the first place of bytes that two merges make.
        tokens = dict.fromkeys((*BYTES, *(a + b for a, b in merges)))
        vocabulary = {token: i for i, token in enumerate(tokens)}
        special = {name: len(tokens) + i for i, name in enumerate(special_tokens)}
        return cls(vocabulary, merges, special_tokens=special)

    @classmethod
    def from_gpt2_files(
        cls, encoder_json: Path | str, vocab_bpe: Path | str
    ) -> "BPETokenizer":
        """The published tokenizer, or any that is saved as vocab.json and merges.txt.

        Raises:
            ValueError: a file that cannot be read, or two that do not belong together.
        """
        return cls.from_written(
            read_json(Path(encoder_json)), read_merges(Path(vocab_bpe))
        )

    @classmethod
    def from_written(
        cls,
        table: Mapping[str, int],
        merges: Iterable[Sequence[str]],
        special_tokens: Mapping[str, int] | None = None,
    ) -> "BPETokenizer":
        """From names in GPT-2's alphabet; a name no merge makes is a special token.

        Raises:
            ValueError: a merge of symbols that are no bytes, or is not in the table.
        """
        pairs: list[Merge] = []
        for left, right in merges:
            a, b = unwritten(left), unwritten(right)
            if a is None or b is None:
                raise ValueError(
                    f"expected merges of bytes in GPT-2's alphabet, got {left!r} and "
                    f"{right!r}: is this another kind of tokenizer?"
                )
            pairs.append((a, b))
        made = {*BYTES, *(a + b for a, b in pairs)}
        special = dict(special_tokens or {})
        vocabulary = {}
        for name, i in table.items():
            token = unwritten(name)
            if token in made and name not in special:
                vocabulary[token] = i
            else:
                special[name] = i
        return cls(vocabulary, pairs, special_tokens=special)

    @property
    def vocab_size(self) -> int:
        """V: bytes, merges and special tokens."""
        return max(self._bytes) + 1

    @property
    def special_tokens(self) -> dict[str, int]:
        """Names and ids of the tokens that no text is merged into."""
        return dict(self._special)

    @property
    def end_id(self) -> int | None:
        """The id of <|endoftext|>, where it is one of the special tokens."""
        return self._special.get(END_OF_TEXT)

    def encode_word(self, word: bytes) -> list[int]:
        """The ids of one word, merged from its bytes."""
        return self._merger.merge([self._single[byte] for byte in word])

    def _encode_ordinary(self, text: str) -> list[int]:
        ids: list[int] = []
        for found in map(self._memo.__getitem__, GPT2_PATTERN.findall(text)):
            ids += found
        return ids

    def _allowed(self, allowed_special: Specials) -> list[str]:
        """Names to look for, longest first, so that none hides a longer one."""
        chosen = self._special if allowed_special == "all" else allowed_special
        for name in chosen:
            if name not in self._special:
                raise ValueError(
                    f"expected special tokens among {', '.join(self._special)}, got "
                    f"{name!r}: train with it, or leave it out"
                )
        return sorted(chosen, key=len, reverse=True)

    def encode(self, text: str, *, allowed_special: Specials = ()) -> list[int]:
        """The ids of a text, its words merged one by one.

        Raises:
            ValueError: half a surrogate pair, or an unknown name in allowed_special.
        """
        names = self._allowed(allowed_special)
        checked_utf8(text)
        if not names:
            return self._encode_ordinary(text)
        ids: list[int] = []
        for part in regex.split(f"({'|'.join(map(regex.escape, names))})", text):
            special = part in names
            ids += [self._special[part]] if special else self._encode_ordinary(part)
        return ids

    def encode_bytes(self, text: bytes) -> list[int]:
        """The ids of any bytes: as `encode` where they are UTF-8; never an error."""
        return self._encode_ordinary(text.decode("utf-8", "surrogateescape"))

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text."""
        return [self.encode(text) for text in texts]

    def encode_stream(
        self, chunks: Iterable[str], *, allowed_special: Specials = ()
    ) -> Iterator[int]:
        """The ids of the joined chunks, without joining them.

        Holds one chunk and a word or two. What is held back is as long as a later
        character could change it: a special token may have begun, "'l" may become
        "'ll", and white space waits for what it precedes.

        Raises:
            ValueError: as `encode`.
        """
        names = self._allowed(allowed_special)
        find = regex.compile("|".join(map(regex.escape, names)) or r"(?!)").search
        longest = max((len(name) for name in names), default=1)
        held = ""
        for chunk in chunks:
            held += checked_utf8(chunk)
            # A name that starts within the last `longest` − 1 may not be complete.
            sure = len(held) - (longest - 1)
            while (match := find(held)) and match.start() < sure:
                yield from self._encode_ordinary(held[: match.start()])
                yield self._special[match.group()]
                held = held[match.end() :]
                sure = len(held) - (longest - 1)
            starts = [
                word.start() for word in GPT2_PATTERN.finditer(held[: max(sure, 0)])
            ]
            if len(starts) > 2:
                yield from self._encode_ordinary(held[: starts[-2]])
                held = held[starts[-2] :]
        yield from self.encode(held, allowed_special=names)

    def decode_bytes(self, ids: Ids) -> bytes:
        """The bytes of some ids, which may end inside a character.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        try:
            return b"".join(map(self._bytes.__getitem__, map(operator.index, ids)))
        except KeyError as error:
            raise ValueError(
                f"expected token ids from 0 to {self.vocab_size - 1}, got {error}: "
                f"decode with the tokenizer that the model was trained with"
            ) from None

    def decode(self, ids: Ids) -> str:
        """The text of some ids; bytes that are no UTF-8 become "\\ufffd".

        Raises:
            ValueError: an id outside the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_batch(self, batch: Iterable[Ids]) -> list[str]:
        """The text of each list of ids."""
        return [self.decode(ids) for ids in batch]

    def decode_stream(self, ids: Ids) -> Iterator[str]:
        """The text that each id completes, "" inside a character; then what is left."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for i in ids:
            yield decoder.decode(self.decode_bytes([i]))
        rest = decoder.decode(b"", final=True)
        if rest:
            yield rest

    def save(self, folder: Path | str) -> None:
        """Write vocab.json, merges.txt and tokenizer.json as Hugging Face does."""
        table = {written(token): i for token, i in self.vocabulary.items()}
        merges = [[written(a), written(b)] for a, b in self.merges]
        save_bpe(Path(folder), table, merges, self._special)


class GPT1Tokenizer:
    """GPT-1's tokenizer as `transformers` has it: merges of letters, lower case.

    It loses capitals, accents, white space, and any letter that no token has.
    (OpenAI's own code cleans with ftfy and cuts with spaCy: some marks differ.)

    Raises:
        ValueError: a vocabulary without "<unk>" or the product of a merge.
    """

    def __init__(
        self, table: Mapping[str, int], merges: Sequence[Sequence[str]]
    ) -> None:
        self.table = dict(table)
        self.merges = [(left, right) for left, right in merges]
        symbols = ["<unk>", *(s for a, b in self.merges for s in (a, b, a + b))]
        missing = next((s for s in symbols if s not in table), None)
        if missing is not None:
            raise ValueError(
                f"expected <unk> and every merge in the vocabulary, got none for "
                f"{missing!r}: use the vocabulary and the merges of one tokenizer"
            )
        self._unknown = self.table["<unk>"]
        self._merger = Merger([(table[a], table[b], table[a + b]) for a, b in merges])
        self._names = {i: name for name, i in self.table.items()}

    @classmethod
    def from_files(
        cls, encoder_json: Path | str, vocab_bpe: Path | str
    ) -> "GPT1Tokenizer":
        """The published tokenizer; Hugging Face calls the files vocab.json, merges.txt.

        Raises:
            ValueError: a file that cannot be read, or two that do not belong together.
        """
        return cls(read_json(Path(encoder_json)), read_merges(Path(vocab_bpe)))

    @property
    def vocab_size(self) -> int:
        """V: letters, letters that end a word, and merges."""
        return max(self._names) + 1

    @property
    def special_tokens(self) -> dict[str, int]:
        """What stands for an unknown letter."""
        return {"<unk>": self._unknown}

    @property
    def end_id(self) -> int | None:
        """None: GPT-1's vocabulary has no end of text."""
        return None

    def encode(self, text: str) -> list[int]:
        """The ids of a text's words, cleaned and merged one by one."""
        ids: list[int] = []
        for word in gpt1_words(text):
            letters = [*word[:-1], word[-1] + WORD_END]
            ids += self._merger.merge(
                [self.table.get(letter, self._unknown) for letter in letters]
            )
        return ids

    def decode(self, ids: Ids) -> str:
        """The words, with a space between each two.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        return "".join(self.decode_stream(ids))

    def decode_stream(self, ids: Ids) -> Iterator[str]:
        """The text of each id; the space after a word waits for the next word.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        space = ""
        for i in map(operator.index, ids):
            if i not in self._names:
                raise ValueError(
                    f"expected token ids from 0 to {self.vocab_size - 1}, got {i}: "
                    f"decode with the tokenizer that the model was trained with"
                )
            name = self._names[i]
            yield space + name.removesuffix(WORD_END)
            space = " " if name.endswith(WORD_END) else ""

    def save(self, folder: Path | str) -> None:
        """Write vocab.json, merges.txt and tokenizer.json as Hugging Face does."""
        merges = [list(pair) for pair in self.merges]
        save_bpe(Path(folder), self.table, merges, self.special_tokens, words=True)
