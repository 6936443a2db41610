"use strict";
// The one-layer model of docs/theory.md, section 1, trained here: tanh, softmax cross-entropy, a trained upper layer,
// one query, orthonormal embeddings (so that token coordinates are coordinates), temperature 1.
const Layer = (() => {
  // setup: context (N, M), labels (N), weights (M + 1, K) with the query's row last, upper (K, O), logit (of every z).
  const start = ({ weights, upper, context, logit }) => ({
    weights: weights.map((row) => row.slice()),
    upper: upper.map((row) => row.slice()),
    logits: [Array(context[0].length).fill(logit)],
  });

  const softmax = (values) => {
    const highest = Math.max(...values), powers = values.map((value) => Math.exp(value - highest));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
  };

  const attend = (kind, x, z) => {
    if (kind === "linear") return x.map((share, l) => share * z[l]);
    const weights = x.map((share, l) => share * Math.exp(z[l]));
    if (kind === "exp") return weights;
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return weights.map((weight) => weight / sum);
  };

  // The negative gradient of the mean loss: the right-hand side of the gradient flow.
  const ascent = (setup, kind, { weights, upper, logits }) => {
    const z = logits[0], num = setup.context.length, M = z.length, K = upper.length, O = upper[0].length;
    const zeros = (rows, columns) => Array.from({ length: rows }, () => new Array(columns).fill(0));
    const found = { weights: zeros(M + 1, K), upper: zeros(K, O), logits: zeros(1, M) };
    setup.context.forEach((x, n) => {
      const b = attend(kind, x, z), h = new Array(K);
      for (let k = 0; k < K; k += 1) {
        let sum = weights[M][k];
        for (let l = 0; l < M; l += 1) sum += b[l] * weights[l][k];
        h[k] = Math.tanh(sum);
      }
      const outputs = new Array(O).fill(0);
      for (let k = 0; k < K; k += 1) for (let o = 0; o < O; o += 1) outputs[o] += h[k] * upper[k][o];
      const error = softmax(outputs).map((p, o) => ((o === setup.labels[n] ? 1 : 0) - p) / num);
      const pull = new Array(M).fill(0); // on b
      for (let k = 0; k < K; k += 1) {
        let back = 0;
        for (let o = 0; o < O; o += 1) {
          found.upper[k][o] += h[k] * error[o];
          back += error[o] * upper[k][o];
        }
        back *= 1 - h[k] * h[k];
        found.weights[M][k] += back;
        for (let l = 0; l < M; l += 1) {
          found.weights[l][k] += b[l] * back;
          pull[l] += back * weights[l][k];
        }
      }
      const mean = kind === "softmax" ? b.reduce((sum, share, l) => sum + share * pull[l], 0) : 0;
      for (let l = 0; l < M; l += 1) {
        found.logits[0][l] += kind === "linear" ? x[l] * pull[l] : b[l] * (pull[l] - mean);
      }
    });
    return found;
  };

  const PARTS = ["weights", "upper", "logits"];
  const combined = (state, terms) =>
    Object.fromEntries(
      PARTS.map((part) => [
        part,
        state[part].map((row, i) =>
          row.map((value, j) => terms.reduce((sum, [factor, slopes]) => sum + factor * slopes[part][i][j], value)),
        ),
      ]),
    );

  // Each stepper takes a state to the next one. "flow": the classical Runge–Kutta method of order 4.
  const STEPPERS = {
    flow: (slope, step) => (state) => {
      const first = slope(state);
      const second = slope(combined(state, [[step / 2, first]]));
      const third = slope(combined(state, [[step / 2, second]]));
      const fourth = slope(combined(state, [[step, third]]));
      return combined(state, [[step / 6, first], [step / 3, second], [step / 3, third], [step / 6, fourth]]);
    },
    sgd: (slope, rate) => (state) => combined(state, [[rate, slope(state)]]),
    adam: (slope, rate) => {
      let mean, square, count = 0;
      return (state) => {
        const gradient = slope(state), next = {};
        count += 1;
        mean ??= combined(gradient, [[-1, gradient]]);
        square ??= combined(gradient, [[-1, gradient]]);
        for (const part of PARTS) {
          next[part] = state[part].map((row, i) =>
            row.map((value, j) => {
              const slopeHere = gradient[part][i][j];
              mean[part][i][j] += 0.1 * (slopeHere - mean[part][i][j]);
              square[part][i][j] += 0.001 * (slopeHere ** 2 - square[part][i][j]);
              const size = Math.sqrt(square[part][i][j] / (1 - 0.999 ** count)) + 1e-8;
              return value + (rate * mean[part][i][j]) / (1 - 0.9 ** count) / size;
            }),
          );
        }
        return next;
      };
    },
  };

  // What Theorem 1 relates, per token: the attention's side (z, or z² for linear attention) and the weights' side.
  const sides = (setup, kind, state, share) => {
    const z = state.logits[0], squares = state.weights.slice(0, -1).map((row) => row.map((value) => value * value));
    const sums = squares.map((row) => row.reduce((sum, value) => sum + value, 0));
    if (kind === "linear") return { logits: z.map((value) => value * value), weights: sums };
    if (kind === "exp") return { logits: z.slice(), weights: sums.map((sum) => sum / 2) };
    const total = sums.reduce((sum, value) => sum + value, 0); // Σₖ ‖vₖ‖²
    return { logits: z.slice(), weights: sums.map((sum, l) => (sum - total * share[l]) / 2) };
  };

  // Train for `steps` steps; of each kept step its number and both sides of every token. It stops before infinity.
  const train = (setup, { kind, method, step, steps, every }) => {
    const advance = STEPPERS[method]((state) => ascent(setup, kind, state), step);
    let state = start(setup);
    const each = setup.context.map((x) => attend(kind, x, state.logits[0]));
    const share = state.logits[0].map((_, l) => each.reduce((sum, b) => sum + b[l], 0) / each.length); // b̄ at the start
    const found = [{ step: 0, ...sides(setup, kind, state, share) }];
    for (let count = 1; count <= steps; count += 1) {
      state = advance(state);
      if (count % every && count !== steps) continue;
      const here = sides(setup, kind, state, share);
      if (![...here.logits, ...here.weights].every(Number.isFinite)) break;
      found.push({ step: count, ...here });
    }
    return found;
  };

  return { train };
})();
