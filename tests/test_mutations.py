"""The table of planted faults is true to the package; planting itself is in `tools`."""

import shutil
from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, Mutation
from tools import mutants

ROOT = Path(__file__).parents[1]


def test_there_are_enough_faults_with_names_of_their_own() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 20


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_faults_line_stands_once_in_the_package(
    tmp_path: Path, mutation: Mutation
) -> None:
    (tmp_path / mutation.file).parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / "minigpt" / mutation.file, tmp_path / mutation.file)
    mutants.plant(mutation, tmp_path)
    planted = (tmp_path / mutation.file).read_text("utf-8")
    compile(planted, mutation.file, "exec")
    for name in mutation.tests.split():
        assert (ROOT / "tests" / f"test_{name}.py").exists()


def test_a_fault_whose_line_is_gone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("x = 1\n")
    gone = Mutation("gone", "model.py", "y = 1", "y = 2", "model")
    with pytest.raises(ValueError, match=r"once in model\.py, got 0 times"):
        mutants.plant(gone, tmp_path)


@pytest.mark.slow
def test_a_fault_is_red_in_the_copy_and_a_harmless_change_survives() -> None:
    """The copy is what is tested, and "red" is a failed test, nothing else."""
    fault = Mutation(
        "refuses-nothing",
        "attention.py",
        "if d_model % n_head:",
        "if d_model < 0:",
        "attention",
    )
    harmless = Mutation(
        "harmless", "attention.py", "if d_model % n_head:", "if d_model % n_head > 0:",
        "attention",
    )  # fmt: skip
    assert mutants.attempt(fault).caught
    assert not mutants.attempt(harmless).caught
