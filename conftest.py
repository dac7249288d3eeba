"""For every test run: how notebooks are compared (drawings are not, byte for byte)."""

from typing import Any

pytest_plugins = ["tools.compared"]

# Pictures and rendered tables change with the library that draws them; their data is
# what a cell asserts.
DRAWINGS = ("image/svg+xml", "text/html")


def pytest_collectstart(collector: Any) -> None:
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += DRAWINGS
