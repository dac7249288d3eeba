"""Links to the repository's public address, where pyproject.toml names one.

The address stands in one place, `[project.urls] Repository`. Until it does, the book
has no link to a repository, an issue tracker or an edit page.
"""

import tomllib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config


def add_links(app: Sphinx, config: Config) -> None:
    project = tomllib.loads(Path(app.srcdir, "pyproject.toml").read_text("utf-8"))
    address = project["project"].get("urls", {}).get("Repository", "")
    config.html_theme_options |= {
        "repository_url": address,
        "use_repository_button": bool(address),
        "use_issues_button": bool(address),
    }


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", add_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
