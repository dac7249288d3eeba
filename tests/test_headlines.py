"""The headlines of Ternhaven's paper: as many and as varied as the book says."""

import csv
import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from minigpt import load_task
from minigpt.labelled import Examples
from minigpt.texts import ASSETS
from tests.handwritten import a_fifth, by_words, closest
from tools import check_overlap

PATH = ASSETS / "headlines.csv"
with PATH.open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
TEXTS = [row["text"] for row in ROWS]
SENTIMENTS = ("negative", "neutral", "positive")
FIRMS = re.compile(
    "Anchor Street Bank|Bay Gas|Bishop Stoves|Black Mole Tar|Blue Anchor|Bram's Bakery|"
    "Breakwater Paints|Candlemas Candle Works|Chandlery|Drumm Railway|Gull Rock Ice|"
    "Hana & Co|Henriette Shipping|Holm & Daughters|Ivo Joinery|"
    "Kettle Point Smokehouse|Leeward Umbrellas|Lobb Hats|Longshore Boots|Marram Honey|"
    "Mole Mutual|Ninepin Toys|North Wall Dredging|Otter Lamps|Ottersund Cannery|"
    "Pargeter's Dairy|Plover Ferry|Pump Lane Brewery|Roke Clocks|Rosa's Fruit|"
    "Skarn Coal|Skarn Seeds|Solveig Sewing Machines|Strake|Ternhaven Mill|"
    "Ternhaven Nets|Ternhaven Saltworks|Three Brothers|Turnstone Line|"
    "Vessmark Bell Foundry|Vessmark Telegraph|Whitsun Soap"
)


def test_six_hundred_headlines_have_one_of_three_sentiments() -> None:
    assert len(ROWS) >= 600
    counts = Counter(row["label"] for row in ROWS)
    assert tuple(sorted(counts)) == SENTIMENTS
    assert min(counts.values()) >= 180
    # Whoever always says the commonest one is right little more than a third.
    assert max(counts.values()) <= 0.36 * len(ROWS)
    assert load_task("headlines").labels == SENTIMENTS


def test_the_card_counts_them() -> None:
    card = " ".join(PATH.with_suffix(".md").read_text(encoding="utf-8").split())
    n = Counter(row["label"] for row in ROWS)
    negative, neutral, positive = (n[label] for label in SENTIMENTS)
    said = f"{negative} are negative, {neutral} neutral, {positive} positive"
    assert said in card
    assert "CC0 1.0" in card


def test_a_headline_names_one_firm_and_each_firm_has_every_sentiment() -> None:
    under: Counter[tuple[str, str]] = Counter()
    for row in ROWS:
        named = set(FIRMS.findall(row["text"]))
        assert len(named) == 1, row["text"]
        under[named.pop(), row["label"]] += 1
    assert len(under) == len(SENTIMENTS) * len(FIRMS.pattern.split("|"))
    assert min(under.values()) >= 3


def test_the_table_is_plain_text() -> None:
    whole = PATH.read_bytes().decode("utf-8")
    assert whole.startswith("text,label\n")
    assert whole.endswith("\n")
    assert re.fullmatch(r"[\w ,.;:'&?\n\"-]+", whole, re.ASCII)
    for text in TEXTS:
        assert text == " ".join(text.split())


def test_a_headline_has_five_to_eighteen_words_and_no_full_stop() -> None:
    lengths = sorted(len(text.split()) for text in TEXTS)
    assert lengths[0] >= 5
    assert lengths[-1] <= 18
    # Short ones and long ones, not one length for all.
    assert lengths[-len(lengths) // 10] >= 1.5 * lengths[len(lengths) // 10]
    assert not [text for text in TEXTS if text.endswith(".")]


def test_no_headline_is_another_one_rewritten() -> None:
    share, text, other = closest(TEXTS)
    assert share <= 0.6, (text, other)
    assert len({re.sub(r"\W", "", text.lower()) for text in TEXTS}) == len(TEXTS)


def test_a_rewritten_headline_would_be_seen() -> None:
    planted = f"{TEXTS[0]} again"
    assert closest([*TEXTS, planted])[0] > 0.6


@pytest.mark.parametrize(
    "word", "cuts fall wins shares profit record strong soar after".split()
)
def test_the_words_of_the_market_stand_under_more_than_one_sentiment(
    word: str,
) -> None:
    under: Counter[str] = Counter()
    for row in ROWS:
        under[row["label"]] += word in check_overlap.words(row["text"])
    assert sum(n > 0 for n in under.values()) >= 2, under


def test_words_alone_tell_two_thirds_of_the_sentiments_but_not_nine_tenths() -> None:
    found = []
    for seed in range(5):
        task = load_task("headlines", seed=seed)
        assert abs(len(task.test) - len(ROWS) / 5) <= 2
        found.append(a_fifth(task))
    assert 0.65 <= found[0] <= 0.9
    assert 0.65 <= sum(found) / 5 <= 0.9


def test_words_tell_nothing_about_shuffled_sentiments() -> None:
    task = load_task("headlines")
    labels = [e.label for e in task.train]
    random.Random(0).shuffle(labels)
    pairs = zip(task.train, labels, strict=True)
    train: Examples = [e._replace(label=label) for e, label in pairs]
    assert by_words(train, task.test) < 0.5


def test_the_parts_share_no_headline_and_no_run_of_eight_words() -> None:
    task = load_task("headlines")
    for leak in task.leaks:
        assert (leak.duplicates, leak.shared) == (0, 0), str(leak)


@pytest.mark.data
def test_no_eight_words_in_a_row_are_anyone_elses() -> None:
    documents = {text: check_overlap.words(text) for text in TEXTS}
    known = check_overlap.runs(documents, 8)
    paths = list(check_overlap.texts(Path(os.environ["MINIGPT_DATA"])))
    assert paths
    for path in paths:
        assert check_overlap.shared(check_overlap.stream(path), known) == set(), path
