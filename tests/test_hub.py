"""Names: a folder, a model that ships, or the hub, played here by a small server.

The hub's own client talks to it, so that downloads, their resumption and every error
are the real ones.
"""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from minigpt import pretrained
from minigpt.checkpoint import save_pretrained
from minigpt.model import GPT, GPTConfig
from minigpt.pretrained import PUBLISHED, download, find, load_pretrained, shipped
from minigpt.texts import ASSETS
from minigpt.tokenizer import CharTokenizer

NAME = "openai-community/gpt2"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHERS = ("pytorch_model.bin", "onnx/model.safetensors", "README.md", "tf_model.h5")
WIDE = GPTConfig(vocab_size=11, context_length=7, n_layer=1, n_head=3, d_model=300)


class Hub(ThreadingHTTPServer):
    """Serves one model, and remembers what was asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.asked: list[tuple[str, str]] = []
        # So often a download of weights breaks off after so many bytes.
        self.breaks, self.piece = 0, 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """The few addresses of the hub that a download of a whole model needs."""

    server: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0].lstrip("/")
        if path == f"api/models/{NAME}/revision/main":
            return self.say({"id": NAME, "sha": COMMIT})
        if path == f"api/models/{NAME}/tree/{COMMIT}":
            return self.say(list(map(self.entry, self.files())))
        prefix = f"{NAME}/resolve/{COMMIT}/"
        if path.startswith(prefix) and path.removeprefix(prefix) in self.files():
            return self.give(path.removeprefix(prefix))
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def files(self) -> list[str]:
        folder = self.server.folder
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*"))

    def entry(self, file: str) -> dict[str, object]:
        size = (self.server.folder / file).stat().st_size
        return {"type": "file", "path": file, "size": size, "oid": "0" * 40}

    def say(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def give(self, file: str) -> None:
        body = (self.server.folder / file).read_bytes()
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", f'"{file}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.server.asked.append((file, wanted))
        end = len(body)
        if self.server.breaks and file.endswith(".safetensors"):
            self.server.breaks -= 1
            end = start + self.server.piece
        self.wfile.write(body[start:end])
        self.close_connection = True


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """The client asks this server, and keeps files in a cache of its own."""
    folder = tmp_path / "remote"
    folder.mkdir()
    hub = Hub(folder)
    Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
    template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", hub.address)
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    # What it writes at once, and so the least that a broken connection leaves: 10 MB.
    monkeypatch.setattr(f"{constants}.DOWNLOAD_CHUNK_SIZE", 100_000)
    # Seconds between two attempts.
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.chdir(tmp_path)
    yield hub
    hub.shutdown()
    hub.server_close()


@pytest.fixture
def model(hub) -> GPT:
    """A model that the hub has, beside the files of other programs."""
    model = GPT(WIDE).eval()
    save_pretrained(model, CharTokenizer.train("abcdefghijk"), hub.folder)
    for name in OTHERS:
        (hub.folder / name).parent.mkdir(exist_ok=True)
        (hub.folder / name).write_bytes(b"of no use here")
    return model


def test_a_name_is_downloaded_once_and_only_what_is_needed(hub, model):
    for name in (NAME, "gpt2"):
        again, tokenizer = load_pretrained(name)
        for mine, theirs in zip(again.parameters(), model.parameters(), strict=True):
            assert torch.equal(mine, theirs)
        assert tokenizer is not None
    files = [file for file, _ in hub.asked]
    assert sorted(files) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_without_a_network_what_was_downloaded_before_still_loads(hub, model):
    load_pretrained(NAME)
    hub.shutdown()
    hub.server_close()
    assert load_pretrained(NAME).model.config == WIDE


def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub, model):
    hub.breaks, hub.piece = 3, 200_000
    load_pretrained(NAME)
    starts = [wanted for file, wanted in hub.asked if file == "model.safetensors"]
    assert starts == ["", "bytes=200000-", "bytes=400000-", "bytes=600000-"]


def test_a_download_that_never_ends_is_one_sentence(hub, model):
    hub.breaks, hub.piece = 100, 50_000
    said = (
        r"on the Hugging Face hub \(.*Error: .*\) in vain: check the name and the net"
    )
    with pytest.raises(FileNotFoundError, match=said) as error:
        load_pretrained(NAME)
    assert "\n" not in str(error.value)


def test_a_name_the_hub_does_not_know_is_one_sentence(hub, model):
    said = r"the model ada/tern, looked in .*minigpt-stories.*RepositoryNotFound.*vain"
    with pytest.raises(FileNotFoundError, match=said) as error:
        load_pretrained("ada/tern")
    assert "\n" not in str(error.value)


def test_no_network_is_one_sentence_that_says_what_to_do(hub):
    hub.shutdown()
    hub.server_close()
    said = (
        rf"expected the model {NAME}, looked in the folder .*, among the models that "
        rf"ship .*minigpt-stories.* hub \(LocalEntryNotFoundError: .*refused\) in "
        rf"vain: check the name and the network and try again, or copy the model's fo"
    )
    with pytest.raises(FileNotFoundError, match=said) as error:
        load_pretrained(NAME)
    assert "\n" not in str(error.value)


def test_a_model_that_the_hub_has_only_as_a_pickle_is_not_downloaded(hub, model):
    (hub.folder / "model.safetensors").unlink()
    said = rf"safetensors in the hub's {NAME}, found none: if it has a pytorch_model"
    with pytest.raises(FileNotFoundError, match=said):
        load_pretrained(NAME)
    assert "pytorch_model.bin" not in {file for file, _ in hub.asked}


def test_a_folder_goes_before_a_shipped_name_and_that_before_the_hub(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrained, "download", lambda name: Path("hub") / name)
    assert find("minigpt-stories") == ASSETS / "minigpt-stories"
    assert find(NAME) == Path("hub") / NAME
    assert find("ada/tern") == Path("hub/ada/tern")
    for name in ("minigpt-stories", NAME, "ada/tern"):
        (tmp_path / name).mkdir(parents=True)
        assert find(name) == Path(name)
    # The folder of a run is there, the model in it is not: a typing error, no name.
    with pytest.raises(FileNotFoundError, match=r"a saved model in ada/turn, found no"):
        find("ada/turn")
    (tmp_path / "ada" / "turn.old").mkdir()
    assert find("ada/turn") == Path("ada/turn")


def test_the_last_part_of_a_published_name_will_do(monkeypatch):
    monkeypatch.setattr(pretrained, "download", lambda name: Path("hub") / name)
    for name in PUBLISHED:
        assert find(name.split("/")[1]) == Path("hub") / name


def test_a_path_that_leads_nowhere_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    def ask(name):
        raise AssertionError(f"asked the hub for {name}")

    monkeypatch.setattr(pretrained, "download", ask)
    for path in (tmp_path / "run", "minigpt-bass", "a/b/c", "../x", "./run", "run/"):
        with pytest.raises(FileNotFoundError, match=r"a saved model in .*minigpt-stor"):
            find(path)


def test_every_shipped_model_loads_by_its_name():
    assert "minigpt-stories" in shipped()
    for name in shipped():
        model, tokenizer = load_pretrained(name)
        assert tokenizer is not None
        assert tokenizer.vocab_size == model.config.vocab_size


def test_the_needed_files_are_those_that_a_saved_folder_has(tmp_path):
    model = GPT(WIDE)
    save_pretrained(model, CharTokenizer.train("abcdefghijk"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= set(pretrained.NEEDED)


def test_a_downloads_progress_is_shown(hub, model, capfd):
    download(NAME)
    assert "100%" in capfd.readouterr().err
