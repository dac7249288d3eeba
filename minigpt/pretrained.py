"""Chapter 7. Pretrained models: a model and its tokenizer, by folder or by name.

A folder that `minigpt train` or `save_pretrained` wrote loads today, and so does a
model that ships with the package, by its name. Other published weights (GPT-1, GPT-2 in
all sizes) come with this chapter.
"""

import warnings
from pathlib import Path

from minigpt.checkpoint import Pretrained, load_folder
from minigpt.texts import ASSETS

PUBLISHED = ("openai-community/", "minigpt-")


def load_pretrained(source: str | Path) -> Pretrained:
    """Model (in eval mode) and tokenizer from a saved folder, or shipped by this name.

    A folder without a tokenizer gives None in its place, and a warning.

    Raises:
        FileNotFoundError: no such folder, or no model in it.
        NotImplementedError: a published name that is not shipped with the package.
        ValueError: a file that is truncated, foreign, or of another shape.
    """
    if not Path(source).is_dir() and (ASSETS / source / "config.json").is_file():
        source = ASSETS / source
    if str(source).startswith(PUBLISHED) and not Path(source).is_dir():
        raise NotImplementedError(
            f"loading {source!s} by name is not built yet (chapter 7): expected a "
            f"folder that `minigpt train` or save_pretrained wrote"
        )
    found = load_folder(source)
    if found.tokenizer is None:
        warnings.warn(
            f"no tokenizer beside the model in {source}: it reads and writes token "
            f"ids only",
            stacklevel=2,
        )
    return found
