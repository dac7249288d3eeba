"""Story tasks: exact labels, no way round the story, and room in the context."""

from functools import cache

import numpy as np
import pytest

from minigpt import stories, tasks
from minigpt.grammar import LEXICON
from minigpt.labelled import Example, Task
from minigpt.story_tasks import (
    CONTEXT,
    MAKERS,
    MARKS,
    _length,
    answer,
    sentences,
    stories_task,
)
from minigpt.tokenizer import WordTokenizer

EVERY = [(kind, dial) for kind in MAKERS for dial in (1, 2, 3)]
made = cache(stories_task)


def small(kind: str, dial: int) -> Task:
    return made(kind, 40, 0, dial, n_test=20)


def every(task: Task) -> list[Example]:
    return [*task.train, *task.validation, *task.test]


@pytest.mark.parametrize(("kind", "dial"), EVERY)
def test_each_part_has_its_size_and_no_text_stands_in_two(kind, dial):
    task = small(kind, dial)
    assert (len(task.train), len(task.validation), len(task.test)) == (40, 4, 20)
    assert len({e.text for e in every(task)}) == 64
    assert [leak.duplicates for leak in task.leaks] == [0, 0]
    assert task.name == f"stories-{kind}"
    assert task.note == f"drawn from the stories, difficulty {dial}, seed 0"


@pytest.mark.parametrize(("kind", "dial"), EVERY)
def test_the_whole_input_fits_the_context_in_the_stories_words(kind, dial):
    tokenizer = WordTokenizer()
    for example in every(small(kind, dial)):
        second = example.choices or (example.text_pair or "",)
        if kind == "summary":
            second = (example.label,)
        lengths = [len(tokenizer.encode(text)) for text in second]
        whole = len(tokenizer.encode(example.text)) + max(lengths) + MARKS
        assert whole <= CONTEXT


def test_the_test_part_is_one_for_every_seed_and_size():
    one = stories_task("tags", 30, 0, 2, n_test=10)
    two = stories_task("tags", 60, 1, 2, n_test=10)
    texts = [[(e.text, e.text_pair, e.label) for e in t.test] for t in (one, two)]
    assert texts[0] == texts[1]
    assert not {e.text for e in one.train} & {e.text for e in two.train}
    assert stories_task("tags", 30, 0, 2, n_test=10) == one


@pytest.mark.parametrize("dial", [1, 2, 3])
def test_the_three_answers_are_equally_frequent_and_so_is_each_choice(dial):
    counts = [n for n, *_ in small("entailment", dial).counts().values()]
    assert max(counts) - min(counts) < 3
    labels = [e.label for e in every(small("choice", dial))]
    assert 16 < sum(labels) < 48


def test_a_true_claim_and_a_false_one_are_told_apart_by_the_words_alone():
    """Dial 1, without the facts: the value stands in the story, or it does not."""
    task = small("entailment", 1)
    for example in every(task):
        label = task.labels[example.label]
        if not example.text_pair.startswith("It was lost at"):
            continue
        place = example.text_pair.removeprefix("It was lost at ").rstrip(".")
        here = any(f"{word} {place}" in example.text for word in ("at", "near"))
        vanished = "Whoever finds it" in example.text or "promised" in example.text
        want = "neutral" if not vanished else "entailment" if here else "contradiction"
        assert label == want


def test_a_choice_is_between_the_truth_and_one_other_word():
    for example in every(small("choice", 2)):
        right, wrong = (
            example.choices[example.label],
            example.choices[1 - example.label],
        )
        assert right != wrong
        if right.endswith("borrowed it."):
            text = example.text
            name = right.split()[0]
            asked = f"?” {name}" in text or f"Soon {name}" in text
            assert asked or f"Only {name}" in text


@pytest.mark.parametrize("dial", [1, 2, 3])
def test_answers_stand_where_the_span_says(dial):
    task = small("spans", dial)
    empty = 0
    for example in every(task):
        found = [example.text[start:end] for start, end, _ in example.label]
        empty += not found
        if found and example.text_pair.startswith("Who "):
            assert found[0] in LEXICON["person"]
        elif found and example.text_pair.startswith("Where was it"):
            assert found[0] in LEXICON["place"] or found[0] in LEXICON["spot"]
        elif found:
            kinds = ("place", "hour", "deadline")
            assert any(found[0] in LEXICON[kind] for kind in kinds)
    assert empty == (0 if dial < 3 else pytest.approx(16, abs=2))


def test_an_answer_in_a_story_read_by_hand():
    story = stories.generate(4)
    assert story.text.startswith("One foggy autumn morning, Ada admired her new orange")
    found = {role: answer(story, role) for role in ("owner", "friend", "place", "spot")}
    text = {role: story.text[start:end] for role, (start, end, _) in found.items()}
    assert text == {
        "owner": "Ada",
        "friend": "Rosa",
        "place": "the mill",
        "spot": "in a barrel",
    }
    assert found["owner"].start == story.text.index("Ada")


def test_tags_say_more_as_the_dial_turns():
    rows = [small("tags", dial) for dial in (1, 2, 3)]
    assert rows[0].labels == (
        "O", "colour", "hour", "person", "place", "spot", "thing"
    )  # fmt: skip
    people = {"owner", "friend", "helper", "guest"}
    assert set(rows[1].labels) == people | {"O", "place"}
    pairs = {f"{k}{n}" for k in ("thing", "colour", "hour", "spot") for n in ("", 2)}
    assert set(rows[2].labels) == people | pairs | {"O", "place"}
    for task in rows:
        for example in task.train:
            for word, tag in zip(example.text.split(), example.label, strict=True):
                if word in LEXICON["person"]:
                    assert task.labels[tag] in people | {"person", "O"}


def test_the_tags_of_a_story_by_hand():
    first = small("tags", 3)
    labels, example = first.labels, first.train[0]
    words = dict(zip(example.text.split(), example.label, strict=True))
    story = next(
        s for s in map(stories.generate, range(100_000, 100_200))
        if " ".join(s.words[:-1]) == example.text
    )  # fmt: skip
    assert labels[words[story.facts.owner]] == "owner"
    assert labels[words[story.facts.friend]] == "friend"
    assert labels[words[story.facts.thing]] == "thing"


def test_a_summary_is_of_its_story_and_the_dial_makes_it_longer():
    means = []
    for dial in (1, 2, 3):
        task = small("summary", dial)
        means.append(np.mean([len(stories.words(e.text)) for e in task.train]))
        for example in task.train:
            assert stories.is_possible(example.text)
            names = {w for w in example.label.split() if w in LEXICON["person"]}
            assert names
            assert all(name in example.text for name in names)
    assert means == sorted(means)


def test_lines_are_cut_where_they_end():
    for seed in range(40):
        story = stories.generate(seed)
        known = [(line, roles) for line, roles in story.told]
        lengths = [sum(_length(p, roles) for p in line.parts) for line, roles in known]
        assert sum(lengths) == len(story.words)
        at = np.cumsum(lengths)[:-1]
        assert {story.words[i - 1] for i in at} <= {".", "”"}


def test_a_translation_needs_nothing_but_its_sentence():
    pairs = [pair for seed in range(120) for pair in sentences(stories.generate(seed))]
    people = {e[1]: name for name, e in LEXICON["person"].items()}
    assert len(pairs) > 400
    for english, chinese in pairs:
        for name, own in people.items():
            if name in chinese:
                assert own in english, (english, chinese)
        if "他" in chinese or "她" in chinese:
            he = {
                "he",
                "him",
                "his",
                "she",
                "her",
                "they",
                "They",
                "He",
                "She",
                "His",
                "Her",
            }
            assert (he | LEXICON["person"].keys()) & set(stories.words(english))
    by_english: dict[str, set[str]] = {}
    for english, chinese in pairs:
        by_english.setdefault(english, set()).add(chinese)
    assert {len(some) for some in by_english.values()} == {1}


def test_longer_sentences_come_with_the_dial():
    longest = [
        max(len(stories.words(e.text)) for e in small("chinese", dial).train)
        for dial in (1, 2, 3)
    ]
    assert longest[0] <= 10 < longest[1] <= 15 < longest[2]


def guessed(train: list[tuple[str, int]], test: list[str], model) -> np.ndarray:
    """Class probabilities from runs of up to three words."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import make_pipeline

    counter = CountVectorizer(ngram_range=(1, 3), token_pattern=r"\w+")
    texts, labels = zip(*train, strict=True)
    return make_pipeline(counter, model).fit(texts, labels).predict_proba(test)


def blind(task: Task) -> list[float]:
    """Accuracy of two baselines that never see the story."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    right = np.array([e.label for e in task.test])
    scores = []
    for model in (MultinomialNB(), LogisticRegression(max_iter=2000)):
        if task.kind == "classes":
            train = [(e.text_pair, e.label) for e in task.train]
            said = guessed(train, [e.text_pair for e in task.test], model).argmax(1)
        else:
            train = [
                (choice, int(i == e.label))
                for e in task.train
                for i, choice in enumerate(e.choices)
            ]
            texts = [choice for e in task.test for choice in e.choices]
            said = guessed(train, texts, model)[:, 1].reshape(-1, 2).argmax(1)
        scores.append(float((said == right).mean()))
    return scores


@pytest.mark.slow
@pytest.mark.parametrize("dial", [1, 2, 3])
def test_who_does_not_read_the_story_has_to_guess(dial):
    """Over 2,000 test examples one standard error of a guess is 0.011."""
    entailment = stories_task("entailment", 3_000, 0, dial, n_test=2_000)
    assert max(blind(entailment)) <= 0.38
    choice = stories_task("choice", 3_000, 0, dial, n_test=2_000)
    assert max(blind(choice)) <= 0.55


@pytest.mark.slow
def test_a_pair_of_endings_does_not_say_which_is_true():
    """What the endings say of each other: the difference of their words."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    for dial in (1, 2):
        task = stories_task("choice", 3_000, 0, dial, n_test=2_000)
        counter = CountVectorizer(token_pattern=r".+")  # the whole ending
        counter.fit([choice for e in task.train for choice in e.choices])

        def x(part, counter=counter):
            one, two = (counter.transform([e.choices[i] for e in part]) for i in (0, 1))
            return two - one

        model = LogisticRegression(max_iter=2000, fit_intercept=False)
        model.fit(x(task.train), [e.label for e in task.train])
        assert model.score(x(task.test), [e.label for e in task.test]) <= 0.55


def test_the_tasks_load_by_name(monkeypatch):
    asked = []

    def note(kind, **rest):
        asked.append((kind, rest))
        return stories_task("tags", 20, n_test=1)

    monkeypatch.setattr(tasks, "stories_task", note)
    for name in ("stories-chinese", "stories-spans-3"):
        tasks.load_task(name, seed=2)
    assert asked == [
        ("chinese", {"seed": 2, "difficulty": 1}),
        ("spans", {"seed": 2, "difficulty": 3}),
    ]
    assert all(f"stories-{kind}" in tasks.task_names() for kind in MAKERS)
    with pytest.raises(ValueError, match="no kind for 'stories-tags-2', got 'number'"):
        tasks.load_task("stories-tags-2", kind="number")


def test_what_there_is_not_is_said():
    with pytest.raises(ValueError, match="of 1, 2 or 3, got 'riddles' and 1"):
        stories_task("riddles")
    with pytest.raises(ValueError, match="difficulty of 1, 2 or 3, got 'spans' and 4"):
        stories_task("spans", difficulty=4)
    with pytest.raises(ValueError, match=r"a seed from 0 to 21 .* got 22, n = 2000"):
        stories_task("spans", seed=22)
    with pytest.raises(ValueError, match=r"at least one example, got 0, n = 0 and"):
        stories_task("spans", 0)
