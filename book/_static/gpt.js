// The forward pass of a GPT in plain JavaScript: one text at a time, no library.
//
// Names and letters are those of the package: T query positions, S key positions,
// C channels, H heads, D = C / H, V words. A table of T rows and C columns is one
// Float32Array, row after row; sums are taken in 64 bits, as JavaScript counts.
"use strict";

/** Every row of x times the weight's transpose, plus the bias: torch's F.linear. */
function linear(x, T, weight, bias = null) {
  const nIn = x.length / T;
  const nOut = weight.length / nIn;
  const y = new Float32Array(T * nOut);
  for (let t = 0; t < T; t++) {
    for (let o = 0; o < nOut; o++) {
      let sum = bias === null ? 0 : bias[o];
      for (let i = 0; i < nIn; i++) sum += x[t * nIn + i] * weight[o * nIn + i];
      y[t * nOut + o] = sum;
    }
  }
  return y;
}

/** Each row brought to mean 0 and variance 1, then stretched and shifted. */
function layerNorm(x, T, weight, bias, eps) {
  const C = x.length / T;
  const y = new Float32Array(x.length);
  for (let t = 0; t < T; t++) {
    const row = x.subarray(t * C, (t + 1) * C);
    const mean = row.reduce((sum, value) => sum + value, 0) / C;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / C;
    const scale = 1 / Math.sqrt(variance + eps);
    for (let c = 0; c < C; c++) {
      y[t * C + c] = (row[c] - mean) * scale * weight[c] + bias[c];
    }
  }
  return y;
}

/** The bend inside the MLP, in the tanh form of OpenAI's code. */
function gelu(x) {
  const a = Math.sqrt(2 / Math.PI);
  return x.map((v) => 0.5 * v * (1 + Math.tanh(a * (v + 0.044715 * v ** 3))));
}

/** Scores to shares that sum to 1; the largest is taken off, so that none overflows. */
function softmax(scores) {
  const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const shares = Float64Array.from(scores, (score) => Math.exp(score - most));
  const total = shares.reduce((sum, share) => sum + share, 0);
  return shares.map((share) => share / total);
}

// ─ attention
/** How much each query reads from each key: H tables of T rows and S columns. */
function attentionWeights(q, k, C, H) {
  const [T, S, D] = [q.length / C, k.length / C, C / H];
  const weights = new Float32Array(H * T * S); // zero where a query may not attend
  for (let h = 0; h < H; h++) {
    for (let t = 0; t < T; t++) {
      const seen = S - T + t + 1; // itself and all before it: the causal mask
      const scores = new Float64Array(seen);
      for (let s = 0; s < seen; s++) {
        for (let d = h * D; d < (h + 1) * D; d++) {
          scores[s] += q[t * C + d] * k[s * C + d];
        }
        scores[s] /= Math.sqrt(D);
      }
      weights.set(softmax(scores), (h * T + t) * S);
    }
  }
  return weights;
}

/** Each query's weighted mean of the values it may see; the heads lie side by side. */
function attend(weights, v, C, H) {
  const [S, D] = [v.length / C, C / H];
  const T = weights.length / (H * S);
  const read = new Float32Array(T * C);
  for (let h = 0; h < H; h++) {
    for (let t = 0; t < T; t++) {
      for (let s = 0; s <= S - T + t; s++) {
        const weight = weights[(h * T + t) * S + s];
        for (let d = h * D; d < (h + 1) * D; d++) {
          read[t * C + d] += weight * v[s * C + d];
        }
      }
    }
  }
  return read;
}
// ─ end of attention

/** Keys and values of every layer, kept while a text grows word by word. */
class KVCache {
  constructor({ n_layer, context_length, d_model }) {
    const room = () => new Float32Array(context_length * d_model);
    this.layers = Array.from({ length: n_layer }, () => [room(), room()]);
    this.filled = 0; // numbers in each
  }

  /** Append to one layer and return all that it holds. */
  update(layer, k, v) {
    return [k, v].map((added, i) => {
      this.layers[layer][i].set(added, this.filled);
      return this.layers[layer][i].subarray(0, this.filled + added.length);
    });
  }
}

class GPT {
  constructor(config, weights) {
    this.config = config;
    this.weights = weights; // by the package's names
  }

  // ─ model
  /** One layer: add what attention read, then add what the MLP made of it. */
  block(x, T, layer, cache, look) {
    const { d_model: C, n_head: H, norm_eps } = this.config;
    const of = (name) =>
      ["weight", "bias"].map((kind) => this.weights[`blocks.${layer}.${name}.${kind}`]);
    const norm = (x, name) => layerNorm(x, T, ...of(name), norm_eps);
    const add = (a, b) => a.map((value, i) => value + b[i]);

    const qkv = linear(norm(x, "norm1"), T, ...of("attention.qkv")); // rows of q, k, v
    const at = (part, i) => (i - (i % C)) * 3 + part * C + (i % C);
    let [q, k, v] = [0, 1, 2].map((part) => x.map((_, i) => qkv[at(part, i)]));
    if (cache !== null) [k, v] = cache.update(layer, k, v);
    const weights = attentionWeights(q, k, C, H);
    if (look !== null) look.push(weights);
    x = add(x, linear(attend(weights, v, C, H), T, ...of("attention.out")));

    const wide = gelu(linear(norm(x, "norm2"), T, ...of("mlp.up")));
    return add(x, linear(wide, T, ...of("mlp.down")));
  }

  /** The residual stream after the last norm; `look` collects the attention. */
  hidden(tokens, { cache = null, look = null } = {}) {
    const { d_model: C, n_layer, context_length, norm_eps } = this.config;
    const [T, past] = [tokens.length, cache === null ? 0 : cache.filled / C];
    if (T < 1 || past + T > context_length) {
      const expected = `expected 1 to ${context_length} positions`;
      throw new RangeError(`${expected}, got ${past + T}: shorten the text`);
    }
    const token = this.weights["token_embedding.weight"];
    const position = this.weights["position_embedding.weight"];
    let x = position.slice(past * C, (past + T) * C);
    x = x.map((place, i) => place + token[tokens[Math.floor(i / C)] * C + (i % C)]);
    for (let layer = 0; layer < n_layer; layer++) {
      x = this.block(x, T, layer, cache, look);
    }
    if (cache !== null) cache.filled += T * C;
    const { "final_norm.weight": weight, "final_norm.bias": bias } = this.weights;
    return layerNorm(x, T, weight, bias, norm_eps);
  }

  /** Logits: how well each word of the vocabulary fits each position. */
  unembed(hidden) {
    const T = hidden.length / this.config.d_model;
    return linear(hidden, T, this.weights["token_embedding.weight"]);
  }

  /** Logits of the next word at every position: T rows of V. */
  forward(tokens, options) {
    return this.unembed(this.hidden(tokens, options));
  }
  // ─ end of model
}

/** One word from one row of logits: the first at which the shares, added up, pass u. */
function draw(logits, temperature, u = Math.random()) {
  const shares = softmax(Float64Array.from(logits, (logit) => logit / temperature));
  let [passed, last] = [0, 0];
  for (let word = 0; word < shares.length; word++) {
    passed += shares[word];
    if (passed > u) return word;
    if (shares[word] > 0) last = word;
  }
  return last; // the sum was rounded below u
}

/** Weights by name from bfloat16 in base64: the upper half of a 32-bit float each. */
function readWeights({ base64, shapes }) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const halves = new Uint16Array(bytes.buffer);
  const wholes = Uint32Array.from(halves, (half) => half << 16);
  const numbers = new Float32Array(wholes.buffer);
  let start = 0;
  return Object.fromEntries(Object.entries(shapes).map(([name, shape]) => {
    const size = shape.reduce((product, side) => product * side, 1);
    return [name, numbers.subarray(start, (start += size))];
  }));
}
