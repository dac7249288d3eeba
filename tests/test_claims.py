"""Claims: what is true, false and not told, held against the words of the story."""

import re

import pytest

from minigpt import stories
from minigpt.claims import (
    ROLES,
    VALUES,
    Claim,
    Pool,
    false_values,
    filled,
    holes,
    known,
    silent,
    silent_values,
    telling,
    true_values,
)
from minigpt.grammar import KINDS, LEXICON, PLOTS

CLAIMS = {f"{c.plot}-{c.role}-{len(c.others)}": c for c in (*VALUES, *ROLES)}


def taken(claim: Claim, n: int = 6) -> tuple[Pool, list[stories.Story]]:
    pool = Pool(2_000_000, set())
    return pool, [telling(claim, pool) for _ in range(n)]


def said(value: str, story: stories.Story) -> bool:
    """Whether the story's text has these words; the "six" of "six eggs" is no hour."""
    text = story.text
    for kind in ("reward", "junk", "spot", "span"):
        for phrase in LEXICON[kind]:
            text = text if phrase == value else text.replace(phrase, "")
    return re.search(rf"\b{re.escape(value)}\b", text) is not None


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_true_values_are_in_the_text_and_false_ones_as_the_table_says(claim):
    pool, some = taken(claim)
    true, false = true_values(claim, some), false_values(claim, some, pool)
    assert all(said(value, story) for value, story in zip(true, some, strict=True))
    assert all(a != b for a, b in zip(true, false, strict=True))
    found = [said(value, story) for value, story in zip(false, some, strict=True)]
    assert found == [bool(claim.others)] * len(some)
    assert {story.facts.plot for story in some} == {claim.plot}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_silent_story_has_the_people_and_another_plot(claim):
    pool, some = taken(claim)
    true = true_values(claim, some)
    other = [silent(claim, pool) for _ in range(6)]
    assert not {claim.plot, *claim.near} & {story.facts.plot for story in other}
    values = silent_values(claim, true, other, pool)
    for story, value in zip(other, values, strict=True):
        roles = known(story)
        assert holes(claim.says) - {claim.role} <= roles.keys()
        sentence = filled(claim.says, {**roles, claim.role: value})
        names = [w for w in stories.words(sentence) if w in LEXICON["person"]]
        assert len(set(names)) == len(names), sentence
        if not claim.others:
            kind = KINDS[claim.role]
            assert value not in {v for r, v in roles.items() if KINDS.get(r) == kind}


@pytest.mark.parametrize("claim", VALUES, ids=lambda c: f"{c.plot}-{c.role}")
def test_false_values_are_as_frequent_as_true_ones(claim):
    pool, some = taken(claim, 20)
    false = false_values(claim, some, pool)
    assert sorted(false) == sorted(true_values(claim, some))


def test_two_stories_that_agree_cannot_change_places():
    claim = VALUES[2]
    pool, some = taken(claim, 20)
    places = true_values(claim, some)
    twice = [s for s, place in zip(some, places, strict=True) if place == places[0]]
    assert len(twice) > 1
    false = false_values(claim, twice, pool)
    assert places[0] not in false
    assert set(false) <= {phrase for phrase in LEXICON["place"]}


def test_every_claim_and_question_is_in_the_stories_words():
    words = set(stories.vocabulary())
    for claim in CLAIMS.values():
        assert claim.plot in PLOTS
        assert claim.role in holes(claim.says)
        for template in (claim.says, claim.asks):
            rest = re.sub(r"\{\w+\}", "", template).split()
            assert set(rest) <= words, template
    trades = {w for e in LEXICON["person"].values() for w in e[3].split()}
    assert trades | {"The"} <= words


def test_a_claim_is_written_as_the_stories_are():
    roles = {"owner": "Ada", "friend": "Bram", "place": "the mill"}
    assert filled("{owner} hid it at {place} .", roles) == "Ada hid it at the mill."
    trades = filled("{owner} swapped with {friend} .", roles, trades=True)
    assert trades == "The lighthouse keeper swapped with the baker."
    assert filled("Where was {friend} sent ?", roles) == "Where was Bram sent?"


def test_no_story_is_given_out_twice_and_none_that_was_told_before():
    first = stories.generate(2_000_000).text
    told = {first}
    pool = Pool(2_000_000, told)
    some = [pool.take() for _ in range(5)]
    some += [pool.take(("bet",)) for _ in range(5)]
    some += [pool.take() for _ in range(20)]
    texts = [story.text for story in some]
    assert len({first, *texts}) == 31
    assert {first, *texts} <= told


def test_a_pool_that_is_empty_says_so(monkeypatch):
    from minigpt import claims

    monkeypatch.setattr(claims, "BLOCK", 20)
    pool = Pool(0, set())
    with pytest.raises(ValueError, match="examples that 20 stories give, got none for"):
        [pool.take(("swap",)) for _ in range(20)]
