"""Saved heads: the same predictions from a folder, and what cannot be saved so."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoConfig

from minigpt.adapt.batches import collate
from minigpt.adapt.saved import export_classifier, load_adapted, save_adapted
from minigpt.labelled import KINDS
from minigpt.pretrained import load_pretrained
from tests.adapting import SMALL, adapted, examples


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_head_says_the_same(kind, tmp_path):
    model = adapted(kind, cut="left", dropout=0.25)
    save_adapted(model, tmp_path / "model")
    loaded = load_adapted(tmp_path / "model")
    assert loaded.layout == model.layout
    assert loaded.dropout.p == 0.25
    assert not loaded.training
    batch = collate(model.items(examples(kind)), model.layout)
    assert torch.equal(loaded(batch), model(batch))
    assert loaded.predict(examples(kind)) == model.predict(examples(kind))


@pytest.mark.parametrize("shape", [{"norm": "post"}, {"band": 3}, {"bias": False}])
def test_any_decoder_can_be_saved(shape, tmp_path):
    model = adapted("classes", config=replace(SMALL, **shape))
    save_adapted(model, tmp_path / "model")
    said = load_adapted(tmp_path / "model").predict(["abc"])
    assert said == model.predict(["abc"])


def test_the_folder_still_holds_a_language_model(tmp_path):
    model = adapted("classes")
    save_adapted(model, tmp_path / "model")
    with pytest.warns(UserWarning, match=r"the tokenizer in .* has 9 tokens, the emb"):
        found = load_pretrained(tmp_path / "model")
    tokens = torch.randint(12, (2, 5))
    assert torch.equal(found.model(tokens), model.model(tokens))


def test_a_folder_is_replaced_whole_and_another_one_is_not(tmp_path):
    folder = tmp_path / "model"
    save_adapted(adapted("classes"), folder)
    second = adapted("tags")
    save_adapted(second, folder)
    assert load_adapted(folder).layout.kind == "tags"
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(ValueError, match="a new folder or that of an adapted model"):
        save_adapted(second, tmp_path)
    assert (tmp_path / "letters.txt").read_text() == "dear"


def test_lower_precision_can_be_asked_for(tmp_path):
    model = adapted("classes")
    save_adapted(model, tmp_path / "model")
    half = load_adapted(tmp_path / "model", dtype=torch.bfloat16)
    assert half.head.weight.dtype == torch.bfloat16
    assert_close(
        torch.tensor(half.predict(["abc"])[0].scores),
        torch.tensor(model.predict(["abc"])[0].scores),
        atol=0.05,
        rtol=0,
    )


def test_folders_that_are_none_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found no head\.json there: name the"):
        load_adapted(tmp_path)
    folder = tmp_path / "model"
    save_adapted(adapted("classes"), folder)
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=r"a tokenizer in .*, got none: copy it again"):
        load_adapted(folder)


def changed(folder, **fields: object) -> None:
    path = folder / "head.json"
    content = json.loads(path.read_text())
    content["layout"] |= fields
    path.write_text(json.dumps(content))


def test_a_damaged_layout_is_said(tmp_path):
    folder = tmp_path / "model"
    save_adapted(adapted("classes"), folder)
    changed(folder, kind="riddles")
    with pytest.raises(
        ValueError, match=r"in .*head\.json, got 'riddles': it was saved"
    ):
        load_adapted(folder)
    changed(folder, kind="classes", cut="top")
    with pytest.raises(ValueError, match=r"left, right in .*head\.json, got 'top'"):
        load_adapted(folder)
    changed(folder, cut="left", colour="red")
    with pytest.raises(
        ValueError, match=r"a layout in .*head\.json, .*colour.*damaged"
    ):
        load_adapted(folder)


def test_a_head_of_another_shape_is_said(tmp_path):
    folder = tmp_path / "model"
    save_adapted(adapted("classes"), folder)
    head = load_file(folder / "head.safetensors")
    save_file({"weight": head["weight"][:2].clone()}, folder / "head.safetensors")
    with pytest.raises(
        ValueError, match=r"shapes .*\(3, 12\).* got .*\(2, 12\).*another"
    ):
        load_adapted(folder)


def test_an_exported_folder_names_labels_and_marks(tmp_path):
    model = adapted("classes")
    export_classifier(model, tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.id2label == {0: "one", 1: "three", 2: "two"}
    assert config.pad_token_id == model.layout.marks.delimiter
    assert config.marks == {"start": 9, "delimiter": 10, "extract": 11}
    # The rightmost token that is not padding is what their class reads.
    assert model.layout.marks.padding != model.layout.marks.extract


REFUSED = {
    "tags": (adapted, "tags", {}, "got kind 'tags': use `save_adapted`"),
    "orders": (adapted, "classes", {"both_orders": True}, "got both orders"),
    "first": (adapted, "classes", {"read": "first"}, "got the first token"),
    "number": (adapted, "number", {}, "got a rescaled number"),
}


@pytest.mark.parametrize(
    ("make", "kind", "options", "message"), REFUSED.values(), ids=REFUSED
)
def test_what_their_class_reads_otherwise_is_refused(
    make, kind, options, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        export_classifier(make(kind, **options), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_decoder_that_they_compute_otherwise_is_refused(tmp_path):
    model = adapted("classes", config=replace(SMALL, band=3))
    with pytest.raises(ValueError, match="computes as we do, got band=3"):
        export_classifier(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_replacement_that_was_cut_off_is_undone(tmp_path):
    model = adapted("classes")
    save_adapted(model, tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / "model.old")
    assert load_adapted(tmp_path / "model").predict(["abc"]) == model.predict(["abc"])


def test_a_layout_without_its_dropout_is_damaged(tmp_path):
    save_adapted(adapted("classes"), tmp_path / "model")
    file = tmp_path / "model" / "head.json"
    content = json.loads(file.read_text("utf-8"))
    del content["dropout"]
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(
        ValueError, match=r"layout in .*got something else \('dropout'\)"
    ):
        load_adapted(tmp_path / "model")
