import math
from collections.abc import Iterable, Iterator, Sequence

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from torch import Tensor, nn

from minigpt import stories
from minigpt.ngram import NGram
from minigpt.regret import Regret, draw_regret, xray
from minigpt.stories import END, VALIDATION_SEED

VOCABULARY = stories.vocabulary()
ID = {word: i for i, word in enumerate(VOCABULARY)}


class Words:
    """A tokenizer of one token per word."""

    end_id: int | None = ID[END]

    def encode(self, text: str) -> list[int]:
        return [ID[word] for word in stories.words(text)]

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        said: list[str] = []
        for i in ids:
            before = stories.join(said)
            said.append(VOCABULARY[i])
            yield stories.join(said)[len(before) :]


class Letters:
    """A tokenizer of one token per character."""

    end_id: int | None = 0

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        return map(chr, ids)


class Truth:
    """The model that tells the stories itself."""

    def surprisal(self, tokens: Sequence[int]) -> np.ndarray:
        text = stories.join([VOCABULARY[i] for i in tokens])
        return np.array(stories.surprisal(text))


class Same:
    """Every token has probability 1 / 563, whatever came before."""

    def surprisal(self, tokens: Sequence[int]) -> np.ndarray:
        return np.full(len(tokens), math.log(len(VOCABULARY)))


class Logits(nn.Module):
    """Logits that a test can predict: the next token is the same one again."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.dropout = nn.Dropout(0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        again = nn.functional.one_hot(tokens, len(VOCABULARY))
        return self.scale * self.dropout(again.float())


def held_out(n: int) -> list[stories.Story]:
    return [stories.generate(VALIDATION_SEED + i) for i in range(n)]


def test_the_truth_has_no_regret_at_any_word() -> None:
    for story in held_out(5):
        seen = xray(Truth(), Words(), story)
        assert seen.words == story.words
        np.testing.assert_array_equal(seen.regret, 0)
        assert seen.mean == 0


def test_a_hand_example() -> None:
    # The model says 1/2 and 1/8 where the truth is 1/2 and 1: 0 and 3 ln 2 nats.
    model = np.array([math.log(2), math.log(8)])
    seen = Regret(("the", "tern"), model, np.array([math.log(2), 0.0]))
    np.testing.assert_allclose(seen.regret, [0, 3 * math.log(2)])
    assert seen.mean == pytest.approx(1.5 * math.log(2))
    assert seen.worst(1) == [(1, "tern", pytest.approx(3 * math.log(2)))]
    assert repr(seen) == (
        "regret 1.04 nats per word (model 1.39, truth 0.35)\n"
        "2 words, most at tern 2.1, the 0.0"
    )


def test_guessing_evenly_is_regretted_most_where_the_truth_is_certain() -> None:
    seen = xray(Same(), Words(), stories.generate(0).text)
    assert seen.regret.max() == pytest.approx(math.log(len(VOCABULARY)))
    assert (seen.truth[seen.regret == seen.regret.max()] == 0).all()


def test_every_model_is_worse_than_the_truth_on_average() -> None:
    encode = Words().encode
    told = [[*encode(stories.generate(i).text), ID[END]] for i in range(150)]
    for order in (1, 3):
        model = NGram.train(told, order=order, vocab_size=len(VOCABULARY))
        sums = [xray(model, Words(), story).regret.sum() for story in held_out(30)]
        assert np.mean(sums) > 3 * np.std(sums) / math.sqrt(len(sums))


def test_the_tokens_of_a_word_are_summed() -> None:
    story = stories.generate(0)

    class OnePerToken:
        def surprisal(self, tokens: Sequence[int]) -> np.ndarray:
            return np.ones(len(tokens))

    seen = xray(OnePerToken(), Letters(), story)
    assert seen.model.sum() == len(story.text) + 1  # END is one token
    # "One new …": a word has its letters and the space before it, a mark has none.
    text = stories.join(story.words[:4])
    assert seen.model[:4].sum() == len(text)
    assert seen.model[0] == len(story.words[0])
    assert seen.model[1] == len(story.words[1]) + 1


def test_a_module_is_read_from_the_end_mark_on_and_left_as_it_was() -> None:
    story = stories.generate(0)
    model = Logits().train()
    seen = xray(model, Words(), story)
    assert model.training
    # No word repeats the one before it; each has 1 / (V − 1 + e²), dropout asleep.
    other = math.log(len(VOCABULARY) - 1 + math.exp(2.0))
    before = (END, *seen.words[:-1])
    repeated = np.array(seen.words) == np.array(before)
    np.testing.assert_allclose(seen.model, other - 2.0 * repeated, atol=1e-5)


def test_without_an_end_mark_the_end_is_not_scored() -> None:
    tokenizer = Letters()
    tokenizer.end_id = None
    seen = xray(Same(), tokenizer, stories.generate(0))
    assert END not in seen.words
    assert len(seen.words) == len(seen.model) == len(seen.truth)


def test_an_impossible_word_for_the_model_is_infinite() -> None:
    model = NGram.train([[ID["the"]]], order=1, vocab_size=len(VOCABULARY))
    model.alpha, model.gamma = (np.zeros(2),), (np.zeros(1),)
    seen = xray(model, Words(), stories.generate(0))
    assert seen.mean == math.inf
    assert "inf" in repr(seen)


def test_the_picture_holds_every_word_and_reddens_with_regret() -> None:
    mpl.use("agg")
    story = stories.generate(0)
    n = len(story.words)
    truth = np.zeros(n)
    model = np.linspace(0, 6, n)
    ax = draw_regret(Regret(story.words, model, truth), title="a title")
    title, *lines = (text.get_text() for text in ax.texts)
    assert title == "a title"
    lines = lines[: lines.index("nats lost:")]
    assert " ".join(lines) == story.text + " END"
    assert max(map(len, lines)) <= 52
    sheet, *papers = (patch.get_facecolor() for patch in ax.patches)
    assert sheet == to_rgba("white")
    papers = papers[:-5]  # the scale below; its zero is the sheet
    pale = int((model <= 0.1).sum())  # at first nearly nothing is lost
    assert 1 <= pale < 5
    assert len(papers) == n - pale
    greens = [green for _, green, _, _ in papers]
    assert greens == sorted(greens, reverse=True)
    assert papers[-1] == papers[-2]  # beyond the limit red stays red
    assert all(text.get_color() == "black" for text in ax.texts[1:])
    for word, box in zip(story.words[pale:], ax.patches[1:-5], strict=True):
        left, row = math.ceil(box.get_x()), int(box.get_y())
        under = lines[row][left : math.floor(box.get_x() + box.get_width())]
        assert under == ("END" if word == END else word)
    # The title lies on the sheet, for the page behind may be dark.
    under, paper = ax.texts[0].get_position(), ax.patches[0].get_bbox()
    assert paper.contains(*under)
    assert paper.y0 < under[1] - 0.5
    # Nothing is drawn outside the picture.
    left, right = ax.get_xlim()
    assert all(
        left <= p.get_x() and p.get_x() + p.get_width() <= right for p in ax.patches
    )
    mpl.pyplot.close(ax.figure)


def test_bad_input_is_told_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="got 'Whale' as word 0"):
        xray(Same(), Words(), "Whale of a time.")
    lossy, marks = Letters(), Letters()
    lossy.decode_stream = lambda ids: map(str.lower, map(chr, ids))  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="gives the story back as it was"):
        xray(Same(), lossy, stories.generate(0))
    marks.end_id = None
    with pytest.raises(ValueError, match="tokenizer with an end mark"):
        xray(Logits(), marks, stories.generate(0))
