"""Tasks: names, paths and rows lead to one task; a dead end says where it looked."""

import json
import re

import pytest

from minigpt import load_task
from minigpt.labelled import Example
from minigpt.tasks import EMBEDDED, task_names


@pytest.fixture
def no_data(monkeypatch):
    monkeypatch.delenv("MINIGPT_DATA", raising=False)


@pytest.fixture
def hub(monkeypatch):
    """A hub that answers with what a test puts into it, and notes what was asked."""
    import datasets

    answers, asked = {}, []

    def load(name, config=None, *, revision=None):
        asked.append((name, config, revision))
        if (name, config) not in answers:
            raise ConnectionError("no network")
        return answers[name, config]

    monkeypatch.setattr(datasets, "load_dataset", load)
    return answers, asked


def messages(n: int, label: str) -> list[tuple[str, str]]:
    return [(f"message {label} {i}", label) for i in range(n)]


ROWS = messages(40, "where") + messages(20, "refund")


def dataset(rows):
    """What the hub gives: names apart from a column of integers."""
    from datasets import ClassLabel, Dataset, Features, Value

    names = sorted({label for _, label in rows})
    features = Features(text=Value("string"), label=ClassLabel(names=names))
    columns = {
        "text": [text for text, _ in rows],
        "label": [names.index(label) for _, label in rows],
    }
    return Dataset.from_dict(columns, features=features)


def test_a_readers_own_table_becomes_a_task(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("text,label\n" + "".join(f"{t},{label}\n" for t, label in ROWS))
    task = load_task(path)
    assert (task.name, task.kind, task.labels) == (
        "shop",
        "classes",
        ("refund", "where"),
    )
    assert task.counts() == {"refund": (16, 2, 2), "where": (32, 4, 4)}
    assert all(isinstance(e, Example) for e in task.train)
    assert load_task(str(path)) == task
    assert load_task(path, held_out=0.25).counts()["refund"] == (10, 5, 5)
    assert load_task(path, seed=1).test != task.test


def test_rows_and_datasets_lead_to_the_same_parts():
    from datasets import DatasetDict

    task = load_task(ROWS)
    assert load_task(iter(ROWS)) == load_task(dataset(ROWS)) == task
    assert load_task(DatasetDict(train=dataset(ROWS))) == task
    both = load_task(DatasetDict(train=dataset(ROWS), test=dataset(ROWS[::10])))
    assert [e.text for e in both.test] == [text for text, _ in ROWS[::10]]
    assert both.leaks[1].duplicates == 6


def test_parts_may_be_paths_and_be_called_dev(tmp_path):
    parts = {}
    for part in ("train", "dev", "test"):
        parts[part] = tmp_path / f"{part}.jsonl"
        parts[part].write_text(
            "".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in ROWS)
        )
    task = load_task(parts)
    assert (len(task.train), len(task.validation), len(task.test)) == (60, 60, 60)
    assert task.leaks[0].duplicates == 60


def test_stars_are_classes_unless_the_reader_wants_numbers():
    stars = [(f"review {i}", str(1 + i % 5)) for i in range(50)]
    assert load_task(stars).labels == ("1", "2", "3", "4", "5")
    task = load_task(stars, kind="number")
    assert (task.kind, task.labels) == ("number", ())
    assert {e.label for e in task.train} == {1.0, 2.0, 3.0, 4.0, 5.0}


def banking(folder) -> None:
    (folder / "banking77").mkdir()
    for part, rows in (("train", ROWS), ("test", ROWS[:2] + messages(2, "refund"))):
        lines = "".join(f"{text},{label}\n" for text, label in rows)
        path = folder / "banking77" / f"{part}.csv"
        path.write_text("text,category\n" + lines)


def test_the_folder_minigpt_data_names_goes_before_the_hub(tmp_path, monkeypatch, hub):
    banking(tmp_path)
    monkeypatch.setenv("MINIGPT_DATA", str(tmp_path))
    task = load_task("banking77")
    assert (task.name, len(task.train), len(task.test)) == ("banking77", 54, 4)
    assert task.leaks[1].duplicates == 4
    assert hub[1] == []


def test_folder_and_hub_give_the_same_task(tmp_path, monkeypatch, hub):
    banking(tmp_path)
    monkeypatch.setenv("MINIGPT_DATA", str(tmp_path))
    from_folder = load_task("banking77")
    monkeypatch.delenv("MINIGPT_DATA")
    hub[0]["legacy-datasets/banking77", None] = {
        "train": dataset(ROWS),
        "test": dataset(ROWS[:2] + messages(2, "refund")),
    }
    assert load_task("banking77") == from_folder
    assert hub[1] == [("legacy-datasets/banking77", None, None)]


def test_glue_tests_on_its_validation_split_and_says_so(no_data, hub):
    from datasets import Dataset

    rows = [
        {"sentence1": f"a {i}", "sentence2": f"b {i}", "label": i / 10, "idx": i}
        for i in range(40)
    ]
    hub[0]["nyu-mll/glue", "stsb"] = {
        "train": Dataset.from_list(rows),
        "validation": Dataset.from_list(rows[:7]),
        "test": Dataset.from_list([{**row, "label": -1.0} for row in rows]),
    }
    task = load_task("stsb")
    assert (task.kind, len(task.train), len(task.validation)) == ("number", 36, 4)
    assert task.test[3] == Example("a 3", 0.3, "b 3")
    assert task.note.startswith("GLUE keeps the labels of its test split; test is its")


def test_a_hidden_label_is_left_out_and_counted(no_data, hub):
    from datasets import ClassLabel, Dataset, Features, Value

    names = ["entailment", "neutral", "contradiction"]
    features = Features(
        premise=Value("string"),
        hypothesis=Value("string"),
        label=ClassLabel(names=names),
    )

    def rows(n: int):
        columns = {
            "premise": [f"p {i}" for i in range(n)],
            "hypothesis": [f"h {i}" for i in range(n)],
            "label": [i % 4 - 1 for i in range(n)],
        }
        return Dataset.from_dict(columns, features=features)

    hub[0]["stanfordnlp/snli", None] = {
        "train": rows(40),
        "validation": rows(8),
        "test": rows(8),
    }
    task = load_task("snli")
    assert (len(task.train), len(task.validation), len(task.test)) == (30, 6, 6)
    assert "14 published rows left out" in task.note
    assert task.labels == tuple(sorted(names))
    assert task.labels[task.train[0].label] == "entailment"


@pytest.fixture
def own_sets(tmp_path, monkeypatch):
    """Embedded sets of known size, whatever the real ones hold."""
    monkeypatch.setattr("minigpt.tasks.ASSETS", tmp_path)
    for name in EMBEDDED:
        lines = "".join(f"{text},{label}\n" for text, label in ROWS)
        (tmp_path / f"{name}.csv").write_text("text,label\n" + lines)


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_set_of_this_book_needs_no_network_and_keeps_two_fifths_back(
    name, no_data, hub, own_sets
):
    task = load_task(name)
    assert (task.name, task.kind) == (name, "classes")
    assert task.counts() == {"refund": (12, 4, 4), "where": (24, 8, 8)}
    assert task.note == (
        "written for this book; 20% are validation, as many test; no published split: "
        "cut by hash of the text, seed 0"
    )
    assert name in task_names()
    assert load_task(name) == task
    assert load_task(name, seed=1).test != task.test
    assert load_task(name, held_out=0.1).counts()["where"] == (32, 4, 4)
    assert hub[1] == []


def test_an_unknown_name_lists_the_known_ones():
    every = ", ".join(task_names())
    with pytest.raises(FileNotFoundError, match=re.escape(f"one of {every}, got 'x'")):
        load_task("x")
    with pytest.raises(FileNotFoundError, match=r"got '.*no\.csv': check the path"):
        load_task({"train": ROWS, "test": "no.csv"})


def test_what_is_in_neither_place_says_where_it_was_looked_for(
    no_data, hub, tmp_path, monkeypatch
):
    with pytest.raises(
        FileNotFoundError,
        match=r"expected data set 'banking77', looked in MINIGPT_DATA \(not set\) and "
        r"the hub's legacy-datasets/banking77 \(ConnectionError\) in vain: put "
        r"train\.csv, test\.csv from .* into a folder banking77",
    ):
        load_task("banking77")
    with pytest.raises(
        FileNotFoundError, match=r"'sst2'.*: connect to the network once"
    ):
        load_task("sst2")
    monkeypatch.setenv("MINIGPT_DATA", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=re.escape(str(tmp_path / "subjectivity"))
    ):
        load_task("subjectivity")
    (tmp_path / "sentfin-headlines").mkdir()
    with pytest.raises(FileNotFoundError, match=r"\(no SEntFiN\.csv there\) in vain"):
        load_task("sentfin-single")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("text,category\na,b\n", "got no label among 'text', 'category'"),
        ("", r"expected rows in .*m\.csv, got none"),
        ("text,label\na,x\nb,x\nc,x\n", "at least 2 labels in m, got 'x'"),
        (
            "text,label\na,x\nb,x\nc,x\nd,y\n",
            "each label in m, .* got 1 with label 'y'",
        ),
    ],
)
def test_a_table_that_teaches_nothing_is_said(tmp_path, content, match):
    path = tmp_path / "m.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=match):
        load_task(path)


def test_other_mistakes_are_one_sentence():
    with pytest.raises(ValueError, match="no kind for 'sst2', got 'number': its kind"):
        load_task("sst2", kind="number")
    with pytest.raises(ValueError, match="no kind for 'shop-messages', got 'number'"):
        load_task("shop-messages", kind="number")
    with pytest.raises(ValueError, match="expected rows in the rows, got no part"):
        load_task({})
    with pytest.raises(
        ValueError, match="a finite number as label in row 3 of the rows"
    ):
        load_task([("a", 0.5), ("b", 0.1), ("c", float("nan"))])
    with pytest.raises(ValueError, match="row 1 of test of the rows, got ''"):
        load_task({"train": ROWS, "test": [("a", None)]})
