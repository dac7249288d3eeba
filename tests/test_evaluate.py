"""Evaluation: a task by name gives every figure, its convention, n and interval."""

import json

import pytest

from minigpt.checkpoint import save_pretrained
from minigpt.cli import main
from minigpt.evaluate import TASKS, evaluate
from minigpt.model import GPT, GPTConfig
from minigpt.questions import USUAL
from minigpt.scoring import score_text
from minigpt.subword import BPETokenizer
from tests.test_cli import refused
from tests.test_questions import ROWS, written

TEXT = "Ada lights the old lamp, and Bram carries it home.\n" * 12


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train([TEXT], vocab_size=280)


@pytest.fixture(scope="module")
def model(tokenizer) -> GPT:
    return GPT(
        GPTConfig(
            vocab_size=tokenizer.vocab_size,
            context_length=16,
            n_layer=1,
            n_head=3,
            d_model=12,
            init_std=0.3,
        )
    )


@pytest.fixture(scope="module")
def folder(model, tokenizer, tmp_path_factory):
    out = tmp_path_factory.mktemp("model")
    save_pretrained(model, tokenizer, out)
    return out


@pytest.fixture
def data(tmp_path):
    """A file for each task, three questions each, and a text."""
    paths = {t: written(tmp_path / f"{t}.jsonl", *[ROWS[t]] * 3) for t in ROWS}
    (tmp_path / "own.txt").write_text(TEXT, "utf-8")
    return paths | {"perplexity": tmp_path / "own.txt"}


@pytest.mark.parametrize("task", TASKS)
def test_each_task_says_its_convention_n_and_interval(model, tokenizer, data, task):
    found = evaluate(model, tokenizer, task, data[task])
    assert len(found.results) == {"lambada": 3, "perplexity": 3}.get(
        task, 2 if task in ("piqa", "arc-easy") else 1
    )
    for result in found.results:
        assert result.task == task
        assert result.n == (found.text.tokens if found.text else 3)
        if result.interval is not None:
            assert result.interval[0] <= result.value <= result.interval[1]
    json.dumps(found.record(), allow_nan=False)


def test_perplexity_is_one_number_in_three_units(model, tokenizer, data):
    found = evaluate(model, tokenizer, "perplexity", data["perplexity"], stride=3)
    score = score_text(model, tokenizer, TEXT, stride=3)
    assert found.text == score
    values = [result.value for result in found.results]
    assert values == pytest.approx(
        [score.bits_per_byte, score.perplexity, score.word_perplexity]
    )
    assert found.results[1].metric == "perplexity per token, stride 3"
    assert found.record()["text"]["n_bytes"] == len(TEXT.encode())


def test_a_limit_keeps_the_first(model, tokenizer, data):
    assert evaluate(model, tokenizer, "piqa", data["piqa"], limit=2).results[0].n == 2
    few = evaluate(model, tokenizer, "perplexity", data["perplexity"], limit=40)
    assert few.text == score_text(model, tokenizer, TEXT[:40])


def test_each_task_but_perplexity_has_a_usual_set():
    assert set(TASKS) == {"perplexity", *USUAL}


def test_every_mistake_is_one_sentence(model, tokenizer, data):
    with pytest.raises(
        ValueError, match=r"a task among perplexity, lambada.*got 'quiz'"
    ):
        evaluate(model, tokenizer, "quiz")
    with pytest.raises(
        ValueError, match="a stride for perplexity alone, got 3 for piqa"
    ):
        evaluate(model, tokenizer, "piqa", data["piqa"], stride=3)
    with pytest.raises(ValueError, match="expected a limit of at least 1, got 0"):
        evaluate(model, tokenizer, "piqa", data["piqa"], limit=0)
    with pytest.raises(
        ValueError, match="expected data to read for perplexity, got non"
    ):
        evaluate(model, tokenizer, "perplexity")


def test_the_command_prints_and_writes_every_figure(folder, data, tmp_path, capsys):
    out = tmp_path / "sub" / "out.json"
    argv = ["evaluate", "--model", str(folder), "--device", "cpu", "--json", str(out)]
    assert main([*argv, "--task", "piqa", "--data", str(data["piqa"])]) == 0
    said = capsys.readouterr()
    record = json.loads(out.read_text("utf-8"))
    assert said.out.count("n = 3 questions") == 2
    assert "acc_norm" in said.out
    assert [r["metric"] for r in record["results"]] == [
        "accuracy, summed (acc)",
        "accuracy, per character (acc_norm)",
    ]
    assert record["model"] == str(folder)
    argv = [*argv, "--task", "perplexity", "--data", str(data["perplexity"])]
    assert main([*argv, "--stride", "4"]) == 0
    assert json.loads(out.read_text("utf-8"))["text"]["stride"] == 4
    assert "stride 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--task quiz", "argument --task: invalid choice"),
        ("--task perplexity", "expected data to read for perplexity"),
        ("--task perplexity --data no-such", "no-such"),
        ("--task perplexity --data {perplexity} --stride 17", "stride from 1 to 16"),
        ("--task piqa --data {lambada}", "expected columns goal, sol1, sol2, label"),
        ("--task piqa --data {piqa} --limit 0", "expected a limit of at least 1"),
    ],
)
def test_bad_input_is_one_line(folder, data, capsys, flags, line):
    flags = flags.format(**{task: str(path) for task, path in data.items()})
    said = refused(["evaluate", "--model", str(folder), *flags.split()], capsys)
    assert line in said
