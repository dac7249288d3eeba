"""Corpora: small or large, a text comes out with its tokenizer and its tokens."""

import json
import os
from pathlib import Path

import pytest

from minigpt import corpus, stories, texts, tokens
from minigpt.corpus import choose_tokenizer, load_corpus, tokenizer_of
from minigpt.data import IGNORE
from minigpt.subword import BPETokenizer
from minigpt.texts import END_OF_TEXT, load_text, split_text
from minigpt.tokenizer import CharTokenizer, WordTokenizer

TOLD = [story.text for story in stories.corpus(50)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "told.txt"
    path.write_text("\n".join(TOLD), encoding="utf-8")
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": told}) for told in TOLD))
    return path


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(tokens, "LARGE", 1)


def test_stories_are_words_a_short_text_characters_and_a_rich_one_bytes(text):
    few = split_text("few", "to be or not to be " * 9)
    many = split_text("many", "".join(map(chr, range(0x4E00, 0x4E00 + 600))))
    assert isinstance(choose_tokenizer(few, "auto", 300), CharTokenizer)
    assert isinstance(choose_tokenizer(many, "auto", 300), BPETokenizer)
    told = load_text(text)._replace(name="stories")
    assert isinstance(choose_tokenizer(told, "auto", 300), WordTokenizer)
    assert isinstance(choose_tokenizer(told, "char", 300), CharTokenizer)


def test_merges_are_counted_on_the_training_part_and_never_on_a_mark():
    text = load_text(["in the mill", "in the mill", "zzzz"])
    tokenizer = choose_tokenizer(text, "bpe", 400)
    assert isinstance(tokenizer, BPETokenizer)
    assert b"in" in tokenizer.vocabulary
    assert b"zz" not in tokenizer.vocabulary
    assert not [token for token in tokenizer.vocabulary if b"|" in token[1:]]
    assert tokenizer.end_id == tokenizer.special_tokens[END_OF_TEXT]


def test_documents_of_characters_are_parted_by_a_line_break():
    found = load_corpus_of(["ab", "ba", "b"], "char")
    assert found == ("\nab\nba\n", "\nb\n")


def load_corpus_of(documents: list[str], kind: corpus.Kind) -> tuple[str, str]:
    """The two parts as a tokenizer writes them back."""
    text = load_text(documents)
    tokenizer = choose_tokenizer(text, kind, 300)
    parts = (corpus.encode_text(text, p, tokenizer) for p in text[1:3])
    train, held = (tokenizer.decode(part.tolist()) for part in parts)
    return train, held


def test_a_small_corpus_says_what_it_is(text):
    found = load_corpus(text)
    whole = "\n".join(TOLD)
    assert (found.name, found.file) == ("told", None)
    assert len(found.train) + len(found.validation) == len(whole)
    assert f"told: {len(found.train):,} tokens, and {len(found.validation):,}" in str(
        found
    )
    assert found.overlap.documents == 1


def test_padding_is_not_counted(monkeypatch):
    small = texts._stories(5, 1)
    text = small._replace(validation=small.train)
    monkeypatch.setattr(corpus, "load_text", lambda name: text)
    found = load_corpus("stories")
    n = int((found.train != IGNORE).sum())
    assert n < found.train.numel()
    assert f"stories: {n:,} tokens, and {n:,} to validate on" == str(found)


@pytest.mark.parametrize("kind", ["char", "word"])
def test_a_large_running_text_has_all_the_tokens_of_a_small_one(
    text, monkeypatch, kind
):
    small = load_corpus(text, tokenizer=kind)
    monkeypatch.setattr(tokens, "LARGE", 1)
    large = load_corpus(text, tokenizer=kind)
    assert large.file == found_beside(text)
    assert large.train.dtype != small.train.dtype
    # Where they are cut differs: between two blocks, and by character.
    whole = [[*one.train.tolist(), *one.validation.tolist()] for one in (small, large)]
    assert whole[0] == whole[1]
    assert len(large.validation) > 0
    assert f", in {large.file}" in str(large)


def found_beside(path: Path) -> Path:
    (found,) = path.parent.glob("*.safetensors")
    return found


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_large_tables_have_the_documents_of_small_ones(rows, monkeypatch, kind):
    small = load_corpus(rows, tokenizer=kind, vocab_size=300)
    monkeypatch.setattr(tokens, "LARGE", 1)
    large = load_corpus(rows, tokenizer=kind, vocab_size=300)
    for part in ("train", "validation"):
        texts = [
            one.tokenizer.decode(getattr(one, part).tolist()) for one in (small, large)
        ]
        assert texts[0] == texts[1]
    assert large.overlap == small.overlap
    # Every row is in the sample, so that the merges are the same too.
    assert large.tokenizer.vocab_size == small.tokenizer.vocab_size


def test_auto_is_byte_pairs_for_a_large_text(text, rows, everything_is_large):
    plain, marked = (load_corpus(p, vocab_size=270) for p in (text, rows))
    assert isinstance(plain.tokenizer, BPETokenizer)
    assert plain.tokenizer.special_tokens == {}
    assert marked.tokenizer.end_id == 269
    assert isinstance(tokenizer_of(text, "word", 270), WordTokenizer)
    characters = tokenizer_of(text, "char", 270)
    assert characters.decode(characters.encode(TOLD[-1])) == TOLD[-1]


def test_tokens_go_elsewhere_where_the_texts_folder_is_read_only(
    text, tmp_path, monkeypatch, everything_is_large
):
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = load_corpus(text, vocab_size=270, folder=tmp_path / "run")
    assert found.file is not None
    assert found.file.parent == tmp_path / "run"
    heard: list[tuple[int, int]] = []
    load_corpus(
        text,
        vocab_size=270,
        folder=tmp_path / "run",
        progress=lambda *at: heard.append(at),
    )
    assert heard == []


def test_fifty_megabytes_are_large_and_a_name_is_not(tmp_path):
    path = tmp_path / "a.txt"
    path.touch()
    os.truncate(path, tokens.LARGE - 1)
    assert not tokens.is_large(path)
    os.truncate(path, tokens.LARGE)
    assert tokens.is_large(str(path))
    assert not tokens.is_large("stories")
    assert not tokens.is_large(["a text"])
