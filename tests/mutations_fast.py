"""Faults of what makes runs fast: packed weights, hardware, memory foreseen."""

# (file, tests, rows of name, old, new): `mutations.py` makes its table of them.
Row = tuple[str, ...]
FAST: list[tuple[str, str, list[Row]]] = [
    (
        "packed.py",
        "packed",
        [
            (
                "shares-lose-a-row",
                "self._starts = torch.arange(shares) * n_rows // shares",
                "self._starts = 1 + torch.arange(shares) * n_rows // shares",
            ),
            (
                "sum-of-rows-without-bias",
                "        y = y if self.bias is None else y + self.bias\n",
                "",
            ),
            (
                "one-scale-for-all-rows",
                "rows.abs().amax(1, keepdim=True)",
                "rows.abs().amax().expand(len(rows), 1)",
            ),
            (
                "cut-off-instead-of-rounded",
                "(rows / scale).round()",
                "(rows / scale)",
            ),
            ("overflow-not-asked-for", "for most in (127, 63):", "for most in (127,):"),
            (
                "packed-band-forgotten",
                "real=mask, window=self.window, device=x.device",
                "real=mask, window=None, device=x.device",
            ),
            (
                "packed-norm-at-one-place",
                "self.norm1(x) if self.pre else x",
                "self.norm1(x)",
            ),
            (
                "packed-weights-saved",
                "        self.register_state_dict_pre_hook(_refuse_saving)\n",
                "",
            ),
            (
                "packed-table-shared-with-the-original",
                "weight.T.clone(memory_format=torch.contiguous_format).T",
                "weight",
            ),
        ],
    ),
    (
        "replay.py",
        "replay",
        [
            (
                "empty-slots-are-real",
                "self._real.zero_()",
                "self._real.fill_(True)",
            ),
            (
                "padding-is-real",
                "self._real[:, : at + 1] = mask",
                "self._real[:, : at + 1] = True",
            ),
            (
                "slot-off-by-one",
                "self._slots.slot.fill_(at)",
                "self._slots.slot.fill_(max(0, at - 1))",
            ),
            (
                "replayed-step-not-counted",
                "        self.cache.count_one_more()\n",
                "",
            ),
        ],
    ),
    (
        "hardware.py",
        "hardware",
        [
            (
                "a1000-taken-for-a100",
                r'if re.search(rf"\b{part}\b", name):',
                "if part in name:",
            ),
            (
                "kept-memory-forgotten",
                "return torch.cuda.mem_get_info(device)[0] + kept",
                "return torch.cuda.mem_get_info(device)[0]",
            ),
            (
                "whole-card-counted-as-free",
                "torch.cuda.mem_get_info(device)[0] + kept",
                "torch.cuda.mem_get_info(device)[1] + kept",
            ),
            (
                "copy-counted-once",
                "return 2 * source.nbytes / _quickest",
                "return source.nbytes / _quickest",
            ),
            (
                "bfloat16-where-it-is-emulated",
                "return torch.bfloat16 if major >= 8 else torch.float16",
                "return torch.bfloat16 if major >= 7 else torch.float16",
            ),
            (
                "float16-without-scaler",
                "return self.dtype == torch.float16",
                "return self.dtype == torch.bfloat16",
            ),
            (
                "measured-rate-called-the-makers",
                "'its maker' if known else",
                "'its maker' if flops else",
            ),
            (
                "container-forgotten",
                "return min(known) if known else None",
                "return max(known) if known else None",
            ),
        ],
    ),
    (
        "plan.py",
        "plan",
        [
            (
                "what-is-there-counted-again",
                "return memory.total - held",
                "return memory.total",
            ),
            (
                "smallest-part-advised",
                "in reversed(sizes)),",
                "in sizes),",
            ),
            ("values-forgotten", "return 2 * config.n_layer", "return config.n_layer"),
        ],
    ),
    (
        "run.py",
        "plan run",
        [
            (
                "memory-not-foreseen",
                "foresee(model.config, config, train, held=sum(held))",
                "pass",
            ),
            (
                "measured-called-known",
                '"peak_measured": not known',
                '"peak_measured": known',
            ),
        ],
    ),
    (
        "decoding.py",
        "plan",
        [
            (
                "cache-not-foreseen",
                "            _foresee(model, len(rows), capacity)\n",
                "",
            ),
        ],
    ),
    (
        "recipe.py",
        "plan train",
        [
            (
                "short-stories-counted-as-windows",
                "windows * train.shape[1] / shape.context_length",
                "windows * shape.context_length / shape.context_length",
            ),
            ("kernel-not-passed-on", "attention=self.attention,", 'attention="auto",'),
        ],
    ),
    (
        "cli.py",
        "cli",
        [
            (
                "model-made-before-its-memory-is-foreseen",
                "foresee(model_config, config, corpus.train)",
                "pass",
            ),
        ],
    ),
]
