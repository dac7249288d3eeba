"""Write down what counting and minigpt-stories pay for the stories of "Try it".

    OMP_NUM_THREADS=1 python benchmarks/tryit.py

The page computes what the GPT pays in the reader's browser; what counting pays needs
the counts of 64,000 stories, which no page can carry, so it is recorded here, word by
word. The GPT is recorded too, for the page that a browser without scripts shows.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

from minigpt import load_pretrained, stories
from minigpt.ngram import NGram
from minigpt.regret import xray

ROOT = Path(__file__).parents[1]
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/tryit.py"

N_TRAIN = 64_000  # the stories that minigpt-stories has read, seeds 0 to 63,999
ORDERS = (1, 3, 7)
# To guess, and to look into; each from a seed that nothing in the book has trained on.
GAMES = (3_000_205, 3_000_071, 3_000_233)
SHOWN = (3_000_043, 3_000_049)
FIRST_PAGE = (  # the story that opens the book, with an ending
    "In Ternhaven, Rosa bought an odd orange bell. It reminded her of her uncle. It "
    "was a present for Bram, who once shared the last cake. Rosa hid it in a barrel at "
    "the post office, and only Pia knew. “Come at five,” Rosa laughed. Outside, terns "
    "screamed over the roofs. At five Pia led Bram to the post office. There, in a "
    "barrel, waited the orange bell. “Because you shared the last cake,” Rosa said "
    "cheerfully."
)


def line(numbers: Iterable[float]) -> str:
    """Nats, word by word, as one string.

    As numbers they would make the lint of prose blind, which takes any number of a
    result as a ground for a number in a sentence.
    """
    return " ".join(f"{number:.4f}" for number in numbers)


def main() -> int:
    model, tokenizer = load_pretrained("minigpt-stories")
    told = [story.text for story in stories.corpus(N_TRAIN)]
    sequences = [tokenizer.encode(f"{text} {stories.END}") for text in told]
    size = tokenizer.vocab_size
    players: dict[str, Any] = {"minigpt-stories": model}
    for order in ORDERS:
        counts = NGram.train(sequences, order=order, vocab_size=size)
        players[f"kneser-ney {order}"] = counts

    tales: list[dict[str, Any]] = []
    texts = [FIRST_PAGE, *(stories.generate(seed).text for seed in SHOWN + GAMES)]
    for seed, text in zip((None, *SHOWN, *GAMES), texts, strict=True):
        if text in told:
            print(f"expected stories that no model has read, got one: {text[:60]}…")
            return 1
        paid = {name: xray(one, tokenizer, text).model for name, one in players.items()}
        nats = {name: line(each) for name, each in paid.items()}
        tales.append({"seed": seed, "game": seed in GAMES, "text": text, "nats": nats})

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    result = {
        "command": COMMAND,
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "device": "cpu, 1 thread",
        "stories counted": N_TRAIN,
        "tales": tales,
    }
    path = ROOT / "results" / "tryit.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
