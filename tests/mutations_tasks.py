"""Planted faults of the tasks (chapter 10): rows of (file, tests, faults)."""

TASKS: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "labelled.py",
        "labelled",
        [
            (
                "leak-to-validation-unseen",
                "[*self.train, *self.validation]",
                "self.train",
            ),
            (
                "line-break-hides-a-leak",
                "return tuple(text.strip() for text in example.texts)",
                "return example.texts",
            ),
            (
                "one-too-few-per-class",
                "if seen[self.train[i].label] <= per_class:",
                "if seen[self.train[i].label] < per_class:",
            ),
            ("span-past-the-end", "<= n for one in some)", "<= n + 1 for one in some)"),
        ],
    ),
    (
        "splits.py",
        "splits",
        [
            (
                "one-premise-in-two-parts",
                "groups.setdefault(example.text.strip(), []).append(example)",
                "groups.setdefault(str(example), []).append(example)",
            ),
            (
                "validation-and-test-overlap",
                "ordered = ordered[n:]",
                "ordered = ordered[:]",
            ),
            (
                "rare-class-in-no-test",
                "n = min(max(1, round(share * len(texts))), most)",
                "n = min(round(share * len(texts)), most)",
            ),
            (
                "rare-class-in-no-train",
                "n = min(max(1, round(share * len(texts))), most)",
                "n = max(1, round(share * len(texts)))",
            ),
            (
                "classes-not-alike-in-the-parts",
                'label = first if kind in NAMED else ""',
                'label = ""',
            ),
        ],
    ),
    (
        "rows.py",
        "rows",
        [
            (
                "hidden-label-is-the-last-class",
                'if value is not None and value >= 0 else ""',
                'if value is not None else ""',
            ),
            # Without it an open quotation mark swallows the rows that follow.
            (
                "swallowed-lines",
                "csv.reader(lines, strict=True)",
                "csv.reader(lines)",
            ),
            ("choices-by-letters", "if isinstance(choices, str):", "if False:"),
        ],
    ),
    (
        "published.py",
        "published",
        [
            (
                "absent-start-is-one",
                'one["valueSpan"].get("startIndex", 0)',
                'one["valueSpan"].get("startIndex", 1)',
            ),
            (
                "apostrophe-ends-a-name",
                """((?:(?!['"]: ').)+)""",
                """([^'"]+)""",
            ),
        ],
    ),
    (
        "tasks.py",
        "tasks",
        [
            (
                "hub-before-the-folder",
                "if local is not None and source.files and local.is_dir():",
                "if local is not None and source.files and not source.hub:",
            ),
            (
                "a-tenth-of-a-small-set-is-held-out",
                "held_out = HELD_OUT_EMBEDDED if embedded else HELD_OUT",
                "held_out = HELD_OUT",
            ),
        ],
    ),
    (
        "claims.py",
        "claims",
        [
            (
                "false-value-is-true",
                "if o in roles and roles[o] != true]",
                "if o in roles]",
            ),
            (
                "false-values-unlike-true-ones",
                "        if fine:",
                "        if False:",
            ),
            (
                "a-story-told-twice",
                "self.waiting[plot].remove(story)",
                "self.waiting[plot].rotate()",
            ),
        ],
    ),
    (
        "story_tasks.py",
        "story_tasks",
        [
            (
                "the-first-choice-is-true",
                "label = int(pool.random.random() * 2)",
                "label = 0",
            ),
            (
                "answer-one-word-short",
                "found[-1][1])",
                "found[first.start][1])",
            ),
            (
                "test-part-moves-with-the-seed",
                '(0 if part == "test" else seed * BLOCK)',
                "seed * BLOCK",
            ),
            (
                "english-without-the-name",
                'if role not in (called if form == "he" else named):',
                "if role not in called:",
            ),
        ],
    ),
]
