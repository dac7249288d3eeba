"""Chapter 2. Vocabulary files: how the ecosystem writes a tokenizer down.

vocab.json is the table of ids and merges.txt the ordered list of merges, as OpenAI
published them for GPT-1 and GPT-2; tokenizer.json holds both and the cleaning and
cutting that go before, for Hugging Face's `tokenizers`. We write all three.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

WORD_END = "</w>"
# Token ids in a list, an iterator or a tensor.
Ids = Iterable[SupportsIndex]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a table as UTF-8, its folder too where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a table.

    Raises:
        ValueError: the file is absent, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"expected a JSON file at {path}, got {type(error).__name__} ({error}): "
            f"save or download the tokenizer again"
        ) from None


def read_merges(path: Path) -> list[tuple[str, str]]:
    """Read merges.txt: two symbols on a line, the first line a version.

    Raises:
        ValueError: the file is absent, or a line has not two symbols.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"expected a list of merges at {path}, got {type(error).__name__} "
            f"({error}): save or download the tokenizer again"
        ) from None
    start = 1 if lines[0].startswith("#version") else 0
    merges = []
    for number, line in enumerate(lines[start:], start + 1):
        left, _, right = line.partition(" ")
        if left and right and " " not in right:
            merges.append((left, right))
        elif line.strip():
            raise ValueError(
                f"expected two symbols on each line of {path}, got {line!r} on line "
                f"{number}: download the file again"
            )
    return merges


def save_bpe(
    folder: Path,
    table: Mapping[str, int],
    merges: Sequence[Sequence[str]],
    special_tokens: Mapping[str, int],
    *,
    words: bool = False,
) -> None:
    """Write a BPE tokenizer: GPT-2's on bytes, or GPT-1's on the letters of words."""
    table = dict(sorted({**table, **special_tokens}.items(), key=lambda item: item[1]))
    write_json(folder / "vocab.json", table)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = {
        "type": "BPE",
        "unk_token": "<unk>" if words else None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": WORD_END if words else "",
        "fuse_unk": False,
        "vocab": table,
        "merges": [list(pair) for pair in merges],
    }
    on_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    cleaning = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    }
    pipeline = {
        "version": "1.0",
        "added_tokens": [_added(name, i) for name, i in special_tokens.items()],
        "normalizer": cleaning if words else None,
        "pre_tokenizer": {"type": "BertPreTokenizer"} if words else on_bytes,
        "decoder": {"type": "BPEDecoder", "suffix": WORD_END} if words else on_bytes,
        "model": model,
    }
    write_json(folder / "tokenizer.json", pipeline)
    write_json(folder / "tokenizer_config.json", _config(special_tokens, words))


def _added(name: str, i: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": i, "content": name, **flags, "special": True}


def _config(special_tokens: Mapping[str, int], words: bool) -> dict[str, Any]:
    if words:
        return {"tokenizer_class": "OpenAIGPTTokenizer", "unk_token": "<unk>"}
    if "<|endoftext|>" not in special_tokens:
        return {"tokenizer_class": "PreTrainedTokenizerFast"}
    roles = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, **roles}


def read_pipeline(
    path: Path,
) -> tuple[dict[str, int], list[tuple[str, str]], dict[str, int]]:
    """Table, merges and special tokens of a tokenizer.json that we can follow.

    Raises:
        ValueError: another kind of model, or words cut in another way.
    """
    content = read_json(path)
    model, before = content.get("model", {}), content.get("pre_tokenizer") or {}
    of_bytes = before.get("type") == "ByteLevel" and before.get("use_regex", True)
    prefixed = before.get("add_prefix_space", False)
    of_words = before.get("type") == "BertPreTokenizer"
    if model.get("type") != "BPE" or prefixed or not (of_bytes or of_words):
        raise ValueError(
            f"expected GPT-1's or GPT-2's kind of BPE in {path}, got a "
            f"{model.get('type')} model after a {before.get('type')} cut: load this "
            f"tokenizer with transformers"
        )
    # Older files write a merge as one string.
    pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
    merges = [(left, right) for left, right in pairs]
    special = {added["content"]: added["id"] for added in content["added_tokens"]}
    return model["vocab"], merges, special
