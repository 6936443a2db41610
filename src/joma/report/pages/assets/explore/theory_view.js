"use strict";
// Part 1: the solved dynamics, with targets to drag, and what they say in words.
const TheoryView = (() => {
  const NUM_TIMES = 121, LOWEST = -3, HIGHEST = 5, MOST_COMPONENTS = 16, FINEST = 0.01;
  const ENDS = { softmax: 100, exp: 12, linear: 6 }; // the window where components have arrived, by attention
  const { el, set, say, number, exponential, fixed } = Draw;
  const byId = (id) => document.getElementById(id);
  const $ = {};
  let solved = null, states = [], bottom = null, charts = {}, now = null, preset = null;

  const fields = (figure4) => {
    preset = figure4;
    return {
      mlp: State.oneOf("nonlinear", ["nonlinear", "linear"]),
      attention: State.oneOf("softmax", ["softmax", "exp", "linear"]),
      rates: State.list(figure4.rates, State.between(0, LOWEST, HIGHEST), MOST_COMPONENTS),
      v0: State.between(figure4.v0, -1, 2),
      gain: State.between(figure4.gain, 0.1, 1, 6),
      constant: State.between(1, 0.05, 4),
      end: State.between(figure4.end, 0.1, 1000),
      component: State.whole(figure4.rates.length - 1, 0, MOST_COMPONENTS - 1),
    };
  };

  const symbol = (mlp) => (mlp === "nonlinear" ? "μ" : "Δ");
  const shown = (state) => Math.min(state.component, state.rates.length - 1);
  const nameOf = (state, k) => `${symbol(state.mlp)} = ${number(state.rates[k], 3)}`;

  const solve = (state) => {
    solved = Theory.dynamics(state);
    states = solved.over(solved.times(state.end, NUM_TIMES));
    bottom = solved.bottom(states);
  };

  // Ranks of the components by the size of their rate, from 0 to 1: the shades of their lines.
  const shades = (rates) => {
    const order = rates.map((_, k) => k).sort((a, b) => Math.abs(rates[a]) - Math.abs(rates[b]));
    return rates.map((_, k) => (rates.length > 1 ? 1 - order.indexOf(k) / (rates.length - 1) : 0));
  };

  const lines = (state, read) => {
    const shade = shades(state.rates), chosen = shown(state);
    return state.rates
      .map((_, k) => ({
        points: states.map((at) => [at.t, read(at, k)]),
        label: nameOf(state, k),
        shade: shade[k],
        strong: k === chosen,
      }))
      .sort((a, b) => a.strong - b.strong);
  };

  const drawCurves = (state) => {
    const x = [0, state.end], mark = [], story = sentence(state);
    if (bottom.isInner) {
      const { t, entropy } = bottom.state;
      mark.push({ x: t, y: entropy, text: `sparsest: ${number(entropy)} nats at t = ${number(t, 3)}` });
    }
    const blowUp = solved.firstBlowUp;
    const ends = blowUp <= state.end ? [{ x: blowUp, text: `blow-up at t = ${number(blowUp)}` }] : [];
    const most = Math.log(state.rates.length) || 1;
    const components = lines(state, (at, k) => at.v[k]);
    const reached = components.flatMap((line) => line.points.map(([, value]) => value));
    const [low, high] = Draw.range(reached.filter((value) => Math.abs(value) <= 8), [0]);
    charts.components.show({
      x, y: [low, high], lines: components, marks: ends, xLabel: "t", yLabel: "component v", right: 74,
      summary: `${state.rates.length} components over time, from ${number(state.v0)}`,
    });
    charts.attention.show({
      x, y: [0, 1], lines: lines(state, (at, k) => at.shares[k]), xLabel: "t", yLabel: "share of attention", right: 74,
      summary: "Share of attention of each component over time",
    });
    charts.entropy.show({
      x, y: [0, most * 1.05], marks: [...mark, ...ends], xLabel: "t", yLabel: "attention entropy (nats)", right: 74,
      lines: [{ points: states.map((at) => [at.t, at.entropy]), strong: true, label: "entropy" }],
      summary: story,
    });
    say($.story, story);
  };

  // What happens in the window, from the numbers.
  const sentence = (state) => {
    const [first] = states, blowUp = solved.firstBlowUp;
    const nats = (value) => `${number(value)} nats`;
    const opening = `Attention starts at an entropy of ${nats(first.entropy)}`;
    if (blowUp <= state.end) {
      const winners = solved.blowUps.flatMap((t, k) => (t === blowUp ? [nameOf(state, k)] : []));
      return (
        `${opening}. At t = ${number(blowUp)} the component${winners.length > 1 ? "s" : ""} with ` +
        `${winners.join(" and ")} ${winners.length > 1 ? "become infinite and take" : "becomes infinite and takes"} ` +
        "all attention; after that these dynamics do not exist."
      );
    }
    const last = states.at(-1), end = `is at ${nats(last.entropy)} at t = ${number(state.end)}`, turns = turnsOf(states);
    if (!turns.length) return `${opening} and stays there.`;
    const course =
      turns.length > 1
        ? turns.map((isRise) => (isRise ? "dense" : "sparse")).join(", then ")
        : `in this window it only gets ${turns[0] ? "denser" : "sparser"}`;
    if (!bottom.isInner) return `${opening} and ${end}: ${course}.`;
    return `${opening}, is sparsest at t = ${number(bottom.state.t, 3)} with ${nats(bottom.state.entropy)}, and ${end}: ${course}.`;
  };

  // Whether entropy rises, for each stretch over which it only rises or only falls by more than rounding.
  const turnsOf = (states) => {
    const turns = [], least = 1e-9;
    let low = Infinity, high = -Infinity;
    for (const { entropy } of states) {
      low = Math.min(low, entropy);
      high = Math.max(high, entropy);
      const before = turns.at(-1);
      if (entropy - low > least && before !== true) turns.push(true);
      else if (high - entropy > least && before !== false) turns.push(false);
      else continue;
      low = high = entropy;
    }
    return turns;
  };

  // The components now: a track each, with its target to drag and a bar from the start to where it is.
  const TRACK = { top: 22, bottom: 206, height: 308, shareTop: 244, shareBottom: 286 };
  const placeOf = (value) => TRACK.bottom - ((value - LOWEST) / (HIGHEST - LOWEST)) * (TRACK.bottom - TRACK.top);
  const handles = [];

  const setRate = (k, value) => {
    const rates = State.get().rates.slice();
    rates[k] = Math.min(HIGHEST, Math.max(LOWEST, Math.round(value / FINEST) * FINEST));
    rates[k] = Number(rates[k].toFixed(2));
    State.set({ rates, component: k });
  };
  const KEYS = { ArrowUp: 0.05, ArrowRight: 0.05, ArrowDown: -0.05, ArrowLeft: -0.05, PageUp: 0.5, PageDown: -0.5 };

  const makeHandle = (k) => {
    const handle = el("g", { class: "handle", tabindex: 0, role: "slider", "aria-orientation": "vertical" });
    handle.append(el("rect", { class: "hit" }), el("path", { d: "M-8 0L0 -8L8 0L0 8Z" }));
    handle.addEventListener("keydown", (event) => {
      const at = State.get().rates[k];
      if (event.key in KEYS) setRate(k, at + KEYS[event.key]);
      else if (event.key === "Home") setRate(k, LOWEST);
      else if (event.key === "End") setRate(k, HIGHEST);
      else return;
      event.preventDefault();
    });
    const drag = (event) => {
      if (!(event.buttons & 1)) return;
      const pixel = event.clientY - $.editor.getBoundingClientRect().top;
      setRate(k, LOWEST + ((TRACK.bottom - pixel) / (TRACK.bottom - TRACK.top)) * (HIGHEST - LOWEST));
    };
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      State.set({ component: k });
    });
    handle.addEventListener("pointermove", drag);
    handle.addEventListener("focus", () => State.set({ component: k }));
    const parts = {
      handle,
      track: el("line", { class: "track" }),
      bar: el("rect", { class: "bar" }),
      share: el("rect", { class: "share" }),
      name: el("text", { class: "tick middle" }),
      percent: el("text", { class: "tick middle" }),
    };
    $.marks.append(parts.track, parts.bar, parts.share, parts.name, parts.percent);
    $.handles.append(handle);
    return parts;
  };

  const drawEditor = (state) => {
    while (handles.length < state.rates.length) handles.push(makeHandle(handles.length));
    while (handles.length > state.rates.length) Object.values(handles.pop()).forEach((part) => part.remove());
    const { width } = $, shade = shades(state.rates), chosen = shown(state);
    set($.editor, { viewBox: `0 0 ${width} ${TRACK.height}`, width, height: TRACK.height });
    const step = (width - 40) / state.rates.length, wide = Math.min(22, step * 0.6), zero = placeOf(0);
    set($.zero, { x1: 34, x2: width, y1: zero, y2: zero });
    for (const [at, tick] of $.ticks.entries()) set(tick, { y: placeOf([5, 3, 1, 0, -1, -3][at]) + 3.5, x: 28 });
    handles.forEach((parts, k) => {
      const x = 40 + step * (k + 0.5), v = now.v[k], rate = state.rates[k];
      const style = `--shade: ${Math.round(100 * shade[k])}%`;
      set(parts.track, { x1: x, x2: x, y1: TRACK.top, y2: TRACK.bottom });
      const clipped = Math.max(LOWEST, Math.min(HIGHEST, v)); // an infinite one fills its track
      const [from, to] = [placeOf(state.v0), placeOf(clipped)];
      set(parts.bar, { x: x - wide / 2, width: wide, y: Math.min(from, to), height: Math.abs(from - to) + 1, style });
      const share = Number.isFinite(now.shares[k]) ? now.shares[k] : 0;
      const tall = share * (TRACK.shareBottom - TRACK.shareTop);
      set(parts.share, { x: x - wide / 2, width: wide, y: TRACK.shareBottom - tall, height: tall, style });
      set(parts.name, { x, y: TRACK.bottom + 14, class: `tick middle ${k === chosen ? "strong" : ""}` });
      say(parts.name, fixed(rate, step < 30 ? 1 : 2));
      set(parts.percent, { x, y: TRACK.shareBottom + 14 });
      say(parts.percent, Number.isFinite(now.shares[k]) ? `${Math.round(100 * share)}${step < 30 ? "" : "%"}` : "–");
      const spoken = `${symbol(state.mlp)} of component ${k + 1} of ${state.rates.length}`;
      set(parts.handle, {
        transform: `translate(${x} ${placeOf(rate)})`, class: `handle ${k === chosen ? "strong" : ""}`, style,
        "aria-label": spoken, "aria-valuemin": LOWEST, "aria-valuemax": HIGHEST, "aria-valuenow": rate,
        "aria-valuetext": `${fixed(rate, 2)}, now v = ${vText(k, 4)}`,
      });
      set(parts.handle.firstChild, { x: -step / 2, width: step, y: -16, height: 32 });
    });
  };

  // Formulas with the numbers of the chosen component at the slider's time. They hold as they stand: a difference of
  // two numbers that are nearly equal needs more of their digits.
  const DIGITS = 6;
  const formulas = {
    flow: (state, k) => {
      const isSoftmax = state.attention === "softmax", pull = state.mlp === "nonlinear" ? gapText(state, k) : number(state.rates[k], DIGITS);
      const speed = signed(pullOf(state, k), now.logs[k] - (isSoftmax ? now.logZ : 0));
      return `${speed} = ${pull} · ${weightText(state, k)}${isSoftmax ? ` / ${exponential(now.logZ)}` : ""}`;
    },
    attention: (state, k) => `${number(now.shares[k])} = ${weightText(state, k)} / ${exponential(now.logZ)}`,
    entropy: () => {
      const terms = now.shares.map((share) => number(-share * Math.log(share) || 0, 2));
      const some = terms.length > 6 ? [...terms.slice(0, 5), "…", terms.at(-1)] : terms;
      return `${number(now.entropy)} nats = ${some.join(" + ")}`;
    },
    solution: (state, k) => {
      const rate = state.rates[k], progress = now.progress[k];
      const [ofRate, ofStart] = [rate, state.v0].map((value) => number(value, DIGITS));
      if (state.mlp === "nonlinear" && rate === state.v0) return "v starts at its target and stays there";
      if (state.mlp === "nonlinear") return `ln[(${ofRate} − ${ofStart}) / ${gapText(state, k)}] = ${number(progress)}`;
      if (rate === 0) return "v stays where it starts, because Δ = 0";
      return `(${vText(k)} − ${ofStart}) / ${ofRate} = ${large(progress, now.logs[k] - Math.log(Math.abs(rate)), 4)}`;
    },
    end: (state, k) => {
      if (state.mlp === "linear" && state.rates[k] === 0) return "no blow-up, because Δ = 0";
      if (state.mlp === "linear" && state.attention === "exp") return `t* = ${number(solved.blowUps[k])}`;
      if (state.mlp === "linear") return "no blow-up: this attention keeps every component finite at every time";
      return `v → ${number(state.rates[k])}, and is ${exponential(pullOf(state, k).log)} away from it now`;
    },
  };
  // What no float holds is known by its logarithm. With linear attention that of √(v² + c) is then that of |v|.
  const large = (value, log, digits = DIGITS) =>
    Math.abs(value) === Infinity ? signed({ sign: value, log }, 0, digits) : number(value, digits);
  const signed = ({ sign, log }, more, digits = 4) => `${sign < 0 ? "−" : ""}${exponential(log + more, digits)}`;
  // μ − v or Δ, by sign and logarithm: μ − v comes as close to 0 as it likes.
  const pullOf = (state, k) => {
    const isNonlinear = state.mlp === "nonlinear", pull = state.rates[k] - (isNonlinear ? state.v0 : 0);
    return { sign: pull, log: Math.log(Math.abs(pull)) - (isNonlinear ? now.progress[k] : 0) };
  };
  const vText = (k, digits = DIGITS) => large(now.v[k], now.logs[k], digits);
  const gapText = (state, k) => {
    const rate = number(state.rates[k], DIGITS), v = vText(k);
    return v === rate ? signed(pullOf(state, k), 0) : `(${rate} − ${v})`;
  };
  const weightText = (state, k) => {
    const v = vText(k), square = /[−·]/.test(v) ? `(${v})²` : `${v}²`;
    return state.attention === "linear" ? `√(${square} + ${number(state.constant)})` : `exp(${number(state.gain)} · ${square})`;
  };

  const WORDS = (state) => {
    const weight = state.attention === "linear" ? "√(v² + c)" : "exp(αv²)", isSoftmax = state.attention === "softmax";
    const away = state.mlp === "nonlinear" ? "(μ − v)" : "Δ", progress = state.mlp === "nonlinear" ? "u" : "s";
    return {
      flow: `v̇ = ${away} · ${weight}${isSoftmax ? " / Z,  Z = Σ exp(αv²)" : ""}`,
      attention: `share of attention a = ${weight} / Σ ${weight}`,
      entropy: "entropy H = −Σ a ln a",
      solution:
        (state.mlp === "nonlinear" ? "u = ln[(μ − v₀)/(μ − v)]" : "s = (v − v₀)/Δ") +
        (isSoftmax ? `,  t = Σ ${progress} over all components` : `,  t = ∫ d${progress} / ${weight}`),
      end: state.mlp === "linear" && state.attention === "exp" ? "blow-up: t* = ∫₀^∞ ds / exp(αv²)" :
        state.mlp === "nonlinear" ? "v → μ for t → ∞" : "|v| < ∞ at every t",
    };
  };

  const drawNow = (state, share) => {
    const t = share * state.end, near = states.findLast((at) => at.t <= t);
    now = solved.at(t, near);
    for (const chart of Object.values(charts)) chart.cursor(t);
    drawEditor(state);
    const words = WORDS(state), k = shown(state);
    for (const line of $.formulas) {
      const name = line.dataset.formula;
      say(line.querySelector(".symbols"), words[name]);
      const isDefined = t < solved.firstBlowUp || name === "end";
      say(line.querySelector(".numbers"), isDefined ? formulas[name](state, k) : "not defined after the blow-up");
    }
    say($.which, `component ${k + 1}, ${nameOf(state, k)}, at t = ${number(t)}`);
    return `t = ${number(t, 3)}`;
  };

  const drawControls = (state) => {
    for (const input of document.querySelectorAll("#theory [data-field]")) {
      const value = state[input.dataset.field];
      if (input.type === "radio") input.checked = input.value === value;
      else if (input !== document.activeElement || input.type === "range") input.value = input.dataset.log ? Math.log10(value) : value;
      const output = input.parentElement.querySelector("output");
      if (output) say(output, number(value, 3));
    }
    byId("gain").closest("label").hidden = state.attention === "linear";
    byId("constant").closest("label").hidden = state.attention !== "linear";
    for (const part of document.querySelectorAll("[data-rate]")) say(part, symbol(state.mlp));
    const [hint, name] = state.mlp === "linear" ? ["v now, and its rate Δ (drag)", "Rates"] : ["v now, and where it goes (drag)", "Targets"];
    say($.hint, hint);
    set($.editor, { "aria-label": `${name} of the components, to drag or to set with the arrow keys` });
    byId("fewer").disabled = state.rates.length < 2;
    byId("more").disabled = state.rates.length >= MOST_COMPONENTS;
  };

  // Random targets, as in the paper's Figure 4: between 1 and 4.
  const randomRates = (num) => Array.from({ length: num }, () => Number((1 + 3 * Math.random()).toFixed(2))).sort((a, b) => a - b);
  const PRESETS = {
    figure4: () => ({ ...preset, mlp: "nonlinear", attention: "softmax", component: preset.rates.length - 1 }),
    linear: () => ({ ...preset, mlp: "linear", attention: "softmax", component: preset.rates.length - 1 }),
    runaway: () => ({ mlp: "linear", attention: "exp", rates: [0.5, 1, 1.7, 2], v0: 0, gain: 0.5, end: 1, component: 3 }),
    random: () => ({ rates: randomRates(State.get().rates.length) }),
  };

  const begin = () => {
    $.story = byId("story");
    $.editor = byId("targets");
    $.which = byId("which");
    $.formulas = [...document.querySelectorAll("#theory [data-formula]")];
    $.hint = el("text", { class: "tick", x: 2, y: 10 });
    $.zero = el("line", { class: "grid" });
    $.marks = el("g");
    $.handles = el("g");
    $.ticks = [5, 3, 1, 0, -1, -3].map((tick) => el("text", { class: "tick end" }, number(tick)));
    $.editor.append($.zero, ...$.ticks, $.marks, $.handles, $.hint);
    $.editor.append(el("text", { class: "tick", x: 2, y: TRACK.shareTop - 2 }, "share of attention now"));
    const pick = (t) => State.set({ at: Math.min(1, t / State.get().end) });
    charts = {
      components: Draw.chart(byId("components"), { pick }),
      attention: Draw.chart(byId("attention"), { pick, height: 180 }),
      entropy: Draw.chart(byId("entropy"), { pick }),
    };
    Draw.onWidth($.editor.parentElement, (width) => {
      $.width = width;
      if (now) drawEditor(State.get());
    });
    document.getElementById("theory").addEventListener("input", (event) => {
      const { field, log } = event.target.dataset;
      if (!field) return;
      const isNumber = event.target.type === "range" || event.target.type === "number";
      const value = isNumber ? Number(event.target.value) : event.target.value;
      const changes = { [field]: log ? 10 ** value : value };
      if (field === "attention") changes.end = ENDS[value];
      State.set(changes);
    });
    byId("more").addEventListener("click", () => State.set({ rates: [...State.get().rates, 2] }));
    byId("fewer").addEventListener("click", () => State.set({ rates: State.get().rates.slice(0, -1) }));
    for (const button of document.querySelectorAll("[data-preset]")) {
      button.addEventListener("click", () => State.set(PRESETS[button.dataset.preset]()));
    }
  };

  const SOLVED_BY = ["mlp", "attention", "rates", "v0", "gain", "constant", "end"];
  const update = (state, changed) => {
    const isNew = SOLVED_BY.some((name) => changed.has(name));
    if (isNew) {
      solve(state);
      drawControls(state);
    }
    if (isNew || changed.has("component")) drawCurves(state);
    return drawNow(state, state.at);
  };

  const reads = ["at", "component", ...SOLVED_BY];
  return { reads, fields, begin, update };
})();
