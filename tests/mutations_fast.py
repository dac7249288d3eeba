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
]
