"""The examples do what their first lines say, quickly here and in earnest if slow."""

import importlib.util
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from minigpt import GPT, CharTokenizer, GPTConfig, save_pretrained
from minigpt.data import IGNORE, Batch, shift
from minigpt.texts import ASSETS

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PLACES = (ASSETS / "names.txt").read_text("utf-8").split("\n")[:-1]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


names, sums, chat = (
    load(ROOT / "examples" / f"{name}.py") for name in ("names", "sums", "chat")
)


@pytest.fixture
def terminal(monkeypatch, capsys) -> Callable[..., str]:
    """What an example prints when it is run with flags, and lines are typed to it."""

    def told(example: ModuleType, *flags: str, typed: str = "") -> str:
        monkeypatch.setattr(sys, "argv", ["example.py", *flags])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        example.main()
        return capsys.readouterr().out

    return told


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_its_first_line_is_its_command(path):
    text = path.read_text("utf-8")
    assert text.count("\n") <= (120 if path.stem == "onepage" else 100)
    assert f"`python examples/{path.name}`" in text.partition("\n")[0]
    assert path.name in (ROOT / "README.md").read_text("utf-8")


# Names.


def test_the_list_has_hundreds_of_different_places():
    assert len(set(PLACES)) == len(PLACES) >= 600
    assert sorted(PLACES) == PLACES
    assert all(re.fullmatch("[A-Z][a-z]{4,12}", place) for place in PLACES)


def test_a_drawn_name_is_one_line_of_the_lists_letters(tmp_path):
    model, tokenizer = names.learn(PLACES[:60], tmp_path, steps=10)
    drawn = names.invent(model, tokenizer, 40)
    assert len(drawn) == 40
    assert set("".join(drawn)) <= set("".join(PLACES[:60]))
    assert drawn == names.invent(model, tokenizer, 40)
    assert drawn != names.invent(model, tokenizer, 40, seed=1)


def test_no_name_that_is_held_out_is_trained_on(tmp_path, monkeypatch):
    parts = []

    def fit(model, train, val, config, *, out, tokenizer):
        parts.extend(
            {tokenizer.decode(r[r >= 0]).strip() for r in p} for p in (train, val)
        )
        save_pretrained(model, tokenizer, out / "best")

    monkeypatch.setattr(names, "fit", fit)
    names.learn(PLACES[:60], tmp_path)
    train, held = parts
    assert len(held) == 6
    assert not train & held
    assert train | held == set(PLACES[:60])


def test_a_readers_own_list_will_do(tmp_path, terminal):
    own = tmp_path / "boats.txt"
    own.write_text("Ärger\nÖrtchen \n\nÜbel\nQuay 9\n" * 5, "utf-8")
    out = tmp_path / "run"
    text = terminal(names, "--names", str(own), "--out", str(out), "--steps", "5")
    count = re.search(r"\n(\d+) of 500 names are none of the 4 it knew\n$", text)
    assert count is not None
    assert int(count[1]) > 400  # after five steps it writes noise
    assert not {"Ärger", "Örtchen", "Übel", "Quay 9"} & set(text.split("\n"))
    assert (out / "best" / "model.safetensors").exists()


@pytest.mark.slow
def test_most_names_are_new_and_end_as_places_on_this_coast_do(tmp_path):
    model, tokenizer = names.learn(PLACES, tmp_path)
    drawn = names.invent(model, tokenizer, 500)
    new = set(drawn) - set(PLACES)
    assert len(new) > 250
    endings = {place[-4:] for place in PLACES}
    assert sum(name[-4:] in endings for name in new) > 0.8 * len(new)


# Sums.


def test_a_sum_is_written_from_its_last_digit():
    rows = sums.written([(314, 159), (7, 999)])
    assert [sums.TOKENIZER.decode(row) for row in rows] == [
        "314+159=3740",
        "007+999=6001",
    ]
    assert (
        sums.TOKENIZER.decode(sums.written([(314, 159)], forward=True)[0])[-4:]
        == "0473"
    )


def test_only_the_answer_is_to_be_predicted():
    rows = sums.written([(314, 159)] * 3)
    (batch,) = sums.answers_only([Batch(*shift(rows))])
    goals = batch.targets[batch.targets != IGNORE].view(3, -1)
    assert torch.equal(goals, rows[:, 8:])
    assert torch.equal(batch.inputs, rows[:, :-1])


def test_no_sum_that_is_asked_was_learned_in_either_order():
    test = sums.draw(2_000, seed=-1)
    learned = sums.draw(30_000, seed=3, without=test)
    assert len({frozenset(pair) for pair in test}) == len(test) == 2_000
    seen = {frozenset(pair) for pair in learned}
    assert len(seen) == 30_000
    assert not any(frozenset(pair) in seen for pair in test)
    # Without that, every sixteenth of them or so would have been learned.
    careless = {frozenset(pair) for pair in sums.draw(30_000, seed=3)}
    assert sum(frozenset(pair) in careless for pair in test) > 50


def test_numbers_of_every_length_are_drawn_as_often_as_they_occur():
    drawn = [a for pair in sums.draw(20_000, seed=0) for a in pair]
    assert (min(drawn), max(drawn)) == (0, 999)
    assert abs(sum(a < 100 for a in drawn) / len(drawn) - 0.1) < 0.01


def test_an_answer_counts_only_if_each_digit_is_right(monkeypatch):
    test = sums.draw(1_100, seed=0)
    rows = sums.written(test)
    wrong = rows.clone()
    wrong[5, -1] = wrong[5, -1] % 10 + 1
    wrong[1_050, 8] = wrong[1_050, 8] % 10 + 1
    answers = iter(wrong.split(1000))

    def told(model, prompts, *, max_new_tokens):
        found = next(answers)
        assert torch.equal(prompts, found[:, :8])
        assert max_new_tokens == 4
        return found

    monkeypatch.setattr(sums, "generate", told)
    assert sums.exact(None, rows) == 1_098


def test_a_few_steps_on_sums_run_from_the_terminal(monkeypatch, terminal):
    draw = sums.draw
    monkeypatch.setattr(sums, "draw", lambda n, **k: draw(min(n, 200), **k))
    text = terminal(sums, "--steps", "2", "--examples", "100")
    assert re.search(r"^\d+ of 200 sums that it never saw are exact\n$", text)


@pytest.mark.slow
def test_sums_that_were_never_seen_come_out_right(terminal):
    text = terminal(sums, "--seed", "4")
    found = re.search(r"^([\d,]+) of 10,000 sums", text, re.M)
    assert found is not None
    assert int(found[1].replace(",", "")) >= 9_900


def test_the_record_says_ninety_nine_in_a_hundred_of_ten_thousand():
    record = json.loads((ROOT / "results" / "sums.json").read_text("utf-8"))
    row = record["rows"][0]
    assert record["test sums"] >= 10_000
    assert len(row["exact of each seed"]) == len(record["seeds"]) >= 3
    assert row["first digit"] == "last"
    assert row["lowest interval of one seed"][0] >= 0.99


def test_the_interval_is_wilsons():
    scipy = pytest.importorskip("scipy.stats")
    bench = load(ROOT / "benchmarks" / "sums.py")
    for right, n in ((0, 12), (7, 12), (9_998, 10_000), (10_000, 10_000)):
        ends = scipy.binomtest(right, n).proportion_ci(0.95, method="wilson")
        assert bench.wilson(right, n) == pytest.approx(tuple(ends), abs=2e-5)


# Quality on real text: what the record holds is what was asked of it.


def test_a_third_of_a_nat_is_saved_at_nanogpts_shape_and_tokens():
    record = json.loads((ROOT / "results" / "quality.json").read_text("utf-8"))
    chosen, theirs = (record["recipes"][name] for name in ("chosen", "nanoGPT's"))
    assert record["training characters"] <= 1_540_000
    assert record["parameters"] == 804_096
    assert len(chosen["loss of each seed"]) == len(record["seeds"]) == 3
    assert chosen["loss"] <= 1.64
    assert 1.88 < theirs["loss"] < 1.94  # as nanoGPT's own code at this protocol


def test_the_recipe_that_is_reported_was_the_best_on_the_split_for_tuning():
    bench = load(ROOT / "benchmarks" / "quality.py")
    record = json.loads((ROOT / "results" / "quality.json").read_text("utf-8"))
    tried = record["sweep"]["tried"]
    assert [row["changes"] for row in tried] == list(bench.TRIED)
    assert min(tried, key=lambda row: row["loss"])["changes"] == bench.CHOSEN
    assert record["recipes"]["chosen"]["changes"] == bench.CHOSEN


def test_a_pass_reads_each_window_once():
    bench = load(ROOT / "benchmarks" / "quality.py")
    tokens = torch.arange(bench.CONTEXT * bench.BATCH * 4 + 200)
    batches = bench.passes(tokens, seed=0)
    rows = torch.cat([next(batches).inputs for _ in range(4)])
    assert len(rows.unique()) == rows.numel() == bench.CONTEXT * bench.BATCH * 4
    assert torch.equal(rows[:, 1:], rows[:, :-1] + 1)


# Chat.


@pytest.fixture
def folder(tmp_path) -> Path:
    characters = sorted({*'They began to talk. Good evening?\n"', *"WNlc,!:"})
    tokenizer = CharTokenizer(characters)
    config = GPTConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=80,
        n_layer=1,
        n_head=2,
        d_model=8,
    )
    save_pretrained(GPT(config), tokenizer, tmp_path / "model")
    return tmp_path / "model"


def test_a_conversation_is_held_through_a_pipe(folder, terminal):
    typed = "Good evening\n\n/new\nGood\n/quit\nGood\n"
    script = ROOT / "examples" / "chat.py"
    flags = ("--model", str(folder), "--seed", "1")
    done = subprocess.run(
        [sys.executable, script, *flags], input=typed, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("> ") == 5  # the last line stands after /quit
    assert terminal(chat, *flags, typed=typed[:-11]) == done.stdout  # no /quit: the end


def test_a_character_that_the_model_never_saw_is_said_and_the_talk_goes_on(
    folder, terminal
):
    text = terminal(chat, "--model", str(folder), typed="Ω\nGood\n/quit\n")
    assert "expected only the" in text
    assert "'Ω'" in text
    assert text.count("> ") == 3


def test_a_model_that_is_not_there_is_one_line(tmp_path, terminal, capsys):
    with pytest.raises(SystemExit, match="2"):
        terminal(chat, "--model", str(tmp_path / "none"))
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_a_long_conversation_is_cut_from_its_beginning():
    tokenizer = CharTokenizer.train("ab\n")
    assert chat.recent("aaaa\nbb\nab", tokenizer, 5) == "bb\nab"
    assert chat.recent("aaaa\nbb\nab", tokenizer, 10) == "aaaa\nbb\nab"
    assert chat.recent("aaab", tokenizer, 2) == "b"


@pytest.fixture
def streamed(monkeypatch) -> list[str]:
    """The texts that a scripted model is given; it answers, and is cut off at \"!\"."""
    given: list[str] = []

    def stream(model, tokenizer, text, *, max_new_tokens, sampler, stop):
        given.append(text)
        assert max_new_tokens == 40
        for piece in ("Well", ", ", "!"):
            if piece in stop:
                return
            if piece == "!" and len(given) > 1:
                raise KeyboardInterrupt
            yield piece

    monkeypatch.setattr(chat, "stream", stream)
    return given


def test_each_turn_continues_the_last_one(folder, streamed, terminal):
    flags = ("--opening", "", "--turn", r"{}:\n", "--stop", "!")
    terminal(chat, "--model", str(folder), *flags, typed="a\nb\n/new\nc\n")
    assert streamed == ["a:\n", "a:\nWell, !b:\n", "c:\n"]


def test_control_c_ends_a_reply_and_not_the_conversation(folder, streamed, terminal):
    flags = ("--opening", "", "--turn", "{}:", "--stop", "?")
    text = terminal(chat, "--model", str(folder), *flags, typed="a\nb\nc\n")
    assert streamed[1] == "a:Well, !?b:"
    assert streamed[2] == streamed[1] + "Well, ?c:"
    assert text.endswith("> Well, \n\n> ")


def test_more_sums_than_there_are_is_no_endless_search():
    with pytest.raises(ValueError, match="expected at most 500,499 pairs, got 500,500"):
        sums.draw(500_500, seed=0, without=[(0, 1)])


def test_a_name_that_stands_twice_is_held_out_or_learned():
    assert names.different([" Ann", "Bo", "", "Ann", "Bo "]) == ["Ann", "Bo"]
