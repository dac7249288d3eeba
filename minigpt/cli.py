"""Chapter 0. The command line: `minigpt train`, then `minigpt generate`.

Thin on purpose: it reads flags, calls the package and prints. The flags of a model and
of a run are the fields of `GPTConfig` and `TrainConfig`; their help is the text under
"Attributes" there. Bad input ends with one line and exit code 2.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from minigpt import adaptflags
from minigpt.alone import Lost, Processes
from minigpt.callbacks import Interrupt, Progress, Reading
from minigpt.corpus import load_corpus
from minigpt.evaluate import TASKS, evaluate
from minigpt.flags import Parser, given
from minigpt.generate import Greedy, Sampler, Temperature, TopK, TopP, stream
from minigpt.hardware import DTYPES, choose, cpu_threads, roofline
from minigpt.model import GPT, GPTConfig
from minigpt.plan import GPUS, plan
from minigpt.pretrained import (
    describe,
    export,
    load_pretrained,
    reference_curve,
    shipped,
    summarize,
)
from minigpt.questions import TEST_SETS
from minigpt.recipe import foresee
from minigpt.run import StepRecord, TrainConfig
from minigpt.texts import names
from minigpt.tokenizer import Tokenizer
from minigpt.train import Diverged, fit
from minigpt.trainflags import LOGS, SMALL, add_train


def build_parser() -> Parser:
    """Every command with its flags."""
    parser = Parser(prog="minigpt", description="Train a GPT and write text with it.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a model on a text")
    add_train(train)
    train.set_defaults(run=run_train)

    write = commands.add_parser("generate", help="continue a prompt")
    write.add_argument("--model", required=True, help="saved folder, or a known name")
    write.add_argument("--prompt", default="", help="the text to continue")
    write.add_argument("--max-new-tokens", type=int, default=300, help="(default: 300)")
    write.add_argument(
        "--temperature", type=float, default=0.8, help="0 is greedy (default: 0.8)"
    )
    write.add_argument("--top-k", type=int, help="only the k likeliest tokens")
    write.add_argument("--top-p", type=float, help="the fewest tokens of this mass")
    write.add_argument("--seed", type=int, help="of the draws; the same text again")
    write.set_defaults(run=run_generate)

    info = commands.add_parser("info", help="this machine, the texts, or a saved model")
    known = f"run/best, {', '.join(shipped())}, openai-community/gpt2, …"
    info.add_argument("--model", help=f"saved folder, or a known name: {known}")
    info.set_defaults(run=run_info)
    add_export(commands.add_parser("export", help="copy a model to use elsewhere"))
    add_evaluate(commands.add_parser("evaluate", help="measure a model on a test set"))
    add_plan(commands.add_parser("plan", help="memory and time of a run, beforehand"))
    tune = commands.add_parser("finetune", help="teach a model a labelled task")
    adaptflags.add_finetune(tune)
    tune.set_defaults(run=run_finetune)
    read = commands.add_parser("predict", help="say what a fine-tuned model says")
    adaptflags.add_predict(read)
    read.set_defaults(run=run_predict)
    return parser


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The flags of `minigpt evaluate`."""
    parser.add_argument("--model", required=True, help="saved folder, or a known name")
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument(
        "--data",
        help=f"a file of your own, or one of {', '.join(TEST_SETS)} (default: the "
        f"task's own); for perplexity a file, or the part of {', '.join(names())} "
        f"that is held out",
    )
    parser.add_argument(
        "--stride",
        type=int,
        help="for perplexity: tokens scored in each window (default: half the context)",
    )
    parser.add_argument(
        "--limit", type=int, help="first questions only; of texts, first characters"
    )
    parser.add_argument("--json", type=Path, help="write every figure here too")
    parser.add_argument("--device", default="auto", help="(default: auto)")
    parser.add_argument(
        "--precision",
        default="float32",
        help="of the products; figures change in the fourth digit (default: float32)",
    )
    parser.set_defaults(run=run_evaluate)


def add_export(parser: argparse.ArgumentParser) -> None:
    """The flags of `minigpt export`."""
    parser.add_argument("--model", required=True, help="saved folder, or a known name")
    parser.add_argument("--out", type=Path, required=True, help="new or empty folder")
    parser.add_argument(
        "--dtype", choices=DTYPES, help="of the weights (default: as they are stored)"
    )
    parser.add_argument(
        "--format",
        choices=["huggingface", "minigpt"],
        default="huggingface",
        help="minigpt also holds banded layers and layers without biases "
        "(default: huggingface)",
    )
    parser.set_defaults(run=run_export)


def add_plan(parser: argparse.ArgumentParser) -> None:
    """The flags of `minigpt plan`."""
    parser.add_argument("--preset", choices=GPTConfig.presets(), default="gpt2")
    parser.add_argument("--gpu", choices=list(GPUS), default="h100", help="its kind")
    parser.add_argument("--gpus", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--tokens", type=float, help="to read (default: 20 a weight)")
    parser.add_argument(
        "--micro-batch-size", type=int, default=1, help="windows a device (default: 1)"
    )
    parser.add_argument(
        "--strategy",
        choices=["ddp", "fsdp"],
        default="fsdp",
        help="a copy on each device, or one spread over all (default: fsdp)",
    )
    parser.add_argument(
        "--optimizer", choices=["adamw", "muon", "adafactor"], default="adamw"
    )
    parser.add_argument(
        "--recompute", action="store_true", help="make activations again backwards"
    )
    parser.add_argument(
        "--mfu",
        type=float,
        default=0.4,
        help="share of the devices' peak that is reached (default: 0.4)",
    )
    parser.set_defaults(run=run_plan)


def run_train(arguments: argparse.Namespace) -> int:
    """Train, with a progress bar, and end with a sample; one process speaks for all."""
    # Imported here: a second, for what is spread over processes, that others need not.
    from minigpt.group import running

    config = TrainConfig(**given(arguments, TrainConfig))
    kind, out = arguments.strategy, arguments.out
    with running(kind, device=config.device, out=out) as processes:
        return _train(arguments, config, processes)


def _train(
    arguments: argparse.Namespace, config: TrainConfig, processes: Processes
) -> int:
    with processes.in_turn(), Reading() as reading:
        corpus = load_corpus(
            arguments.data,
            tokenizer=arguments.tokenizer,
            vocab_size=arguments.vocab_size,
            folder=arguments.out,
            progress=reading if processes.first else None,
        )
    tokenizer = corpus.tokenizer
    shape = {**given(arguments, GPTConfig), "vocab_size": tokenizer.vocab_size}
    # A preset's own context length holds unless another was asked for.
    model_config = (
        GPTConfig.preset(arguments.preset, **shape)
        if arguments.preset
        else GPTConfig(**{**SMALL, **shape})
    )
    hardware = config.hardware()
    if processes.size == 1:
        foresee(model_config, config, corpus.train)
    torch.manual_seed(config.seed)
    model = GPT(model_config)
    torch.set_num_threads(cpu_threads(model_config.n_parameters))
    chosen = (
        f"text       {corpus}",
        f"           {corpus.overlap}",
        f"tokenizer  {type(tokenizer).__name__}, {tokenizer.vocab_size} tokens",
        f"model      {describe(model_config)}",
        f"hardware   {hardware.describe()}{processes.note}",
    )
    curve = reference_curve(arguments.reference) if arguments.reference else None
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(config.steps, chosen, reference=curve))
        named = arguments.log if processes.first else ()
        logs = [stack.enter_context(LOGS[name](arguments.out)) for name in named]
        watching = (progress, *logs) if processes.first else ()
        interrupt = stack.enter_context(Interrupt())
        records = fit(
            model,
            corpus.train,
            corpus.validation,
            config,
            out=arguments.out,
            callbacks=(*watching, interrupt),
            tokenizer=tokenizer,
            processes=processes,
        )
    if not processes.first:
        return 0
    return _finish(arguments.out, records, config, stopped=interrupt.asked)


def _finish(
    out: Path, records: list[StepRecord], config: TrainConfig, *, stopped: bool
) -> int:
    measured = [r for r in records if r.validation_loss is not None]
    if measured:
        best = min(measured, key=lambda r: r.validation_loss or 0.0)
        print(
            f"best       {best.validation_loss:.4f} nats per token over the whole "
            f"validation split, after step {best.step} of {len(records)} "
            f"({sum(r.seconds for r in records):.0f} s of training)"
        )
    if stopped:
        print(
            f"stopped    after step {len(records)} of {config.steps}; the same command "
            f"goes on from {out / 'last'}"
        )
        return 130
    print(f"saved      {out / 'best'}; a sample:\n")
    write(str(out / "best"), "", max_new_tokens=300, sampler=Temperature(0.8), seed=0)
    print(f'\nmore       minigpt generate --model {out / "best"} --prompt "…"')
    return 0


def readable(source: str) -> tuple[GPT, Tokenizer]:
    """A model that can be given text.

    Raises:
        ValueError: there is no tokenizer beside it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the tokenizer is missing
        model, tokenizer = load_pretrained(source)
    if tokenizer is None:
        raise ValueError(
            f"expected a tokenizer in {source}, found none: save one beside the model"
        )
    return model, tokenizer


def write(
    folder: str, prompt: str, *, max_new_tokens: int, sampler: Sampler, seed: int | None
) -> None:
    """Print a prompt and its continuation as it is drawn."""
    model, tokenizer = readable(folder)
    pieces = stream(
        model,
        tokenizer,
        prompt,
        max_new_tokens=max_new_tokens,
        sampler=sampler,
        seed=seed,
    )
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def run_generate(arguments: argparse.Namespace) -> int:
    """Continue a prompt."""
    sampler: Any = Temperature(arguments.temperature or 1.0)
    if arguments.top_k is not None:
        sampler = sampler | TopK(arguments.top_k)
    if arguments.top_p is not None:
        sampler = sampler | TopP(arguments.top_p)
    write(
        arguments.model,
        arguments.prompt,
        max_new_tokens=arguments.max_new_tokens,
        sampler=Greedy() if arguments.temperature == 0 else sampler,
        seed=arguments.seed,
    )
    return 0


def run_info(arguments: argparse.Namespace) -> int:
    """Say what this machine would compute on, or what a saved model is."""
    if arguments.model is None:
        print(f"torch      {torch.__version__}")
        print(f"hardware   {choose().describe()}")
        print(f"roofline   {roofline(choose())}")
        print(f"texts      {', '.join(names())}")
        print(f"models     {', '.join(shipped())}")
        return 0
    print(summarize(arguments.model))
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """Save a model again: in another number format, or in another layout."""
    dtype = None if arguments.dtype is None else DTYPES[arguments.dtype]
    print(export(arguments.model, arguments.out, dtype=dtype, format=arguments.format))
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Measure a model on one task, with a progress bar, and print every figure."""
    hardware = choose(arguments.device, arguments.precision)
    model, tokenizer = readable(arguments.model)
    hardware.place(model)
    with Reading() as bar, hardware.autocast():
        found = evaluate(
            model,
            tokenizer,
            arguments.task,
            arguments.data,
            stride=arguments.stride,
            limit=arguments.limit,
            watch=bar,
        )
    print(*found.results, sep="\n")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        record = {"model": arguments.model, **found.record()}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return 0


def run_plan(arguments: argparse.Namespace) -> int:
    """Say what a run would need."""
    config = GPTConfig.preset(arguments.preset)
    names = "gpu gpus tokens micro_batch_size strategy optimizer recompute mfu".split()
    print(plan(config, **{name: getattr(arguments, name) for name in names}))
    return 0


def run_finetune(arguments: argparse.Namespace) -> int:
    """Teach a model a labelled task, test it once, and save it."""
    found = adaptflags.run(arguments, lambda line: print(line, flush=True))
    print(found.report)
    print(f"saved      {arguments.out}; report.json there holds the scores")
    print(f'more       minigpt predict --model {arguments.out} --text "…"')
    return 0


def run_predict(arguments: argparse.Namespace) -> int:
    """Print what a fine-tuned model says of a text, or of each row of a table."""
    for line in adaptflags.predict(arguments):
        print(line)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        parser.error(f"unknown flags: {' '.join(rest)}")
    try:
        return int(arguments.run(arguments))
    except (ValueError, OSError, MemoryError, NotImplementedError) as error:
        print(f"minigpt: {error}", file=sys.stderr)
        return 2
    except Lost as error:
        print(f"minigpt: {error}", file=sys.stderr)
        return 1
    except Diverged as error:
        kept = arguments.out / "last"
        held = f"; {kept} is the last good checkpoint" if kept.exists() else ""
        print(f"minigpt: {error}{held}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
