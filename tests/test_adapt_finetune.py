"""Fine-tuning: seven steps in one call, the same again from the same seed."""

from dataclasses import replace

import pytest
import torch

from minigpt.adapt.finetune import finetune, finetune_seeds, judge
from minigpt.adapt.loop import FinetuneConfig
from minigpt.adapt.saved import load_adapted, save_adapted
from minigpt.checkpoint import Pretrained
from minigpt.labelled import KINDS, Example, Span, Task
from minigpt.model import GPT, GPTConfig
from minigpt.pretrained import load_pretrained
from minigpt.story_tasks import stories_task
from minigpt.tasks import load_task
from minigpt.tokenizer import CharTokenizer
from minigpt.train import Diverged
from tests.adapting import LETTERS, SMALL, adapted, task

FAST = FinetuneConfig(epochs=2, batch_size=2, device="cpu", precision="float32", room=6)


def base() -> Pretrained:
    torch.manual_seed(1)
    return Pretrained(GPT(SMALL).eval(), CharTokenizer(LETTERS))


def vowels() -> Task:
    """Texts of two classes: with an "a" or with an "e"."""
    parts = []
    for size in (40, 10, 20):
        rows = []
        for i in range(size):
            letters = "bcdfgh"[(i + size) % 6] * (1 + i % 4)
            rows.append(Example(f"{letters}{'ae'[i % 2]}{'dfg'[i % 3]}", i % 2))
        parts.append(rows)
    return Task(*parts, ("a", "e"), "vowels")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained_and_reported(kind):
    seen = []
    found = finetune(base(), task(kind), FAST, callbacks=[seen.append])
    assert seen == found.records
    assert [record.epoch for record in seen] == [1, 2]
    assert not found.adapted.training
    report = found.report
    assert set(report.cut) == {"train", "validation", "test"}
    assert all(score.n == len(task(kind).test) for score in report.scores.values())
    assert (report.confusion is not None) == (kind == "classes")
    assert (report.calibration is not None) == (kind in ("classes", "choice"))
    name = next(iter(report.scores))
    assert f"test {name} " in str(report)
    assert f"epoch {report.chosen} kept, seed 0" in str(report)


def test_a_small_decoder_learns_which_vowel_stands_in_a_word():
    config = replace(FAST, epochs=12, batch_size=8, learning_rate=1e-2, patience=None)
    found = finetune(base(), vowels(), config)
    accuracy = found.report.scores["accuracy"]
    assert accuracy.value >= 0.9
    assert accuracy.n == 20
    table = found.report.confusion
    assert table.trace() / table.sum() == pytest.approx(accuracy.value)
    assert found.report.rows.shape == (20, 2)
    said = [prediction.answer for prediction in found.adapted.predict(["bad", "ffed"])]
    assert said == ["a", "e"]


def test_the_base_and_the_random_state_stay_as_they_were():
    one = base()
    before = {name: weight.clone() for name, weight in one.model.state_dict().items()}
    state = torch.get_rng_state()
    finetune(one, vowels(), FAST)
    assert torch.equal(torch.get_rng_state(), state)
    after = one.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert one.model.config == SMALL


def test_a_seed_gives_the_same_bits_again_and_another_one_others():
    def weights(seed: int) -> dict[str, torch.Tensor]:
        config, start = replace(FAST, seed=seed, dropout=0.3), base()
        torch.seed()  # whatever was drawn before
        return finetune(start, vowels(), config).adapted.state_dict()

    one, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_dropout_is_at_work_while_it_trains():
    whole, some = (
        finetune(base(), vowels(), replace(FAST, dropout=p)).records[0].loss
        for p in (0.0, 0.5)
    )
    assert whole != some


def test_the_report_counts_what_was_cut_and_what_moved():
    whole = vowels()
    long = Example("abc " * 20, 0)
    whole = replace(whole, train=[*whole.train, long], test=[*whole.test, long, long])
    report = finetune(base(), whole, replace(FAST, freeze=2)).report
    assert report.cut == {"train": (1, 41), "validation": (0, 10), "test": (2, 22)}
    said = "test: 2 of 22 examples are longer than the context and were cut on the "
    assert f"{said}right" in str(report)
    left = finetune(base(), whole, replace(FAST, freeze=2, cut="left")).report
    assert f"{said}left" in str(left)
    assert report.trainable == 2 * 12 + 2 * 12  # final norm and head
    assert "also stand in train" in str(report)


def test_spans_outside_the_context_are_counted():
    one = task("spans")
    far = Example("a" * 40 + " b", (Span(41, 42, one.labels[0]),))
    whole = replace(one, test=[*one.test, far])
    report = finetune(base(), whole, FAST).report
    assert report.lost == {"train": 0, "validation": 0, "test": 1}
    assert "test: 1 spans lie outside the context" in str(report)


def test_another_tasks_labels_are_matched_by_name():
    config = replace(FAST, epochs=12, batch_size=8, learning_rate=1e-2, patience=None)
    model = finetune(base(), vowels(), config).adapted
    own = judge(model, vowels())
    rows = [example._replace(label=1 - example.label) for example in vowels().test]
    turned = Task([], [], rows, ("e", "a"), "turned")
    assert judge(model, turned).scores == own.scores
    assert own.scores["accuracy"].value >= 0.9
    with pytest.raises(
        ValueError, match="labels among a, e, got 'o': the model was not"
    ):
        judge(model, replace(turned, labels=("e", "o")))
    with pytest.raises(ValueError, match=r"of kind 'classes', .* got 'number'"):
        judge(model, task("number"))


@pytest.mark.parametrize("kind", ["multilabel", "tags"])
def test_lists_of_labels_are_matched_by_name_too(kind):
    model = adapted(kind)
    turned = {"one": 2, "three": 1, "two": 0}
    rows = [
        example._replace(
            label=tuple(turned[task(kind).labels[i]] for i in example.label)
        )
        for example in task(kind).test
    ]
    other = replace(task(kind), test=rows, labels=("two", "three", "one"))
    assert judge(model, other).scores == judge(model, task(kind)).scores


def test_what_was_learnt_is_saved_and_loaded(tmp_path):
    found = finetune(base(), vowels(), FAST)
    save_adapted(found.adapted, tmp_path / "model")
    texts = [example.text for example in vowels().test]
    loaded = load_adapted(tmp_path / "model")
    assert loaded.predict(texts) == found.adapted.predict(texts)


def test_seeds_are_run_and_averaged():
    runs, figures = finetune_seeds(base(), vowels(), FAST, seeds=(3, 4))
    assert [run.report.seed for run in runs] == [3, 4]
    mean = figures["accuracy"]
    values = [run.report.scores["accuracy"].value for run in runs]
    assert mean.value == pytest.approx(sum(values) / 2)
    assert (mean.n, mean.of) == (2, "seeds")
    with pytest.raises(ValueError, match="at least 2 seeds, got 0 of none"):
        finetune_seeds(base(), vowels(), FAST, seeds=())


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(ValueError, match="expected training examples, got none"):
        finetune(base(), replace(vowels(), train=[]), FAST)
    with pytest.raises(ValueError, match="expected a tokenizer, got none"):
        finetune(Pretrained(GPT(SMALL), None), vowels(), FAST)


def test_the_readers_own_table_becomes_a_classifier(tmp_path):
    table = tmp_path / "words.csv"
    rows = [
        f"{'bcdfgh'[i % 6] * (1 + i % 5)}{'ae'[i % 2]}{i % 7 * 'd'}" for i in range(60)
    ]
    lines = [f"{row},{'round' if 'a' in row else 'sharp'}" for row in rows]
    table.write_text("text,label\n" + "\n".join(lines) + "\n")
    found = finetune(base(), load_task(table), FAST)
    assert found.adapted.predict(["bad"])[0].answer in ("round", "sharp")


@pytest.mark.slow
def test_a_decoder_that_knows_the_stories_learns_more_than_a_new_one():
    """One seed, 125 examples; results/story_tasks.json has three, and every task."""
    whole = stories_task("spans", 125, n_test=500)
    known = load_pretrained("minigpt-stories")
    new = Pretrained(GPT(GPTConfig(**vars(known.model.config))), known.tokenizer)
    config = FinetuneConfig(
        epochs=12, learning_rate=1e-3, device="cpu", precision="float32"
    )
    one, two = (
        finetune(start, whole, config).report.scores["exact match"]
        for start in (known, new)
    )
    assert one.low > two.high + 0.05


@pytest.mark.parametrize("kind", ["classes", "text"])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_part_without_examples_is_missed_before_training(kind, part):
    empty = replace(task(kind), **{part: []})
    with pytest.raises(
        ValueError,
        match=f"expected {'training' if part == 'train' else part} examples, got none",
    ):
        finetune(base(), empty, FAST, callbacks=[pytest.fail])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_no_numbers_are_not_the_best(kind):
    wild = replace(FAST, epochs=1, batch_size=8, learning_rate=1e38)
    with pytest.raises(Diverged, match="expected finite scores after epoch 1, got"):
        finetune(base(), task(kind), wild)
