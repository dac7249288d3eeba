"""Plant each fault of tests/mutations.py in a copy and see which tests turn red.

    python tools/mutants.py                every fault (`make mutants`)
    python tools/mutants.py no-scale       the faults whose names start so
    python tools/mutants.py --changed      faults in files that git says have changed

The unharmed copy must pass the same tests first. A fault that they do not notice has
survived: the run fails and lists it. `--jobs 2` tries two faults at a time.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.mutations import MUTATIONS, Mutation  # noqa: E402
from tools.execute import find, mark  # noqa: E402
from tools.stages import NBVAL, TESTS, TWO  # noqa: E402

COPIED = ("minigpt", "tests", "tools", "notebooks", "examples", "results", "book")
FILES = ("conftest.py", "pyproject.toml", "README.md", "_toc.yml")
LONGEST = 600  # seconds for one fault
ALL = 3600  # and for the tests of all faults, two files at a time
FAILED = 1  # pytest's exit code for failed tests; others mean that none ran


class Outcome(NamedTuple):
    """What came of one fault: its name, and a verdict on tests and on the chapter."""

    name: str
    tests: str
    chapter: str
    seconds: float

    @property
    def caught(self) -> bool:
        """Whether a test or the chapter turned red."""
        return "red" in (self.tests, self.chapter) and "broken" not in (
            self.tests,
            self.chapter,
        )


def plant(mutation: Mutation, package: Path) -> None:
    """Write the fault into a package.

    Raises:
        ValueError: the line is not there, or more than once.
    """
    path = package / mutation.file
    text = path.read_text("utf-8")
    if text.count(mutation.old) != 1:
        raise ValueError(
            f"{mutation.name}: expected its line once in {mutation.file}, got "
            f"{text.count(mutation.old)} times: update tests/mutations.py"
        )
    path.write_text(text.replace(mutation.old, mutation.new), "utf-8")


def copy(folder: Path) -> Path:
    """A copy of what the tests need."""
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    return folder


def verdict(command: Sequence[str], folder: Path, longest: int = LONGEST) -> str:
    """Run tests in a copy: "red" if one failed, "green" if none, else "broken"."""
    # The copy comes before the installed package, also in notebooks' kernels.
    values = dict(os.environ, PYTHONPATH=str(folder), OMP_NUM_THREADS="1")
    values["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=values,
            capture_output=True,
            text=True,
            timeout=longest,
        )
    except subprocess.TimeoutExpired:
        return "red"
    if done.returncode not in (0, FAILED):
        print(done.stdout[-2000:] + done.stderr[-2000:], file=sys.stderr)
    return {0: "green", FAILED: "red"}.get(done.returncode, "broken")


def unit_command(names: Sequence[str]) -> list[str]:
    """pytest on these test files, up to the first failure."""
    paths = [f"tests/test_{name}.py" for name in names]
    return [*TESTS, "-x", "-p", "no:cacheprovider", *paths]


def chapter_command(chapter: str, folder: Path) -> list[str] | None:
    """nbval on one notebook, in one process; None where it is not there."""
    found = [p for p in find([], folder / "notebooks") if mark(p.stem) == chapter]
    if not found:
        return None
    command = [part for part in NBVAL if part not in ("-n", "2", "--dist", "loadscope")]
    command[command.index("notebooks")] = str(found[0].relative_to(folder))
    return [*command, "-x", "-p", "no:cacheprovider"]


def attempt(mutation: Mutation) -> Outcome:
    """Plant one fault and run what must notice it."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = copy(Path(name))
        plant(mutation, folder / "minigpt")
        tests = verdict(unit_command(mutation.tests.split()), folder)
        command = chapter_command(mutation.chapter, folder)
        chapter = "-" if command is None else verdict(command, folder)
    return Outcome(mutation.name, tests, chapter, time.monotonic() - start)


def unharmed(mutations: Sequence[Mutation]) -> bool:
    """Whether a copy without a fault passes the tests of all these faults."""
    names = sorted({name for m in mutations for name in m.tests.split()})
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        command = [*unit_command(names), *TWO]
        return verdict(command, copy(Path(name)), ALL) == "green"


def changed() -> set[str]:
    """Files of the package that differ from the last commit."""
    command = ["git", "status", "--porcelain", "--untracked-files=all", "minigpt"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    return {line[3:].removeprefix("minigpt/") for line in lines.splitlines()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="how the faults' names start")
    parser.add_argument("--changed", action="store_true", help="only in changed files")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time")
    arguments = parser.parse_args()
    files = changed() if arguments.changed else {m.file for m in MUTATIONS}
    chosen = [
        m
        for m in MUTATIONS
        if m.file in files
        and (not arguments.names or m.name.startswith(tuple(arguments.names)))
    ]
    if not chosen:
        print("no fault chosen")
        return 2
    if not unharmed(chosen):
        print("expected the tests to pass without a fault, they do not: run them first")
        return 2
    caught = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for outcome in pool.map(attempt, chosen):
            caught += outcome.caught
            state = "red" if outcome.caught else "SURVIVED"
            found = f"tests {outcome.tests}, chapter {outcome.chapter}"
            line = f"{state:<9} {outcome.seconds:6.1f} s  {outcome.name:<34} {found}"
            print(line, flush=True)
    print(f"faults: {caught} red, {len(chosen) - caught} survived")
    return caught < len(chosen)


if __name__ == "__main__":
    sys.exit(main())
