"""minigpt: the GPT series, built. The package reads front to back like the book."""

__version__ = "0.1.0"
