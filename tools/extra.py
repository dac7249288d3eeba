"""Print the requirements of one extra of pyproject.toml, one a line.

    python tools/extra.py book

`pip install .[book]` would bring the package's own requirements too, torch among them.
"""

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def requirements(extra: str) -> list[str]:
    """The requirement lines of `extra`, as they stand."""
    extras = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    return list(extras["optional-dependencies"][extra])


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
