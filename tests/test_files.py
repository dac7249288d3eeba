"""Files: read in pieces they are what they are when read whole, and no row is cut."""

import csv
import io
import json

import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigpt import files
from minigpt.bpe import GPT2_PATTERN
from minigpt.files import Piece, blocks, hold_out, read_text, rows
from minigpt.subword import BPETokenizer
from minigpt.tokenizer import CharTokenizer

BPE = BPETokenizer.train(["ab ll 'll !! \n\n  é中 \n ab1 ab'l"] * 9, vocab_size=280)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
@pytest.mark.parametrize(
    "content",
    [
        b"one\ntwo three\n\n  four",
        "艾达点灯。\r\nAda lights\r\n\r\nthe lamp.\r\n".encode() * 3,
        "tern".encode("utf-8-sig"),
        b"\xef\xbb\xbf" + "é".encode() * 50,
        b"old\rmac\r\rlines",
        b"word " * 40,
        b"",
    ],
)
def test_blocks_joined_are_the_text_that_python_reads(tmp_path, content, size):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    pieces = list(blocks(path, size=size))
    assert "".join(piece.text for piece in pieces) == read_text(path)
    assert all(piece.text for piece in pieces)
    starts = [piece.start for piece in pieces]
    assert starts == sorted(starts)


def test_a_block_ends_with_a_word_and_white_space_stays_together(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one two\n\n three fourandfive six")
    # Reads of ten bytes: "one two\n\n ", "three four", "andfive si", "x".
    assert list(blocks(path, size=10)) == [
        Piece(0, "one two"),
        Piece(7, "\n\n three"),
        Piece(15, " fourandfive"),
        Piece(27, " six"),
    ]
    path.write_text("longerthanten more")
    texts = [piece.text for piece in blocks(path, size=10)]
    assert texts == ["longerthan", "ten", " more"]


@pytest.mark.parametrize("size", [1, 5, 50, 500])
@given(text=st.text(alphabet="ab'l!1 \n\t\u3000\x1c\x85é中", max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_tokens_of_blocks_are_the_tokens_of_the_text(tmp_path, text, size):
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8", newline="")
    pieces = [piece.text for piece in blocks(path, size=size)]
    longest = max(len(s.encode()) for s in regex.findall(r"\s*[^ \n]*", text))
    if 2 * longest < size:
        for tokenizer in (BPE, CharTokenizer.train(f"{text}\n"), GPT2_PATTERN):
            cut = getattr(tokenizer, "encode", None) or tokenizer.findall
            assert [t for p in pieces for t in cut(p)] == cut("".join(pieces))


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_byte_that_is_no_utf_8_is_named_by_its_place(tmp_path, size):
    path = tmp_path / "b.txt"
    path.write_bytes("é\ncd".encode() + b"\xff ef")
    with pytest.raises(ValueError, match=r"UTF-8 text in .*b\.txt.*position 5"):
        list(blocks(path, size=size))
    path.write_bytes("ab é".encode()[:-1])  # the file ends inside a character
    with pytest.raises(ValueError, match=r"UTF-8 text in .*b\.txt.*position 3"):
        list(blocks(path, size=size))


def test_the_rows_of_two_kinds_of_table_are_the_same(tmp_path):
    texts = ['a "quoted" one', "over\ntwo lines", "艾达, and a comma", "  ", "last"]
    lines = "\n".join(json.dumps({"text": text, "n": 1}) for text in texts)
    (tmp_path / "a.jsonl").write_text(lines)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerows([("n", "text"), *((1, text) for text in texts)])
    (tmp_path / "a.csv").write_bytes(table.getvalue().encode("utf-8-sig"))
    for name in ("a.jsonl", "a.csv"):
        assert [piece.text for piece in rows(tmp_path / name)] == [*texts[:3], "last"]


def test_a_row_starts_at_its_first_byte(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('text\n"é\nb"\nc\nd\n'.encode())
    # The header belongs to the first row; the quoted text goes over two lines.
    assert list(rows(path)) == [Piece(0, "é\nb"), Piece(12, "c"), Piece(14, "d")]
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\u2028b"}\n\n{"text": "c"}\n', encoding="utf-8")
    assert list(rows(path)) == [Piece(0, "a\u2028b"), Piece(19, "c")]


def test_what_starts_in_the_last_tenth_is_held_out_and_always_the_last(monkeypatch):
    def held(starts: list[int], size: int) -> list[bool]:
        return [h for h, _ in hold_out((Piece(s, "x") for s in starts), size)]

    assert held([0, 89, 90, 95], 100) == [False, False, True, True]
    assert held([0, 30, 60], 100) == [False, False, True]
    assert held([0], 100) == [True]
    assert held([], 0) == []
    monkeypatch.setattr(files, "MOST_HELD_OUT", 5)
    assert held([0, 90, 95], 100) == [False, False, True]


def test_a_table_is_read_row_by_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\nnot JSON\n')
    read = rows(path)
    assert [next(read).text, next(read).text] == ["a", "b"]
    with pytest.raises(ValueError, match=r"a table in .*a\.jsonl, got Expecting value"):
        next(read)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("j.jsonl", b"{", r"a table in .*j\.jsonl, got .*each row"),
        ("l.csv", b"text\n" + b"x" * 200_000, r"a table in .*l\.csv, got field la"),
        ("c.csv", b"body\nhello\n", r'a column "text" in .*c\.csv'),
        ("n.jsonl", b"3", r'a column "text" in .*n\.jsonl, got 3'),
        ("z.jsonl", b'{"text": null}', r'a column "text" in .*z\.jsonl'),
        ("u.csv", b"text\nab\xff\n", r"UTF-8 text in .*u\.csv.*position 7"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(rows(tmp_path / name))
