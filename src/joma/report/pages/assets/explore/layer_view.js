"use strict";
// Theorem 1: what a small network that is trained in the page does to the invariant.
const LayerView = (() => {
  const DURATION = 20, FLOW_STEP = 0.1, POINTS = 200;
  const { number, say } = Draw;
  const byId = (id) => document.getElementById(id);
  const LAWS = {
    exp: { logits: "z", weights: "½ Σₖ vₖ²", law: "z − ½ Σₖ vₖ²" },
    linear: { logits: "z²", weights: "Σₖ vₖ²", law: "z² − Σₖ vₖ²" },
    softmax: { logits: "z", weights: "½ Σₖ (vₖ² − ‖vₖ‖² b̄)", law: "z − ½ Σₖ (vₖ² − ‖vₖ‖² b̄)" },
  };
  const NAMES = { flow: "the gradient flow", sgd: "gradient descent", adam: "Adam" };
  let setup = null, found = null, chart = null, key = "", spacing = FLOW_STEP;

  const fields = (given) => {
    setup = given;
    return {
      law: State.oneOf("exp", ["exp", "linear", "softmax"]),
      method: State.oneOf("flow", ["flow", "sgd", "adam"]),
      rate: State.between(0.5, 0.01, 2, 4),
      token: State.whole(0, 0, given.context[0].length - 1),
    };
  };

  // Flow and gradient descent take the same training time; Adam's steps are of about its learning rate, so that it gets
  // a tenth of that as learning rate times steps.
  const train = ({ law, method, rate }) => {
    spacing = method === "flow" ? FLOW_STEP : rate;
    const steps = Math.max(2, Math.round((method === "adam" ? DURATION / 10 : DURATION) / spacing));
    const every = Math.max(1, Math.floor(steps / POINTS));
    found = Layer.train(setup, { kind: law, method, step: spacing, steps, every });
  };

  const gapOf = (at, token) => at.logits[token] - at.weights[token];
  const largest = (of) => Math.max(...found.at(-1).logits.map((_, token) => of(token)));

  const draw = (state) => {
    const { token, law, method } = state, names = LAWS[law], times = found.map((at) => at.step * spacing);
    const series = (read) => found.map((at, k) => [times[k], read(at)]);
    const lines = [
      { points: series((at) => at.logits[token]), label: names.logits, strong: true },
      { points: series((at) => at.weights[token]), label: law === "softmax" ? "weights" : names.weights, kind: "dashed" },
      { points: series((at) => gapOf(at, token)), label: "difference", kind: "dotted" },
    ];
    const values = lines.flatMap((line) => line.points.map(([, value]) => value));
    chart.show({
      x: [0, times.at(-1)], y: Draw.range(values), lines, right: 84,
      xLabel: method === "flow" ? "time" : "η × steps", yLabel: `token ${token + 1}`, summary: sentence(state),
    });
    say(byId("invariant-story"), sentence(state));
  };

  const sentence = ({ law, method, rate }) => {
    const start = found[0], last = found.at(-1);
    const moved = largest((token) => Math.abs(last.logits[token] - start.logits[token]));
    const drift = largest((token) => Math.abs(gapOf(last, token) - gapOf(start, token)));
    const { logits, law: name } = LAWS[law];
    const size = `${number(drift, 2)}, ${number((100 * drift) / moved, 2)}% of the largest change of ${logits}`;
    const by = method === "flow" ? NAMES.flow : `${NAMES[method]} at a learning rate of ${number(rate, 2)}`;
    const opening = `Along ${by}, ${name} changes by at most ${size}`;
    if (law === "softmax") return `${opening}: for softmax attention it is an approximation, also along the flow.`;
    if (method === "flow" && drift > 1e-6 * moved) return `${opening}.`;
    if (method === "flow") return `${opening}: the two curves stay apart by a constant, up to the integrator's error.`;
    if (method === "sgd") return `${opening}: finite steps break the invariant, the more the larger they are.`;
    return `${opening}: Adam rescales every coordinate, so that the two sides no longer follow one gradient.`;
  };

  const drawNow = (state) => {
    const at = found[Math.min(found.length - 1, Math.round(state.at * (found.length - 1)))];
    const { token, law } = state, text = (value) => number(value, 5);
    chart.cursor(at.step * spacing);
    say(byId("invariant-symbols"), `${LAWS[law].law} = const, per token`);
    say(
      byId("invariant-numbers"),
      `${text(at.logits[token])} − ${text(at.weights[token])} = ${text(gapOf(at, token))}; at the start ` +
        `${text(gapOf(found[0], token))}`,
    );
  };

  const drawControls = (state) => {
    for (const input of document.querySelectorAll("#invariant [data-field]")) {
      const { field, log } = input.dataset, value = state[field];
      if (input.type === "radio") input.checked = input.value === value;
      else input.value = log ? Math.log10(value) : value;
      const output = input.parentElement.querySelector("output");
      if (output) say(output, number(field === "token" ? value + 1 : value, 2));
    }
    byId("rate").closest("label").hidden = state.method === "flow";
  };

  const begin = () => {
    byId("token").max = setup.context[0].length - 1;
    chart = Draw.chart(byId("layer"), {
      height: 260,
      pick: (time) => State.set({ at: Math.min(1, time / (found.at(-1).step * spacing)) }),
    });
    byId("invariant").addEventListener("input", ({ target }) => {
      const { field, log } = target.dataset;
      if (!field) return;
      const value = target.type === "range" ? Number(target.value) : target.value;
      const changes = { [field]: log ? 10 ** value : value };
      if (field === "method") changes.rate = value === "adam" ? 0.01 : 0.5; // usual ones
      State.set(changes);
    });
  };

  const update = (state, changed) => {
    const wanted = [state.law, state.method, state.method === "flow" ? 0 : state.rate].join();
    if (wanted !== key) train(state);
    if (wanted !== key || ["law", "method", "rate", "token"].some((name) => changed.has(name))) {
      drawControls(state);
      draw(state);
    }
    key = wanted;
    drawNow(state);
    return "";
  };

  return { reads: ["at", "law", "method", "rate", "token"], fields, begin, update };
})();
