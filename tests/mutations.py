"""One-line faults, each of which must turn a test red (`make mutants`).

A fault is a line of the package, exactly as it stands there and only once, and what a
tired author might have written. `tests` names the files in tests/ that must notice,
`chapter` the notebook that is run besides. The table grows with each chapter; a fault
that nothing notices is a test to write.
"""

from dataclasses import dataclass

from tests.mutations_adapt import ADAPT
from tests.mutations_evaluate import EVALUATE
from tests.mutations_fast import FAST
from tests.mutations_group import GROUP
from tests.mutations_saved import SAVED
from tests.mutations_tasks import TASKS


@dataclass(frozen=True)
class Mutation:
    """One planted fault."""

    name: str
    file: str
    old: str
    new: str
    tests: str  # names of test files, without test_ and .py
    chapter: str = ""


def _in(file: str, tests: str, *rows: tuple[str, ...]) -> list[Mutation]:
    """Rows of (name, old, new) or (name, old, new, chapter) for one file."""
    return [Mutation(row[0], file, row[1], row[2], tests, *row[3:]) for row in rows]


MUTATIONS: list[Mutation] = [
    *_in(
        "attention.py",
        "attention model",
        (
            "no-scale",
            "scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)",
            "scores = q @ k.transpose(-2, -1)",
            "03",
        ),
        ("mask-off-by-one", "allowed = key <= query", "allowed = key < query", "03"),
        ("window-off-by-one", "(query - key < window)", "(query - key <= window)"),
        (
            "fused-not-causal",
            "whole = mask is None and n_query == n_key",
            "whole = False",
            "03",
        ),
        (
            "padding-attended",
            "causal_mask(n_query, n_key, device=device) & real[:, None, None, :]",
            "causal_mask(n_query, n_key, device=device)[None, None]",
        ),
        (
            "band-counts-padding",
            "place = real.cumsum(-1)",
            "place = torch.ones_like(real).cumsum(-1)",
        ),
        (
            "row-of-nothing-not-zero",
            "return weights if plain else weights.masked_fill(~mask, 0.0)",
            "return weights",
        ),
        (
            "softmax-over-queries",
            "scores.softmax(-1)",
            "scores.softmax(-2)",
            "03",
        ),
        (
            "scale-after-the-product",
            "scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)",
            "scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5",
        ),
        (
            "heads-interleaved",
            "part.unflatten(-1, (self.n_head, -1)).transpose(1, 2)",
            "part.unflatten(-1, (-1, self.n_head)).permute(0, 3, 1, 2)",
        ),
        (
            "band-counts-columns",
            "place = real.cumsum(-1)",
            "place = torch.ones_like(real).cumsum(-1)",
        ),
        (
            "keys-for-values",
            "self.keys[layer, :, :, :end], self.values[layer, :, :, :end]",
            "self.keys[layer, :, :, :end], self.keys[layer, :, :, :end]",
        ),
        (
            "dropout-when-reading",
            "dropout = self.dropout if self.training else 0.0",
            "dropout = self.dropout",
        ),
    ),
    *_in(
        "model.py",
        "model plan",
        ("kept-all-the-same", "again = self.recompute and", "again = False and"),
        (
            "cache-position-off",
            "positions = torch.arange(past, total, device=tokens.device)",
            "positions = torch.arange(total - past, device=tokens.device)",
        ),
        (
            "positions-count-padding",
            "positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, past:]",
            "positions = torch.arange(past, total, device=tokens.device)[None]",
        ),
        ("gelu-exact", 'approximate="tanh"', 'approximate="none"'),
        (
            "residual-lost",
            "return x + self.dropout(self.mlp(self.norm2(x)))",
            "return self.dropout(self.mlp(self.norm2(x)))",
        ),
        (
            "post-norm-residual-lost",
            "return self.norm2(x + self.dropout(self.mlp(x)))",
            "return self.norm2(self.dropout(self.mlp(x)))",
        ),
        ("norm-eps", "norm_eps: float = 1e-5", "norm_eps: float = 1e-3"),
        ("final-norm-lost", "return self.final_norm(x)", "return x"),
        (
            "tie-lost",
            "return F.linear(hidden, self.token_embedding.weight)",
            "return F.linear(hidden, self.token_embedding.weight.detach())",
        ),
        (
            "init-not-shrunk",
            "shrink = (2 * self.config.n_layer) ** -0.5",
            "shrink = (1 * self.config.n_layer) ** -0.5",
        ),
        (
            "init-of-gpt1-shrunk",
            'if self.config.norm == "pre" else 1\n',
            "\n",
        ),
        ("blocks-never-made-again", "again = self.recompute and", "again = False and"),
        (
            "band-on-even-layers",
            "config.band if i % 2 else None",
            "None if i % 2 else config.band",
        ),
    ),
    *_in(
        "data.py",
        "data train",
        (
            "label-shift",
            "return Batch(rows[:, :-1].clamp(min=0), rows[:, 1:].contiguous())",
            "return Batch(rows[:, :-1].clamp(min=0), rows[:, :-1].contiguous())",
        ),
        (
            "last-window-never-drawn",
            "len(self.tokens) - len(self.offsets) + 1,",
            "len(self.tokens) - len(self.offsets),",
        ),
    ),
    *_in(
        "texts.py",
        "texts",
        (
            "splits-overlap",
            "return Text(name, text[:cut], text[cut:])",
            "return Text(name, text, text[cut:])",
        ),
        (
            "stories-told-twice",
            "fresh = [story.text for story in held if story.text not in seen]",
            "fresh = [story.text for story in held]",
        ),
    ),
    *_in(
        "optim.py",
        "optim",
        (
            "decay-on-biases",
            'for p in trainable if p.ndim < 2], "weight_decay": 0.0}',
            'for p in trainable if p.ndim < 2], "weight_decay": weight_decay}',
        ),
        (
            "no-bias-correction",
            "root = (v / (1 - beta2**t)).sqrt_()",
            "root = (v / 1).sqrt_()",
        ),
        ("warm-up-from-nothing", "return (step + 1) / warmup", "return step / warmup"),
        (
            "muon-without-momentum",
            'return g.lerp(state["momentum"], beta)',
            "return g",
        ),
    ),
    *_in(
        "train.py",
        "train run",
        (
            "validation-with-dropout",
            "    model.eval()\n",
            "    model.train()\n",
        ),
        (
            "mean-of-means",
            "loss = mean * ((wanted != IGNORE).sum() / count)",
            "loss = mean * (len(wanted) / len(inputs))",
        ),
        ("waits-for-each-part", "+= loss.detach()", "+= loss.item()"),
        ("recompute-ignored", "    if config.recompute:\n", "    if False:\n"),
        (
            "gradients-pile-up",
            "        optimizer.zero_grad()\n",
            "",
        ),
        (
            "padding-counted",
            "return total / (goals != ignore_index).sum().clamp(min=1)",
            "return total / goals.numel()",
        ),
        (
            "rest-of-the-split-lost",
            "if whole < len(tokens) - 1:",
            "if whole < 0:",
        ),
    ),
    *_in(
        "alone.py",
        "alone train",
        (
            "no-clipping",
            "clip_grad_norm_(model.parameters(), limit)",
            "clip_grad_norm_(model.parameters(), 1e9)",
        ),
        ("dropout-starts-again", "        restore_random(kept)\n", ""),
    ),
    *_in(
        "run.py",
        "run train",
        (
            "data-starts-again",
            "        self.batches.restore(place)\n",
            "",
        ),
        ("worst-kept-as-best", "return min((x for x in", "return max((x for x in"),
    ),
    *_in(
        "sampling.py",
        "sampling",
        ("temperature-multiplied", "return logits / self.t", "return logits * self.t"),
        ("top-k-drops-the-kth", "logits < kth", "logits <= kth"),
        (
            "top-p-stops-early",
            "(before >= self.p) & (before > 0)",
            "(before + probabilities >= self.p) & (before > 0)",
        ),
        (
            "penalty-helps-the-unlikely",
            "torch.where(seen > 0, seen / self.r, seen * self.r)",
            "seen / self.r",
        ),
        (
            "samplers-in-reverse",
            "for sampler in self.samplers:",
            "for sampler in reversed(self.samplers):",
        ),
    ),
    *_in(
        "decoding.py",
        "decoding generate",
        ("eval-forgotten", "    model.eval()\n", ""),
        (
            "padding-read-as-last",
            "at = (self.mask * columns).argmax(-1) - past",
            "at = columns.expand_as(self.mask).argmax(-1) - past",
        ),
        (
            "cache-not-reset",
            "            self.cache.reset()\n",
            "            pass\n",
        ),
        (
            "whole-context-kept",
            "row[-max(1, context // 2) :]",
            "row[-context:]",
        ),
        (
            "stops-not-checked",
            "if not all(0 <= i <= most for i in stop):",
            "if not all(0 <= i for i in stop):",
        ),
        (
            "finished-rows-kept-in-the-cache",
            "            self.cache.select(keep)\n",
            "            pass\n",
        ),
    ),
    *_in(
        "generate.py",
        "generate",
        (
            "story-without-its-mark",
            "if end is not None and (not ids or isinstance(tokenizer, WordTokenizer)):",
            "if end is not None and not ids:",
        ),
        (
            "beam-score-not-normalised",
            "done.append((total / n**length_penalty, [*texts[beam], token]))",
            "done.append((total, [*texts[beam], token]))",
        ),
        (
            "longest-stop-first",
            "yield held[: min(found)]",
            "yield held[: max(found)]",
        ),
    ),
    *_in(
        "grammar.py",
        "stories",
        (
            "wrong-probability",
            '(line, weight * plot["weight"] / total, limit, later)',
            "(line, weight / len(PLOTS), limit, later)",
        ),
        (
            "probability-not-normalised",
            "return {word: share / total for word, share in shares}, groups",
            "return {word: share for word, share in shares}, groups",
        ),
    ),
    *_in(
        "ngram.py",
        "ngram",
        (
            "raw-counts-below",
            "raw = level.counts if n == len(levels) - 1 else level.adjusted",
            "raw = level.counts",
        ),
        (
            "start-predicted",
            "return np.where(level.keys % level.base == level.base - 1, 0, counts)",
            "return counts",
        ),
    ),
    *_in(
        "regret.py",
        "regret",
        (
            "regret-turned-round",
            "return self.model - self.truth",
            "return self.truth - self.model",
        ),
    ),
    *_in(
        "bpe.py",
        "bpe subword",
        (
            "rarest-pair-first",
            "heap = [(-n, turned[a], turned[b], a, b)",
            "heap = [(n, turned[a], turned[b], a, b)",
        ),
        ("space-not-left-to-the-word", r"|\s+(?!\S)|\s+", r"|\s+"),
        ("digits-of-ascii-only", r" ?\p{N}+|", " ?[0-9]+|"),
        (
            "half-a-surrogate-passes",
            "text.encode()",
            'text.encode("utf-8", "surrogatepass")',
        ),
    ),
    *_in(
        "subword.py",
        "subword",
        (
            "stream-forgets-a-word",
            "held = held[starts[-2] :]",
            "held = held[starts[-1] :]",
        ),
    ),
    *_in(
        "raterange.py",
        "raterange",
        ("loss-before-the-step", "rates[moved - 1], record", "rates[moved], record"),
        ("weights-left-moved", "        model.load_state_dict(before)\n", ""),
        ("place-in-the-text-lost", "stream.restore(place)", "pass"),
        ("flattest-for-steepest", "[: bottom + 1].argmin()", "[: bottom + 1].argmax()"),
    ),
    *(m for file, tests, rows in SAVED for m in _in(file, tests, *rows)),
    *(m for file, tests, rows in TASKS for m in _in(file, tests, *rows)),
    *(m for file, tests, rows in ADAPT for m in _in(file, tests, *rows)),
    *(m for file, tests, rows in EVALUATE for m in _in(file, tests, *rows)),
    *(m for file, tests, rows in FAST for m in _in(file, tests, *rows)),
    *(m for file, tests, rows in GROUP for m in _in(file, tests, *rows)),
]
