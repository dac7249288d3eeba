// A look inside: what the model makes of a prompt, word by word.
"use strict";

const TOP = 8; // words shown of a distribution
// Five stops of the colours that the heat maps of the chapters have.
const CIVIDIS = ["0 34 78", "67 78 108", "125 124 120", "188 174 108", "254 232 56"];
const UNREAD = "text-decoration: underline dotted";
let seen = null; // what was computed for the prompt as it stands

/** The story that begins with these words, if one of the page does. */
function taleOf(words) {
  return TALES.find((tale) => words.every((word, i) => tale.words[i] === word)) ?? null;
}

/** Read the prompt: as far as its words are known, and as far as there are places. */
function readPrompt() {
  const all = wordsOf(byId("prompt").value);
  const strange = all.findIndex((word) => !NUMBER.has(word));
  let words = strange < 0 ? all : all.slice(0, strange);
  let said = strange < 0 ? "" : `${unknown(all[strange])} The rest is not read.`;
  const room = model.config.context_length - 1; // END stands before the first word
  if (words.length > room) {
    words = words.slice(0, room);
    said = `There are ${room + 1} places: what stands after word ${room} is not read.`;
  }
  const look = [];
  seen = { all, words, look, tale: taleOf(words), ...read(words, look) };
  byId("prompt-said").textContent = said;
  byId("place").max = words.length;
  byId("place").value = words.length;
  drawSheet();
  drawPlace();
}

/** The words in red where bits were lost; in blue where only their price is known. */
function drawSheet() {
  const { all, words, bits, tale } = seen;
  const lost = bits.map((cost, i) => (tale ? cost - tale.bits.truth[i] : cost));
  const rgb = tale ? undefined : "86, 180, 233";
  const isRead = (i) => i < words.length;
  writeSheet(byId("sheet"), all, {
    style: (i) => (isRead(i) ? shade(lost[i], FULL, rgb) : UNREAD),
    title: (i) => (isRead(i) ? `${two(lost[i])} bits` : "not read"),
  });
  const total = `${two(lost.length ? mean(lost) : 0)} bits a word`;
  byId("sheet-said").textContent = tale
    ? `Red is regret, the model’s surprisal minus the true one: ${total}.`
    : `Blue is surprisal, ${total}. No story that came with this page begins like ` +
      "this, so what it must cost is not known here, and neither is the regret.";
}

/** Everything that hangs on the chosen place: the next word, and one row of the map. */
function drawPlace() {
  const place = Number(byId("place").value);
  const { words, chances, tale, bits } = seen;
  const before = place ? `after ${quoted(words[place - 1])}` : "before the first word";
  byId("place-at").textContent = `${before}, ${place} of ${words.length}`;
  for (const span of byId("sheet").children) {
    span.classList.toggle("here", Number(span.dataset.place) === place - 1);
  }

  const truth = tale ? new Map(tale.offers[place]) : null;
  const rows = largest(chances[place], TOP).map((word) => {
    const p = chances[place][word];
    const cells = [p.toFixed(3), truth ? (truth.get(word) ?? 0).toFixed(3) : "?"];
    const tick = truth ? truth.get(word) ?? 0 : null;
    return row(shown(VOCABULARY[word]), ...cells, bar(p, tick));
  });
  byId("next").replaceChildren(...rows);
  let said = truth ? "" : "The true chances are known for stories of this page alone.";
  if (place < words.length) {
    const truly = tale ? `, and the truth ${two(tale.bits.truth[place])}` : "";
    const paid = `it cost the model ${two(bits[place])} bits${truly}`;
    said = `What came was ${quoted(words[place])}: ${paid}.`;
  }
  byId("next-said").textContent = said;
  drawMap();
}

/** The colour of a weight. */
function cividis(weight) {
  const at = Math.min(weight, 0.9999) * (CIVIDIS.length - 1);
  const stop = (i) => CIVIDIS[i].split(" ").map(Number);
  const [low, high] = [stop(Math.floor(at)), stop(Math.floor(at) + 1)];
  const mix = low.map((value, i) => Math.round(value + (at % 1) * (high[i] - value)));
  return `rgb(${mix.join(",")})`;
}

/** The attention of one head: rows are queries, the first on top, columns are keys. */
function drawMap() {
  const [layer, head] = [Number(byId("layer").value), Number(byId("head").value)];
  const place = Number(byId("place").value);
  const labels = [END, ...seen.words].map(shown);
  const T = labels.length;
  const weights = seen.look[layer].subarray(head * T * T, (head + 1) * T * T);
  const rowOf = (t) => weights.subarray(t * T, t * T + t + 1);

  const canvas = byId("map");
  const sharp = window.devicePixelRatio || 1;
  const width = canvas.parentElement.clientWidth;
  const [font, margin] = [11, 78];
  const cell = Math.min((width - margin - 2) / T, 26);
  const side = cell * T;
  const height = font + side + margin; // above, room for half a label
  [canvas.width, canvas.height] = [width * sharp, height * sharp];
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  pen.translate(0, font);
  const style = getComputedStyle(canvas);
  pen.font = `${font}px ${style.fontFamily}`;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  const every = Math.ceil((font + 1) / cell); // labels that do not lie on each other
  for (let t = 0; t < T; t++) {
    rowOf(t).forEach((weight, s) => {
      pen.fillStyle = cividis(weight);
      pen.fillRect(margin + s * cell, t * cell, cell + 0.5, cell + 0.5);
    });
    if (t % every !== place % every) continue;
    pen.fillStyle = style.color;
    pen.fillText(labels[t], margin - 6, (t + 0.5) * cell);
    pen.save();
    pen.translate(margin + (t + 0.5) * cell, side + 6);
    pen.rotate(-Math.PI / 3);
    pen.fillText(labels[t], 0, 0);
    pen.restore();
  }
  pen.strokeStyle = style.accentColor;
  pen.lineWidth = 2;
  // Around the row, so that no colour of it is covered.
  pen.strokeRect(margin - 1, place * cell - 1, (place + 1) * cell + 2, cell + 2);

  const named = (s) => `${quoted(labels[s])} (word ${s})`;
  const shares = rowOf(place);
  const reads = largest(shares, 4).map((s) => `${two(shares[s])} ${named(s)}`);
  const who = `Layer ${layer + 1}, head ${head + 1}, at ${named(place)}`;
  byId("map-said").textContent = `${who} reads ${reads.join(", ")}.`;
}

/** Go on from the prompt, a word at a time, until END is drawn or no place is left. */
function goOn() {
  const temperature = Number(byId("temperature").value);
  const room = model.config.context_length - 1 - seen.words.length;
  byId("take").disabled = room === 0;
  if (room === 0) {
    byId("continuation").textContent = "No place is left: shorten the prompt.";
    return;
  }
  const cache = new KVCache(model.config);
  const drawn = [];
  let next = [END, ...seen.words].map((word) => NUMBER.get(word));
  while (drawn.length < room) {
    const hidden = model.hidden(next, { cache });
    const last = hidden.subarray(hidden.length - model.config.d_model);
    next = [draw(model.unembed(last), temperature)];
    if (VOCABULARY[next[0]] === END) break;
    drawn.push(VOCABULARY[next[0]]);
  }
  const [before, whole] = [textOf(seen.words), textOf([...seen.words, ...drawn])];
  const added = make("strong", {}, whole.slice(before.length) || " END");
  byId("continuation").replaceChildren(before, added);
}

function setUpLook() {
  const { n_layer, n_head } = model.config;
  for (const [name, n] of [["layer", n_layer], ["head", n_head]]) {
    for (let i = 0; i < n; i++) {
      byId(name).append(make("option", { value: i }, `${i + 1}`));
    }
    byId(name).addEventListener("change", drawMap);
  }
  byId("layer").value = 3; // a head that fetches: chapter 3 is about such a one
  byId("head").value = 1;
  TALES.filter((tale) => !tale.game).forEach((tale) => {
    const label = `${textOf(tale.words.slice(0, 6))} …`;
    byId("tale").append(make("option", { value: TALES.indexOf(tale) }, label));
  });
  byId("tale").addEventListener("change", () => {
    if (byId("tale").value === "") return;
    byId("prompt").value = textOf(TALES[Number(byId("tale").value)].words);
    readPrompt();
  });
  let waiting;
  byId("prompt").addEventListener("input", () => {
    byId("tale").value = "";
    clearTimeout(waiting);
    waiting = setTimeout(readPrompt, 150);
  });
  byId("place").addEventListener("input", drawPlace);
  byId("sheet").addEventListener("click", (event) => {
    const place = Number(event.target.dataset.place ?? NaN) + 1;
    if (!(place <= seen.words.length)) return;
    byId("place").value = place;
    drawPlace();
  });
  byId("temperature").addEventListener("input", () => {
    byId("temperature-at").textContent = byId("temperature").value;
  });
  byId("go").addEventListener("click", goOn);
  byId("take").addEventListener("click", () => {
    byId("prompt").value = byId("continuation").textContent.replace(/ END$/, "");
    byId("tale").value = "";
    readPrompt();
    byId("prompt").focus();
  });
  window.addEventListener("resize", drawMap);
  const theme = new MutationObserver(drawMap); // other ink on other paper
  theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  readPrompt();
}

for (const still of document.querySelectorAll(".tryit-still")) still.remove();
for (const widget of document.querySelectorAll(".tryit")) widget.hidden = false;
setUpGame();
setUpLook();
