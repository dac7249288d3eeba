"""The examples that stand on a fine-tuned classifier: a service, and a monitor."""

import csv
import http.client
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minigpt.adapt.saved import save_adapted
from tests.adapting import adapted
from tests.test_examples import ROOT, load

intents, headlines = (
    load(ROOT / "examples" / f"{name}.py") for name in ("intents", "headlines")
)
MODEL = adapted("classes")


@pytest.fixture
def folder(tmp_path) -> Path:
    save_adapted(MODEL, tmp_path / "model")
    return tmp_path / "model"


# The service.


@pytest.fixture
def port() -> Iterator[int]:
    """Where a service listens while the test runs."""
    server = intents.service(MODEL, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def post(port: int, body: bytes, **headers: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/", body, headers)
    reply = connection.getresponse()
    found = reply.status, json.loads(reply.read())
    connection.close()
    return found


def test_a_service_says_what_the_model_says(port):
    for text in ("abc", "fgfg fg", "e"):
        (said,) = MODEL.predict([text])
        body = json.dumps({"text": text}).encode()
        right = {"label": said.answer, "probability": max(said.scores), "cut": 0}
        assert post(port, body) == (200, right)


def test_what_was_cut_off_is_counted(port):
    status, said = post(port, json.dumps({"text": "abcde" * 6}).encode())
    assert (status, said["cut"]) == (200, 30 - (24 - 2))  # start and extract


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"abc", r"expected JSON such as \{"),
        (b"\xff\xfe", "expected JSON such as"),
        (b"[" * 5000, "expected JSON such as"),
        (b'["abc"]', "expected JSON such as"),
        (b'{"message": "abc"}', "expected JSON such as"),
        (b'{"text": "  "}', "expected a text that says something, got '  '"),
        (b'{"text": 7}', "expected a text that says something, got 7"),
        (b'{"text": "x"}', "example 1: expected only the"),
        (b'{"text": "\\ud800"}', "example 1: expected only the"),
    ],
)
def test_a_request_that_cannot_be_read_gets_one_sentence(port, body, sentence):
    status, said = post(port, body)
    assert status == 400
    assert re.match(sentence, said["error"])
    assert "\n" not in said["error"]
    assert post(port, b'{"text": "abc"}')[0] == 200  # and it goes on


@pytest.mark.parametrize("length", ["10001", "-1", "many", ""])
def test_a_request_of_no_sensible_length_is_refused_unread(port, length):
    status, said = post(port, b"", **{"Content-Length": length})
    assert (status, said) == (
        400,
        {"error": "expected a request of at most 10000 bytes"},
    )


def test_whoever_stops_talking_is_hung_up_on(port, monkeypatch):
    monkeypatch.setattr(intents.BaseHTTPRequestHandler, "timeout", None)
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(b"POST / HTTP/1.1\r\nContent-Length: 90\r\n\r\n{")
        assert post(port, b'{"text": "abc"}')[0] == 200


def test_only_this_machine_can_ask():
    server = intents.service(MODEL, 0)
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()


# The monitor.


@pytest.fixture
def terminal(monkeypatch, capsys) -> Callable[..., str]:
    def told(example, *flags: object) -> str:
        monkeypatch.setattr(sys, "argv", ["example.py", *map(str, flags)])
        example.main()
        return capsys.readouterr().out

    return told


ROWS = "firm,text\nmill,abc\nmill,fgfg fg\nferry,e\nmill,gh gh\n"


def table(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "today.csv"
    path.write_text(content, "utf-8")
    return path


def test_every_headline_gets_its_label_in_its_row(folder, tmp_path, terminal):
    data, out = table(tmp_path, ROWS), tmp_path / "said.csv"
    terminal(headlines, "--model", folder, "--data", data, "--out", out)
    with out.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == ["firm", "text", "said", "sure", "unsure"]
    assert [row["firm"] for row in found] == ["mill", "mill", "ferry", "mill"]
    for row, said in zip(found, MODEL.predict([r["text"] for r in found]), strict=True):
        assert row["said"] == said.answer
        assert float(row["sure"]) == pytest.approx(max(said.scores), abs=6e-4)


def test_the_summary_counts_each_firm_and_lists_what_is_unsure(
    folder, tmp_path, terminal
):
    data, out = table(tmp_path, ROWS), tmp_path / "said.csv"
    said = MODEL.predict(["abc", "fgfg fg", "e", "gh gh"])
    limit = sorted(max(one.scores) for one in said)[2] - 1e-9  # two lie below
    flags = ("--model", folder, "--data", data, "--out", out)
    text = terminal(headlines, *flags, "--by", "firm", "--unsure", limit)
    head, mill, ferry, *rest = text.splitlines()
    assert head.split() == ["firm", "one", "three", "two", "unsure"]
    assert [mill.split()[0], ferry.split()[0]] == ["mill", "ferry"]
    counts = [list(map(int, line.split()[1:])) for line in (mill, ferry)]
    assert [sum(count[:3]) for count in counts] == [3, 1]
    assert sum(count[3] for count in counts) == 2
    assert [line[:7] for line in rest] == ["unsure:", "unsure:", "4 rows "]
    first, second = (float(line.split()[2]) for line in rest[:2])
    assert first <= second <= limit
    with out.open(encoding="utf-8", newline="") as file:
        marks = [row["unsure"] for row in csv.DictReader(file)]
    assert marks == ["unsure" * (max(one.scores) < limit) for one in said]


@pytest.mark.parametrize(
    ("content", "flags", "sentence"),
    [
        ("firm,text\nmill,abc\nferry,\n", (), "expected a text in row 2, got none"),
        ("firm,title\nmill,abc\n", (), "expected a column 'text', got firm, title"),
        (ROWS, ("--by", "day"), "expected a column 'day', got firm, text"),
        ("text\n", (), "expected rows in"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(
    folder, tmp_path, terminal, capsys, content, flags, sentence
):
    out = tmp_path / "said.csv"
    told = ("--model", folder, "--data", table(tmp_path, content), "--out", out)
    with pytest.raises(SystemExit, match="2"):
        terminal(headlines, *told, *flags)
    assert sentence in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("example", [intents, headlines])
def test_a_model_of_another_kind_is_refused(example, tmp_path, terminal, capsys):
    save_adapted(adapted("tags"), tmp_path / "model")
    data = ("--data", table(tmp_path, ROWS)) if example is headlines else ()
    for model, sentence in (("model", "a classifier, got kind 'tags'"), ("none", "n")):
        with pytest.raises(SystemExit, match="2"):
            terminal(example, "--model", tmp_path / model, *data)
        assert sentence in capsys.readouterr().err
