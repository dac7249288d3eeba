"""The page "Try it": all that it needs stands in one script, which no other page loads.

`_static/tryit_data.js` holds the weights of minigpt-stories, the vocabulary, and a few
stories with what each word costs. It is made while the book is rendered and is never
committed; a plain <script> loads it, so that the page works from file://. No torch is
needed: the weights are copied out of the safetensors file as the bytes they are.

    ```{tryit-example}
    ```

is what a reader sees whose browser runs no scripts: scores, and a story in colours.
"""

import html
import json
import struct
import sys
from base64 import b64encode
from itertools import pairwise
from math import log, prod
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

MODEL = ROOT / "minigpt" / "assets" / "minigpt-stories"
RECORD = ROOT / "results" / "tryit.json"
PAGE, SCRIPT = "book/try", "tryit_data.js"
OURS = ("gpt.js", "tryit_words.js", "tryit_game.js", "tryit_look.js")
PLAYERS = {  # by their names in the record
    "kneser-ney 1": "Counting single words",
    "kneser-ney 3": "Counting runs of three",
    "kneser-ney 7": "Counting runs of seven",
    "minigpt-stories": "GPT (minigpt-stories)",
}
FULL = 7.0  # bits at which a word is as red as it gets


def read_weights(path: Path) -> dict[str, tuple[tuple[int, ...], memoryview]]:
    """Shape and bfloat16 numbers, as 16-bit words, of each tensor of the file.

    The format: eight bytes with the length of a JSON header, the header, the data.

    Raises:
        ValueError: a tensor that is not in bfloat16.
    """
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    found = {}
    for name, told in header.items():
        if name == "__metadata__":
            continue
        if told["dtype"] != "BF16":
            raise ValueError(
                f"expected bfloat16 weights, got {told['dtype']} for {name}: save the "
                f"model with dtype=torch.bfloat16"
            )
        start, end = (8 + size + place for place in told["data_offsets"])
        found[name] = tuple(told["shape"]), memoryview(raw[start:end]).cast("H")
    return found


def pack_weights(path: Path, names: dict[str, tuple[str, bool]]) -> dict[str, Any]:
    """The weights under our names, output by input, in base64; and their shapes.

    `names` says for each of ours what the file calls it, and whether it lies there the
    other way round, as `minigpt.foreign.foreign_names` tells.
    """
    stored, shapes, packed = read_weights(path), {}, bytearray()
    for ours, (theirs, turned) in names.items():
        shape, halves = stored[theirs]
        numbers = halves.tolist()
        if turned:
            rows, columns = shape
            numbers = [x for c in range(columns) for x in numbers[c::columns]]
            shape = columns, rows
        packed += struct.pack(f"<{prod(shape)}H", *numbers)
        shapes[ours] = shape
    return {"shapes": shapes, "base64": b64encode(packed).decode("ascii")}


def numbered() -> dict[str, int]:
    """The vocabulary: each word and its token."""
    from minigpt import stories

    return {word: i for i, word in enumerate(stories.vocabulary())}


def pack_tale(tale: dict[str, Any], number: dict[str, int]) -> dict[str, Any]:
    """One story: what each word costs each player in bits, and what could have come."""
    from minigpt import stories

    said = [*stories.words(tale["text"]), stories.END]
    offers = [
        sorted(((p, number[word]) for word, p in offer.items()), reverse=True)
        for offer in stories.offers(said[:-1])
    ]
    bits = {
        name: [round(float(nats) / log(2), 4) for nats in line.split()]
        for name, line in tale["nats"].items()
    }
    truth = [nats / log(2) for nats in stories.surprisal(tale["text"])]
    return {
        "game": tale["game"],
        "words": said,
        "offers": [[[w, round(p, 5)] for p, w in offer] for offer in offers],
        "bits": bits | {"truth": [round(cost, 4) for cost in truth]},
    }


def content() -> dict[str, Any]:
    """All that the page's scripts need."""
    from minigpt import stories
    from minigpt.foreign import HONOURED, foreign_names
    from minigpt.model import GPTConfig

    told = json.loads((MODEL / "config.json").read_text("utf-8"))
    config = GPTConfig(**{ours: told[theirs] for theirs, ours in HONOURED.items()})
    number = numbered()
    record = json.loads(RECORD.read_text("utf-8"))
    kept = "vocab_size context_length n_layer n_head d_model norm_eps".split()
    return {
        "config": {name: getattr(config, name) for name in kept},
        "end": stories.END,
        "vocabulary": list(number),
        "weights": pack_weights(MODEL / "model.safetensors", foreign_names(config)),
        "players": PLAYERS,
        "tales": [pack_tale(tale, number) for tale in record["tales"]],
    }


def script() -> str:
    """The script file: one assignment."""
    data = json.dumps(content(), ensure_ascii=False, separators=(",", ":"))
    return f"globalThis.TRYIT = {data};\n"


def write(app: Sphinx) -> None:
    """Write the script into the site, before the first page asks for its checksum."""
    if app.builder.format == "html" and (Path(app.srcdir) / f"{PAGE}.md").exists():
        target = Path(app.outdir) / "_static"
        target.mkdir(parents=True, exist_ok=True)
        (target / SCRIPT).write_text(script(), "utf-8")


def add_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object
) -> None:
    """Scripts and style of this one page."""
    if page == PAGE:
        app.add_css_file("tryit.css")
        for name in (
            SCRIPT,
            "gpt.js",
            "tryit_words.js",
            "tryit_game.js",
            "tryit_look.js",
        ):
            app.add_js_file(name, loading_method="defer")


def coloured(words: list[str], bits: list[float]) -> str:
    """The words as HTML, redder where more was lost."""
    spans = []
    for before, (word, lost) in pairwise([("", 0.0), *zip(words, bits, strict=True)]):
        glued = word in ".,:;?!”" or before[0] in ("", "“")
        shade = min(max(lost / FULL, 0.0), 1.0)
        text = "END" if word.startswith("<") else html.escape(word)
        style = f"background: rgba(242, 68, 46, {shade:.2f})"
        spans.append(f'{"" if glued else " "}<span style="{style}">{text}</span>')
    return "".join(spans)


class Example(SphinxDirective):
    """What the page shows of the first story, without a script."""

    def run(self) -> list[nodes.Node]:
        """A table of scores and a coloured story; scripts take it off the page."""
        record = json.loads(RECORD.read_text("utf-8"))
        self.env.note_dependency(str(RECORD))
        tale = pack_tale(record["tales"][0], numbered())
        bits, truth = tale["bits"], tale["bits"]["truth"]
        rows = [(label, bits[name]) for name, label in PLAYERS.items()]
        rows.append(("The floor", truth))
        body = "".join(
            f'<tr><th scope="row">{label}</th><td>{sum(cost) / len(cost):.2f}</td></tr>'
            for label, cost in rows
        )
        head = '<tr><th scope="col">Player</th><th scope="col">Bits a word</th></tr>'
        parts = [f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"]
        for name in ("kneser-ney 7", "minigpt-stories"):
            lost = [a - b for a, b in zip(bits[name], truth, strict=True)]
            parts.append(f"<p>{PLAYERS[name]}, bits lost against the floor:</p>")
            parts.append(f'<p class="sheet">{coloured(tale["words"], lost)}</p>')
        return [nodes.raw("", "\n".join(parts), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("tryit-example", Example)
    app.connect("builder-inited", write)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
