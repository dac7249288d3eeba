"""One seed and one thread for every test, and one browser for those that look."""

import os
from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Of all files together: a process can drive one only."""
    from tests.test_site import find_browser

    path = find_browser()
    if path is None and os.environ.get("CI") == "true":
        pytest.fail("expected a browser in CI, got none: install chromium")
    if path is None:
        pytest.skip("no browser found: only the static checks of the site have run")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"] if root else []
        )
        yield launched
        launched.close()
