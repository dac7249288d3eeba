"""Overlap: what two parts share is counted, by hand and as sets of strings would."""

import random

from minigpt.overlap import Overlap, Watch, overlap
from minigpt.texts import Text


def test_overlap_counts_documents_and_runs_by_hand():
    # Runs of two words in the held-out part: "a b", "b c" | "c d"; "b c" and the whole
    # second document are in the training part too.
    text = Text("toy", "x b c|c d|", "a b c|c d|", "|")
    found = overlap(text, n=2)
    assert found == (1, 2, 2, 3)
    assert "1 of 2 validation documents and 2 of 3" in str(found)


def plain(train: list[str], held: list[str], n: int) -> Overlap:
    """The same with sets of strings."""

    def runs(document: str) -> list[tuple[str, ...]]:
        words = document.split()
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    seen = {run for document in train for run in runs(document)}
    here = [run for document in held for run in runs(document)]
    again = [document for document in held if document in train]
    shared = [run for run in here if run in seen]
    return Overlap(len(again), len(held), len(shared), len(here))


def some_documents(draw: random.Random, n: int) -> list[str]:
    return [" ".join(draw.choices("ab", k=draw.randrange(12))) for _ in range(n)]


def test_hashes_count_what_sets_of_strings_count():
    draw = random.Random(0)
    for n in (1, 2, 5, 8):
        train, held = some_documents(draw, 30), some_documents(draw, 30)
        watch = Watch(held, running=False, n=n)
        assert list(watch.through(train)) == train
        assert watch.result() == plain(train, held, n)
        assert 0 < watch.result().shared < watch.result().runs or n < 5


def test_a_running_text_in_pieces_counts_as_the_whole():
    draw = random.Random(0)
    train, held = ([f"{d} " for d in some_documents(draw, 40)] for _ in range(2))
    watch = Watch(held, running=True, n=5)
    for _ in watch.through(train):
        pass
    assert watch.result() == plain(["".join(train)], ["".join(held)], 5)
    text = Text("running", "".join(train), "".join(held))
    assert overlap(text, n=5) == watch.result()


def test_texts_too_short_for_a_run_share_nothing():
    text = Text("short", "a b c", "a b")
    assert overlap(text) == (0, 1, 0, 0)
    assert overlap(Text("same", "a|b", "a|c", "|")) == (1, 2, 0, 0)
