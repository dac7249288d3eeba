"""Run the stages of `make test`, each with its time, and print a table at the end.

    python tools/stages.py lint unit      these two, in this order

Every stage runs, whatever happened to those before it. This file is the one list of
what a stage is; `make lint` and the others call it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PYTHON = sys.executable
PYTEST = (PYTHON, "-m", "pytest", "-q")
# nbval takes four seconds to import, in each process.
TESTS = (*PYTEST, "-p", "no:nbval")
# torch.compile cannot trace functions whose shapes are checked, and what is slow is
# slower by each check.
UNCHECKED = ("-o", "addopts=-ra --strict-markers --strict-config")
# Two files at a time, whose tests share what they have set up; or two tests at a time.
TWO = ("-n", "2", "--dist", "loadfile")
TWO_TESTS = ("-n", "2", "--dist", "load")
NBVAL = (
    *PYTEST,
    "notebooks",
    "--nbval",
    "--nbval-current-env",
    "--nbval-sanitize-with=tests/nbval_sanitize.cfg",
    # A notebook is one kernel: its cells must stay together on one worker.
    *("-n", "2", "--dist", "loadscope"),
)

Command = tuple[str, ...]


def marked(mark: str, but: str = "data or gpu") -> Command:
    """What runs the tests of one mark: importing the other files takes most of it."""
    files = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").glob("test_*.py"))
        if f"mark.{mark}" in path.read_text("utf-8")
    ]
    return (*TESTS, *files, "-m", f"{mark} and not ({but})")


STAGES: dict[str, list[Command]] = {
    "lint": [
        (str(BIN / "ruff"), "check", "."),
        (str(BIN / "ruff"), "format", "--check", "."),
        (PYTHON, "tools/execute.py", "--check"),
    ],
    "types": [(str(BIN / "mypy"),)],
    "unit": [(*TESTS, *TWO, "tests", "minigpt", "--doctest-modules")],
    "slow": [(*marked("slow"), *UNCHECKED, *TWO_TESTS)],
    "compile": [(*marked("compile"), *UNCHECKED, *TWO)],
    "dist": [marked("dist")],
    "notebooks": [NBVAL],
    "book": [
        (str(BIN / "jupyter-book"), "build", ".", "--all", "-n", "-W", "--keep-going")
    ],
    "site": [(*marked("site"), *TWO_TESTS)],
    "readme": [marked("readme")],
    # Not part of `make test`:
    "portable": [NBVAL],
    "test-data": [(*marked("data", but="gpu"), *UNCHECKED, *TWO)],
}
# Stages that may have no test yet; anywhere else "no test ran" is a failure.
MAY_BE_EMPTY = ("slow", "compile", "dist", "test-data")
NO_TESTS = 5  # pytest's exit code

# Another machine, as far as one machine can show it: no AVX512, and two threads.
OTHER_MACHINE = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OMP_NUM_THREADS": "2",
    # Two notebooks at a time make four threads: on two cores they must not spin.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def environment(stage: str) -> dict[str, str]:
    """One thread, the small scale, no hub; real data only where asked for."""
    values = dict(os.environ, OMP_NUM_THREADS="1")
    values.pop("MINIGPT_SCALE", None)
    if stage == "test-data":
        return values
    values.pop("MINIGPT_DATA", None)
    values |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return values | (OTHER_MACHINE if stage == "portable" else {})


def run(stage: str) -> bool:
    """Run one stage's commands, all of them; True where all passed."""
    print(f"\n=== {stage}", flush=True)
    passed = True
    for command in STAGES[stage]:
        code = subprocess.run(command, cwd=ROOT, env=environment(stage)).returncode
        if code == NO_TESTS and stage in MAY_BE_EMPTY:
            print(f"no {stage} test yet, and tools/stages.py allows that", flush=True)
        elif code:
            passed = False
    return passed


def table(results: Mapping[str, tuple[bool, float]]) -> str:
    """The results, a stage a line, and the counts in the last."""
    lines = [
        f"{stage:<10} {'passed' if passed else 'FAILED':<7} {seconds:7.1f} s"
        for stage, (passed, seconds) in results.items()
    ]
    failed = sum(not passed for passed, _ in results.values())
    total = sum(seconds for _, seconds in results.values())
    lines.append(f"{'all':<10} {'':<7} {total:7.1f} s")
    lines.append(f"stages: {len(results) - failed} passed, {failed} failed")
    return "\n".join(lines)


def main(stages: Sequence[str]) -> int:
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        print(f"expected stages among {', '.join(STAGES)}, got {' '.join(stages)!r}")
        return 2
    if "test-data" in stages and not os.environ.get("MINIGPT_DATA"):
        print("expected the folder of the real data in MINIGPT_DATA, got nothing")
        return 2
    results: dict[str, tuple[bool, float]] = {}
    for stage in stages:
        start = time.monotonic()
        passed = run(stage)
        results[stage] = passed, time.monotonic() - start
    print("\n" + table(results))
    return not all(passed for passed, _ in results.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
