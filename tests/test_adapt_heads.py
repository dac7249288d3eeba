"""Heads: what is read, what is said, and that a batch changes nothing."""

from dataclasses import replace

import pytest
import torch
import transformers
from torch.testing import assert_close

from minigpt.adapt.batches import collate
from minigpt.adapt.heads import Adapted, adapt, grow, next_tokens, task_loss
from minigpt.adapt.saved import export_classifier
from minigpt.checkpoint import save_pretrained
from minigpt.labelled import KINDS, Example, Task
from minigpt.model import GPT, GPTConfig
from minigpt.tokenizer import CharTokenizer
from minigpt.train import next_token_loss
from tests.adapting import LETTERS, SMALL, adapted, examples, task

SHAPES = {
    "gpt2": SMALL,
    "gpt1": replace(SMALL, norm="post"),
    "untied": replace(SMALL, tied=False),
    "banded": replace(SMALL, band=3),
}


# The vocabulary grows.
@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_growing_moves_nothing_that_was_there(config):
    model = GPT(config).eval()
    tokens = torch.randint(9, (2, 5))
    hidden, logits = model.hidden(tokens), model(tokens)
    old = model.token_embedding.weight.detach().clone()
    grow(model, 3)
    assert model.config.vocab_size == 12
    assert torch.equal(model.hidden(tokens), hidden)
    assert torch.equal(model.token_embedding.weight[:9], old)
    # One product of another shape: its sums are rounded in another order.
    assert_close(model(tokens)[..., :9], logits)
    rows = model.token_embedding.weight[9:]
    assert len(rows.unique(dim=0)) == 3
    assert float(rows.detach().std()) == pytest.approx(config.init_std, rel=0.5)
    assert sum(p.numel() for p in model.parameters()) == model.config.n_parameters
    assert all(p.requires_grad for p in model.parameters())


def test_a_generator_draws_the_same_rows_and_head_again():
    def made() -> Adapted:
        torch.manual_seed(0)
        model = GPT(SMALL)
        generator = torch.Generator().manual_seed(5)
        options = {"generator": generator}
        return adapt(model, CharTokenizer(LETTERS), task("classes"), **options)

    one, two = made(), made()
    assert torch.equal(one.head.weight, two.head.weight)
    rows = [made.model.token_embedding.weight for made in (one, two)]
    assert torch.equal(*rows)


def test_fewer_than_no_tokens_is_an_error():
    with pytest.raises(ValueError, match="a number of tokens to add, got -1"):
        grow(GPT(SMALL), -1)


# A batch.
@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_its_rows_give_one_by_one(kind, padding):
    model = adapted(kind)
    items = model.items(examples(kind))
    together = collate(items, model.layout, padding=padding)
    assert len({item.length for item in items}) > 1
    alone = [model(collate([item], model.layout)) for item in items]
    assert_close(model(together), torch.cat(alone))


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("name", SHAPES)
def test_any_decoder_reads_alike_on_either_side_of_padding(name, padding):
    model = adapted("classes", config=SHAPES[name])
    items = model.items(examples("classes"))
    alone = [model(collate([item], model.layout)) for item in items]
    assert_close(model(collate(items, model.layout, padding=padding)), torch.cat(alone))


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_stand_in_the_order_of_the_texts(kind):
    model = adapted(kind)
    whole = model.predict(examples(kind), batch_size=2)
    assert len(whole) == len(examples(kind))
    for example, prediction in zip(examples(kind), whole, strict=True):
        (alone,) = model.predict([example], padding="left")
        if kind == "number":
            assert alone.label == pytest.approx(prediction.label, abs=1e-5)
        else:
            assert alone.label == prediction.label
        assert alone.scores == pytest.approx(prediction.scores, abs=1e-5)


def test_the_head_reads_the_vector_of_the_last_real_token():
    model = adapted("classes")
    items = model.items(examples("classes"))
    scores = model(collate(items, model.layout))
    for item, score in zip(items, scores, strict=True):
        last = model.model.hidden(torch.tensor(item.rows))[0, -1]
        assert_close(score, model.head.weight @ last)
        assert item.rows[0][-1] == model.layout.marks.extract


def test_what_stands_at_the_start_says_nothing():
    """With a start token, position 0 knows no text; without, the first word."""
    started, bare = (adapted("classes", read="first", start=s) for s in (True, False))
    texts = ["abc", "hg", "ahhhh"]
    same = [p.scores for p in started.predict(texts)]
    assert same[1:] == [pytest.approx(same[0], abs=1e-6)] * 2
    first = [p.scores for p in bare.predict(texts)]
    assert first[0] == pytest.approx(first[2], abs=1e-6)
    assert first[0] != pytest.approx(first[1], abs=1e-3)


def test_both_orders_of_a_similarity_are_one():
    model = adapted("classes", both_orders=True)
    pairs = [("abc", "h"), ("h", "abc"), ("a", "ghe")]
    one, two, _ = [p.scores for p in model.predict(pairs)]
    assert one == pytest.approx(two, abs=1e-6)
    (item,) = model.items([Example("abc", 0, "h")])
    vectors = [model.model.hidden(torch.tensor([row]))[0, -1] for row in item.rows]
    batch = collate([item], model.layout)
    assert_close(model(batch)[0], model.head.weight @ sum(vectors))
    assert model.n_read(batch) == (1,)
    assert task_loss(model, batch).item() > 0
    in_one_order = adapted("classes")
    one, two = [p.scores for p in in_one_order.predict(pairs[:2])]
    assert one != pytest.approx(two, abs=1e-3)


# Outside oracles.
def reference(model: Adapted, folder, which: str, **settings):
    """One of the classes of `transformers`, with our weights."""
    save_pretrained(model.model, None, folder)
    theirs = getattr(transformers, which).from_pretrained(folder, **settings)
    return theirs.eval()


def copied(linear: torch.nn.Linear, ours: torch.nn.Linear) -> None:
    with torch.no_grad():
        linear.weight.copy_(ours.weight)
        if ours.bias is not None:
            torch.nn.init.normal_(ours.bias)
            linear.bias.copy_(ours.bias)


@pytest.mark.parametrize("kind", ["classes", "multilabel", "number"])
@pytest.mark.parametrize("name", ["gpt2", "gpt1"])
def test_an_exported_classifier_gives_our_scores_and_our_loss(name, kind, tmp_path):
    model = adapted(kind, config=SHAPES[name])
    model.layout = replace(model.layout, centre=0.0, spread=1.0)
    export_classifier(model, tmp_path)
    auto = transformers.AutoModelForSequenceClassification
    theirs = auto.from_pretrained(tmp_path).eval()
    batch = collate(model.items(examples(kind)), model.layout)
    labels = batch.targets if kind != "number" else batch.targets[:, None]
    got = theirs(input_ids=batch.tokens, attention_mask=batch.mask.int(), labels=labels)
    assert_close(got.logits, model(batch))
    assert_close(got.loss, task_loss(model, batch))
    without_mask = theirs(input_ids=batch.tokens)
    assert_close(without_mask.logits, model(batch))


def test_an_exported_classifier_reads_left_padding_with_positions(tmp_path):
    model = adapted("classes")
    export_classifier(model, tmp_path)
    auto = transformers.AutoModelForSequenceClassification
    theirs = auto.from_pretrained(tmp_path).eval()
    batch = collate(model.items(examples("classes")), model.layout, padding="left")
    got = theirs(
        input_ids=batch.tokens,
        attention_mask=batch.mask.int(),
        position_ids=(batch.mask.cumsum(-1) - 1).clamp(min=0),
    )
    assert_close(got.logits, model(batch))


def test_choices_and_the_auxiliary_loss_equal_the_double_heads_model(tmp_path):
    model = adapted("choice")
    theirs = reference(model, tmp_path, "GPT2DoubleHeadsModel")
    copied(theirs.multiple_choice_head.summary, model.head)
    torch.nn.init.zeros_(theirs.multiple_choice_head.summary.bias)
    (item,) = model.items(examples("choice")[:1])
    batch = collate([item], model.layout)
    got = theirs(
        input_ids=batch.tokens[None],
        mc_token_ids=batch.mask.sum(-1)[None] - 1,
        mc_labels=batch.targets[None],
        labels=batch.tokens.where(batch.mask, -100)[None],
    )
    assert_close(got.mc_logits[0], model(batch)[:, 0])
    both = got.mc_loss + 0.5 * got.loss
    assert_close(task_loss(model, batch, lm_weight=0.5), both)
    assert_close(task_loss(model, batch), got.mc_loss)


def test_tags_equal_the_token_classification_model(tmp_path):
    model = adapted("tags")
    theirs = reference(model, tmp_path, "GPT2ForTokenClassification", num_labels=3)
    copied(theirs.classifier, model.head)
    batch = collate(model.items(examples("tags")), model.layout)
    labels = torch.full_like(batch.tokens, -100)
    labels[batch.reads] = batch.targets
    got = theirs(input_ids=batch.tokens, labels=labels)
    assert_close(got.logits[batch.reads], model(batch))
    assert_close(got.loss, task_loss(model, batch))


def test_spans_equal_the_question_answering_model(tmp_path):
    model = adapted("spans")
    theirs = reference(model, tmp_path, "GPT2ForQuestionAnswering")
    copied(theirs.qa_outputs, model.head)
    # One at a time: theirs lets padding, and the question, compete with the text.
    for item in model.items(examples("spans")):
        batch = collate([item], model.layout)
        got = theirs(input_ids=batch.tokens)
        ends = torch.stack([got.start_logits, got.end_logits], -1)
        assert_close(ends[batch.reads], model(batch))
        own = ends[batch.reads].T
        goals = batch.targets.flatten()
        assert_close(
            task_loss(model, batch), torch.nn.functional.cross_entropy(own, goals)
        )


def test_writing_is_learnt_as_the_language_model_learns():
    model = adapted("text")
    batch = collate(model.items(examples("text")), model.layout)
    goals = torch.full_like(batch.tokens, -100)
    goals[batch.reads] = batch.targets
    assert_close(
        task_loss(model, batch), next_token_loss(model.model, batch.tokens, goals)
    )
    assert batch.targets.tolist() == [2, 1, 0, 11, 7, 11]


# Losses.
@pytest.mark.parametrize("padding", ["left", "right"])
def test_the_auxiliary_loss_is_of_real_tokens_alone(padding):
    model = adapted("classes")
    items = model.items(examples("classes"))
    batch = collate(items, model.layout, padding=padding)
    goals = next_tokens(batch)
    for item, row in zip(items, goals, strict=True):
        assert tuple(row[row != -100].tolist()) == item.rows[0][1:]
    plain = task_loss(model, batch)
    whole = [torch.tensor([item.rows[0]]) for item in items]
    summed = sum(
        next_token_loss(model.model, row[:, :-1], row[:, 1:]) * (row.shape[1] - 1)
        for row in whole
    )
    own = summed / sum(row.shape[1] - 1 for row in whole)
    assert_close(task_loss(model, batch, lm_weight=2.0), plain + 2 * own)


def test_class_weights_count_as_in_torch():
    model = adapted("classes")
    batch = collate(model.items(examples("classes")), model.layout)
    weights = torch.tensor([1.0, 5.0, 0.5])
    want = torch.nn.CrossEntropyLoss(weight=weights)(model(batch), batch.targets)
    assert_close(task_loss(model, batch, class_weights=weights), want)


def test_weights_and_labels_that_are_missing_are_said():
    model = adapted("choice")
    batch = collate(model.items(examples("choice")), model.layout)
    with pytest.raises(ValueError, match="with classes or tags, got 'choice'"):
        task_loss(model, batch, class_weights=torch.ones(2))
    items = model.items(examples("choice"), labelled=False)
    with pytest.raises(ValueError, match="a labelled batch, got one without targets"):
        task_loss(model, collate(items, model.layout))


@pytest.mark.parametrize("kind", KINDS)
def test_every_task_can_be_learnt_by_heart(kind):
    """Forty steps on two or three examples; then each is said as it was shown."""
    config = GPTConfig(vocab_size=9, context_length=24, n_layer=2, n_head=2, d_model=32)
    model = adapt(GPT(config), CharTokenizer(LETTERS), task(kind), room=6)
    batch = collate(model.items(examples(kind)), model.layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(100):
        optimizer.zero_grad()
        task_loss(model, batch, lm_weight=0.1).backward()
        optimizer.step()
    said = [p.label for p in model.predict(examples(kind))]
    if kind == "number":
        assert said == pytest.approx([e.label for e in examples(kind)], abs=0.3)
    else:
        assert said == [e.label for e in examples(kind)]


def test_predicting_changes_neither_mode_nor_gradients():
    model = adapted("classes").train()
    model.model.blocks[0].eval()
    one, two = (model.predict(["abc"])[0].scores for _ in range(2))
    assert one == two
    assert model.training
    assert not model.model.blocks[0].training


def test_a_number_is_learnt_in_standard_deviations():
    rows = [Example("a", 10.0), Example("b", 30.0)]
    whole = Task(rows, rows, rows, (), "numbers", "number")
    model = adapt(GPT(SMALL), CharTokenizer(LETTERS), whole)
    assert (model.layout.centre, model.layout.spread) == (20.0, 10.0)
    assert collate(model.items(rows), model.layout).targets.tolist() == [-1.0, 1.0]
    with torch.no_grad():
        model.head.weight.zero_()
    assert [p.label for p in model.predict(["a", "b"])] == [20.0, 20.0]


def test_what_is_written_holds_no_mark_and_nothing_unknown():
    model = adapted("text")
    with torch.no_grad():  # delimiter and an unknown id are the likeliest by far
        grow(model.model, 1)
        model.model.head = torch.nn.Linear(12, 13)
        model.model.head.bias[[9, 10, 12]] = 1e4
        model.model.head.bias[3] = 1e3
    (said,) = model.predict(["abc"])
    assert said.label == "dddddd"


def test_a_complaint_names_the_example():
    model = adapted("classes")
    with pytest.raises(ValueError, match="example 2: expected a text, got ' '"):
        model.predict(["abc", " ", "d"])
    with pytest.raises(ValueError, match="example 1: expected the index of one of"):
        model.items([Example("abc", 3)])
    both = adapted("classes", both_orders=True)
    with pytest.raises(ValueError, match="example 1: expected a text_pair to read in"):
        both.predict(["abc"])


def test_a_decoder_that_is_too_short_does_not_grow():
    model = GPT(replace(SMALL, context_length=6))
    with pytest.raises(ValueError, match="at least 8 tokens, got 6"):
        adapt(model, CharTokenizer(LETTERS), task("classes"))
    assert model.config.vocab_size == len(model.token_embedding.weight) == 9
