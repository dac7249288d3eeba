"""The package reads front to back: the order of its files, their chapters.

Each check is a function from a path to a list of complaints, shown red on a fault that
is planted in a temporary folder.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.execute import mark

ROOT = Path(__file__).parents[1]

# The reading order, the only list of it: file → chapter. A file imports only from the
# files before it. `bookstyle` belongs to no chapter.
READING_ORDER: dict[str, int | None] = {
    "bookstyle": None,
    "grammar": 0,
    "stories": 0,
    "ngram": 1,
    "regret": 1,
    "bpe": 2,
    "vocabulary": 2,
    "subword": 2,
    "tokenizer": 2,
    "attention": 3,
    "model": 4,
    "files": 5,
    "texts": 5,
    "overlap": 5,
    "data": 5,
    "labelled": 10,
    "splits": 10,
    "rows": 10,
    "published": 10,
    "claims": 11,
    "story_tasks": 11,
    "tasks": 11,
    "hardware": 8,
    "plan": 9,
    "optim": 5,
    "storage": 5,
    "foreign": 7,
    "checkpoint": 5,
    "tokens": 5,
    "corpus": 5,
    "recipe": 5,
    "alone": 5,
    "run": 5,
    "train": 5,
    "raterange": 5,
    "callbacks": 5,
    "sampling": 6,
    "replay": 8,
    "decoding": 6,
    "generate": 6,
    "packed": 8,
    "release": 7,
    "pretrained": 7,
    "scoring": 7,
    "questions": 7,
    "answers": 7,
    "lastword": 7,
    "evaluate": 7,
    "distributed": 9,
    "group": 9,
    "adapt.inputs": 10,
    "adapt.batches": 10,
    "adapt.scores": 10,
    "adapt.heads": 10,
    "adapt.saved": 10,
    "adapt.metrics": 10,
    "adapt.loop": 10,
    "adapt.finetune": 10,
    "flags": 0,
    "trainflags": 0,
    "adaptflags": 10,
    "cli": 0,
}
# Loaded when first needed, never by `import minigpt`.
HEAVY = (
    "datasets",
    "huggingface_hub",
    "matplotlib",
    "tensorboard",
    "torch._dynamo",
    "torch.distributed.tensor",
    "transformers",
    "wandb",
)


def modules(package: Path) -> dict[str, Path]:
    """Name → file of every module; the packages' own `__init__` are no chapters."""
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
        if path.stem not in ("__init__", "__main__")
    }


def imports(path: Path) -> Iterator[str]:
    """What a file imports from minigpt, as names below it; "" for minigpt itself."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = ["minigpt." + "." * node.level]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "minigpt":
                yield name.removeprefix("minigpt").removeprefix(".")


def source_of(name: str, known: dict[str, Path]) -> str | None:
    """The module that an imported name comes from."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in known:
            return ".".join(parts[:end])
    return None


def order_complaints(package: Path) -> list[str]:
    """Files outside the reading order, and imports from a later file."""
    order = list(READING_ORDER)
    known = modules(package)
    complaints = [
        f"{name}: expected in READING_ORDER, is not" for name in known.keys() - order
    ]
    if package == ROOT / "minigpt":
        gone = READING_ORDER.keys() - known.keys()
        complaints += [f"{name}: in READING_ORDER, is no file" for name in gone]
    for name, path in known.items():
        for imported in imports(path):
            source = source_of(imported, known)
            if source is None:
                complaints.append(
                    f"{name}: expected an import from a module, got {imported!r}"
                )
            elif name in order and source in order:
                if order.index(source) >= order.index(name):
                    complaints.append(f"{name}: imports {source}, which comes later")
    return complaints


def chapter_complaints(root: Path) -> list[str]:
    """Where contents, file names, titles and docstrings disagree about a number."""
    complaints = []
    files = {
        match[2]: int(match[1])
        for path in (root / "notebooks").glob("*.ipynb")
        if (match := re.fullmatch(r"(\d\d)_(\w+)", path.stem))
    }
    for name, path in modules(root / "minigpt").items():
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        first = docstring.split("\n")[0]
        match = re.match(r"Chapter (\d+)\. \S.*: .*\.$", first)
        said = int(match[1]) if match else None
        if said != READING_ORDER.get(name):
            complaints.append(
                f"{name}: expected a first line for chapter {READING_ORDER.get(name)}, "
                f"got {first!r}"
            )
        elif said is not None and files.get(name, said) != said:
            complaints.append(f"{name}: says {said}, its notebook {files[name]:02d}")
    listed = re.findall(
        r"file: notebooks/(\w+)", (root / "_toc.yml").read_text("utf-8")
    )
    if sorted(listed) != listed:
        complaints.append(f"_toc.yml: expected chapters in order, got {listed}")
    for path in (root / "notebooks").glob("*.ipynb"):
        # "# 3 · Attention", "# Chapter 3. Attention" or "# B · PyTorch in one sitting"
        title = re.search(r'"# (?:Chapter )?(\d+|[A-Z])\W+\w', path.read_text("utf-8"))
        if title is None or title[1].zfill(2 * title[1].isdigit()) != mark(path.stem):
            complaints.append(
                f"{path.name}: expected a title with its number: '# 3 · Attention'"
            )
        if path.stem not in listed:
            complaints.append(f"{path.name}: expected in _toc.yml, is not")
    return complaints


def test_imports_go_down_the_reading_order() -> None:
    assert order_complaints(ROOT / "minigpt") == []


def test_chapter_numbers_agree() -> None:
    assert chapter_complaints(ROOT) == []


def loaded_by(names: list[str]) -> set[str]:
    """Heavy packages that a fresh process holds after these imports."""
    imported = "\n".join(f"import {name}" for name in names)
    code = f"import sys\n{imported}\nprint(*[m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_the_package_or_its_command_loads_nothing_heavy() -> None:
    assert loaded_by(["minigpt", "minigpt.cli"]) == set()


def test_only_drawing_and_sharding_are_loaded_by_importing_every_module() -> None:
    every = [f"minigpt.{name}" for name in modules(ROOT / "minigpt")]
    assert loaded_by(every) <= {"matplotlib", "torch.distributed.tensor"}


def test_a_heavy_import_is_red() -> None:
    assert loaded_by(["matplotlib.colors"]) == {"matplotlib"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A project of two modules and one chapter, without fault."""
    for folder in ("minigpt", "notebooks"):
        (tmp_path / folder).mkdir()
    for name, chapter in (("attention", 3), ("model", 4)):
        text = f'"""Chapter {chapter}. Title: one line."""\n'
        (tmp_path / "minigpt" / f"{name}.py").write_text(text)
    title = '{"source": ["# Chapter 3. Attention"]}'
    (tmp_path / "notebooks" / "03_attention.ipynb").write_text(title)
    (tmp_path / "_toc.yml").write_text("- file: notebooks/03_attention\n")
    return tmp_path


def test_a_project_without_fault_has_no_complaint(package: Path) -> None:
    assert order_complaints(package / "minigpt") == []
    assert chapter_complaints(package) == []


@pytest.mark.parametrize(
    "line",
    [
        "from minigpt.model import GPT",
        "import minigpt.model",
        "from minigpt import GPT",
        "from . import model",
        "def f():\n    from minigpt.model import GPT",
    ],
)
def test_an_upward_import_is_red(package: Path, line: str) -> None:
    (package / "minigpt" / "attention.py").write_text(line)
    assert len(order_complaints(package / "minigpt")) == 1


def test_a_file_outside_the_order_is_red(package: Path) -> None:
    (package / "minigpt" / "surprise.py").write_text("")
    assert "READING_ORDER" in order_complaints(package / "minigpt")[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("minigpt/attention.py", '"""Chapter 4. Attention: a line."""'),
        ("minigpt/attention.py", '"""Attention."""'),
        ("notebooks/03_attention.ipynb", '{"source": ["# Chapter 4. Attention"]}'),
        ("notebooks/05_new.ipynb", '{"source": ["# Chapter 5. New"]}'),
        ("notebooks/appendix_c_article.ipynb", '{"source": ["# C · The article"]}'),
        ("_toc.yml", "file: notebooks/04_model\nfile: notebooks/03_attention"),
    ],
)
def test_a_chapter_number_that_disagrees_is_red(
    package: Path, path: str, text: str
) -> None:
    (package / path).write_text(text)
    assert len(chapter_complaints(package)) == 1


def test_an_appendix_goes_by_its_letter(package: Path) -> None:
    path = package / "notebooks" / "appendix_b_pytorch.ipynb"
    with (package / "_toc.yml").open("a") as toc:
        toc.write("- file: notebooks/appendix_b_pytorch\n")
    path.write_text('{"source": ["# B · PyTorch in one sitting"]}')
    assert chapter_complaints(package) == []
    for title in ("# C · PyTorch in one sitting", "# PyTorch in one sitting"):
        path.write_text(f'{{"source": ["{title}"]}}')
        assert "title with its number" in chapter_complaints(package)[0]
