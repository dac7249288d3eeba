"""What we write, Hugging Face loads; what Hugging Face writes, we load."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GPT2Tokenizer, OpenAIGPTTokenizer

from minigpt.subword import END_OF_TEXT, BPETokenizer, GPT1Tokenizer
from minigpt.tokenizer import CharTokenizer, load_tokenizer
from minigpt.vocabulary import read_json, read_merges, read_pipeline, write_json

TEXT = "the ferry and the ferry bell, 燕鸥港的渡轮 don't\n\nwait  é"


@pytest.fixture(params=[(END_OF_TEXT,), (), ("<|user|>", END_OF_TEXT)], ids=str)
def tokenizer(request: pytest.FixtureRequest) -> BPETokenizer:
    return BPETokenizer.train([TEXT], vocab_size=280, special_tokens=request.param)


def gpt2_model_config(folder: Path) -> None:
    write_json(folder / "config.json", {"model_type": "gpt2"})


def test_transformers_loads_what_we_write(
    tokenizer: BPETokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    gpt2_model_config(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = TEXT + "".join(tokenizer.special_tokens)
    ids = tokenizer.encode(text, allowed_special="all")
    assert theirs.encode(text) == ids
    assert theirs.decode(ids) == text
    assert len(theirs) == tokenizer.vocab_size
    assert theirs.eos_token_id == tokenizer.end_id


def test_transformers_loads_the_vocabulary_and_merges_alone(tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train([TEXT], vocab_size=280)
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    theirs = GPT2Tokenizer.from_pretrained(tmp_path)
    assert theirs.encode(TEXT) == tokenizer.encode(TEXT)


def test_we_load_what_transformers_writes(
    tokenizer: BPETokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "ours")
    AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "hf")
    assert not (tmp_path / "hf" / "merges.txt").exists()
    again = load_tokenizer(tmp_path / "hf")
    assert isinstance(again, BPETokenizer)
    assert again.vocabulary == tokenizer.vocabulary
    assert again.merges == tokenizer.merges
    assert again.special_tokens == tokenizer.special_tokens


def test_we_load_what_we_write(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for again in (
        load_tokenizer(tmp_path),
        BPETokenizer.from_gpt2_files(tmp_path / "vocab.json", tmp_path / "merges.txt"),
    ):
        assert isinstance(again, BPETokenizer)
        assert again.vocabulary == tokenizer.vocabulary
        assert again.merges == tokenizer.merges
        assert again.special_tokens == tokenizer.special_tokens


def test_gpt1_goes_to_transformers_and_back(tmp_path: Path) -> None:
    table = {
        s: i for i, s in enumerate(["<unk>", "a", "b", "a</w>", "b</w>", "ab</w>"])
    }
    ours = GPT1Tokenizer(table, [("a", "b</w>")])
    ours.save(tmp_path / "ours")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert isinstance(theirs, OpenAIGPTTokenizer)
    assert theirs.encode("AB ba c") == ours.encode("AB ba c") == [5, 2, 3, 0]
    theirs.save_pretrained(tmp_path / "hf")
    for folder in ("ours", "hf"):
        again = load_tokenizer(tmp_path / folder)
        assert isinstance(again, GPT1Tokenizer)
        assert (again.table, again.merges) == (ours.table, ours.merges)


def test_transformers_loads_a_character_tokenizer(tmp_path: Path) -> None:
    ours = CharTokenizer.train("Kit's lamp\n灯")
    ours.save(tmp_path)
    gpt2_model_config(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = "lamp 灯\n\n's"
    assert theirs.encode(text) == ours.encode(text)
    assert theirs.decode(ours.encode(text)) == text


def test_older_merges_written_as_one_string_are_read(tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train([TEXT], vocab_size=280)
    tokenizer.save(tmp_path)
    content = read_json(tmp_path / "tokenizer.json")
    new = read_pipeline(tmp_path / "tokenizer.json")
    content["model"]["merges"] = [" ".join(m) for m in content["model"]["merges"]]
    write_json(tmp_path / "tokenizer.json", content)
    assert read_pipeline(tmp_path / "tokenizer.json") == new


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "Unigram"}}, "got a Unigram model after a ByteLevel cut"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "BPE model after a Metaspace cut"),
        (
            {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
            "expected GPT-1's or GPT-2's kind of BPE",
        ),
        (
            {"pre_tokenizer": {"type": "ByteLevel", "use_regex": False}},
            "expected GPT-1's or GPT-2's kind of BPE",
        ),
    ],
)
def test_another_kind_of_tokenizer_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    BPETokenizer.train([TEXT], vocab_size=280).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    write_json(path, read_json(path) | change)
    with pytest.raises(ValueError, match=message):
        read_pipeline(path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"JSON file at .*vocab\.json, got FileNotFound"
    ):
        read_json(tmp_path / "vocab.json")
    (tmp_path / "vocab.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"vocab\.json, got JSONDecodeError"):
        read_json(tmp_path / "vocab.json")
    with pytest.raises(ValueError, match=r"merges at .*merges\.txt, got FileNotFound"):
        read_merges(tmp_path / "merges.txt")
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\na b c\n")
    with pytest.raises(ValueError, match=r"got 'a b c' on line 3: download"):
        read_merges(tmp_path / "merges.txt")


def test_json_keeps_every_script_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "t.json", {"灯": 1})
    assert "灯" in (tmp_path / "new" / "t.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "new" / "t.json").read_text("utf-8")) == {"灯": 1}
