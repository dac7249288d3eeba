"""Execute notebooks in place, in a fresh kernel, and leave no noise behind.

    python tools/execute.py             every notebook (`make execute`)
    python tools/execute.py 03 05       the notebooks whose names start so
    python tools/execute.py B           appendix B
    python tools/execute.py --check     run nothing; fail where a notebook has noise

The kernel starts in notebooks/, as a reader's and as the test's does, at the small
scale on one thread. Running twice gives the same bytes: no times, counts from 1,
fixed metadata. Every notebook is run, not only the edited ones, because its outputs
depend on the package as well. A notebook that fails is left as it was.
"""

import argparse
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CELL_METADATA = {"tags", "mystnb"}
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}
SLOW_CELL = 2.0  # seconds from which a cell is named
SLOW_NOTEBOOK = 60.0  # the budget of one notebook


def mark(stem: str) -> str | None:
    """What a notebook goes by: 03 of 03_attention, B of appendix_b_pytorch."""
    found = re.match(r"(\d\d)_|appendix_([a-z])_", stem)
    return (found[1] or found[2].upper()) if found else None


def find(names: list[str], folder: Path = NOTEBOOKS) -> list[Path]:
    """Notebooks that go by one of `names` or whose file names start so; else all."""
    every = sorted(folder.glob("*.ipynb"))
    chosen = [
        path
        for path in every
        if not names or path.name.startswith(tuple(names)) or mark(path.stem) in names
    ]
    if names and not chosen:
        raise SystemExit(f"expected names like 03 or B, got {names}: none goes by that")
    return chosen


def merge_streams(outputs: list[Any]) -> list[Any]:
    """What was printed in several pieces, as one piece: the split is chance."""
    merged: list[Any] = []
    for output in outputs:
        last = merged[-1] if merged else None
        both = last is not None and output.output_type == last.output_type == "stream"
        if last is not None and both and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def slim(drawing: str) -> str:
    """An SVG without comments and metadata, its coordinates to a hundredth of a point.

    Numbers below 1 are factors that scale whole glyphs, and stay as they are.
    """
    drawing = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", drawing, flags=re.S)
    drawing = re.sub(r"\b([1-9]\d*\.\d\d)\d+", r"\1", drawing)
    return re.sub(r">\s+<", "><", drawing)


def normal_form(notebook: Any) -> str:
    """The notebook as text, with nothing in it that another run would change."""
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for cell in notebook.cells:
        kept = {k: v for k, v in cell.metadata.items() if k in CELL_METADATA}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type != "code":
            cell.pop("outputs", None)
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = merge_streams(cell.outputs)
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            if "image/svg+xml" in output.get("data", {}):
                # A drawing on one line: JSON would wrap each of thousands anew.
                lines = output.data["image/svg+xml"].split("\n")
                output.data["image/svg+xml"] = " ".join(map(str.strip, lines)).strip()
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    if len(set(ids)) < len(ids):
        raise ValueError("expected a different id for every cell, got one twice")
    return nbformat.writes(notebook) + "\n"


def run(notebook: Any, folder: Path) -> list[tuple[float, str]]:
    """Execute in place; the slow cells, as seconds and first line."""
    began: dict[int, float] = {}
    slow: list[tuple[float, str]] = []

    def start(cell: Any, cell_index: int) -> None:
        began[cell_index] = time.monotonic()

    def end(cell: Any, cell_index: int, **_: Any) -> None:
        seconds = time.monotonic() - began.get(cell_index, time.monotonic())
        if cell.cell_type == "code" and seconds >= SLOW_CELL:
            slow.append((seconds, cell.source.strip().split("\n")[0]))

    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=start,
        on_cell_executed=end,
    )
    client.execute()
    return slow


def noise(path: Path) -> list[str]:
    """What `--check` says about one notebook: nothing, if its form is normal."""
    text = path.read_text(encoding="utf-8")
    try:
        clean = normal_form(nbformat.reads(text, as_version=4))
    except (ValueError, nbformat.ValidationError) as error:
        return [f"{path.name}: {str(error).splitlines()[0]}"]
    if clean == text:
        return []
    line = next(
        (
            n
            for n, (new, old) in enumerate(
                zip(clean.split("\n"), text.split("\n"), strict=False), 1
            )
            if new != old
        ),
        1,
    )
    return [f"{path.name}: expected what `make execute` writes, differs at line {line}"]


def execute(path: Path) -> bool:
    """Run one notebook and write it; False where a cell failed."""
    notebook = nbformat.read(path, as_version=4)
    start = time.monotonic()
    try:
        slow = run(notebook, path.parent)
    except CellExecutionError as error:
        print(f"FAILED  {path.name}: left as it was\n{error}", file=sys.stderr)
        return False
    seconds = time.monotonic() - start
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/svg+xml" in output.get("data", {}):
                output.data["image/svg+xml"] = slim(output.data["image/svg+xml"])
    text = normal_form(notebook)
    changed = text != path.read_text(encoding="utf-8")
    if changed:
        path.write_text(text, encoding="utf-8")
    state = "changed" if changed else "same   "
    over = f"  over the budget of {SLOW_NOTEBOOK:.0f} s" * (seconds > SLOW_NOTEBOOK)
    print(f"{state} {seconds:6.1f} s  {path.name}{over}", flush=True)
    for cell_seconds, first in slow:
        print(f"        {cell_seconds:6.1f} s    {first[:66]}", flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="run nothing, find noise")
    parser.add_argument("names", nargs="*", help="say 03, or B")
    arguments = parser.parse_args()
    paths = find(arguments.names)
    if arguments.check:
        complaints = [line for path in paths for line in noise(path)]
        print("\n".join(complaints) or f"{len(paths)} notebooks without noise")
        return bool(complaints)
    os.environ.pop("MINIGPT_SCALE", None)
    os.environ["OMP_NUM_THREADS"] = "1"
    return not all([execute(path) for path in paths])


if __name__ == "__main__":
    sys.exit(main())
