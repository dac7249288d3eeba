"""Stand-ins for heavy imports, so that the API reference is read without torch.

Everything a stand-in module is asked for is a class of that name: it can be a base
class, an annotation (also in `X | None` and `Float[Tensor, "B T C"]`), a default or a
decorator. Sphinx's own mocks are no classes, which jaxtyping and `|` refuse.
"""

import sys
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx

HEAVY = (
    "datasets huggingface_hub matplotlib matplotlib_inline numpy regex safetensors "
    "torch tqdm transformers"
).split()


class StandIn(type):
    """The type of all stand-ins: classes that have any attribute and any item."""

    def __getattr__(cls, name: str) -> "StandIn":
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(name, f"{cls.__module__}.{cls.__name__}")

    def __getitem__(cls, item: object) -> "StandIn":
        return cls

    def __iter__(cls) -> Any:
        return iter(())

    def __repr__(cls) -> str:
        return f"{cls.__module__}.{cls.__name__}"


class Anything:
    """What calling a stand-in gives: any attribute; as a decorator, no effect."""

    def __init__(self, *arguments: object, **options: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __call__(self, *arguments: Any, **options: object) -> Any:
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else self

    def __iter__(self) -> Any:
        return iter(())


def stand_in(name: str, module: str) -> StandIn:
    """A class called `name` that claims to come from `module`."""
    return StandIn(name, (Anything,), {"__module__": module})


class HeavyModule(ModuleType):
    """A module in which every name exists, and stays the same class."""

    __path__: Sequence[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = stand_in(name, self.__name__)
        setattr(self, name, value)
        return value


class Finder(MetaPathFinder, Loader):
    """Answers every import of a heavy package and of anything below it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name.split(".")[0] not in HEAVY:
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return HeavyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


@contextmanager
def standing_in() -> Iterable[None]:  # type: ignore[misc]
    """Imports below this line take stand-ins, also where the real package is there."""
    finder = Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def setup(app: Sphinx) -> dict[str, bool]:
    sys.meta_path.insert(0, Finder())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
