"""minigpt finetune and predict: a reader's table in, a saved classifier out."""

import csv
import json
import re
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from minigpt import adaptflags
from minigpt.adapt.saved import load_adapted
from minigpt.checkpoint import save_pretrained
from minigpt.cli import main
from minigpt.model import GPT
from minigpt.tokenizer import CharTokenizer
from tests.adapting import LETTERS, SMALL, adapted, task
from tests.test_cli import refused

RUN = (
    "--epochs 12 --batch-size 8 --learning-rate 1e-2 --device cpu --precision float32"
).split()


def table(path: Path, rows: list[str], header: str = "text,label") -> str:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def vowels(n: int = 20) -> list[str]:
    """Texts that say by their first letter what they are."""
    ends = [a + b for a in "bcdfgh" for b in "bcdfgh"][:n]
    return [f"{v}{end},{v}" for end in ends for v in "ae"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base") / "base"
    save_pretrained(GPT(SMALL), CharTokenizer(LETTERS), folder)
    return str(folder)


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tuned")
    data = table(folder / "vowels.csv", vowels())
    argv = ["finetune", "--data", data, "--base", base, "--out", str(folder / "model")]
    assert main([*argv, "--task", "classes", *RUN]) == 0
    return str(folder / "model")


def finetune_of(base: str, data: str, out: Path, *more: str) -> list[str]:
    argv = ["finetune", "--data", data, "--base", base, "--out", str(out)]
    return [*argv, *more, "--device", "cpu"]


# It works.
def test_a_table_becomes_a_saved_classifier_with_a_score(base, tmp_path, capsys):
    data = table(tmp_path / "vowels.csv", vowels())
    assert main(finetune_of(base, data, tmp_path / "m", *RUN)) == 0
    said = capsys.readouterr().out
    assert "vowels: classes, 32 train, 4 validation, 4 test" in said
    assert re.search(r"epoch 1  loss \d.* validation accuracy \d.* best so far", said)
    assert re.search(r"test accuracy \d\.\d+ \(95 %: .*, n = 4 examples\)", said)
    record = json.loads((tmp_path / "m" / "report.json").read_text())
    assert record["scores"]["accuracy"]["n"] == 4
    assert record["seed"] == 0
    assert load_adapted(tmp_path / "m").layout.labels == ("a", "e")


def test_a_text_is_given_its_class_and_how_sure_that_is(tuned, capsys):
    for first in "ae":
        assert main(["predict", "--model", tuned, "--text", f"{first}bb"]) == 0
        answer, sure, text = capsys.readouterr().out.rstrip("\n").split("\t")
        assert (answer, text) == (first, f"{first}bb")
        assert 0.5 < float(sure) <= 1


def test_each_row_is_given_an_answer_in_its_order(tuned, tmp_path, capsys):
    rows = [row.partition(",")[0] for row in vowels(6)]
    data = table(tmp_path / "new.csv", rows, "text")
    assert main(["predict", "--model", tuned, "--data", data]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[2] for line in lines] == rows
    out = tmp_path / "deep" / "said.csv"
    assert main(["predict", "--model", tuned, "--data", data, "--out", str(out)]) == 0
    assert "12 rows in" in capsys.readouterr().out
    with out.open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["text"] for row in written] == rows
    assert [row["said"] for row in written] == [line.split("\t")[0] for line in lines]


def test_labelled_rows_are_scored_by_their_names(tuned, tmp_path, capsys):
    # All are of the second class: the model's own names count, not their places.
    data = table(tmp_path / "only.csv", ["ebb,e", "ehh,e", "acc,e"])
    assert main(["predict", "--model", tuned, "--data", data]) == 0
    lines = capsys.readouterr().out.splitlines()
    right = sum(line.startswith("e\t") for line in lines[:3])
    assert right >= 1
    assert lines[3].startswith(f"accuracy {right / 3:.3f} (95 %")
    assert lines[3].endswith("n = 3 examples)")


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_is_cut_is_counted_and_its_side_is_said(
    base, tuned, tmp_path, capsys, side
):
    rows = [*vowels(), f"{'a' * 40},a", f"{'ab' * 20},a"]
    data = table(tmp_path / "long.csv", rows)
    argv = finetune_of(base, data, tmp_path / "m", "--epochs", "1", "--cut", side)
    assert main(argv) == 0
    said = f"examples are longer than the context and were cut on the {side}"
    found = re.findall(rf"(\d) of \d+ {said}", capsys.readouterr().out)
    assert sum(map(int, found)) == 2
    new = table(tmp_path / "new.csv", ["a" * 40, "ab"], "text")
    assert main(["predict", "--model", str(tmp_path / "m"), "--data", new]) == 0
    assert f"1 of 2 {said}" in capsys.readouterr().out


def test_spans_are_said_as_texts_and_none_is_said_as_none(base, tmp_path, capsys):
    rows = [
        {"text": f"{a} b {c}", "spans": [{"start": 2, "end": 3, "label": "x"}]}
        for a in "acdefgh"
        for c in "acdefgh"
    ]
    path = tmp_path / "spans.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "m"
    assert main(finetune_of(base, str(path), out, *RUN, "--task", "spans")) == 0
    assert "test exact match" in capsys.readouterr().out
    assert main(["predict", "--model", str(out), "--data", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows) + 3
    answers = [line.split("\t")[0] for line in lines[: len(rows)]]
    assert answers.count("b") > len(rows) / 2


# Bad input.
@pytest.mark.parametrize(
    ("rows", "header", "line"),
    [
        (["ab,a", "ac,a", "ad,a"], "text,label", r"at least 2 labels .*, got 'a'"),
        (["ab,a", " ,e"], "text,label", r"expected a text in row 2 of .*, got none"),
        (["ab,"], "text,label", r"the name of a class as label in row 1"),
        (["ab,a"], "words,label", r"columns text and label in .*, got no text among"),
        (["ab,a"], "text,class", r"columns text and label in .*, got no label among"),
        (["ab,a,b"], "text,label", r"expected 2 columns in line 2 of .*, got 3"),
        ([*vowels(), "bb,h"], "text,label", r"at least 3 different texts .* 'h'"),
        ([], "text,label", r"expected rows in .*, got none: the file is empty"),
    ],
)
def test_a_wrong_table_is_one_line_before_any_training(
    base, tmp_path, capsys, rows, header, line
):
    data = table(tmp_path / "wrong.csv", rows, header)
    assert re.search(line, refused(finetune_of(base, data, tmp_path / "m"), capsys))
    assert not (tmp_path / "m").exists()


def test_spans_outside_the_text_are_one_line(base, tmp_path, capsys):
    path = tmp_path / "spans.jsonl"
    row = {"text": "a b", "spans": [{"start": 2, "end": 9, "label": "x"}]}
    path.write_text(json.dumps(row))
    said = refused(finetune_of(base, str(path), tmp_path / "m"), capsys)
    assert "spans of start < end within 3 characters in row 1 of" in said


def test_another_folder_is_not_written_over_and_nothing_is_trained(
    base, tmp_path, capsys
):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.txt").write_text("years")
    argv = finetune_of(base, table(tmp_path / "v.csv", vowels()), tmp_path / "m")
    assert "a new folder or that of an adapted model" in refused(argv, capsys)
    assert (tmp_path / "m" / "thesis.txt").is_file()


def test_a_known_task_has_its_kind(base, tmp_path, capsys, monkeypatch):
    true_load = adaptflags.load_task
    monkeypatch.setattr(
        adaptflags,
        "load_task",
        lambda name, **given: (
            task("spans") if name == "stories-spans" else true_load(name, **given)
        ),
    )
    argv = finetune_of(base, "stories-spans", tmp_path / "m", "--task", "tags")
    said = refused(argv, capsys)
    assert "expected --task spans for stories-spans, got tags" in said
    said = refused(finetune_of(base, "no/such.csv", tmp_path / "m"), capsys)
    assert "expected a file or one of stories-" in said


@pytest.mark.parametrize(
    ("rows", "header", "line"),
    [
        (["ab,a", "ab,i"], "text,label", r"labels among a, e, got 'i': the model was"),
        (["ab", " "], "text", r"expected a text in row 2 of .*, got none"),
        (["ab"], "words", r"expected a column text in row 1 of .*, got 'words'"),
        (["ab,bc"], "text,choices", r"a list of choices in row 1 of .*, got 'bc'"),
    ],
)
def test_rows_that_cannot_be_predicted_are_one_line(
    tuned, tmp_path, capsys, rows, header, line
):
    data = table(tmp_path / "wrong.csv", rows, header)
    assert re.search(
        line, refused(["predict", "--model", tuned, "--data", data], capsys)
    )


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--text", " "], "expected a text, got ' '"),
        (["--data", "no/such.csv"], "expected a file or one of stories-"),
        (["--data", "x.csv", "--text-pair", "b"], "expected --text-pair beside --text"),
        (["--data", "x.csv", "--text", "b"], "not allowed with argument"),
        ([], "one of the arguments --text --data is required"),
    ],
)
def test_wrong_flags_of_predict_are_one_line(tuned, capsys, more, line):
    assert line in refused(["predict", "--model", tuned, *more], capsys)


def test_a_model_without_a_head_cannot_predict(base, capsys):
    said = refused(["predict", "--model", base, "--text", "a"], capsys)
    assert "expected an adapted model in" in said
    assert "name the folder that `save_adapted` wrote" in said


def test_no_row_is_dropped(tuned, tmp_path, capsys):
    data = table(tmp_path / "same.csv", ["ab", "ab", '" a b"', "ab"], "text")
    assert main(["predict", "--model", tuned, "--data", data]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_dial_is_part_of_a_known_name(monkeypatch):
    drawn = [task("classes")] * 2
    monkeypatch.setattr(adaptflags, "load_task", lambda name: drawn.pop())
    assert adaptflags.task_for("stories-entailment-3", "classes").kind == "classes"
    asked = Namespace(text=None, text_pair=None, data="stories-entailment-3")
    assert adaptflags._asked(asked, adapted("classes"))[0] == task("classes").test
    assert drawn == []
