"""minigpt: the GPT series, built. The package reads front to back like the book.

These names are the public face. They live in the modules named after their chapters;
`generate`, the function, is `minigpt.generate.generate`.
"""

from minigpt import stories
from minigpt.checkpoint import Pretrained, save_pretrained
from minigpt.data import encode_text
from minigpt.generate import beam_search, complete, generate_batch, stream
from minigpt.labelled import Example, Leak, Span, Task
from minigpt.model import GPT, GPTConfig
from minigpt.packed import pack
from minigpt.pretrained import load_pretrained
from minigpt.regret import Regret, xray
from minigpt.run import StepRecord, TrainConfig
from minigpt.sampling import Greedy, RepetitionPenalty, Temperature, TopK, TopP
from minigpt.subword import BPETokenizer
from minigpt.tasks import load_task
from minigpt.texts import Text, load_text
from minigpt.tokenizer import CharTokenizer, WordTokenizer, load_tokenizer
from minigpt.train import (
    Diverged,
    fit,
    next_token_loss,
    training_steps,
    whole_split_loss,
)

__version__ = "0.1.0"

__all__ = [
    "GPT",
    "BPETokenizer",
    "CharTokenizer",
    "Diverged",
    "Example",
    "GPTConfig",
    "Greedy",
    "Leak",
    "Pretrained",
    "Regret",
    "RepetitionPenalty",
    "Span",
    "StepRecord",
    "Task",
    "Temperature",
    "Text",
    "TopK",
    "TopP",
    "TrainConfig",
    "WordTokenizer",
    "beam_search",
    "complete",
    "encode_text",
    "fit",
    "generate_batch",
    "load_pretrained",
    "load_task",
    "load_text",
    "load_tokenizer",
    "next_token_loss",
    "pack",
    "save_pretrained",
    "stories",
    "stream",
    "training_steps",
    "whole_split_loss",
    "xray",
]
