"""Texts: names and paths lead to one text, cut once, never inside a document."""

import re
from pathlib import Path

import pytest

from minigpt import stories, texts
from minigpt.texts import END_OF_TEXT, load_text, split_text, unwrap


@pytest.fixture
def no_data(monkeypatch):
    monkeypatch.delenv("MINIGPT_DATA", raising=False)


@pytest.fixture
def no_hub(monkeypatch):
    import datasets

    def refuse(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", refuse)


def test_the_last_tenth_is_held_out_and_nothing_is_lost():
    text = "".join(chr(33 + i % 90) for i in range(1000))
    cut = split_text("ramp", text)
    assert (len(cut.train), len(cut.validation)) == (900, 100)
    assert cut.train + cut.validation == text


def test_a_story_is_one_document_and_no_held_out_one_is_trained_on(monkeypatch):
    small = texts._stories(40, 10)
    train, held = small.documents(small.train), small.documents(small.validation)
    assert (len(train), len(held)) == (40, 10)
    assert train[0] == stories.generate(0).text
    assert held[0] == stories.generate(stories.VALIDATION_SEED).text
    assert not set(train) & set(held)
    # A held-out story that was also trained on is dropped, not counted twice.
    monkeypatch.setattr(stories, "VALIDATION_SEED", 35)
    monkeypatch.setattr(
        stories,
        "corpus",
        lambda n, seed=0: map(stories.generate, range(seed, seed + n)),
    )
    assert len((again := texts._stories(40, 10)).documents(again.validation)) == 5


def test_running_text_is_one_document():
    assert split_text("digits", "0123456789").documents("01") == ["01"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "one", "label": 1}\n\n{"text": "two"}\n'),
        ("a.csv", "label,text\n1,one\n2,two\n"),
    ],
)
def test_the_rows_of_a_table_are_documents(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    text = load_text(tmp_path / name)
    assert text == ("a", "one", "two", END_OF_TEXT, True)


def test_documents_in_memory_are_cut_as_documents_in_a_file():
    texts = (f"document {i:02d}" for i in range(30))
    text = load_text(texts)
    assert text.documents(text.validation) == [f"document {i}" for i in (27, 28, 29)]
    assert text.documents(text.train)[::26] == ["document 00", "document 26"]
    assert load_text(["one", " ", "two"])[1:3] == ("one", "two")
    with pytest.raises(ValueError, match=r"at least 2 documents in documents.* got 1"):
        load_text(["one"])


def test_no_document_is_cut_in_the_middle(tmp_path):
    """The last tenth of the bytes starts inside the long one, which stays whole."""
    long = "word " * 100
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "a"}}\n{{"text": "{long}"}}\n{{"text": "b"}}\n')
    assert load_text(path)[1:3] == (f"a{END_OF_TEXT}{long}", "b")


def test_a_path_loads_and_keeps_its_line_ends_and_chinese(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("艾达点灯。\r\n" * 10, encoding="utf-8", newline="")
    text = load_text(path)
    assert text.name == "mine"
    assert (text.train + text.validation).startswith("艾达点灯。\n艾达")


def test_the_folder_minigpt_data_names_is_looked_in_first(
    tmp_path, monkeypatch, no_hub
):
    folder = tmp_path / "tinyshakespeare"
    folder.mkdir()
    (folder / "input.txt").write_text("To be, or not. " * 20, encoding="utf-8")
    monkeypatch.setenv("MINIGPT_DATA", str(tmp_path))
    assert load_text("tinyshakespeare").train.startswith("To be, or not.")


def test_a_source_note_is_no_part_of_the_text(tmp_path, monkeypatch):
    folder = tmp_path / "gutenberg-prose"
    folder.mkdir()
    (folder / "SOURCE.txt").write_text("licence", encoding="utf-8")
    (folder / "b.txt").write_text("second\nline\n\nnew " * 9, encoding="utf-8")
    (folder / "a.txt").write_text("first\nline\n" * 9, encoding="utf-8")
    for name in texts.SOURCES["gutenberg-prose"].held_out:
        (folder / name).write_text("unseen " * 9, encoding="utf-8")
    monkeypatch.setenv("MINIGPT_DATA", str(tmp_path))
    whole = "".join(load_text("gutenberg-prose")[1:3])
    assert whole.startswith("first line first line")
    assert "licence" not in whole
    assert "second line\n\nnew" in whole


def test_whole_books_are_held_out_and_a_missing_one_is_said(tmp_path, monkeypatch):
    folder = tmp_path / "gutenberg-prose"
    folder.mkdir()
    held = texts.SOURCES["gutenberg-prose"].held_out
    for name in (*held, "a.txt", "b.txt"):
        (folder / name).write_text(f"This is\n{name} .", encoding="utf-8")
    monkeypatch.setenv("MINIGPT_DATA", str(tmp_path))
    text = load_text("gutenberg-prose")
    assert text.documents(text.train) == ["This is a.txt .", "This is b.txt ."]
    assert text.documents(text.validation) == [f"This is {name} ." for name in held]
    (folder / held[1]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"expected {held[1]}.* 4 other files"):
        load_text("gutenberg-prose")


def test_the_hub_is_asked_for_a_named_set(no_data, monkeypatch):
    import datasets

    asked = []

    def answer(*args, **options):
        asked.append((args, options))
        return {
            "train": {"text": ["abcdefgh", "ijk\n"]},
            "validation": {"text": ["l"]},
            "test": {"text": ["m" * 10]},
        }

    monkeypatch.setattr(datasets, "load_dataset", answer)
    text = load_text("tinyshakespeare")
    assert text.train + text.validation == "abcdefgh\nijk\nl\nmmmmmmmmmm\n"
    assert load_text("tinystories").validation == "l\n"
    assert asked[0][0] == ("karpathy/tiny_shakespeare", None)


def test_what_is_in_neither_place_says_where_it_was_looked_for(
    no_data, no_hub, tmp_path, monkeypatch
):
    want = "in MINIGPT_DATA .not set. and the hub's karpathy/tiny_shakespeare"
    with pytest.raises(FileNotFoundError, match=r"tinyshakespeare.*input\.txt"):
        load_text("tinyshakespeare")
    with pytest.raises(FileNotFoundError, match=want):
        load_text("tinyshakespeare")
    monkeypatch.setenv("MINIGPT_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path))):
        load_text("gutenberg-prose")
    (tmp_path / "gutenberg-prose").mkdir()
    with pytest.raises(FileNotFoundError, match=r"put .* a folder gutenberg-prose"):
        load_text("gutenberg-prose")


def test_every_other_mistake_is_one_sentence(tmp_path):
    def wrong(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    with pytest.raises(FileNotFoundError, match="expected a file or one of stories"):
        load_text("no-such-text")
    with pytest.raises(ValueError, match=r"expected text in e, got none"):
        load_text(wrong("e.txt", b" \n"))
    with pytest.raises(ValueError, match="at least 10 characters in s, got 3"):
        load_text(wrong("s.txt", b"abc"))
    with pytest.raises(ValueError, match=r"UTF-8 text in .*b\.txt.*position 2"):
        load_text(wrong("b.txt", b"ab\xff"))
    with pytest.raises(ValueError, match=r"at least 2 documents in d, .* got 1: bring"):
        load_text(wrong("d.csv", b"text\nhello\n"))


def test_paragraphs_are_unwrapped_and_stay_apart():
    assert unwrap("a\nb\r\n  c\n\nd\n\n\ne") == "a b c\n\nd\n\n\ne"


@pytest.mark.data
@pytest.mark.parametrize("name", [n for n, s in texts.SOURCES.items() if s.files])
def test_every_named_folder_loads(name):
    text = load_text(name)
    assert len(text.train) > 4 * len(text.validation) or name == "wikitext2-valid-test"


@pytest.mark.data
def test_tinyshakespeare_has_its_published_size():
    text = load_text("tinyshakespeare")
    # nanoGPT's cut, so that losses can be held against its own.
    assert (len(text.train), len(text.validation)) == (1_003_854, 111_540)
    assert len(set(text.train + text.validation)) == 65
