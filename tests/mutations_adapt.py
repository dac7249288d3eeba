"""Planted faults in heads and what stands around them."""

ADAPT: list[tuple[str, str, list[tuple[str, str, str]]]] = [
    (
        "adapt/batches.py",
        "adapt_batches adapt_heads",
        [
            (
                "padding-read-as-last-token",
                'reads = (last_real if layout.read == "last" else first_real)(mask)',
                "reads[:, -1] = True",
            ),
            (
                "last-of-all-tokens",
                "return mask & (left == 1)",
                "return left == 1",
            ),
            (
                "reads-not-moved-by-left-padding",
                'shift = width - len(item.rows[0]) if padding == "left" else 0',
                "shift = 0",
            ),
        ],
    ),
    (
        "adapt/inputs.py",
        "adapt_inputs",
        [
            (
                "cut-on-the-other-side",
                'return ids[:n] if cut == "right" else ids[len(ids) - n :]',
                'return ids[:n] if cut == "left" else ids[len(ids) - n :]',
            ),
            (
                "cut-not-counted",
                "        cut += sum(map(len, parts)) - sum(map(len, kept))\n",
                "",
            ),
            (
                "a-half-span-taught",
                "whole = whole and places[inside[-1]][1] >= end",
                "whole = bool(whole)",
            ),
            (
                "the-same-order-twice",
                "every.append(every[0][::-1])",
                "every.append(every[0])",
            ),
            (
                "space-before-a-word-in-its-place",
                "places.append((end - len(piece.lstrip()), end))",
                "places.append((at, end))",
            ),
            (
                "a-word-read-at-its-first-token",
                "last[end] = i",
                "last.setdefault(end, max(i - 1, 0))",
            ),
        ],
    ),
    (
        "adapt/scores.py",
        "adapt_scores adapt_heads",
        [
            (
                "a-span-may-end-before-it-starts",
                ".triu().tril(longest - 1)",
                ".tril(longest - 1)",
            ),
            (
                "no-answer-never",
                "        if margin > 0:",
                "        if True:",
            ),
            (
                "many-labels-one-by-one",
                "label = tuple((scores[0] > 0).nonzero()[:, 0].tolist())",
                "label = (int(scores[0].argmax()),)",
            ),
            (
                "number-not-scaled-back",
                "number = layout.centre + layout.spread * scores.item()",
                "number = scores.item()",
            ),
            (
                "choices-padded-with-zero",
                "padding_value=-torch.inf)",
                "padding_value=0.0)",
            ),
        ],
    ),
    (
        "adapt/heads.py",
        "adapt_heads",
        [
            (
                "old-rows-drawn-anew",
                "return torch.cat([weight.detach(), rows.to(weight)])",
                "return torch.cat([torch.randn_like(weight), rows.to(weight)])",
            ),
            (
                "one-order-only",
                "vectors = vectors.unflatten(0, (-1, 2)).sum(1)",
                "vectors = vectors.unflatten(0, (-1, 2))[:, 0]",
            ),
            (
                "padding-predicted",
                "real = batch.mask & batch.mask.roll(-1, 1)",
                "real = torch.ones_like(batch.mask)",
            ),
            (
                "no-mask-on-the-left-either",
                'mask = None if batch.padding == "right" else batch.mask',
                "mask = None",
            ),
            (
                "auxiliary-loss-left-out",
                "loss = loss + lm_weight * own",
                "loss = loss + 0 * own",
            ),
            (
                "predictions-in-order-of-length",
                "return [found[i] for i in range(len(items))]",
                "return list(found.values())",
            ),
            (
                "predicted-with-dropout",
                "        with reading(self):",
                "        with torch.inference_mode():",
            ),
            (
                "the-marks-may-be-written",
                "known[extract] = True",
                "known[:] = True",
            ),
        ],
    ),
    (
        "adapt/saved.py",
        "adapt_saved adapt_heads",
        [
            (
                "cut-off-replacement-left",
                "folder = recovered(Path(path))",
                "folder = Path(path)",
            ),
            (
                "extract-as-padding",
                '"pad_token_id": layout.marks.padding,',
                '"pad_token_id": layout.marks.extract,',
            ),
            (
                "head-not-loaded",
                "        adapted.head.load_state_dict(state)\n",
                "",
            ),
        ],
    ),
    (
        "adapt/metrics.py",
        "adapt_metrics",
        [
            (
                "no-number-is-significant",
                "reached += not abs(chance) < abs(value) - 1e-12",
                "reached += abs(chance) >= abs(value) - 1e-12",
            ),
            (
                "other-labels-compared",
                "(one[:, 0] != two[:, 0]).any()",
                "(one[:, 0] != two[:, 0]).all()",
            ),
            (
                "drawn-without-replacement",
                "return generator.integers(n, size=n)",
                "return generator.permutation(n)",
            ),
            (
                "answers-never-exchanged",
                "generator.random((len(one), 1)) < 0.5",
                "generator.random((len(one), 1)) < 0.0",
            ),
            (
                "ties-do-not-share-a-rank",
                "return (counts.cumsum() - (counts - 1) / 2)[place]",
                "return counts.cumsum()[place]",
            ),
            (
                "a-cut-word-is-nobodys",
                "        counts[right, 2] += 1\n        if other >= 0:",
                "        if other >= 0:\n            counts[right, 2] += 1",
            ),
            (
                "nothing-due-and-nothing-said-is-wrong",
                "    if not seen.any():\n        return 1.0\n",
                "    if not seen.any():\n        return 0.0\n",
            ),
            (
                "groups-of-sureness-count-alike",
                "gaps = (abs(sure - right) * n for sure, right, n in parts)",
                "gaps = (abs(sure - right) for sure, right, n in parts)",
            ),
            (
                "normal-for-students-t",
                "return STUDENT[freedom - 1]",
                "return 1.96",
            ),
        ],
    ),
    (
        "adapt/loop.py",
        "adapt_loop adapt_finetune",
        [
            (
                "no-number-called-the-first-label",
                "_finite(*one.scores,",
                "_finite(",
            ),
            (
                "layers-the-other-way-round",
                "for below, modules in enumerate(reversed(stack)):",
                "for below, modules in enumerate(stack):",
            ),
            (
                "one-block-too-many-frozen",
                "n_blocks == 0 or depth > n_blocks",
                "n_blocks == 0 or depth > n_blocks + 1",
            ),
            (
                "the-last-epoch-kept",
                "    adapted.load_state_dict(kept, strict=False)\n",
                "",
            ),
            (
                "kept-without-a-copy",
                "kept = {n: w.clone() for n, w in state.items() if n in moved}",
                "kept = {n: w for n, w in state.items() if n in moved}",
            ),
            (
                "gradients-of-old-batches",
                "        self.optimizer.zero_grad()\n",
                "",
            ),
            (
                "a-weight-for-each-example-not-each-class",
                "torch.tensor([total / (n * max(1, counts[i])) for i in range(n)])",
                "torch.tensor([counts[i] * n / total for i in range(n)])",
            ),
            (
                "patience-without-end",
                "            waited += 1\n",
                "            waited = 1\n",
            ),
            (
                "trained-without-dropout",
                "        self.adapted.train()\n",
                "        self.adapted.eval()\n",
            ),
        ],
    ),
    (
        "adapt/finetune.py",
        "adapt_finetune",
        [
            (
                "the-base-is-trained",
                "copy.deepcopy(base.model),",
                "base.model,",
            ),
            (
                "tested-on-validation",
                "for example in task.test]",
                "for example in task.validation]",
            ),
            (
                "labels-matched-by-place",
                "own = named(task.labels, layout)",
                "own = list(range(len(task.labels)))",
            ),
            (
                "spans-out-of-reach-not-counted",
                "            lost += due - sum(",
                "            lost += 0 * sum(",
            ),
            (
                "the-other-side-said",
                "        side=config.cut,\n",
                '        side="right",\n',
            ),
            (
                "dropout-from-anywhere",
                "        torch.manual_seed(config.seed)\n",
                "",
            ),
        ],
    ),
    (
        "adaptflags.py",
        "adaptflags",
        [
            (
                "trained-before-the-folder-is-looked-at",
                "    place_for(arguments.out)\n",
                "",
            ),
            (
                "labels-by-their-place-in-the-table",
                "return example._replace(label=named([str(label)], layout)[0])",
                "return example._replace(label=0)",
            ),
            (
                "empty-rows-read",
                "    if not text.strip():\n",
                "    if text is None:\n",
            ),
            (
                "cut-in-silence",
                "    if cut:\n        yield (",
                "    if cut < 0:\n        yield (",
            ),
            (
                "a-row-dropped",
                "            p = sure(one)\n",
                "            p = sure(one)\n"
                "            if one is said[0]:\n"
                "                continue\n",
            ),
            (
                "any-kind-for-a-known-task",
                "    if kind not in (None, task.kind):\n",
                "    if kind is ...:\n",
            ),
        ],
    ),
    # Chapter 11.
    (
        "adapt/scores.py",
        "adapt_scores adapt_heads",
        [
            (
                "no-answer-at-the-first-token",
                "float(both[place] - starts[-1] - ends[-1])",
                "float(both[place] - starts[0] - ends[0])",
            ),
            (
                "one-token-more-than-the-longest-span",
                ".triu().tril(longest - 1)",
                ".triu().tril(longest)",
            ),
        ],
    ),
    (
        "adapt/inputs.py",
        "adapt_inputs",
        [
            (
                "the-question-behind-the-text",
                "    kept = _fitted(parts, layout)\n    n = len(kept[-1])\n",
                "    kept = _fitted(parts, layout)[::-1]\n    n = len(kept[-1])\n",
            ),
            (
                "every-choice-in-one-row",
                "every = [[*texts, choice] for choice in example.choices] or [texts]",
                "every = [[*texts, *example.choices]]",
            ),
        ],
    ),
    (
        "adapt/heads.py",
        "adapt_heads",
        [
            (
                "the-row-predicts-itself",
                "goals = batch.tokens.roll(-1, 1)",
                "goals = batch.tokens.clone()",
            ),
        ],
    ),
]
