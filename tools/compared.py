"""Count the notebook outputs that nbval really compares, and hold a floor under them.

A test of notebooks goes blind quietly: one tag or one skipped kind of output too many,
and cells pass unseen. So each notebook has a floor here, the one place, and a run of
the notebook that compares fewer outputs fails. Raise a floor when a chapter grows.

This is a pytest plugin, loaded by conftest.py.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

# Compared outputs at least, by notebook.
FLOORS = {
    "00_one_page": 30,
    "01_ngram": 33,
    "02_tokenizer": 38,
    "03_attention": 30,
    "04_model": 32,
    "05_train": 32,
    "06_generate": 36,
    "07_pretrained": 30,
    "08_one_gpu": 30,
    "09_many": 34,
    "10_finetune": 26,
    "11_tasks": 25,
    "appendix_b_pytorch": 33,
    "appendix_c_article": 20,
}

COMPARED: Counter[str] = Counter()


def comparable(outputs: list[Any], skipped: tuple[str, ...]) -> int:
    """How many values nbval compares in the outputs of one cell."""
    count = 0
    for output in outputs:
        if "text" in output:
            count += 1
        count += sum(kind not in skipped for kind in output.get("data", {}))
    return count


def below_floor(compared: Mapping[str, int], floors: Mapping[str, int]) -> list[str]:
    """Complaints about notebooks that ran: too few outputs compared, or no floor."""
    complaints = []
    for name, count in sorted(compared.items()):
        if name not in floors:
            complaints.append(
                f"{name}: expected a floor in tools/compared.py, got none: "
                f"write one just under the {count} outputs compared now"
            )
        elif count < floors[name]:
            complaints.append(
                f"{name}: expected at least {floors[name]} compared outputs, got "
                f"{count}: an output is ignored, skipped or gone"
            )
    return complaints


def pytest_itemcollected(item: Any) -> None:
    """Let each notebook cell record what is compared, when it is."""
    original = getattr(item, "compare_outputs", None)
    if original is None:
        return
    item.user_properties.append(("notebook", item.path.stem))

    def counted(test: Any, reference: Any, **options: Any) -> bool:
        number = comparable(reference, item.parent.skip_compare)
        item.user_properties.append(("compared", number))
        return bool(original(test, reference, **options))

    item.compare_outputs = counted


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    properties = dict(report.user_properties)
    if report.when == "call" and "notebook" in properties:
        COMPARED[str(properties["notebook"])] += int(str(properties.get("compared", 0)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    whole = not session.config.getoption("keyword") and "::" not in "".join(
        session.config.args
    )
    main_process = not hasattr(session.config, "workerinput")
    if main_process and whole and below_floor(COMPARED, FLOORS):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not COMPARED:
        return
    total = sum(COMPARED.values())
    each = ", ".join(f"{Path(n).stem} {c}" for n, c in sorted(COMPARED.items()))
    terminalreporter.write_line(f"outputs compared: {total} ({each})")
    for line in below_floor(COMPARED, FLOORS):
        terminalreporter.write_line(f"FLOOR {line}", red=True)
