"""Edit a notebook as text: a MyST copy out, and back in, keeping the cells' ids.

    python tools/notebook.py text 03 /tmp/03.md       the notebook as text
    python tools/notebook.py notebook /tmp/03.md 03   the text into the notebook
    python tools/notebook.py notebook /tmp/04.md notebooks/04_decoder.ipynb   a new one

The text is a throw-away copy and is not committed. A `.py` name gives the percent
format instead. An edited cell keeps its old output until `make execute NB=03`.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from jupytext.combine import combine_inputs_with_outputs

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.execute import find

FORMATS = {".md": "md:myst", ".py": "py:percent"}


def resolve(name: str) -> Path:
    """A path to a notebook, or the one that `name` finds, like 03 or B."""
    if name.endswith(".ipynb"):
        return Path(name)
    found = find([name])
    if len(found) != 1:
        raise SystemExit(f"expected the start of one notebook's name, got {name!r}")
    return found[0]


def to_text(notebook: Path, text: Path) -> None:
    """Write the cells of `notebook`, without outputs, to `text`."""
    content = jupytext.read(notebook)
    content.metadata = nbformat.from_dict(
        {"kernelspec": content.metadata.get("kernelspec", {})}
    )
    jupytext.write(content, text, fmt=FORMATS[text.suffix])


def to_notebook(text: Path, notebook: Path) -> None:
    """Write `text` to `notebook`; cells that stayed keep their id and their outputs."""
    content: Any = jupytext.read(text, fmt=FORMATS[text.suffix])
    if notebook.exists():
        old = nbformat.read(notebook, as_version=4)
        content = combine_inputs_with_outputs(content, old, fmt=FORMATS[text.suffix])
        # jupytext gives an edited text cell a new id; where no cell came or went, the
        # old ones hold.
        if len(content.cells) == len(old.cells):
            for new, kept in zip(content.cells, old.cells, strict=True):
                new.id = kept.get("id", new.id)
    content.metadata.pop("jupytext", None)
    content.nbformat, content.nbformat_minor = 4, 5
    nbformat.write(content, notebook)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("to", choices=["text", "notebook"])
    parser.add_argument("source")
    parser.add_argument("target")
    arguments = parser.parse_args()
    if arguments.to == "text":
        to_text(resolve(arguments.source), Path(arguments.target))
    else:
        to_notebook(Path(arguments.source), resolve(arguments.target))
    return 0


if __name__ == "__main__":
    sys.exit(main())
