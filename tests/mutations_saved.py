"""Faults of saving and loading: storage, foreign names, checkpoints, the hub."""

# (file, tests, rows of name, old, new): `mutations.py` makes its table of them.
Row = tuple[str, ...]
SAVED: list[tuple[str, str, list[Row]]] = [
    (
        "storage.py",
        "storage",
        [
            ("not-synced", "        _sync(temporary)\n", ""),
            (
                "temporary-left-behind",
                "        temporary.unlink(missing_ok=True)\n",
                "",
            ),
        ],
    ),
    (
        "foreign.py",
        "foreign pretrained",
        [
            (
                "exact-gelu-taken-for-tanh",
                '            "gelu_fast",\n',
                '            "gelu_fast",\n            "gelu",\n',
            ),
            (
                "layer-scale-ignored",
                '"scale_attn_by_inverse_layer_idx": (False,)',
                '"scale_attn_by_inverse_layer_idx": (False, True)',
            ),
            (
                "gpt1-reads-n_inner",
                'if theirs in fields and (theirs != "n_inner" or kind == "gpt2")',
                "if theirs in fields",
            ),
            (
                "prefix-demanded",
                "name.removeprefix(PREFIX): name for name in found if",
                "name: name for name in found if",
            ),
            ("old-mask-is-a-weight", "(bias|masked_bias)", "(bias)"),
            ("second-spelling-ignored", "fields[name] = found[alias]", "pass"),
            (
                "no-end-for-transformers",
                '"eos_token_id": end_id,',
                '"eos_token_id": None,',
            ),
        ],
    ),
    (
        "checkpoint.py",
        "checkpoint pretrained",
        [
            (
                "projection-not-turned",
                "name: (state[ours].T if turned else state[ours])",
                "name: state[ours]",
            ),
            (
                "not-turned-back",
                "return tensor.read().T if turned else tensor.read()",
                "return tensor.read()",
            ),
            (
                "memory-not-asked-for",
                "require_memory(config.n_parameters * dtype.itemsize + largest",
                "require_memory(0 * config.n_parameters",
            ),
            ("untied-head-dropped", "    if match.copy:\n", "    if False:\n"),
            (
                "a-shard-is-enough",
                "sorted(set(table.values()))",
                "[*table.values()][:1]",
            ),
            ("dtype-not-written", "dtype=dtype, end_id", "end_id"),
            ("infinity-saved", "not rounded.isfinite().all()", "rounded.isnan().any()"),
            ("vocabulary-unchecked", "tokenizer.vocab_size > config", "0 > config"),
            ("path-out-of-the-folder", "and Path(file).name == file", ""),
        ],
    ),
    (
        "release.py",
        "release",
        [
            (
                "pieces-misjoined",
                "row[first - self.start : last - self.start] = part",
                "row[: last - first] = part",
            ),
            ("objects-unpickled", "allow_pickle=False", "allow_pickle=True"),
            (
                "release-not-turned",
                "return weight.T if turned else weight",
                "return weight",
            ),
        ],
    ),
    (
        "pretrained.py",
        "hub pretrained",
        [
            ("hub-before-shipped", "    if name in shipped():\n", "    if False:\n"),
            ("whole-repository", "allow_patterns=list(NEEDED)", "allow_patterns=None"),
            (
                "run-asked-of-the-hub",
                "HUB_NAME.fullmatch(name) and not Path(name).parent.is_dir()",
                "HUB_NAME.fullmatch(name)",
            ),
        ],
    ),
    (
        "hardware.py",
        "hardware",
        [
            (
                "file-pages-counted",
                'return limit - int(counts["anon"])',
                'return limit - int(counts["anon"]) - int(counts["file"])',
            ),
        ],
    ),
    (
        "callbacks.py",
        "callbacks",
        [
            (
                "validation-as-training",
                '"loss/training": record.loss',
                '"loss/training": record.validation_loss or record.loss',
            ),
            ("steps-from-zero", "value, record.step)", "value, record.step - 1)"),
            (
                "reference-of-the-step-before",
                "get(record.step)",
                "get(record.step - 1)",
            ),
        ],
    ),
    (
        "bookstyle.py",
        "bookstyle",
        [
            (
                "words-as-pale-as-lines",
                "return LETTERS.get(colour, colour)",
                "return colour",
            ),
            ("number-on-grey", "if abs(share - 0.5) < 0.2:", "if False:"),
        ],
    ),
    (
        "regret.py",
        "regret",
        [
            ("title-off-the-sheet", "top = -1.6 if title else -0.3", "top = -0.3"),
        ],
    ),
]
