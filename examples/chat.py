r"""Talk with a saved model in the terminal: `python examples/chat.py`.

    python examples/chat.py --model run/best --turn 'ALL:\n{}\n\nKING:\n' --stop '\n\n'

A model that was only pretrained is no assistant: nobody taught it to answer. It
continues a text. So what you type is set as a line of dialogue, as in a novel, and what
the model writes up to the next quotation mark is taken for the reply. Ctrl-C cuts a
reply short, /new forgets what was said, and /quit or Ctrl-D leaves.
"""

import argparse

import torch

from minigpt import GPT, Temperature, TopP, load_pretrained, stream
from minigpt.generate import Sampler
from minigpt.tokenizer import Tokenizer


def recent(text: str, tokenizer: Tokenizer, room: int) -> str:
    """The end of a text that is too long for the model, from a line break on."""
    while len(tokenizer.encode(text)) > room:
        text = text.partition("\n")[2] or text[len(text) // 2 + 1 :]
    return text


def reply(
    model: GPT, tokenizer: Tokenizer, text: str, stop: str, sampler: Sampler
) -> str:
    """Print what the model puts after the text, as it is drawn; Ctrl-C ends it."""
    half, said = model.config.context_length // 2, ""
    seen = recent(text, tokenizer, half)
    pieces = stream(
        model, tokenizer, seen, max_new_tokens=half, sampler=sampler, stop=[stop]
    )
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
            said += piece
    except KeyboardInterrupt:
        pass
    print("\n")
    return said


def heard() -> str:
    """The next line that is typed; the end of the input is /quit."""
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        return "/quit"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="minigpt-base", help="a name or a folder")
    parser.add_argument("--opening", default="They began to talk.", help="the scene")
    parser.add_argument("--turn", default=r'\n\n"{}"\n\n"', help="how your line is set")
    parser.add_argument("--stop", default='"', help="what ends a reply")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=torch.seed(), help="of the draws")
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    try:
        model, tokenizer = load_pretrained(asked.model)
    except (OSError, ValueError, NotImplementedError) as error:
        parser.error(str(error))
    if tokenizer is None:
        parser.error(f"expected a tokenizer in {asked.model}, found none")
    sampler = Temperature(asked.temperature) | TopP(0.95)
    opening, turn, stop = (
        text.replace("\\n", "\n") for text in (asked.opening, asked.turn, asked.stop)
    )
    print("It continues a dialogue and means nothing by it. /new, /quit")
    text = opening
    while (line := heard()) != "/quit":
        if line == "/new":
            text = opening
        elif line:
            said = text + turn.format(line)
            try:
                text = said + reply(model, tokenizer, said, stop, sampler) + stop
            except ValueError as error:  # such as a character that it never saw
                print(error)


if __name__ == "__main__":
    main()
