"""Characters and words of the stories: exact round trips, and errors that say where."""

from pathlib import Path

import pytest
import torch

from minigpt import stories
from minigpt.subword import BPETokenizer
from minigpt.tokenizer import CharTokenizer, Tokenizer, WordTokenizer, load_tokenizer

STORIES = [stories.generate(seed) for seed in range(100)]


def test_characters_are_numbered_in_code_point_order() -> None:
    tokenizer = CharTokenizer.train("to be or not to be")
    assert tokenizer.characters == tuple(" benort")
    assert tokenizer.encode("bet") == [1, 2, 6]
    assert tokenizer.decode([1, 2, 6]) == "bet"
    assert tokenizer.decode(torch.tensor([1, 2, 6])) == "bet"
    assert (tokenizer.end_id, tokenizer.special_tokens) == (None, {})


def test_every_story_comes_back_word_by_word() -> None:
    tokenizer = WordTokenizer()
    assert tokenizer.vocab_size == len(stories.vocabulary()) < 600
    for story in STORIES:
        ids = tokenizer.encode(story.text)
        assert len(ids) == len(stories.words(story.text))
        assert tokenizer.decode(ids) == story.text


def test_an_end_mark_is_a_token_and_leaves_no_text() -> None:
    tokenizer = WordTokenizer()
    text = STORIES[0].text
    ids = tokenizer.encode(f"{text}{stories.END}")
    assert ids == [*tokenizer.encode(text), tokenizer.end_id]
    assert tokenizer.decode(ids) == text
    assert tokenizer.special_tokens == {stories.END: tokenizer.end_id}
    both = tokenizer.decode([*ids, *ids])
    assert both == f"{text} {text}"


def test_chinese_is_cut_by_character_and_comes_back() -> None:
    chinese = [story.chinese for story in STORIES]
    tokenizer = WordTokenizer.train(chinese)
    for text in chinese:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(WordTokenizer.train(["灯笼。"]).encode("灯笼。")) == 3


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_saved_tokenizers_are_all_tokenizers_and_come_back(
    kind: str, tmp_path: Path
) -> None:
    text = STORIES[1].text
    tokenizer: Tokenizer = {
        "char": lambda: CharTokenizer.train(text),
        "word": WordTokenizer,
        "bpe": lambda: BPETokenizer.train([text], vocab_size=300),
    }[kind]()
    assert isinstance(tokenizer, Tokenizer)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert type(again) is type(tokenizer)
    assert again.encode(text) == tokenizer.encode(text)
    assert again.vocab_size == tokenizer.vocab_size
    assert again.end_id == tokenizer.end_id
    ids = tokenizer.encode(text)
    pieces = list(again.decode_stream(iter(ids)))
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text


def test_a_folder_takes_another_tokenizer_and_forgets_the_first(tmp_path: Path) -> None:
    text = STORIES[2].text
    kinds = (CharTokenizer.train(text), WordTokenizer())
    for tokenizer in (*kinds, BPETokenizer.train([text], vocab_size=300), *kinds):
        tokenizer.save(tmp_path)
        assert type(load_tokenizer(tmp_path)) is type(tokenizer)


def test_a_folder_without_tokenizer_gives_none(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path) is None
    assert load_tokenizer(tmp_path / "nowhere") is None


def test_unknown_characters_are_named_with_their_place() -> None:
    tokenizer = CharTokenizer.train("abc ")
    with pytest.raises(ValueError, match=r"the 4 characters .* got 'é' at position 2:"):
        tokenizer.encode("abé")
    with pytest.raises(
        ValueError,
        match="'d' at position 0, 'e' at position 1, 'f' at position 2 and 2 more:",
    ):
        tokenizer.encode("defghgd")


def test_unknown_words_are_named_with_their_place() -> None:
    with pytest.raises(ValueError, match=r"words .* got 'telephone' as word 1 of the"):
        WordTokenizer(["the"]).encode("the telephone rang")


@pytest.mark.parametrize("i", [-1, 3])
def test_ids_outside_the_vocabulary_are_refused(i: int) -> None:
    for tokenizer in (CharTokenizer("abc"), WordTokenizer(["a", "b", "c"])):
        with pytest.raises(ValueError, match=f"token ids from 0 to 2, got {i}: decode"):
            tokenizer.decode([0, i])


def test_vocabularies_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one character, got none"):
        CharTokenizer.train("")
    with pytest.raises(ValueError, match="one character, and only once, got 'ab' at 1"):
        CharTokenizer(["a", "ab"])
    with pytest.raises(ValueError, match="got 'a' at 2"):
        CharTokenizer("aba")
    with pytest.raises(ValueError, match="each word only once, got 'the' twice"):
        WordTokenizer(["the", "a", "the"])
