"""Chapter 0. Flags: the fields of a dataclass as options of a command.

The help of a flag is the text under "Attributes" in the class's docstring, its default
is the field's, and a value that is refused ends with one line and exit code 2.
"""

import argparse
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def attribute_help(cls: type) -> dict[str, str]:
    """The lines under "Attributes:" in a class's docstring, by field.

    >>> from minigpt.run import TrainConfig
    >>> attribute_help(TrainConfig)["steps"]
    'optimiser steps in all'
    """
    text = inspect.getdoc(cls) or ""
    section = text.partition("Attributes:\n")[2].partition("\n\n")[0]
    pairs = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, flags=re.M)
    return {name: " ".join(said.split()).rstrip(".") for name, said in pairs}


def add_fields(
    parser: argparse._ActionsContainer,
    cls: type,
    *,
    without: Sequence[str] = (),
    changed: dict[str, Any] | None = None,
) -> None:
    """One flag for each field of a dataclass, with its type, default and help."""
    said, hints = attribute_help(cls), typing.get_type_hints(cls)
    for one in dataclasses.fields(cls):
        if one.name in without:
            continue
        default = (changed or {}).get(one.name, one.default)
        kind, choices = _kind(hints[one.name])
        shown = "" if default is None else f" (default: {default})"
        options: dict[str, Any] = {
            "help": f"{said[one.name]}{shown}".replace("%", "%%"),
            "default": argparse.SUPPRESS,
            "dest": one.name,
        }
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": kind, "choices": choices}
            options["metavar"] = None if choices else kind.__name__.upper()
        parser.add_argument(f"--{one.name.replace('_', '-')}", **options)


def _kind(hint: Any) -> tuple[type, list[str] | None]:
    """The type that a flag's text is turned into, and its choices if they are few."""
    if typing.get_origin(hint) is typing.Literal:
        return str, list(typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(t for t in typing.get_args(hint) if t is not type(None))
    return hint, None


def given(arguments: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The fields of a dataclass that were given as flags."""
    fields = {one.name for one in dataclasses.fields(cls)}
    return {k: v for k, v in vars(arguments).items() if k in fields}
