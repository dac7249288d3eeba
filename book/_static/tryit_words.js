// What both halves of the page "Try it" share: words, bits, coloured words.
"use strict";

const { end: END, vocabulary: VOCABULARY, tales: TALES } = globalThis.TRYIT;
const NUMBER = new Map(VOCABULARY.map((word, i) => [word, i]));
const FULL = 7; // bits at which a word is as red as it gets
const model = new GPT(TRYIT.config, readWeights(TRYIT.weights));

const byId = (id) => document.getElementById(id);

/** An element with attributes and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Words and marks of a text, as the package cuts it; straight quotes are turned. */
function wordsOf(text) {
  let open = false;
  const turned = text.replace(/"/g, () => ((open = !open) ? "“" : "”"));
  return turned.match(/<\|endoftext\|>|[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]/gu) ?? [];
}

const shown = (word) => (word === END ? "END" : word);
const quoted = (word) => (/^[“”]$/.test(word) ? `the mark ${word}` : `“${shown(word)}”`);

/** The space that English has between a word and the one before it. */
function gap(before, word) {
  const glued = before === undefined || before === "“" || /^[.,:;?!”]$/.test(word);
  return glued ? "" : " ";
}

/** Words as a text, END left out. */
function textOf(words) {
  const said = words.filter((word) => word !== END);
  return said.map((word, i) => gap(said[i - 1], word) + word).join("");
}

/** Fill a sheet with words; `style` and `title` are asked for each. */
function writeSheet(sheet, words, { style, title }) {
  sheet.replaceChildren();
  words.forEach((word, i) => {
    const attributes = { style: style(i), title: title(i), "data-place": i };
    sheet.append(gap(words[i - 1], word), make("span", attributes, shown(word)));
  });
}

/** A shade of a colour, from none at 0 to full at `most`. */
function shade(value, most, rgb = "242, 68, 46") {
  const share = Math.min(Math.max(value / most, 0), 1);
  return `background: rgba(${rgb}, ${share.toFixed(2)})`;
}

/** Each word's surprisal in bits, and the chances of every word at each place. */
function read(words, look = null) {
  const tokens = [END, ...words].map((word) => NUMBER.get(word));
  const logits = model.forward(tokens, { look });
  const V = VOCABULARY.length;
  const chances = tokens.map((_, t) => softmax(logits.subarray(t * V, (t + 1) * V)));
  const bits = words.map((word, i) => -Math.log2(chances[i][NUMBER.get(word)]));
  return { bits, chances };
}

/** What to say of a word that no story uses; nothing of a known one. */
function unknown(word) {
  if (NUMBER.has(word)) return "";
  const small = word.toLowerCase();
  const close = VOCABULARY.find((known) => known.toLowerCase() === small);
  return `No story uses ${quoted(word)}${close ? `; there is ${quoted(close)}` : ""}.`;
}

/** One row of a table: a heading, then cells. */
function row(heading, ...cells) {
  const first = make("th", { scope: "row" }, heading);
  return make("tr", {}, first, ...cells.map((cell) => make("td", {}, cell)));
}

/** A bar of this share of its cell, and a tick at another share, where that is known. */
function bar(share, tick = null) {
  const percent = (part) => `${(100 * part).toFixed(1)}%`;
  const filled = make("span", { class: "bar", style: `width: ${percent(share)}` });
  const mark = make("span", { class: "tick", style: `left: ${percent(tick ?? 0)}` });
  return make("span", { class: "track" }, filled, tick === null ? "" : mark);
}

/** Two decimals and a minus sign; no zero is negative. */
const two = (number) => number.toFixed(2).replace(/^-0.00$/, "0.00").replace("-", "−");
const mean = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;

/** Indices of the largest numbers, largest first. */
function largest(numbers, n) {
  return [...numbers.keys()].sort((a, b) => numbers[b] - numbers[a]).slice(0, n);
}
