// Shannon's guessing game: the reader's bits beside those of the models.
"use strict";

const TRIES = 3;
const TYPED = new Map([["end", END], ['"', "“"]]);
const ORDINAL = ["told", "first guess", "second guess", "third guess"];

/** Bits a word to send a story to a twin who makes the same guesses (chapter 0). */
function bitsOfGame(ranks, vocabularySize, tries = TRIES) {
  const count = new Map();
  for (const rank of ranks) count.set(rank, (count.get(rank) ?? 0) + 1);
  let bits = (count.get(0) ?? 0) * Math.log2(vocabularySize - tries);
  for (const n of count.values()) bits += n * Math.log2(ranks.length / n);
  return bits / ranks.length;
}

/** One game: a story, the rank of each guess so far, what was tried at this word. */
class Game {
  constructor(tale) {
    this.tale = tale;
    // In the reader's browser, by gpt.js; the last word is END.
    this.gpt = read(tale.words).bits;
    this.ranks = [];
    this.tried = [];
  }

  get over() {
    return this.ranks.length === this.tale.words.length;
  }

  get word() {
    return this.tale.words[this.ranks.length];
  }

  /** Hear one guess; says what came of it. */
  guess(typed) {
    const small = typed.toLowerCase();
    const known = VOCABULARY.some((word) => word.toLowerCase() === small);
    if (!known && !TYPED.has(small)) return `${unknown(typed)} That guess is free.`;
    const meant = small === '"' ? ["“", "”"] : [TYPED.get(small) ?? typed];
    if (this.tried.includes(small)) return `You have tried ${quoted(typed)}.`;
    this.tried.push(small);
    const right = meant.some((one) => one.toLowerCase() === this.word.toLowerCase());
    if (right) return this.settle(this.tried.length);
    if (this.tried.length === TRIES) return this.settle(0);
    return `Not ${quoted(typed)}. ${TRIES - this.tried.length} left.`;
  }

  /** The word is known: at this guess, or told (0). */
  settle(rank) {
    const [i, word] = [this.ranks.length, this.word];
    this.ranks.push(rank);
    this.tried = [];
    const paid = (bits) => bits.toFixed(1);
    const { truth, "kneser-ney 7": counts } = this.tale.bits;
    const how = rank ? ORDINAL[rank] : "you were told";
    return `${quoted(word)}: ${how}. The GPT paid ${paid(this.gpt[i])} bits for it, ` +
      `counting runs of seven ${paid(counts[i])}, the floor is ${paid(truth[i])}.` +
      (this.over ? " The story is over: your dot stands." : "");
  }

  /** Bits a word of every player over the words so far, in the order of the chart. */
  scores() {
    const n = this.ranks.length;
    const bits = { ...this.tale.bits, "minigpt-stories": this.gpt };
    const players = Object.entries({ ...TRYIT.players, truth: "The floor" });
    const paid = (name) => mean(bits[name].slice(0, n));
    const others = players.map(([name, label]) => [label, paid(name)]);
    return [["You", bitsOfGame(this.ranks, VOCABULARY.length)], ...others];
  }
}

let game = null;

/** Draw the game as it stands. */
function drawGame() {
  const n = game.ranks.length;
  const misses = game.ranks.map((rank) => [4, 0, 1, 2][rank]);
  writeSheet(byId("game-text"), game.tale.words.slice(0, n), {
    style: (i) => shade(misses[i] * 0.8, 4, "230, 159, 0"),
    title: (i) => ORDINAL[game.ranks[i]],
  });
  byId("game-text").append(game.over ? "" : `${n ? " " : ""}…`);
  byId("game-left").textContent = `${n} of ${game.tale.words.length} words`;
  byId("guess").disabled = byId("game-tell").disabled = game.over;
  const most = Math.log2(VOCABULARY.length);
  const rows = (n ? game.scores() : []).map(([label, bits]) => {
    const left = `left: ${(100 * Math.min(bits / most, 1)).toFixed(1)}%`;
    const dot = make("span", { class: "dot", style: left });
    const tr = row(label, bits.toFixed(2), make("span", { class: "line" }, dot));
    if (label === "You") tr.className = "you";
    return tr;
  });
  byId("game-score").replaceChildren(...rows);
}

/** Begin again with the story that is chosen. */
function beginGame() {
  const games = TALES.filter((tale) => tale.game);
  game = new Game(games[Number(byId("game-tale").value)]);
  byId("game-said").textContent = "What is the first word?";
  drawGame();
}

function setUpGame() {
  TALES.filter((tale) => tale.game).forEach((tale, i) => {
    const label = `Story ${i + 1}, ${tale.words.length} words`;
    byId("game-tale").append(make("option", { value: i }, label));
  });
  const options = VOCABULARY.map((word) => make("option", { value: shown(word) }));
  byId("game-words").append(...options);
  byId("game-tale").addEventListener("change", beginGame);
  byId("game-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const typed = byId("guess").value.trim();
    if (!typed || game.over) return;
    byId("game-said").textContent = game.guess(typed);
    byId("guess").value = "";
    drawGame();
  });
  byId("game-tell").addEventListener("click", () => {
    byId("game-said").textContent = game.settle(0);
    drawGame();
    if (game.over) byId("game-tale").focus(); // the button has just lost it
  });
  beginGame();
}
