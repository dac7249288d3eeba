"""The README is true: what it tells a reader to type works, without a network.

A code block after the comment `<!-- test: shell -->` is run line by line in an empty
folder; the one after `<!-- test: reuse -->` is run in an empty environment, outside the
checkout, in which nothing but the wheel is installed.
"""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCK = re.compile(r"<!-- test: (\w+) -->\n```\w+\n(.*?)^```", re.M | re.S)
BIN = Path(sys.executable).parent
LONGEST = {"README.md": 120, "CONTRIBUTING.md": 90}


def blocks(text: str, kind: str) -> list[str]:
    """The code blocks that a comment marks as `kind`."""
    return [code for name, code in BLOCK.findall(text) if name == kind]


def unknown_targets(text: str, makefile: str) -> list[str]:
    """`make x` in a text, where the Makefile has no x."""
    # Inside code only: "make sense" is no command.
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.S))
    named = set(re.findall(r"(?:^|[`\s])make ([a-z-]+)", code, re.M))
    lines = re.findall(r"^([a-z][a-z -]*):", makefile, re.M)
    stages = re.findall(r"^STAGES := (.*)", makefile, re.M)
    return sorted(named - set(" ".join(lines + stages).split()))


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder as a reader without a network would."""
    hidden = ("PYTHONPATH", "MINIGPT_DATA", "MINIGPT_SCALE")
    values = {name: v for name, v in os.environ.items() if name not in hidden}
    values |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    values["PATH"] = f"{BIN}{os.pathsep}{values['PATH']}"
    return subprocess.run(
        command, cwd=folder, env=values, capture_output=True, text=True
    )


def succeed(command: list[str], folder: Path) -> str:
    """The output of a command that must not fail."""
    done = run(command, folder)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", LONGEST)
def test_a_page_is_short_and_its_make_targets_exist(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert text.count("\n") <= LONGEST[name]
    assert unknown_targets(text, (ROOT / "Makefile").read_text("utf-8")) == []


def test_a_target_that_is_not_there_is_red() -> None:
    makefile = "STAGES := lint unit\nbook: x\n"
    assert unknown_targets("`make boko` makes sense, `make lint`", makefile) == ["boko"]
    assert unknown_targets("```\nmake book\nmake tset\n```", makefile) == ["tset"]


def test_the_pictures_and_files_of_the_readme_are_there() -> None:
    for path in re.findall(r"\]\((?!http|#)([^)#]+)", README):
        assert (ROOT / path).exists(), path


def test_marked_blocks_are_found() -> None:
    text = "<!-- test: shell -->\n```bash\na b\n```\n\n```bash\nc\n```\n"
    assert blocks(text, "shell") == ["a b\n"]
    assert blocks(README, "shell")
    assert len(blocks(README, "reuse")) == 1


def test_the_reuse_example_has_ten_lines() -> None:
    lines = [line for line in blocks(README, "reuse")[0].splitlines() if line.strip()]
    assert len(lines) <= 10


@pytest.mark.readme
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    for line in "".join(blocks(README, "shell")).splitlines():
        if command := line.partition("#")[0].strip():
            succeed(["bash", "-c", command], tmp_path)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone; its dependencies are this environment's."""
    folder = tmp_path_factory.mktemp("elsewhere")
    build = ["build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    succeed([sys.executable, "-m", *build], folder)
    wheel = next(folder.glob("minigpt_book-*.whl"))
    succeed([sys.executable, "-m", "venv", str(folder / "env")], folder)
    python = str(folder / "env" / "bin" / "python")
    install = ["install", "-q", "--no-deps", "--no-index", str(wheel)]
    succeed([python, "-m", "pip", *install], folder)
    # Lines of a .pth add folders, and leave the .pth files in them unread: the checkout
    # that this environment imports stays out of sight.
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(succeed([python, "-c", code], folder).strip())
    theirs = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(theirs)) + "\n")
    return folder


@pytest.mark.readme
def test_the_wheel_is_what_is_imported_and_it_is_typed(elsewhere: Path) -> None:
    python = str(elsewhere / "env" / "bin" / "python")
    where = succeed(
        [python, "-c", "import minigpt; print(minigpt.__file__)"], elsewhere
    )
    package = Path(where.strip()).parent
    assert package.is_relative_to(elsewhere)
    assert (package / "py.typed").exists()
    assets = sorted(p.name for p in (ROOT / "minigpt" / "assets").iterdir())
    assert sorted(p.name for p in (package / "assets").iterdir()) == assets


@pytest.mark.readme
def test_the_reuse_example_runs_from_the_wheel(elsewhere: Path) -> None:
    script = elsewhere / "example.py"
    script.write_text(blocks(README, "reuse")[0], "utf-8")
    python = str(elsewhere / "env" / "bin" / "python")
    assert succeed([python, str(script)], elsewhere).strip()


@pytest.mark.readme
def test_the_command_is_installed_with_the_wheel(elsewhere: Path) -> None:
    command = str(elsewhere / "env" / "bin" / "minigpt")
    assert "train" in succeed([command, "--help"], elsewhere)
