"""What a hand-written set of labelled texts must be; its own test names the numbers."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from minigpt.labelled import Examples, Task

WORD = re.compile(r"[^\W_]+")
Trigram = tuple[str, ...]


def trigrams(text: str) -> set[Trigram]:
    """Every three words in a row, lower-cased and without their marks."""
    words = WORD.findall(text.lower())
    return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}


def closest(texts: Sequence[str]) -> tuple[float, str, str]:
    """The largest share of its trigrams that a text has in common with another.

    Only texts that share a trigram are compared: an index from trigram to texts
    finds them, where all pairs of a thousand would be half a million.
    """
    of = [trigrams(text) for text in texts]
    having: dict[Trigram, list[int]] = defaultdict(list)
    for i, own in enumerate(of):
        for trigram in own:
            having[trigram].append(i)
    best = (0.0, "", "")
    for i, own in enumerate(of):
        shared = Counter(j for trigram in own for j in having[trigram] if j != i)
        for j, n in shared.items():
            best = max(best, (n / len(own), texts[i], texts[j]))
    return best


def by_words(train: Examples, test: Examples) -> float:
    """How often words and word pairs tell the label: TF-IDF, logistic regression."""
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    known = vectors.fit_transform([e.text for e in train])
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(known, [e.label for e in train])
    new = vectors.transform([e.text for e in test])
    return float(model.score(new, [e.label for e in test]))


def a_fifth(task: Task) -> float:
    """The accuracy of words on the held-out fifth, learnt from the other four."""
    return by_words([*task.train, *task.validation], task.test)
