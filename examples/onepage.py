"""A whole GPT on one page: `python examples/onepage.py`, one core, one minute.

Each box is opened by the chapter of its number. Letters, here and in the book: B
stories side by side, T words in each, C channels that carry a word, H heads, V words.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from minigpt import stories


# ─ 1 · TEXT ─ What is there to learn from? Stories of one harbour town.
def read(first: int, count: int) -> list[tuple[str, ...]]:
    return [stories.generate(seed).words for seed in range(first, first + count)]


# ─ 2 · TOKENS ─ A network eats numbers: each word becomes its place in a list.
END, WORDS = stories.END, stories.vocabulary()
NUMBER = {word: number for number, word in enumerate(WORDS)}


def encode(texts: list[tuple[str, ...]]) -> tuple[Tensor, Tensor]:
    rows = [torch.tensor([NUMBER[w] for w in (END, *words)]) for words in texts]
    table = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    return table[:, :-1].clamp(min=0), table[:, 1:]  # what it reads, what comes next


# ─ 3 · ATTENTION ─ A word's question q meets earlier labels k and draws messages v.
def may_look(T: int) -> Tensor:
    return torch.ones(T, T, dtype=torch.bool).tril()  # row t sees words 0 to t, no more


class Attention(nn.Module):
    def __init__(self, C: int, H: int) -> None:
        super().__init__()
        self.H, self.qkv, self.out = H, nn.Linear(C, 3 * C), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.H, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / k.shape[-1] ** 0.5  # B H T T
        scores = scores.masked_fill(~may_look(x.shape[1]), float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


# ─ 4 · DECODER ─ Look back, think, look back, think; then score every known word.
class Block(nn.Module):
    def __init__(self, C: int, H: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(C), Attention(C, H)
        up, bend, down = nn.Linear(C, 4 * C), nn.GELU("tanh"), nn.Linear(4 * C, C)
        self.norm2 = nn.LayerNorm(C)
        self.mlp = nn.Sequential(OrderedDict(up=up, bend=bend, down=down))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, V: int, T: int = 128, C: int = 96, H: int = 2, n: int = 2):
        super().__init__()
        self.token_embedding = nn.Embedding(V, C)
        self.position_embedding = nn.Embedding(T, C)
        self.blocks = nn.Sequential(*(Block(C, H) for _ in range(n)))
        self.final_norm = nn.LayerNorm(C)
        for table in (p for p in self.parameters() if p.dim() == 2):
            nn.init.normal_(table, std=0.05)  # at first, all words are about as likely

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1])
        x = self.token_embedding(tokens) + self.position_embedding(places)
        return self.final_norm(self.blocks(x)) @ self.token_embedding.weight.T  # B T V


# ─ 5 · TRAINING ─ Guess every next word, be told the true one, lean towards it.
def loss_of(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def train(model: nn.Module, *, seconds: float = 60, steps: int = 0) -> Iterator[float]:
    optimizer = torch.optim.AdamW(model.parameters())
    start, step, done = time.monotonic(), 0, 0.0
    while done < 1:
        optimizer.param_groups[0]["lr"] = 7e-3 * min(1, 0.05 + 20 * done) * (1 - done)
        loss = loss_of(model, *encode(read(8 * step, 8)))  # eight stories, always new
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        done = step / steps if steps else (time.monotonic() - start) / seconds
        yield loss.item()


# ─ 6 · GENERATING ─ Ask for the next word, roll the dice, write it down, ask again.
@torch.no_grad()
def write(model: nn.Module, opening: str = "", temperature: float = 0.7) -> str:
    words = stories.words(opening)
    while len(words) < 127 and END not in words:
        logits = model(torch.tensor([[NUMBER[w] for w in (END, *words)]]))[0, -1]
        words.append(WORDS[torch.multinomial((logits / temperature).softmax(-1), 1)])
    return stories.join(words)


def main(seconds: float = 60) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(len(WORDS))
    for step, loss in enumerate(train(model, seconds=seconds)):
        if step % 100 == 0:
            print(f"step {step}, loss {loss:.2f}: {write(model)}\n")
    print(write(model))


if __name__ == "__main__":
    main()
