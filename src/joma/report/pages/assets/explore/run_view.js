"use strict";
// Part 2: the attention entropy of every layer and head of a run, and its attention to one sentence.
const RunView = (() => {
  const { el, set, say, number } = Draw;
  const byId = (id) => document.getElementById(id);
  let run = null, range = null, curves = null, orders = null, cells = [], grids = [];
  let drawn = { key: "", entropies: [] }; // of the sentence

  const fields = (given) => {
    run = given;
    return {
      row: State.whole(0, 0, run.rows.length - 1),
      layer: State.whole(0, 0, run.sentence ? run.sentence.weights[0][0].length - 1 : 0),
      head: State.whole(-1, -1, run.sentence?.has_heads ? run.sentence.weights[0][0][0].length - 1 : -1),
    };
  };

  const nameOf = ({ layer, head }) => `layer ${layer}${head === null ? "" : `, head ${head}`}`;
  const stepAt = (at) => run.steps[indexAt(run.steps, at)];
  const indexAt = (steps, at) => Math.round(at * (steps.length - 1));
  // The last of some steps that is not after a step.
  const upTo = (steps, step) => Math.max(0, steps.findLastIndex((own) => own <= step));

  // Rows of heads by columns of probes; darker is lower. Each cell has its value as a title.
  const buildMap = () => {
    const host = byId("heads"), values = run.rows.flatMap((row) => row.entropy).filter((value) => value !== null);
    range = [Math.min(...values), Math.max(...values)];
    const rowHeight = run.rows.length > 100 ? 4 : run.rows.length > 40 ? 6 : 16;
    const left = 12 + 5.5 * Math.max(...run.rows.map((row) => nameOf(row).length)), top = 4, height = top + rowHeight * run.rows.length + 22;
    const svg = el("svg", { class: "drawn picks", height, role: "img", "aria-label": mapWords() });
    const cursor = el("rect", { class: "frame" });
    host.append(svg);
    const draw = (width) => {
      const wide = (width - left - 8) / run.steps.length;
      set(svg, { width, viewBox: `0 0 ${width} ${height}` });
      const nodes = [];
      run.rows.forEach((row, r) => {
        const y = top + rowHeight * r;
        const isNamed = rowHeight > 10 || r % Math.ceil(14 / rowHeight) === 0;
        if (isNamed) nodes.push(el("text", { x: left - 6, y: y + rowHeight - 4, class: "tick end", "data-row": r }, nameOf(row)));
        row.entropy.forEach((value, k) => {
          if (value === null) return;
          const cell = el("rect", { x: left + wide * k, y, width: wide + 0.3, height: rowHeight - 1, class: "cell", style: shadeOf(value) });
          cell.append(el("title", {}, `${nameOf(row)}, step ${run.steps[k]}: ${number(value)} nats`));
          nodes.push(cell);
        });
      });
      const last = run.steps.length - 1;
      for (const k of [...new Set([0, Math.round(last / 2), last])]) {
        const anchor = k === 0 ? "" : k === last ? "end" : "middle";
        nodes.push(el("text", { x: left + wide * (anchor === "end" ? k + 1 : k), y: height - 6, class: `tick ${anchor}` }, `step ${run.steps[k].toLocaleString("en")}`));
      }
      svg.replaceChildren(...nodes, cursor);
      cells = { wide, left, top, tall: rowHeight * run.rows.length, cursor, svg };
      placeCursor(State.get());
    };
    const pick = (event) => {
      if (!(event.buttons & 1)) return;
      const box = svg.getBoundingClientRect();
      const k = Math.floor((event.clientX - box.left - cells.left) / cells.wide);
      const r = Math.floor((event.clientY - box.top - cells.top) / rowHeight);
      const changes = { at: Math.min(1, Math.max(0, k / Math.max(1, run.steps.length - 1))) };
      if (r >= 0 && r < run.rows.length) changes.row = r;
      State.set(changes);
    };
    svg.addEventListener("pointerdown", pick);
    svg.addEventListener("pointermove", pick);
    Draw.onWidth(host, draw);
    byId("heads-scale").append(number(range[0], 3), scaleOf(), `${number(range[1], 3)} nats`);
  };
  const scaleOf = () => {
    const svg = el("svg", { width: 120, height: 12, class: "drawn scale", "aria-hidden": "true" });
    for (let k = 0; k < 24; k += 1) {
      const value = range[0] + ((range[1] - range[0]) * (k + 0.5)) / 24;
      svg.append(el("rect", { x: 5 * k, width: 5.3, height: 12, class: "cell", style: shadeOf(value) }));
    }
    return svg;
  };
  const shadeOf = (value) => `--dark: ${Math.round((100 * (range[1] - value)) / (range[1] - range[0] || 1))}%`;
  const mapWords = () => `Attention entropy of ${run.rows.length} heads at ${run.steps.length} steps; the curves have the same numbers`;

  const placeCursor = (state) => {
    if (state.at === undefined) return; // before anything is read
    const k = indexAt(run.steps, state.at);
    set(cells.cursor, { x: cells.left + cells.wide * k - 1, width: Math.max(3, cells.wide + 2), y: cells.top - 2, height: cells.tall + 3 });
  };

  const means = () => run.steps.map((_, k) => {
    const values = run.rows.map((row) => row.entropy[k]).filter((value) => value !== null);
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : NaN;
  });

  // What the mean over heads does, from the numbers.
  const sentence = () => {
    const mean = means(), first = mean.find(Number.isFinite), last = mean.findLast(Number.isFinite);
    const lowest = Math.min(...mean.filter(Number.isFinite)), at = run.steps[mean.indexOf(lowest)];
    const end = run.steps[mean.findLastIndex(Number.isFinite)];
    const unit = run.rows.some((row) => row.head !== null) ? "heads" : "layers";
    if (run.steps.length === 1) return `The mean attention entropy of the ${run.rows.length} ${unit} is ${number(first, 3)} nats at step ${end.toLocaleString("en")}, the only one.`;
    return (
      `The mean attention entropy of the ${run.rows.length} ${unit} starts at ${number(first, 3)} nats, is lowest at step ` +
      `${at.toLocaleString("en")} with ${number(lowest, 3)}, and ends at ${number(last, 3)} at step ${end.toLocaleString("en")}.` +
      (run.not_finite ? ` It is not finite in ${run.not_finite.toLocaleString("en")} measurements, which are left empty.` : "")
    );
  };

  const drawCurves = (state) => {
    const layers = [...new Set(run.rows.map((row) => row.layer))], many = run.rows.length > 48;
    const lines = run.rows.flatMap((row, r) => {
      const chosen = r === state.row;
      if (many && !chosen) return [];
      return [{
        points: run.steps.map((step, k) => [step, row.entropy[k] ?? NaN]),
        label: chosen ? nameOf(row).replace("layer ", "L").replace(", head ", " H") : "",
        kind: layers.indexOf(row.layer) % 2 ? "odd" : "",
        shade: layers.length > 1 ? layers.indexOf(row.layer) / (layers.length - 1) : 0,
        strong: chosen,
      }];
    });
    const mean = means();
    lines.sort((a, b) => a.strong - b.strong);
    lines.push({ points: run.steps.map((step, k) => [step, mean[k]]), kind: "dotted", label: "mean" });
    const top = Math.max(...run.rows.flatMap((row) => row.entropy).filter((value) => value !== null));
    curves.show({
      x: [run.steps[0], run.steps.at(-1)], y: [0, top * 1.05], lines, right: 52, isLog: true,
      xTicks: stepTicks(run.steps[0], run.steps.at(-1)), xLabel: "step", yLabel: "attention entropy (nats)", summary: sentence(),
    });
  };
  const stepTicks = (first, last) => [0, 10, 100, 1000, 1e4, 1e5, 1e6].filter((tick) => first <= tick && tick < last / 2).concat(last);

  // Weights of queries (rows) on keys (columns), as written and shuffled: the area of a square is the weight.
  const buildSentence = () => {
    const { tokens } = run.sentence, size = tokens[0].length;
    grids = ["written", "shuffled"].map((id, order) => {
      const host = byId(id), side = 30 * size, label = 78;
      const svg = el("svg", { class: "drawn words", viewBox: `0 0 ${label + side + 34} ${label + side}`, role: "img" });
      tokens[order].forEach((word, k) => {
        const at = label + 30 * k + 15;
        svg.append(el("text", { x: label - 6, y: at + 4, class: "end word" }, word));
        svg.append(el("text", { x: 0, y: 0, class: "word", transform: `translate(${at + 4} ${label - 6}) rotate(-60)` }, word));
      });
      const squares = tokens[order].map((_, query) => tokens[order].map((_, key) => {
        const square = el("rect", { class: "weight" }), title = el("title");
        square.append(title);
        svg.append(el("rect", { class: "slot", x: label + 30 * key + 1, y: label + 30 * query + 1, width: 28, height: 28 }), square);
        return { square, title, x: label + 30 * key + 15, y: label + 30 * query + 15 };
      }));
      host.append(svg);
      return { svg, squares };
    });
  };

  const weightsAt = (k, order, layer, head) => {
    const heads = run.sentence.weights[k][order][layer];
    if (head >= 0) return heads[head].map((row) => row.map((weight) => weight / 1000));
    return heads[0].map((row, q) => row.map((_, key) => heads.reduce((sum, one) => sum + one[q][key], 0) / heads.length / 1000));
  };
  const entropyOf = (weights) => {
    const rows = weights.map((row) => row.reduce((sum, weight) => (weight > 0 ? sum - weight * Math.log(weight) : sum), 0));
    return rows.reduce((sum, value) => sum + value, 0) / rows.length;
  };

  // Weights are saved less often than entropy is measured; nothing is made up in between.
  const savedWords = (saved, step) =>
    saved === step ? "" : ` (the ${saved < step ? "last" : "first"} one with weights ${saved < step ? "up to" : "after"} step ${step.toLocaleString("en")})`;

  const drawSentence = (state) => {
    const { steps, layers } = run.sentence, k = upTo(steps, stepAt(state.at));
    const key = [k, state.layer, state.head].join();
    if (drawn.key !== key) drawn = { key, entropies: drawWeights(k, state) };
    const [written, shuffled] = drawn.entropies.map((entropy) => number(entropy, 3));
    say(
      byId("sentence-story"),
      `Step ${steps[k].toLocaleString("en")}${savedWords(steps[k], stepAt(state.at))}, layer ${layers[state.layer]}, ${state.head < 0 ? "mean over heads" : `head ${state.head}`}: ` +
        `entropy ${written} nats as written, ${shuffled} with the same words shuffled.`,
    );
    for (const select of document.querySelectorAll("#run select")) select.value = state[select.dataset.field];
  };
  // The entropy of the sentence at every saved step, as written and shuffled, on the same axes.
  const drawOrders = (state) => {
    const { steps } = run.sentence;
    const lines = [{ label: "as written", strong: true }, { label: "shuffled", kind: "dashed" }].map((line, order) => ({
      ...line, points: steps.map((step, k) => [step, entropyOf(weightsAt(k, order, state.layer, state.head))]),
    }));
    const top = Math.max(...lines.flatMap((line) => line.points.map(([, value]) => value)));
    orders.show({
      x: [run.steps[0], run.steps.at(-1)], y: [0, top * 1.05], lines, right: 66, isLog: true,
      xTicks: stepTicks(run.steps[0], run.steps.at(-1)), xLabel: "step", yLabel: "attention entropy (nats)",
      summary: "Attention entropy of the sentence over training, as written and shuffled",
    });
  };
  // Both pictures at one saved step; returns their mean entropies.
  const drawWeights = (k, state) =>
    grids.map(({ svg, squares }, order) => {
      const { tokens } = run.sentence;
      const weights = weightsAt(k, order, state.layer, state.head);
      weights.forEach((row, query) => row.forEach((weight, key) => {
        const { square, title, x, y } = squares[query][key], side = 27 * Math.sqrt(weight);
        set(square, { x: x - side / 2, y: y - side / 2, width: side, height: side });
        say(title, `${tokens[order][query]} attends to ${tokens[order][key]}: ${number(weight, 3)}`);
      }));
      const entropy = entropyOf(weights);
      set(svg, { "aria-label": `${order ? "The same words shuffled" : "As written"}: mean entropy ${number(entropy, 3)} nats` });
      return entropy;
    });

  const goTo = (step) => State.set({ at: upTo(run.steps, step) / Math.max(1, run.steps.length - 1) });
  const begin = () => {
    buildMap();
    curves = Draw.chart(byId("head-curves"), { pick: goTo });
    byId("run-story").textContent = sentence();
    if (run.sentence) {
      buildSentence();
      orders = Draw.chart(byId("orders"), { pick: goTo });
    }
    byId("run").addEventListener("change", ({ target }) => {
      if (target.dataset.field) State.set({ [target.dataset.field]: Number(target.value) });
    });
    const names = byId("row");
    run.rows.forEach((row, r) => names.append(new Option(nameOf(row), r)));
  };

  const update = (state, changed) => {
    if (changed.has("row")) {
      drawCurves(state);
      byId("row").value = state.row;
    }
    placeCursor(state);
    const step = stepAt(state.at), row = run.rows[state.row];
    curves.cursor(step);
    const value = row.entropy[indexAt(run.steps, state.at)];
    say(byId("row-value"), `${nameOf(row)} at step ${step.toLocaleString("en")}: ${value === null ? "not measured" : `${number(value, 3)} nats`}`);
    if (run.sentence) {
      if (changed.has("layer") || changed.has("head")) drawOrders(state);
      orders.cursor(step);
      drawSentence(state);
    }
    return `step ${step.toLocaleString("en")}`;
  };

  return { reads: ["at", "row", "layer", "head"], fields, begin, update };
})();
