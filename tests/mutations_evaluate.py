"""Planted faults of evaluation (chapter 7): rows of (file, tests, faults)."""

EVALUATE: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "scoring.py",
        "scoring",
        [
            (
                "last-window-short",
                "yield Window(max(0, end - context - 1), at, end)",
                "yield Window(max(0, at + stride - context - 1), at, end)",
            ),
            (
                "a-token-scored-twice",
                "        at = end\n",
                "        at = max(at + 1, end - 1)\n",
            ),
            (
                "first-window-one-short",
                "max(context + 1, at + stride)",
                "max(context, at + stride)",
            ),
            (
                "scored-one-place-early",
                "kept[i, at - begin - 1 : end - begin - 1] = True",
                "kept[i, max(0, at - begin - 2) : end - begin - 2] = True",
            ),
            (
                "end-mark-scored",
                "return Row([*before, *tokens], max(1, len(before)))",
                "return Row([*before, *tokens], 1)",
            ),
            (
                "bytes-of-the-mark-counted",
                "n_bytes[len(tokens) - (len(row.tokens) - row.first) :]",
                "n_bytes",
            ),
            (
                "characters-for-bytes",
                "np.array([len(piece.encode()) for piece in pieces], dtype=float)",
                "np.array([len(piece) for piece in pieces], dtype=float)",
            ),
            (
                "tokens-as-if-independent",
                "np.linspace(0, len(row), STRETCHES, endpoint=False)",
                "np.linspace(0, len(row), len(row), endpoint=False)",
            ),
        ],
    ),
    (
        "questions.py",
        "questions",
        [
            (
                "answer-counted-from-one",
                'return Question(candidates, int(row["answer"]) - 1)',
                'return Question(candidates, int(row["answer"]) % 2)',
            ),
            (
                "first-word-for-last",
                'read, _, word = text.rstrip().rpartition(" ")',
                'word, _, read = text.rstrip().partition(" ")',
            ),
            (
                "a-line-taken-for-a-heading",
                r'heading = r"(?m)^ ?\n = [^=\n]+ = \n(?= ?\n)"',
                r'heading = r"(?m)^ = [^=\n]+ = \n(?= ?\n)"',
            ),
            (
                "lines-not-counted-as-words",
                'words = len(text.split()) + text.count("\\n")',
                "words = len(text.split())",
            ),
        ],
    ),
    (
        "answers.py",
        "answers",
        [
            (
                "space-left-out",
                'scored = f" {scored}" if read else scored',
                "scored = scored",
            ),
            (
                "a-tie-is-a-hit",
                "all(scores[answer] > s for",
                "all(scores[answer] >= s for",
            ),
            (
                "normed-by-tokens",
                "[max(1, len(text)) for _, text in question.candidates]",
                "[max(1, len(one.nats)) for one in scored]",
            ),
            (
                "wald-for-wilson",
                "half = math.sqrt(z2 * (p * (1 - p) + z2 / 4)) / (1 + z2)",
                "half = math.sqrt(z2 * p * (1 - p)) / (1 + z2)",
            ),
        ],
    ),
    (
        "lastword.py",
        "lastword",
        [
            (
                "one-token-is-enough",
                "bool(one.greedy.all())",
                "bool(one.greedy.any())",
            ),
            (
                "no-stop-words",
                'words[i] = "" if word.lower() in STOP_WORDS else word',
                "words[i] = word",
            ),
            (
                "guessed-from-the-padding",
                "last = torch.tensor([len(prompt) - 1 for prompt in prompts]",
                "last = torch.tensor([tokens.shape[1] - 1 for _ in prompts]",
            ),
        ],
    ),
    (
        "evaluate.py",
        "evaluate",
        [
            (
                "stride-not-handed-on",
                "        stride=stride,\n",
                "",
            ),
            (
                "limit-forgotten",
                "load_questions(task, name)[:limit]",
                "load_questions(task, name)",
            ),
        ],
    ),
]
