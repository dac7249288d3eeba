"""Inputs: rows by hand, places held against the text, nothing lost unsaid."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import stories
from minigpt.adapt.inputs import (
    Layout,
    Marks,
    _places,
    aligned,
    fair_shares,
    lay_out,
)
from minigpt.labelled import Example, Kind, Span
from minigpt.story_tasks import stories_task
from minigpt.subword import GPT1Tokenizer
from minigpt.texts import ASSETS
from minigpt.tokenizer import CharTokenizer, WordTokenizer, load_tokenizer

LETTERS = CharTokenizer("abcdefgh ")  # a is 0, h is 7, the space 8
BASE = load_tokenizer(ASSETS / "minigpt-base")
MARKS = Marks(9, 10, 11)


def layout(kind: Kind, context_length: int = 20, **rest: object) -> Layout:
    labels = ("one", "two", "answer")
    return Layout(
        kind=kind, labels=labels, marks=MARKS, context_length=context_length, **rest
    )


# Rows.
def test_the_rows_of_gpt1_by_hand():
    def rows(example: Example, kind: Kind, **rest: object) -> tuple:
        return lay_out(example, LETTERS, layout(kind, **{"room": 4} | rest)).rows

    assert rows(Example("ab", 0), "classes") == ((9, 0, 1, 11),)
    assert rows(Example("ab", 0, "c"), "classes") == ((9, 0, 1, 10, 2, 11),)
    both = rows(Example("ab", 0, "c"), "classes", both_orders=True)
    assert both == ((9, 0, 1, 10, 2, 11), (9, 2, 10, 0, 1, 11))
    choices = rows(Example("a", 1, choices=("b", "cd")), "choice")
    assert choices == ((9, 0, 10, 1, 11), (9, 0, 10, 2, 3, 11))
    asked = rows(Example("a", 1, "h", choices=("b", "cd")), "choice")
    assert asked == ((9, 0, 10, 7, 10, 1, 11), (9, 0, 10, 7, 10, 2, 3, 11))
    assert rows(Example("ab", "c"), "text") == ((9, 0, 1, 10, 2, 11),)
    question = rows(Example("ab", (), "h"), "spans")
    assert question == ((9, 7, 10, 0, 1, 11),)
    bare = replace(layout("classes"), marks=Marks(None, 9, 10))
    assert lay_out(Example("ab", 0, "c"), LETTERS, bare).rows == ((0, 1, 9, 2, 10),)


def test_what_asks_for_a_text_ends_in_the_delimiter():
    asked = lay_out(Example("ab", ""), LETTERS, layout("text", room=4), labelled=False)
    assert asked.rows == ((9, 0, 1, 10),)
    assert asked.target is None


def test_a_written_text_is_read_from_the_delimiter_on():
    item = lay_out(Example("ab", "cd"), LETTERS, layout("text", room=4))
    row = item.rows[0]
    assert [row[i] for i in item.reads] == [10, 2, 3]
    assert [row[i + 1] for i in item.reads] == list(item.target) == [2, 3, 11]


def test_words_are_read_at_their_last_token():
    item = lay_out(Example("ab  c def", (0, 1, 2)), LETTERS, layout("tags"))
    row = item.rows[0]
    assert row == (9, 0, 1, 8, 8, 2, 8, 3, 4, 5, 11)
    assert [row[i] for i in item.reads] == [1, 2, 5]
    assert item.target == (0, 1, 2)
    assert item.places == ((0, 1), (1, 2), (2, 3))


def test_spans_are_read_at_each_token_and_at_the_end():
    example = Example("ab cd", (Span(3, 5),), "h")
    item = lay_out(example, LETTERS, layout("spans"))
    row = item.rows[0]
    assert [row[i] for i in item.reads] == [0, 1, 8, 2, 3, 11]
    # "one" and "two" stand nowhere: the extract token, number 5, twice.
    assert item.target == ((5, 5), (5, 5), (3, 4))


def test_a_span_takes_the_tokens_that_it_touches():
    text = "Bookings for twelve  people, please."
    ids, places = aligned(text, BASE)
    start = text.index("twelve")
    for span in (Span(start, start + 6), Span(start - 1, start + 8)):
        found = lay_out(Example(text, (span,)), BASE, layout("spans", 64))
        first, last = found.target[2]
        said = text[found.places[first][0] : found.places[last][1]]
        assert said == "twelve"
    assert len(ids) == len(places)


# Places.
SAMPLES = (
    "“Six eggs,” said Ada. It's 7:30!",
    " two  spaces\n\nand a line ",
    "naïve café – 12 €",
    "阿达在灯塔里 sang",
)


@pytest.mark.parametrize("text", SAMPLES)
def test_places_tell_which_characters_a_token_stands_for(text):
    ids, places = aligned(text, BASE)
    assert ids == BASE.encode(text)
    whole = "".join(text[start:end] for start, end in places)
    assert whole == "".join(text.split())
    assert places == sorted(places)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_any_text_keeps_its_tokens_and_all_of_its_letters(text):
    ids, places = aligned(text, BASE)
    assert ids == BASE.encode(text)
    assert len(ids) == len(places)
    assert all(0 <= start <= end <= len(text) for start, end in places)
    assert "".join(text[start:end] for start, end in places).split() == (
        ["".join(text.split())] if text.split() else []
    )


def test_words_of_the_stories_are_their_own_places():
    text = stories.generate(4).text
    ids, places = aligned(text, WordTokenizer())
    assert ids == WordTokenizer().encode(text)
    assert [text[a:b] for a, b in places] == list(stories.words(text))


def test_where_letters_change_a_token_stands_for_its_whole_word():
    words = {"<unk>": 0, "a": 1, "b</w>": 2, "c</w>": 3, "e</w>": 4}
    tokenizer = GPT1Tokenizer(words, [])
    ids, places = aligned("Ab  AB c", tokenizer)
    assert ids == [1, 2, 1, 2, 3]
    assert places == [(0, 1), (1, 2), (4, 5), (5, 6), (7, 8)]
    _, accent = aligned("c é", tokenizer)
    assert accent == [(0, 1), (2, 3)]


@pytest.mark.parametrize("dial", [1, 2, 3])
def test_every_answer_of_the_stories_is_found_again(dial):
    task = stories_task("spans", 30, 0, dial, n_test=30)
    shape = Layout(kind="spans", labels=task.labels, marks=MARKS, context_length=128)
    for tokenizer in (WordTokenizer(), BASE):
        wide = replace(shape, context_length=300)
        for example in task.test:
            item = lay_out(example, tokenizer, wide)
            ((first, last),) = item.target
            if example.label:
                span = example.label[0]
                assert item.places[first][0] == span.start
                assert item.places[last][1] == span.end
            else:
                assert first == last == len(item.places)


# What is longer than the context.
@settings(max_examples=100)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(4, 80))
def test_shares_are_fair(lengths, room):
    shares = fair_shares(lengths, room)
    assert sum(shares) == min(room, sum(lengths))
    short = [s for s, n in zip(shares, lengths, strict=True) if s < n]
    # Whoever goes short has, but for one token, as much as anybody.
    assert all(s >= max(shares) - 1 for s in short)
    assert all(1 <= s <= n for s, n in zip(shares, lengths, strict=True))


@pytest.mark.parametrize(("cut", "kept"), [("right", "abcd"), ("left", "cdef")])
def test_a_text_that_is_too_long_loses_tokens_where_it_is_said(cut, kept):
    shape = layout("classes", 8, cut=cut)
    item = lay_out(Example("abcdef", 0, "h"), LETTERS, shape)
    assert item.rows == ((9, *LETTERS.encode(kept), 10, 7, 11),)
    assert item.cut == 2


def test_what_is_cut_is_counted_over_all_rows():
    item = lay_out(
        Example("abcdef", 0, choices=("a", "bcd")), LETTERS, layout("choice", 8)
    )
    assert all(len(row) == 8 for row in item.rows)
    assert item.cut == 2 + 4
    assert lay_out(Example("abc", 0), LETTERS, layout("classes", 8)).cut == 0


def test_tags_and_spans_outside_the_context_are_not_read():
    example = Example("ab cd ef gh", (0, 1, 2, 0))
    right = lay_out(example, LETTERS, layout("tags", 10))
    assert (right.places, right.target) == (((0, 1), (1, 2), (2, 3)), (0, 1, 2))
    left = lay_out(example, LETTERS, layout("tags", 10, cut="left"))
    assert (left.places, left.target) == (((1, 2), (2, 3), (3, 4)), (1, 2, 0))
    assert [left.rows[0][i] for i in left.reads] == [3, 5, 7]
    spans = Example("ab cd ef gh", (Span(0, 2, "one"), Span(9, 11, "two")))
    right = lay_out(spans, LETTERS, layout("spans", 10))
    assert right.target == ((0, 1), (8, 8), (8, 8))
    left = lay_out(spans, LETTERS, layout("spans", 10, cut="left"))
    assert left.target == ((8, 8), (6, 7), (8, 8))
    assert [left.places[6][0], left.places[7][1]] == [9, 11]


def test_a_span_of_which_a_part_was_cut_is_none():
    example = Example("ab cdef gh", (Span(3, 7, "one"),))
    assert lay_out(example, LETTERS, layout("spans", 8)).target[0] == (6, 6)


def test_room_is_kept_for_what_is_to_be_written():
    shape = layout("text", 16, room=5)
    asked = lay_out(Example("abcdefgh", ""), LETTERS, shape, labelled=False)
    assert len(asked.rows[0]) + shape.room <= 16
    taught = lay_out(Example("abcdefgh" * 2, "abcdefghab"), LETTERS, shape)
    assert len(taught.rows[0]) == 16
    assert taught.cut == 16 + 10 - 13


# What is wrong with an example.
BAD = {
    "no text": ("classes", Example(" ", 0), "expected a text, got ' ': fill it"),
    "no pair": ("classes", Example("a", 0, ""), "expected a text, got ''"),
    "no choice": ("choice", Example("a", 0, choices=("b",)), "two choices, got 1"),
    "choice": ("choice", Example("a", 2, choices=("b", "c")), "one of 2 labels.*got 2"),
    "class": ("classes", Example("a", "two"), "one of 3 labels, from 0 to 2, got 'two"),
    "labels": ("multilabel", Example("a", (0, 7)), "one of 3 labels.* got 7: use"),
    "number": ("number", Example("a", "x"), "a number as label, got 'x'"),
    "tags": ("tags", Example("a b", (0,)), "one tag for each of 2 words, got 1"),
    "tag": ("tags", Example("a b", (0, 5)), "one of 3 labels.* got 5"),
    "outside": ("spans", Example("ab", (Span(1, 3),)), "within 2 characters, got 1"),
    "empty": ("spans", Example("ab", (Span(1, 1),)), "start < end .* got 1 and 1"),
    "name": ("spans", Example("ab", (Span(0, 1, "x"),)), "spans of one, two, answer"),
    "two": ("spans", Example("a b", (Span(0, 1), Span(2, 3))), "two of 'answer': tag"),
    "written": ("text", Example("a", ""), "expected a text, got ''"),
}


@pytest.mark.parametrize(("kind", "example", "message"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_said_in_a_sentence(kind, example, message):
    with pytest.raises(ValueError, match=message):
        lay_out(example, LETTERS, layout(kind, room=4))


def test_a_layout_that_cannot_be_is_an_error():
    with pytest.raises(ValueError, match="a context of at least 8 tokens, got 7"):
        layout("classes", 7)
    with pytest.raises(ValueError, match="a context of at least 40 tokens, got 20"):
        layout("text")
    with pytest.raises(ValueError, match="a spread above 0, got 0"):
        layout("number", spread=0.0)
    with pytest.raises(ValueError, match="with classes, multilabel or number, got 'ta"):
        layout("tags", both_orders=True)
    shape = layout("classes", both_orders=True)
    with pytest.raises(ValueError, match="a text_pair to read in both orders, got one"):
        lay_out(Example("a", 0), LETTERS, shape)


def test_letters_that_casefolding_makes_longer_leave_no_place_before_the_text():
    """ "İ" has one character and its lower case two: the pieces stand for the word."""
    assert _places("İstanbul", 0, ["i\u0307stan", "bul"]) == [(0, 8), (0, 8)]
