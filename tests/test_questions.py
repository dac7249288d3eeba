"""Questions: every published shape by hand, found by name or by path, mistakes said."""

import json
from pathlib import Path

import pytest

from minigpt import questions, texts
from minigpt.questions import (
    TEST_SETS,
    Question,
    joined,
    last_word,
    load_documents,
    load_questions,
    wikitext,
)

ROWS = {
    "lambada": {"text": "He lit the old lamp"},
    "piqa": {"goal": "Sweep", "sol1": "broom", "sol2": "rope", "label": 1},
    "arc-easy": {"query": "Question: Wet?", "choices": ["rain", "sand"], "gold": 0},
    "winogrande": {
        "context_options": ["Ada saw Bram so Ada", "Ada saw Bram so Bram"],
        "continuation": "waved.",
        "gold": 1,
    },
    "pairs": {"sentence_good": "They are.", "sentence_bad": "They is."},
}
PROMPT = "Question: Sweep\nAnswer:"
EXPECTED = {
    "lambada": Question((("He lit the old", "lamp"),)),
    "piqa": Question(((PROMPT, "broom"), (PROMPT, "rope")), 1),
    "arc-easy": Question(
        (("Question: Wet?\nAnswer:", "rain"), ("Question: Wet?\nAnswer:", "sand"))
    ),
    "winogrande": Question(
        (("Ada saw Bram so Ada", "waved."), ("Ada saw Bram so Bram", "waved.")), 1
    ),
    "pairs": Question((("", "They are."), ("", "They is."))),
}


def written(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def no_data(monkeypatch) -> None:
    monkeypatch.delenv("MINIGPT_DATA", raising=False)


@pytest.mark.parametrize("task", ROWS)
def test_a_file_of_each_task_by_hand(tmp_path, task):
    path = written(tmp_path / "own.jsonl", ROWS[task], ROWS[task])
    assert load_questions(task, path) == [EXPECTED[task]] * 2


def test_the_columns_of_the_hub_mean_the_same(tmp_path):
    arc = {
        "question": "Wet?",
        "choices": {"text": ["rain", "sand"], "label": ["A", "B"]},
        "answerKey": "A",
    }
    path = written(tmp_path / "a.jsonl", arc)
    assert load_questions("arc-easy", path) == [EXPECTED["arc-easy"]]
    blank = {"sentence": "Ada saw Bram so _ waved.", "option1": "Ada"}
    blank |= {"option2": "Bram", "answer": "2"}
    path = written(tmp_path / "w.jsonl", blank)
    assert load_questions("winogrande", path) == [EXPECTED["winogrande"]]
    more = {"sent_more": "a.", "sent_less": "b.", "bias_type": "age"}
    path = written(tmp_path / "c.jsonl", more)
    assert load_questions("pairs", path) == [
        Question((("", "a."), ("", "b.")), 0, "age")
    ]


def test_other_files_than_json_lines(tmp_path):
    (tmp_path / "p.csv").write_text('sent_more,sent_less\n"a, b",c\n', "utf-8")
    assert load_questions("pairs", tmp_path / "p.csv")[0].candidates[0][1] == "a, b"
    (tmp_path / "l.txt").write_text("one two\n\nthree four five\n", "utf-8")
    found = load_questions("lambada", tmp_path / "l.txt")
    assert [q.candidates[0] for q in found] == [("one", "two"), ("three four", "five")]


def test_the_last_word_may_follow_a_line_break():
    assert last_word("a b\n\n“c ").candidates == (("a", "b\n\n“c"),)


def test_the_folder_of_minigpt_data_is_looked_in_first(tmp_path, monkeypatch):
    folder = tmp_path / "piqa-valid"
    folder.mkdir()
    row = {k: v for k, v in ROWS["piqa"].items() if k != "label"}
    written(folder / "valid.jsonl", row, row)
    (folder / "valid-labels.lst").write_text("1\n0\n")
    monkeypatch.setenv("MINIGPT_DATA", str(tmp_path))
    assert [q.answer for q in load_questions("piqa")] == [1, 0]
    (folder / "valid-labels.lst").write_text("1\n")
    with pytest.raises(ValueError, match=r"a label for each of 2 rows in .*lst, got 1"):
        load_questions("piqa", "piqa-valid")


@pytest.mark.parametrize("task", questions.USUAL)
def test_the_hub_is_asked_by_its_own_names(no_data, monkeypatch, task):
    import datasets

    asked = []

    def answer(*args, **options):
        asked.append((args, options))
        row = dict(ROWS[task])
        return [row]

    monkeypatch.setattr(datasets, "load_dataset", answer)
    assert load_questions(task) == [EXPECTED[task]]
    source = TEST_SETS[questions.USUAL[task]]
    assert asked == [
        (
            (source.hub, source.config),
            {"revision": source.revision, "split": source.split},
        )
    ]


def test_in_neither_place_it_says_where_it_was_looked_for(no_data, monkeypatch):
    import datasets

    def refuse(*args, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    want = r"'lambada', looked in MINIGPT_DATA \(not set\) and .*lambada_openai \(Conn"
    with pytest.raises(FileNotFoundError, match=want):
        load_questions("lambada")


@pytest.mark.parametrize(
    ("task", "row", "said"),
    [
        ("piqa", {"goal": "x"}, "columns goal, sol1, sol2, label or query.*got goal"),
        ("piqa", ROWS["piqa"] | {"label": -1}, r"answer from 0 to 1, got -1: take the"),
        ("piqa", ROWS["piqa"] | {"label": "?"}, r"a question for piqa in row 0 of"),
        ("lambada", {"text": "word"}, "a passage of at least two words, got 'word'"),
        (
            "winogrande",
            {"sentence": "a"},
            "columns context_options, continuation, gold",
        ),
    ],
)
def test_a_row_that_is_no_question_is_one_sentence(tmp_path, task, row, said):
    with pytest.raises(ValueError, match=said):
        load_questions(task, written(tmp_path / "x.jsonl", row))


def test_a_wrong_name_or_task_is_one_sentence(no_data):
    with pytest.raises(
        FileNotFoundError, match="expected a file or one of lambada, pi"
    ):
        load_questions("piqa", "no-such-set")
    with pytest.raises(ValueError, match=r"a task among lambada, .*got 'quiz'"):
        load_questions("quiz", "lambada")


def test_marks_join_their_words():
    spaced = ' The film ( 2 @,@ 5 @-@ hour ) is " good " ; it \'s theirs . '
    assert joined(spaced) == 'The film (2,5-hour) is "good"; it\'s theirs.'
    assert joined(" = = Cast = = ") == "== Cast =="
    assert joined(" did n't ") == "didn't"


def test_wikitext_is_cut_at_its_articles_and_its_words_are_counted_as_published():
    text = " \n = One = \n \n a b . \n = no heading = \n \n = Two = \n \n = = c = = \n"
    documents, words = wikitext(text)
    assert documents == ["= One =\n\na b.\n= no heading =", "= Two =\n\n== c =="]
    assert words == len(text.split()) + 9


def test_a_named_text_is_its_held_out_part_and_a_file_is_whole(tmp_path, monkeypatch):
    few = texts._stories(20, 10)
    monkeypatch.setattr(texts, "_stories", lambda: few)
    assert load_documents("stories")[0] == few.documents(few.validation)
    (tmp_path / "a.txt").write_text("all of it, every word", "utf-8")
    assert load_documents(tmp_path / "a.txt") == (["all of it, every word"], None)
    path = written(tmp_path / "b.jsonl", {"text": "one"}, {"text": "two"})
    assert load_documents(path) == (["one", "two"], None)
    with pytest.raises(FileNotFoundError, match="no-such-text"):
        load_documents("no-such-text")


SIZES = {
    "lambada": 5153,
    "piqa": 1838,
    "arc-easy": 2376,
    "winogrande": 1267,
    "pairs": 1508,
}


@pytest.mark.data
@pytest.mark.parametrize("task", SIZES)
def test_published_sets_have_their_sizes(task):
    assert len(load_questions(task)) == SIZES[task]


@pytest.mark.data
def test_wikitext_has_its_published_words_and_articles():
    # 245,569 tokens in the test part (Merity et al. 2017, table 1), 60 articles.
    documents, words = load_documents("wikitext2-valid-test")
    assert (len(documents), words) == (60, 245_569)
