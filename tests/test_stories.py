import math
import os
import pickle
import re
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import fields

import pytest

from minigpt import grammar, stories

# The checks of types and shapes that run with the tests make stories slow to tell: the
# many are told by another process, without them, and with other hashes of strings.
TELL = """
import pickle, sys
from minigpt import stories
many = list(stories.corpus(2_000))
offers = [[*map(dict, stories.offers(story.words))] for story in many[:1_200]]
validation = stories.corpus(500, seed=stories.VALIDATION_SEED)
train = (*many, *stories.corpus(3_000, seed=2_000))
texts = [[story.text for story in part] for part in (train, validation)]
sys.stdout.buffer.write(pickle.dumps((many, offers, *texts)))
"""
ENVIRONMENT = {**os.environ, "PYTHONHASHSEED": "7"}
TOLD = subprocess.run(
    [sys.executable, "-c", TELL], stdout=subprocess.PIPE, check=True, env=ENVIRONMENT
)
MANY: list[stories.Story]
OFFERS: list[list[dict[str, float]]]
MANY, OFFERS, TRAIN, VALIDATION = pickle.loads(TOLD.stdout)


def callbacks(story: stories.Story) -> list[int]:
    """For each recalled role, how many words ago the same phrase was last said."""
    distances = []
    for _, start, end, drawn in story.mentions:
        phrase = story.words[start:end]
        n = end - start
        before = [i for i in range(start) if story.words[i : i + n] == phrase]
        if not drawn and before:
            distances.append(start - before[-1])
    return distances


def longest(part: grammar.Part) -> int:
    if part.words:
        return len(part.words.split()) - (part.words == grammar.END)
    if part.form in grammar.PRONOUNS["he"]:
        return 1
    if part.form == "trade":
        return 3
    phrases = [p for kind, p in grammar.ENTRIES if kind == grammar.KINDS[part.role]]
    return (part.form == "a ") + max(len(phrase.split()) for phrase in phrases)


def most_words(keys: tuple[str, ...], said: int = 0) -> int:
    """Bound the length of every story that goes on with these lines."""
    if not keys:
        return said
    key, optional, limit = keys[0].partition("<")
    if key == "*":
        plots = grammar.PLOTS.values()
        return max(most_words(tuple(p["lines"].split()), said) for p in plots)
    line = max(sum(map(longest, line.parts)) for line in grammar.LINES[key])
    if not optional:
        return most_words(keys[1:], said + line)
    taken = most_words(keys[1:], min(said, int(limit) - 1) + line)
    return max(taken, most_words(keys[1:], said))


def test_no_story_is_shorter_than_40_or_longer_than_110_words():
    lengths = [len(story.words) - 1 for story in MANY]
    assert min(lengths) >= 40
    assert max(lengths) <= 110
    assert most_words(grammar._BEGINNING) <= 110


def test_the_words_on_offer_sum_to_one_before_every_word():
    for *before, after_end in OFFERS:
        assert after_end == {}
        for offer in before:
            assert math.isclose(math.fsum(offer.values()), 1.0, abs_tol=1e-12)
            assert min(offer.values()) > 0


def test_surprisal_replays_the_probabilities_of_generation():
    for story in MANY[:300]:
        scored = stories.surprisal(story.text)
        expected = [0.0] * len(story.words)
        for position, word, probability in story.choices:
            assert story.words[position] == word
            expected[position] = -math.log(probability)
        assert scored == pytest.approx(expected, abs=1e-15)


def test_mean_surprisal_is_the_mean_entropy_of_the_next_word():
    """The two differ word by word; over stories the difference has mean 0."""
    differences = []
    for story, offers in zip(MANY, OFFERS, strict=False):
        excess = 0.0
        for word, offer in zip(story.words, offers, strict=False):
            entropy = -math.fsum(p * math.log(p) for p in offer.values())
            excess += -math.log(offer[word]) - entropy
        differences.append(excess / len(story.words))
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    assert abs(statistics.mean(differences)) < 3 * error
    assert error < 0.01


def test_first_words_come_as_often_as_promised():
    promised = stories.next_words([])
    seen = Counter(story.words[0] for story in MANY)
    for word, p in promised.items():
        assert abs(seen[word] / 2_000 - p) < 4 * math.sqrt(p * (1 - p) / 2_000)


def test_surprisal_of_a_line_by_hand():
    """Weights are counts, and whoever the story has already is not drawn again."""
    person = {name: entry[0] for name, entry in grammar.LEXICON["person"].items()}
    prefix = stories.words("Everybody in Ternhaven knew")
    assert stories.next_words(prefix)["Ada"] == pytest.approx(
        person["Ada"] / sum(person.values())
    )
    thing = "lantern"
    prefix = stories.words(f"Once an old red {thing} belonged to Ada. Soon")
    others = sum(person.values()) - person["Ada"]
    expected = {name: w / others for name, w in person.items() if name != "Ada"}
    assert stories.next_words(prefix) == pytest.approx(expected)


def test_words_and_text_are_the_same_thing():
    for story in MANY:
        assert (*stories.words(story.text), stories.END) == story.words
        assert stories.join(story.words) == story.text
        assert stories.END not in story.text
    assert stories.words("“No,” he said.") == ["“", "No", ",", "”", "he", "said", "."]
    assert stories.join(["“", "No", ",", "”", "he", "said", "."]) == "“No,” he said."


def test_the_vocabulary_holds_every_word_on_offer_and_is_small():
    vocabulary = set(stories.vocabulary())
    assert len(vocabulary) == len(stories.vocabulary()) < 600
    assert stories.END in vocabulary
    for story in MANY:
        assert vocabulary.issuperset(story.words)
    offered = {word for offers in OFFERS for offer in offers for word in offer}
    assert offered == vocabulary


def test_mentions_stand_where_they_say_and_agree_with_what_is_known():
    for story in MANY[:500]:
        known: dict[str, str] = {}
        trades = {name: e[3] for name, e in grammar.LEXICON["person"].items()}
        for role, start, end, drawn in story.mentions:
            phrase = " ".join(story.words[start:end])
            if drawn:
                known[role] = phrase
            elif role in known:
                assert phrase in (known[role], trades.get(known[role]))
        for name in (f.name for f in fields(stories.Facts)):
            if name in known:
                assert getattr(story.facts, name) == known[name]


def test_every_story_calls_back_to_words_said_long_before():
    for story in MANY:
        assert len([d for d in callbacks(story) if d >= 10]) >= 3
    far = [d for story in MANY for d in callbacks(story) if d >= 20]
    assert len(far) / len(MANY) >= 3


def test_callbacks_are_certain_although_counting_cannot_know_them():
    story = next(s for s in MANY if s.facts.plot == "lent" and "Where" in s.words)
    where = story.words.index("Where")
    spot = story.words.index("my", where) + 1
    assert story.words[spot : spot + 2] == (story.facts.colour, story.facts.thing)
    assert stories.next_words(story.words[:spot]) == {story.facts.colour: 1.0}


def test_the_bet_is_won_by_who_was_right():
    bets = [story.facts for story in MANY if story.facts.plot == "bet"]
    for facts in bets:
        right = facts.outcome == facts.forecast
        assert facts.winner == (facts.owner if right else facts.friend)
        assert facts.holder == facts.winner
    assert 0.4 < statistics.mean(f.winner == f.owner for f in bets) < 0.6


def test_who_speaks_is_known_for_every_quotation():
    for story in MANY:
        assert story.text.count("“") == len(story.facts.quotes)
        for who, said in story.facts.quotes:
            assert who in grammar.LEXICON["person"]
            assert f"“{said}”" in story.text


def test_a_wrong_word_is_impossible_and_the_words_before_it_are_not():
    story = next(s for s in MANY if s.facts.plot == "swap")
    wrong = list(story.words[:-1])
    wrong.insert(40, "lighthouse")  # what follows would be possible without it
    scored = stories.surprisal(stories.join(wrong))
    assert scored[:40] == stories.surprisal(story.text)[:40]
    assert scored[40:] == [math.inf] * (len(story.words) - 39)
    assert not stories.is_possible(stories.join(wrong))
    assert stories.is_possible(story.text)


def test_a_beginning_is_scored_without_its_end():
    story = MANY[0]
    half = stories.join(story.words[:30])
    assert stories.surprisal(half, ended=False) == stories.surprisal(story.text)[:30]
    assert stories.surprisal(half)[-1] == math.inf
    assert not stories.is_possible(half)
    assert not stories.is_possible("")
    assert not stories.is_possible(story.text + " Once")


def test_next_words_names_the_impossible_word():
    with pytest.raises(
        ValueError, match=r"got 'red' as word 1, put one .* there: a, an"
    ):
        stories.next_words(["Once", "red"])
    assert stories.next_words(MANY[0].words) == {}


def test_a_seed_is_a_natural_number():
    with pytest.raises(ValueError, match="expected a seed of 0 or more, got -1"):
        stories.generate(-1)


def test_training_seeds_stop_where_validation_seeds_begin():
    with pytest.raises(ValueError, match="expected seeds below 1000000, got 999999 to"):
        stories.corpus(2, seed=stories.VALIDATION_SEED - 1)
    validation = list(stories.corpus(2, seed=stories.VALIDATION_SEED))
    assert validation[1] == stories.generate(stories.VALIDATION_SEED + 1)


def test_stories_do_not_repeat_and_validation_is_new():
    assert len(set(TRAIN)) == len(TRAIN) == 5_000
    assert len(VALIDATION) == 500
    assert not set(TRAIN).intersection(VALIDATION)


def test_the_same_seed_tells_the_same_story_in_another_process():
    for seed in range(20):
        here = stories.generate(seed)
        assert here == MANY[seed]
        assert (here.chinese, here.summary) == (MANY[seed].chinese, MANY[seed].summary)


def test_the_chinese_names_every_person_and_thing_and_has_no_latin_letter():
    for story in MANY:
        assert not re.search(r"[A-Za-z{}]", story.chinese)
        for role in ("owner", "friend", "thing", "colour", "holder"):
            phrase = getattr(story.facts, role)
            kind = grammar.KINDS.get(role, "person")
            assert grammar.ENTRIES[kind, phrase][1] in story.chinese
        assert len(story.facts.quotes) == story.chinese.count("“")


def test_every_plot_is_told_and_summed_up_in_one_sentence():
    told = Counter(story.facts.plot for story in MANY)
    assert set(told) == set(grammar.PLOTS)
    assert min(told.values()) > 100
    for story in MANY:
        assert story.summary.endswith(".")
        assert "{" not in story.summary
