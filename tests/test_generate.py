"""Generation against transformers, against itself without a cache, and row by row."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from minigpt.checkpoint import load_folder
from minigpt.generate import (
    Greedy,
    RepetitionPenalty,
    Sampler,
    Temperature,
    TopK,
    beam_search,
    complete,
    generate,
    generate_batch,
    prompt_ids,
    stream,
)
from minigpt.model import GPT, GPTConfig
from minigpt.subword import BPETokenizer, GPT1Tokenizer
from minigpt.tokenizer import CharTokenizer, WordTokenizer

LETTERS = CharTokenizer.train("abcdefghijk")
SAMPLER = Temperature(0.9) | TopK(5)


def small(context_length: int = 8, **changes: object) -> GPT:
    config = GPTConfig(
        vocab_size=11,
        context_length=context_length,
        n_layer=2,
        n_head=3,
        d_model=12,
        **changes,  # type: ignore[arg-type]
    )
    model = GPT(config).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[GPT, GPT2LMHeadModel]:
    """A small random GPT-2 of transformers, and ours with its weights."""
    torch.manual_seed(0)
    shape = dict(vocab_size=37, n_positions=64, n_embd=12, n_layer=2, n_head=3)
    config = GPT2Config(**shape, bos_token_id=0, eos_token_id=36, pad_token_id=36)
    theirs = GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    folder: Path = tmp_path_factory.mktemp("gpt2")
    theirs.save_pretrained(folder)
    return load_folder(folder).model.double(), theirs.double()


def test_greedy_equals_transformers(pair: tuple[GPT, GPT2LMHeadModel]) -> None:
    ours, theirs = pair
    tokens = torch.randint(36, (2, 5))
    expected = theirs.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=50,
        do_sample=False,
        eos_token_id=None,
    )
    assert torch.equal(generate(ours, tokens, max_new_tokens=50), expected)
    assert len(expected[0, 5:].unique()) > 3  # no single token, repeated


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("n_beam", [1, 3])
def test_beam_search_equals_transformers(
    pair: tuple[GPT, GPT2LMHeadModel], n_beam: int, penalty: float
) -> None:
    ours, theirs = pair
    lengths = set()
    for seed in range(6):
        tokens = torch.randint(36, (1, 4), generator=seeded(seed))
        stop = generate(ours, tokens, max_new_tokens=9)[0, -1 - seed // 3 :].tolist()
        expected = theirs.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=20,
            num_beams=n_beam,
            length_penalty=penalty,
            do_sample=False,
            eos_token_id=stop,
        )
        found = beam_search(
            ours,
            tokens,
            max_new_tokens=20,
            n_beam=n_beam,
            length_penalty=penalty,
            stop=stop,
        )
        assert found.tolist() == expected.tolist()
        lengths.add(found.shape[1])
    assert len(lengths) > 1  # some ended early


def test_a_beam_of_every_text_finds_the_likeliest() -> None:
    model, tokens = small(), torch.tensor([[1, 2]])
    found = beam_search(model, tokens, max_new_tokens=2, n_beam=11)
    with torch.inference_mode():
        texts = torch.cartesian_prod(
            torch.tensor([1]), torch.tensor([2]), *2 * [torch.arange(11)]
        )
        logp = model(texts[:, :-1]).log_softmax(-1)[:, 1:]
        scores = logp.gather(-1, texts[:, 2:, None]).sum((1, 2))
    assert found[0].tolist() == texts[scores.argmax()].tolist()


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("band", [None, 3])
def test_cached_equals_uncached_far_past_the_context(
    norm: str, band: int | None
) -> None:
    model = small(context_length=16, norm=norm, band=band)
    tokens = torch.randint(11, (2, 5))
    for sampler in (
        Greedy(),
        Temperature(1.0),
        RepetitionPenalty(1.5) | Temperature(2.0),
    ):
        cached, uncached = (
            generate(
                model,
                tokens,
                max_new_tokens=60,
                sampler=sampler,
                generator=seeded(3),
                use_cache=use_cache,
            )
            for use_cache in (True, False)
        )
        assert torch.equal(cached, uncached)
        assert cached.shape == (2, 65)
    assert len(cached.unique()) > 5


@pytest.mark.slow
def test_cached_equals_uncached_for_500_tokens() -> None:
    model = small(context_length=128)
    tokens = torch.randint(11, (2, 5))
    for sampler in (Greedy(), Temperature(1.0)):
        cached, uncached = (
            generate(
                model,
                tokens,
                max_new_tokens=500,
                sampler=sampler,
                generator=seeded(3),
                use_cache=use_cache,
            )
            for use_cache in (True, False)
        )
        assert torch.equal(cached, uncached)


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("sampler", [Greedy(), SAMPLER], ids=["greedy", "sampled"])
@pytest.mark.parametrize("band", [None, 3])
def test_a_batch_equals_its_prompts_one_by_one(
    padding: str, use_cache: bool, sampler: Sampler, band: int | None
) -> None:
    model = small(band=band)
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 1, 2], [3, 3]]
    together = generate_batch(
        model,
        prompts,
        max_new_tokens=30,
        sampler=sampler,
        stop=[0, 3],
        generator=[seeded(i) for i in range(4)],
        use_cache=use_cache,
        padding=padding,
    )
    for i, prompt in enumerate(prompts):
        alone = generate_batch(
            model,
            [prompt],
            max_new_tokens=30,
            sampler=sampler,
            stop=[0, 3],
            generator=seeded(i),
            use_cache=use_cache,
        )
        assert alone[0] == together[i]
    if sampler is SAMPLER:
        added = [len(t) - len(p) for t, p in zip(together, prompts, strict=True)]
        assert added != sorted(added, reverse=True)  # a row ends before a later one


def test_a_finished_row_repeats_its_stop_token() -> None:
    model, prompt = small(), torch.tensor([[1, 2], [3, 4]])
    free = generate(
        model, prompt, max_new_tokens=12, sampler=SAMPLER, generator=seeded(0)
    )
    for stop in range(11):
        rows = generate_batch(
            model, prompt.tolist(), max_new_tokens=12, sampler=SAMPLER, stop=[stop]
        )
        for row in rows:
            new = row[2:]
            assert stop not in new[:-1]
            assert len(new) == 12 or new[-1] == stop
    assert free.shape == (2, 14)
    stop = free[0, 2].item()
    held = generate(
        model,
        prompt,
        max_new_tokens=12,
        sampler=SAMPLER,
        stop=[stop],
        generator=seeded(0),
    )
    assert (held[0, 2:] == stop).all()


def test_generation_leaves_the_model_as_it_was() -> None:
    model = small(dropout=0.5).train()
    model.blocks[0].eval()
    before = [module.training for module in model.modules()]
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    out = generate(model, torch.tensor([[1, 2]]), max_new_tokens=9)
    assert torch.equal(out, generate(model, torch.tensor([[1, 2]]), max_new_tokens=9))
    assert [module.training for module in model.modules()] == before
    for name, w in model.state_dict().items():
        assert torch.equal(w, weights[name])
    # What was generated can be trained on: no inference tensor comes out.
    loss = model(out[:, :8]).square().mean()
    loss.backward()
    assert model.token_embedding.weight.grad is not None


def test_greedy_leaves_the_random_numbers_alone() -> None:
    model, state = small(), torch.get_rng_state()
    generate(model, torch.tensor([[1, 2]]), max_new_tokens=9)
    assert torch.equal(torch.get_rng_state(), state)


def test_generation_may_be_asked_for_nothing() -> None:
    model, tokens = small(), torch.tensor([[1, 2]])
    assert torch.equal(generate(model, tokens, max_new_tokens=0), tokens)
    assert torch.equal(beam_search(model, tokens, max_new_tokens=0), tokens)
    assert generate_batch(model, [], max_new_tokens=3) == []
    none = torch.empty(0, 2, dtype=torch.long)
    assert torch.equal(generate(model, none, max_new_tokens=3), none)


@pytest.mark.gpu
def test_a_seed_draws_the_same_tokens_on_a_gpu() -> None:
    model, prompts = small(), [[1, 2, 3], [4], [5, 6, 7, 8, 9, 1, 2]]
    for sampler in (Greedy(), SAMPLER):
        on_cpu, on_gpu = (
            generate_batch(
                model.to(device),
                prompts,
                max_new_tokens=30,
                sampler=sampler,
                stop=[0],
                generator=[seeded(i) for i in range(3)],
            )
            for device in ("cpu", "cuda")
        )
        assert on_cpu == on_gpu
    found = generate(model, torch.tensor([[1, 2]]), max_new_tokens=3)
    assert found.device.type == "cuda"


def test_complete_is_the_text_of_generate() -> None:
    model = small()
    ids = LETTERS.encode("abc")
    expected = generate(
        model,
        torch.tensor([ids]),
        max_new_tokens=20,
        sampler=SAMPLER,
        generator=seeded(7),
    )
    text = complete(model, LETTERS, "abc", max_new_tokens=20, sampler=SAMPLER, seed=7)
    assert text == LETTERS.decode(expected[0])
    again = complete(model, LETTERS, "abc", max_new_tokens=20, sampler=SAMPLER, seed=7)
    other = complete(model, LETTERS, "abc", max_new_tokens=20, sampler=SAMPLER, seed=8)
    assert text == again != other


@pytest.mark.parametrize("seed", range(5))
def test_a_stop_text_ends_the_text_before_it(seed: int) -> None:
    model = small()
    kwargs = {"max_new_tokens": 40, "sampler": Temperature(1.5), "seed": seed}
    free = complete(model, LETTERS, "abc", **kwargs)
    for stop in (free[10], free[10:12], free[20:24], "zz"):
        ended = complete(model, LETTERS, "abc", stop=[stop, "zzz"], **kwargs)
        new = free[3:]
        assert ended == "abc" + new.split(stop)[0]
        pieces = list(stream(model, LETTERS, "abc", stop=[stop, "zzz"], **kwargs))
        assert "".join(pieces) == ended[3:]


def test_of_two_stop_texts_the_one_that_begins_first_counts() -> None:
    model = small()
    kwargs = {"max_new_tokens": 20, "sampler": Temperature(1.5), "seed": 1}
    free = complete(model, LETTERS, "abc", **kwargs)
    ended = complete(model, LETTERS, "abc", stop=[free[9:11], free[8:11]], **kwargs)
    assert len(set(free[8:11])) == 3
    assert ended == free[: free.index(free[8:11], 3)]


def test_a_stream_comes_piece_by_piece_in_the_callers_own_modes() -> None:
    model = small().train()
    seen = 0
    for piece in stream(
        model, LETTERS, "ab", max_new_tokens=6, sampler=SAMPLER, seed=0
    ):
        assert model.training
        assert not torch.is_inference_mode_enabled()
        seen += len(piece)
    assert seen == 6
    first = stream(model, LETTERS, "ab", max_new_tokens=10**9)
    assert next(first) in "abcdefghijk"  # without waiting for the rest


def test_text_ends_at_the_end_of_a_document_and_may_begin_there() -> None:
    tokenizer = BPETokenizer.train(["x"], vocab_size=257)
    model = GPT(GPTConfig(vocab_size=257, context_length=8, d_model=12, n_head=3))
    end = tokenizer.end_id
    assert end is not None
    with torch.no_grad():
        model.token_embedding.weight.mul_(0)
        model.final_norm.bias.fill_(1.0)
        model.token_embedding.weight[end] = 1.0
    assert complete(model, tokenizer, "x", max_new_tokens=5) == "x"
    assert complete(model, tokenizer, "", max_new_tokens=5) == ""
    with torch.no_grad():
        model.token_embedding.weight[tokenizer.encode("y")[0]] = 2.0
    assert complete(model, tokenizer, "", max_new_tokens=5) == "yyyyy"


WORDS = WordTokenizer(["<|endoftext|>", *"abcdefghij"])


def test_a_prompt_is_read_as_training_showed_it() -> None:
    """Stories begin after their mark; running text is cut anywhere."""
    assert prompt_ids(WORDS, "a b") == [0, 1, 2]
    assert prompt_ids(WORDS, "<|endoftext|> a b") == [0, 1, 2]  # once
    assert prompt_ids(WORDS, "") == [0]
    pairs = BPETokenizer.train(["x"], vocab_size=257)
    assert prompt_ids(pairs, "xy") == pairs.encode("xy")
    assert prompt_ids(pairs, "") == [pairs.end_id]
    assert prompt_ids(LETTERS, "abc") == [0, 1, 2]
    assert prompt_ids(LETTERS, "") == [0]
    assert prompt_ids(CharTokenizer.train("a\nb"), "") == [0]
    assert prompt_ids(CharTokenizer.train("\t\nab"), "") == [1]
    plain = BPETokenizer.train(["x"], vocab_size=256, special_tokens=())
    assert prompt_ids(plain, "") == plain.encode("\n")
    with pytest.raises(ValueError, match="text with at least one token, got ' ': this"):
        prompt_ids(GPT1Tokenizer({"<unk>": 0}, []), " ")


def test_what_a_prompt_is_read_after_is_no_part_of_the_answer() -> None:
    model = small()
    new = generate(model, torch.tensor([[0, 1, 2]]), max_new_tokens=5, stop=[0])
    new_words = WORDS.decode(new[0]).removesuffix("<|endoftext|>")
    assert complete(model, WORDS, "a b", max_new_tokens=5) == new_words
    assert "".join(stream(model, WORDS, "a b", max_new_tokens=5)) == new_words[3:]


def test_impossible_requests_are_refused() -> None:
    model, tokens = small(), torch.tensor([[1, 2]])
    with pytest.raises(ValueError, match="for all rows or one for each of 1"):
        generate(model, tokens, max_new_tokens=1, generator=[seeded(0), seeded(1)])
    with pytest.raises(ValueError, match=r"prompts of 1 to 8 tokens .* got one of 9:"):
        generate(model, torch.zeros(1, 9, dtype=torch.long), max_new_tokens=1)
    with pytest.raises(ValueError, match="n_beam of at least 1, got 0"):
        beam_search(model, tokens, max_new_tokens=1, n_beam=0)
    with pytest.raises(ValueError, match="length_penalty to be a number, got nan: 0"):
        beam_search(model, tokens, max_new_tokens=1, length_penalty=float("nan"))
    for ask in (generate, beam_search):
        with pytest.raises(ValueError, match=r"to stop at from 0 to 10, got \[11\]"):
            ask(model, tokens, max_new_tokens=1, stop=[11])
    with pytest.raises(ValueError, match=r"one generator .* of 2, got 1"):
        generate_batch(model, [[1], [2]], max_new_tokens=1, generator=[seeded(0)])
    with pytest.raises(ValueError, match=r"prompts of 1 to 8 tokens .* got one of 9:"):
        complete(model, LETTERS, "abcabcabc")
    with pytest.raises(ValueError, match="texts to stop at, got an empty one"):
        stream(model, LETTERS, "a", stop=[""])
    with pytest.raises(ValueError, match="got 'z' at position 1"):
        stream(model, LETTERS, "az")
