"""The messages to the shops of Ternhaven: as many and as varied as the book says."""

import csv
import os
import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from minigpt import load_task
from minigpt.labelled import Examples
from minigpt.texts import ASSETS
from tests.handwritten import a_fifth, by_words, closest
from tools import check_overlap

PATH = ASSETS / "shop-messages.csv"
with PATH.open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
TEXTS = [row["text"] for row in ROWS]
INTENTS = (
    "booking cancel complaint delivery hours ingredients job lost order-status payment "
    "praise price repair return"
).split()


def test_nine_hundred_messages_have_one_of_fourteen_intents() -> None:
    assert len(ROWS) >= 900
    counts = Counter(row["label"] for row in ROWS)
    assert sorted(counts) == INTENTS
    assert min(counts.values()) >= 60
    assert load_task("shop-messages").labels == tuple(INTENTS)


def test_the_card_names_every_intent_and_their_number() -> None:
    card = PATH.with_suffix(".md").read_text(encoding="utf-8")
    assert re.findall(r"\| `([\w-]+)` \|", card) == INTENTS
    assert f"{len(ROWS) // len(INTENTS)} of each of {len(INTENTS)} intents" in card
    assert set(Counter(row["label"] for row in ROWS).values()) == {
        len(ROWS) // len(INTENTS)
    }
    assert "CC0 1.0" in card


def test_the_table_is_clean_text() -> None:
    whole = PATH.read_bytes().decode("utf-8")
    assert whole.startswith("text,label\n")
    assert whole.endswith("\n")
    assert whole.isascii()
    for text in TEXTS:
        assert text == " ".join(text.split())
        assert not [c for c in text if unicodedata.category(c) == "Cc"]


def test_a_message_has_four_to_thirty_five_words() -> None:
    lengths = [len(text.split()) for text in TEXTS]
    assert min(lengths) >= 4
    assert max(lengths) <= 35
    # Terse ones and rambling ones of every intent, not one length for all.
    for intent in INTENTS:
        own = [len(row["text"].split()) for row in ROWS if row["label"] == intent]
        assert sum(n <= 7 for n in own) >= 3, intent
        assert sum(n >= 25 for n in own) >= 2, intent


def test_no_message_is_another_one_rewritten() -> None:
    share, text, other = closest(TEXTS)
    assert share <= 0.6, (text, other)
    assert len({re.sub(r"\W", "", text.lower()) for text in TEXTS}) == len(TEXTS)


def test_a_template_would_be_seen() -> None:
    texts = [
        *TEXTS[:50],
        "How much is the kettle today?",
        "How much is the drum today?",
    ]
    assert closest([*texts, "How much is the kettle today, then?"])[0] == 1
    share = closest(["a b c d e f", "a b c d e x", "never one of those words"])[0]
    assert share == 3 / 4


def test_no_message_begins_as_many_others_do() -> None:
    begins = Counter(tuple(text.lower().split()[:3]) for text in TEXTS)
    assert max(begins.values()) <= len(TEXTS) / 50


@pytest.mark.parametrize("seed", range(3))
def test_words_alone_tell_two_thirds_of_the_intents_but_not_nine_tenths(
    seed: int,
) -> None:
    task = load_task("shop-messages", seed=seed)
    assert len(task.test) == len(ROWS) // 5
    assert 0.65 <= a_fifth(task) <= 0.9


def test_words_tell_nothing_about_shuffled_intents() -> None:
    task = load_task("shop-messages")
    labels = [e.label for e in task.train]
    random.Random(0).shuffle(labels)
    pairs = zip(task.train, labels, strict=True)
    train: Examples = [e._replace(label=label) for e, label in pairs]
    assert by_words(train, task.test) < 0.2


def test_the_parts_share_no_message_and_no_run_of_eight_words() -> None:
    task = load_task("shop-messages")
    for leak in task.leaks:
        assert (leak.duplicates, leak.shared) == (0, 0), str(leak)
    sizes = len(task.train), len(task.validation), len(task.test)
    assert sizes[1] == sizes[2]
    assert sizes[0] == 3 * sizes[1]
    assert all(n[1] == n[2] >= 12 for n in task.counts().values())


@pytest.mark.data
def test_no_eight_words_in_a_row_are_anyone_elses() -> None:
    documents = {text: check_overlap.words(text) for text in TEXTS}
    known = check_overlap.runs(documents, 8)
    paths = list(check_overlap.texts(Path(os.environ["MINIGPT_DATA"])))
    assert paths
    for path in paths:
        assert check_overlap.shared(check_overlap.stream(path), known) == set(), path
