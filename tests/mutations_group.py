"""Faults of a run that is spread over several processes."""

# (file, tests, rows of name, old, new): `mutations.py` makes its table of them.
Row = tuple[str, ...]
GROUP: list[tuple[str, str, list[Row]]] = [
    (
        "distributed.py",
        "distributed group",
        [
            (
                "shares-overlap",
                "Batch(*(part[self.rank :: self.size] for part in batch))",
                "Batch(*(part[self.rank // 2 :: self.size] for part in batch))",
            ),
            (
                "mean-where-the-sum-is-meant",
                'return 1 if self.kind == "tp" else self.size',
                "return 1",
            ),
            (
                "norm-of-own-shards-alone",
                "squares = squares + self.reduced(sum_of_squares(pieces))",
                "squares = squares + sum_of_squares(pieces)",
            ),
            (
                "all-speak-at-once",
                'self.store.add("said", 1) == 1',
                'self.store.add("said", 1) >= 1',
            ),
            ("a-lost-process-is-a-traceback", 'or "gloo" in str(error)', ""),
            (
                "projections-by-role",
                "rows.unflatten(0, (3, size, -1)).transpose(0, 1).flatten(0, 2)",
                "rows.unflatten(0, (size, 3, -1)).transpose(0, 1).flatten(0, 2)",
            ),
        ],
    ),
    (
        "group.py",
        "group",
        [
            ("empty-rows-count", "value=IGNORE))", "value=0))"),
            ("muon-on-shards", "            self.strategy.adapt(one)\n", ""),
            ("adafactor-on-shards", "and isinstance(one, Adafactor)", "and False"),
            ("all-drop-the-same", "config.seed + self.strategy.rank", "config.seed"),
            (
                "dropout-begins-again",
                "restore_random(mine)",
                "pass",
            ),
            (
                "states-of-other-processes",
                "for name in kept) == self.size:",
                "for name in kept) > 0:",
            ),
            ("sums-after-each-part", "_sync = not more", "_sync = True"),
            (
                "others-wait-for-ever",
                "        try:\n            yield\n        finally:\n",
                "        yield\n        if True:\n",
            ),
            (
                "each-its-own-folder",
                "if started() and",
                "if False and",
            ),
            (
                "loss-of-own-rows",
                "return self.strategy.reduced(number)",
                "return number.double()",
            ),
            (
                "stops-alone",
                "bool(self.strategy.reduced(torch.tensor(stop)) > 0)",
                "stop",
            ),
            (
                "says-nothing-of-how-to-go-on",
                'raise Lost(f"{error}: {how_to_go_on(out)}") from error',
                "raise",
            ),
        ],
    ),
]
