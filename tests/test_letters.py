"""The embedded letters are what their README says, and nobody else's words."""

import os
import re
import statistics
import sys
import unicodedata
from pathlib import Path

import pytest

from minigpt.texts import load_text, unwrap
from tools import check_overlap

FILES = sorted(check_overlap.LETTERS.glob("*.txt"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in FILES}
ENGLISH = {name: text for name, text in TEXTS.items() if "_zh" not in name}
CHINESE = {name: text for name, text in TEXTS.items() if "_zh" in name}
VOICES = {"nora": "Nora", "fay": "Fay", "gus": "Gus", "dora": "Dora", "pia": "Pia"}
VOICES["mei"] = "Lin Mei"
ABBREVIATION = re.compile(r"\b(Mr|Mrs|Messrs|Dr|St|P\.S|[Nn]o)\.")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"”')\]]*\s+(?=[\"“'(\[]*[A-Z0-9])")


def voice(name: str) -> str:
    return Path(name).stem.split("_")[1]


def sentence_lengths(text: str) -> list[int]:
    """Words in each sentence; a line's end ends one too, as in a heading or a list."""
    lengths = [
        len(check_overlap.words(sentence))
        for line in ABBREVIATION.sub(r"\1", text).splitlines()
        for sentence in SENTENCE_END.split(line)
    ]
    return [length for length in lengths if length]


def spread(text: str) -> float:
    """The coefficient of variation of the sentence lengths."""
    lengths = sentence_lengths(text)
    return statistics.pstdev(lengths) / statistics.mean(lengths)


def test_a_sentence_is_counted_in_words() -> None:
    text = "Wind W, 4. Mr. Sven signed. “Hard?” she said.\n\nBoots: heels."
    assert sentence_lengths(text) == [3, 3, 3, 2]


def test_the_letters_are_60_to_80_kilobytes_in_six_voices() -> None:
    assert 60_000 <= sum(path.stat().st_size for path in FILES) <= 80_000
    assert {voice(name) for name in ENGLISH} == set(VOICES)
    each = {v: sum(voice(name) == v for name in ENGLISH) for v in VOICES}
    assert min(each.values()) >= 6


def test_ten_letters_are_chinese_in_simplified_characters() -> None:
    assert len(CHINESE) == 10
    assert {voice(name) for name in CHINESE} == {"mei"}
    for text in CHINESE.values():
        # GB 2312 has the simplified characters and almost no traditional one.
        text.replace("—", "").encode("gb2312")
        marks = [c for c in text if not c.isspace()]
        assert sum("\u4e00" <= c <= "\u9fff" for c in marks) > 0.8 * len(marks)
    assert not re.search(r"[\u3400-\u9fff]", "".join(ENGLISH.values()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_clean_text(path: Path) -> None:
    text = path.read_bytes().decode("utf-8")
    assert unicodedata.is_normalized("NFC", text)
    assert text.endswith("\n")
    assert "\n\n\n" not in text
    assert text.strip() == text[:-1]
    assert all(line == line.rstrip() for line in text.splitlines())
    assert not [c for c in text if unicodedata.category(c) == "Cc" and c != "\n"]


def test_the_readme_lists_every_file_with_its_voice_language_and_bytes() -> None:
    page = (check_overlap.LETTERS / "README.md").read_text(encoding="utf-8")
    row = re.compile(r"\| `(\d\d_\w+\.txt)` \| ([\w ]+) \| (\w\w) \| ([\d,]+) \| \S")
    expected = [
        (
            path.name,
            VOICES[voice(path.name)],
            "zh" if path.name in CHINESE else "en",
            f"{path.stat().st_size:,}",
        )
        for path in FILES
    ]
    assert row.findall(page) == expected
    total = sum(path.stat().st_size for path in FILES)
    assert f"{len(FILES)} diary pages" in page
    assert f"{total:,} bytes" in page
    assert "CC0 1.0" in page


def test_the_held_out_tenth_has_every_voice_and_both_languages() -> None:
    held_out = load_text("letters").validation
    whole = {name for name, text in TEXTS.items() if text.strip() in held_out}
    assert {voice(name) for name in whole} == set(VOICES)
    assert whole & set(CHINESE)


def test_no_run_of_twelve_words_stands_twice_in_the_letters() -> None:
    documents = check_overlap.read(check_overlap.LETTERS)
    assert len(check_overlap.longest_repeat(documents)) < 12


@pytest.mark.parametrize("of", VOICES)
def test_sentence_lengths_vary_within_every_voice(of: str) -> None:
    text = "\n".join(text for name, text in ENGLISH.items() if voice(name) == of)
    assert spread(text) >= 0.6


def test_a_shared_run_is_found_across_a_line_break_and_an_apostrophe(
    tmp_path: Path,
) -> None:
    documents = {"a.txt": check_overlap.words("The clock didn't stop: it was slow.")}
    source = tmp_path / "other.txt"
    source.write_text("They say the CLOCK\ndidn’t stop it, was\nslow", encoding="utf-8")
    known = check_overlap.runs(documents, 6)
    found = check_overlap.shared(check_overlap.stream(source), known)
    assert found == {
        ("the", "clock", "didn", "t", "stop", "it"),
        ("clock", "didn", "t", "stop", "it", "was"),
        ("didn", "t", "stop", "it", "was", "slow"),
    }
    assert check_overlap.runs({"a": ["too", "short"]}, 8) == {}
    assert check_overlap.shared(["too", "short"], {}) == set()


def test_a_word_the_letters_lack_breaks_a_run() -> None:
    known = check_overlap.runs({"a": ["one", "two", "three", "four"]}, 4)
    assert not check_overlap.shared(["one", "two", "and", "three", "four"], known)


def test_escaped_characters_of_json_are_read_as_themselves(tmp_path: Path) -> None:
    source = tmp_path / "other.json"
    source.write_text(r'{"text": "\u6f6e\u6c50\u949f\nslow"}', encoding="utf-8")
    found = list(check_overlap.stream(source))
    assert found == ["text", "潮", "汐", "钟", "slow"]


def test_the_longest_repeat_is_found_within_and_between_documents() -> None:
    documents = {"a": "x y z x y".split(), "b": "q y z x r".split()}
    assert check_overlap.longest_repeat(documents) == ("y", "z", "x")


def test_the_command_names_the_files_and_fails_on_a_planted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, text = next(iter(ENGLISH.items()))
    run = check_overlap.words(text)[3:11]
    (tmp_path / "planted.txt").write_text(" ".join(run))
    (tmp_path / "weights.npz").write_bytes(b"\xff\x00")
    monkeypatch.setattr(sys, "argv", ["check_overlap.py", "--data", str(tmp_path)])
    assert check_overlap.main() == 1
    out = capsys.readouterr().out
    assert f"{name}: “{' '.join(run)}” is also in" in out
    assert "1 shared runs of 8 words; 1 files read" in out
    (tmp_path / "planted.txt").write_text(" ".join(run[:-1]))
    assert check_overlap.main() == 0


def test_a_missing_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MINIGPT_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["check_overlap.py"])
    with pytest.raises(SystemExit, match="expected a folder in --data or MINIGPT_DATA"):
        check_overlap.main()
    with pytest.raises(SystemExit, match=r"expected \.txt files in .*, got none"):
        check_overlap.read(tmp_path)


@pytest.mark.data
def test_no_eight_words_in_a_row_are_anyone_elses() -> None:
    documents = check_overlap.read(check_overlap.LETTERS)
    known = check_overlap.runs(documents, 8)
    paths = list(check_overlap.texts(Path(os.environ["MINIGPT_DATA"])))
    assert paths
    for path in paths:
        assert check_overlap.shared(check_overlap.stream(path), known) == set(), path


@pytest.mark.data
def test_sentence_lengths_vary_as_much_as_in_printed_novels() -> None:
    folder = Path(os.environ["MINIGPT_DATA"]) / "gutenberg-prose"
    books = [p for p in sorted(folder.glob("*.txt")) if p.name != "SOURCE.txt"]
    printed = [spread(unwrap(path.read_text(encoding="utf-8"))) for path in books]
    ours = spread("\n".join(ENGLISH.values()))
    assert len(printed) >= 20
    assert ours >= min(printed)
    # Lists, times and telegrams beside Dora's periods: wider than most, not wilder.
    assert ours <= 1.2 * max(printed)
