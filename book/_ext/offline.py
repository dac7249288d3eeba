"""The book reads without a network: MathJax comes along, the code runner stays away.

MathJax is one file of an installed wheel, which renders TeX to SVG. Jupyter Book also
loads Thebe, which runs code on a server of another host: its scripts are left out.
"""

import importlib.util
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset_file


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Copy tex-svg.js (2 MB) into the site; the wheel's other 22 MB stay behind."""
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if error is not None or package is None or package.origin is None:
        return
    script = Path(package.origin).parent / "static" / "mathjax" / "tex-svg.js"
    target = Path(app.outdir) / "_static" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    copy_asset_file(str(script), str(target / "tex-svg.js"))


def leave_out_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object
) -> None:
    """Drop Thebe's scripts and style from a page's lists."""
    for kind in ("script_files", "css_files"):
        files = context.get(kind, [])
        context[kind] = [
            file
            for file in files
            if "thebe" not in f"{file} {getattr(file, 'attributes', '')}".lower()
        ]


def setup(app: Sphinx) -> dict[str, bool]:
    app.config.mathjax_path = "mathjax/tex-svg.js"
    app.connect("html-page-context", leave_out_thebe, priority=900)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
