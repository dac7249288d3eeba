"""Rows: a table says by its columns what it is, and every bad row is named."""

import json

import pytest

from minigpt.labelled import Example, Span
from minigpt.rows import read_rows, to_examples


def written(folder, name: str, content: str | bytes):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


TABLES = {
    "a.csv": 'text,label\r\n"Hello, Ada",hi\r\n\r\n"two\nlines",bye\r\n',
    "a.jsonl": '{"text": "Hello, Ada", "label": "hi"}\n\n'
    '{"text": "two\\nlines", "label": "bye"}\n',
    "a.json": '[{"text": "Hello, Ada", "label": "hi"},'
    ' {"text": "two\\nlines", "label": "bye"}]',
}


@pytest.mark.parametrize("name", TABLES)
def test_three_formats_hold_the_same_rows(tmp_path, name):
    rows = read_rows(written(tmp_path, name, TABLES[name]))
    assert to_examples(rows, name) == (
        "classes",
        [Example("Hello, Ada", "hi"), Example("two\nlines", "bye")],
    )


def test_a_table_with_tabs_has_no_quotation_marks(tmp_path):
    content = '\ufeff text\ttext_pair\tlabel\n"Ahoy\tshe said\tyes\n灯塔\t,\tno\n'
    rows = read_rows(written(tmp_path, "a.tsv", content))
    assert to_examples(rows, "a") == (
        "classes",
        [Example('"Ahoy', "yes", "she said"), Example("灯塔", "no", ",")],
    )


def test_a_line_separator_within_a_text_ends_no_row(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"text": "a\u2028b", "label": "x"}\n')
    assert read_rows(path)[0]["text"] == "a\u2028b"


@pytest.mark.parametrize(
    ("rows", "kind", "first"),
    [
        ([("a", "x")], "classes", Example("a", "x")),
        ([["a", "b", " x "]], "classes", Example("a", "x", "b")),
        ([("a", 3), ("b", 4)], "classes", Example("a", "3")),
        ([("a", True)], "classes", Example("a", "True")),
        ([("a", "1"), ("b", "2")], "classes", Example("a", "1")),
        ([("a", "1.5"), ("b", "2")], "number", Example("a", 1.5)),
        ([("a", 2.0), ("b", 2.5)], "number", Example("a", 2.0)),
        ([("a", "b", 0.5)], "number", Example("a", 0.5, "b")),
        ([("a", ["x", "y"])], "multilabel", Example("a", ("x", "y"))),
        ([("a", [Span(0, 1)])], "spans", Example("a", (Span(0, 1),))),
        (
            [{"text": "a", "labels": ["x"]}, {"text": "b", "labels": []}],
            "multilabel",
            Example("a", ("x",)),
        ),
        (
            [{"text": "Go", "choices": ["up", "down"], "label": 1}],
            "choice",
            Example("Go", 1, choices=("up", "down")),
        ),
        (
            [{"words": ["a", "tern"], "tags": ["O", "B"]}],
            "tags",
            Example("a tern", ("O", "B")),
        ),
        ([{"text": "a b", "tags": [0, 1]}], "tags", Example("a b", ("0", "1"))),
        (
            [{"text": "at five", "spans": [{"start": 3, "end": 7, "label": "hour"}]}],
            "spans",
            Example("at five", (Span(3, 7, "hour"),)),
        ),
        (
            [{"text": "five", "text_pair": "When?", "spans": [{"start": 0, "end": 4}]}],
            "spans",
            Example("five", (Span(0, 4, "answer"),), "When?"),
        ),
        ([{"text": "a", "target": "b"}], "text", Example("a", "b")),
        ([Example("a", "x", "b")], "classes", Example("a", "x", "b")),
        ([Example("a", 0.5)], "number", Example("a", 0.5)),
        ([Example("a", (Span(0, 1),))], "spans", Example("a", (Span(0, 1),))),
        (
            [Example("a", 1, choices=("x", "y"))],
            "choice",
            Example("a", 1, choices=("x", "y")),
        ),
    ],
)
def test_the_columns_say_what_a_row_is(rows, kind, first):
    found, examples = to_examples(iter(rows), "rows")
    assert (found, examples[0]) == (kind, first)
    assert len(examples) == len(rows)


def test_the_reader_may_say_it_herself():
    rows = [("a", "1"), ("b", "5")]
    assert to_examples(rows, "stars", "number")[1][1] == Example("b", 5.0)
    assert to_examples(rows, "write", "text")[1][1] == Example("b", "5")


def test_names_that_a_dataset_keeps_apart_are_used():
    from datasets import ClassLabel, Dataset, Features, List, Value

    features = Features(text=Value("string"), label=ClassLabel(names=["no", "yes"]))
    data = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert to_examples(data, "d") == (
        "classes",
        [Example("a", "yes"), Example("b", "no")],
    )
    hidden = Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features)
    with pytest.raises(ValueError, match="name of a class as label in row 1 of d, got"):
        to_examples(hidden, "d")
    tags = List(ClassLabel(names=["O", "B"]))
    features = Features(words=List(Value("string")), tags=tags)
    data = {"words": [["a", "tern"]], "tags": [[0, 1]]}
    data = Dataset.from_dict(data, features=features)
    assert to_examples(data, "d") == ("tags", [Example("a tern", ("O", "B"))])


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("e.csv", "", r"expected rows in .*e\.csv, got none: the file is empty"),
        ("e.csv", "text,label\n", r"expected rows in .*e\.csv, got none"),
        ("e.jsonl", "\n", r"expected rows in .*e\.jsonl, got none"),
        ("e.json", "", r"expected rows in .*e\.json, got none"),
        ("b.csv", b"text,label\n\xffx,y\n", r"UTF-8 text in .*b\.csv, .*position 11"),
        ("w.xlsx", b"PK", r"expected a \.csv, \.tsv, .* file, got w\.xlsx: export"),
        (
            "u.csv",
            "text,label\nHello, Ada,hi\n",
            r"expected 2 columns in line 2 of .*u\.csv, got 3: put a text with a comma",
        ),
        ("u.tsv", "text\tlabel\nhi\n", r"2 columns in line 2 of .*, got 1: let no tab"),
        ("q.csv", 'text,label\n"a" b,x\n', r"a table in .*q\.csv, .*line 2.*quotation"),
        (
            "q.csv",
            'text,label\n"a,x\n',
            r"a table in .*q\.csv, got unexpected",
        ),
        (
            "j.jsonl",
            '{"text": "a", "label": "x"}\n{"text": "b"\n',
            r"expected JSON in line 2 of .*j\.jsonl, got Expecting ',' delimiter",
        ),
        ("n.jsonl", "3\n", r"named columns in line 1 of .*n\.jsonl, got 3: write"),
        ("n.json", "[3]", r"a row with named columns in row 1 of .*n\.json, got 3"),
        ("o.json", "{}", r"expected a list of rows in .*o\.json, got one dict"),
        ("b.json", "[", r"expected JSON in .*b\.json, got Expecting value"),
    ],
)
def test_a_file_that_is_no_table_is_said(tmp_path, name, content, match):
    with pytest.raises(ValueError, match=match):
        read_rows(written(tmp_path, name, content))


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "expected rows in mine, got none: it is empty"),
        (["a", "b"], r"expected \(text, label\), .* in row 1 of mine, got 'a'"),
        ([("a",)], "or named columns in row 1 of mine"),
        ([{"body": "a", "label": "x"}], "got no text among 'body', 'label': name the"),
        ([{"text": "a", "class": "x"}], "got no label among 'text', 'class'"),
        (
            [{"text": "a", "label": "x"}, {"text": "b"}],
            "expected columns text and label in row 2 of mine, got no label among 'te",
        ),
        ([("a", "x"), (" ", "y")], "expected a text in row 2 of mine, got none"),
        ([(None, "x")], "expected a text in row 1 of mine, got none"),
        (
            [("a", "x"), ("b", None)],
            "of a class as label in row 2 of mine, got ''",
        ),
        (
            [("a", "x"), ("b", float("nan"))],
            "of a class as label in row 2 of mine, got",
        ),
        (
            [("a", "1.5"), ("b", "nan")],
            "number as label in row 2 of mine, got nan",
        ),
        (
            [("a", 1.5), ("b", float("nan"))],
            "number as label in row 2 of mine, got nan",
        ),
        (
            [{"text": "a", "choices": ["b", "c"], "label": "B"}],
            "index of one of 2 c",
        ),
        (
            [{"text": "a", "choices": ["b", "c"], "label": 0.5}],
            "index of one of 2 c",
        ),
        (
            [{"text": "a", "choices": "b|c", "label": 0}],
            r"expected a list of choices in row 1 of mine, got 'b\|c'",
        ),
        (
            [{"text": "a", "choices": None, "label": 0}],
            "at least two choices, none of them empty, in row 1 of mine",
        ),
        ([{"text": "a", "labels": "x"}], "a list of names as labels in row 1 of mine"),
        ([{"text": "a b", "tags": ["O"]}], "one tag for each of 2 words in row 1"),
        (
            [{"text": "ab", "spans": [[0, 1]]}],
            r"within 2 characters .* got \(\[0, 1",
        ),
        ([{"text": "ab", "spans": [{"start": 1, "end": 9}]}], "within 2 characters in"),
        ([{"text": "a", "target": None}], "a text to write in row 1 of mine, got ''"),
    ],
)
def test_a_row_that_cannot_be_an_example_is_named(rows, match):
    with pytest.raises(ValueError, match=match):
        to_examples(rows, "mine")


def test_a_word_in_a_column_of_numbers_is_named_when_numbers_are_wanted():
    with pytest.raises(ValueError, match="number as label in row 2 of mine, got 'n/a'"):
        to_examples([("a", "1.5"), ("b", "n/a")], "mine", "number")


def test_every_row_is_kept(tmp_path):
    rows = [{"text": f"text {i}", "label": i % 2, "extra": None} for i in range(50)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    read = read_rows(written(tmp_path, "a.jsonl", lines))
    assert [e.text for e in to_examples(read, "a")[1]] == [row["text"] for row in rows]
