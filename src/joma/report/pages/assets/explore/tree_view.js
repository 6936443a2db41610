"use strict";
// Part 3: a hierarchy whose latents are coloured and numbered by how well a network's units have found them.
const TreeView = (() => {
  const { el, set, say, number } = Draw;
  const byId = (id) => document.getElementById(id);
  const ROW = 84, TOP = 24, SIDE = 74;
  let tree = null, nodes = [], curves = null;

  const fields = (given) => {
    tree = given;
    return {};
  };
  const indexAt = (at) => Math.round(at * (tree.steps.length - 1));
  const known = (values) => values.filter((value) => value !== null);
  const mean = (values) => (known(values).length ? known(values).reduce((sum, value) => sum + value, 0) / known(values).length : NaN);

  const build = () => {
    const host = byId("latents"), num = tree.places.length, height = TOP + ROW * (num - 1) + 26;
    const svg = el("svg", { class: "drawn", height, role: "img" });
    host.append(svg);
    Draw.onWidth(host, (width) => {
      set(svg, { width, viewBox: `0 0 ${width} ${height}` });
      const x = (place) => SIDE + place * (width - SIDE - 6), y = (row) => TOP + ROW * (num - 1 - row);
      const lines = tree.edges.flatMap((pairs, row) => pairs.map(([below, above]) => {
        const [from, to] = [tree.places[row][below], tree.places[row + 1][above]];
        return from === null || to === null ? null : el("line", { class: "branch", x1: x(from), y1: y(row), x2: x(to), y2: y(row + 1) });
      })).filter(Boolean);
      const names = tree.places.map((_, row) => {
        const text = row === 0 ? "tokens" : row === num - 1 ? "label" : `level ${row - 1}`;
        return el("text", { x: 2, y: y(row) + 4, class: "tick" }, text);
      });
      const ends = [0, num - 1].flatMap((row) => tree.places[row].map((place) =>
        place === null ? null : el("rect", { class: "end-node", x: x(place) - 3, y: y(row) - 3, width: 6, height: 6 }))).filter(Boolean);
      nodes = tree.scores[0].map((level, at) => level.map((_, k) => {
        const place = tree.places[at + 1][k], room = (width - SIDE) / level.length;
        const circle = el("circle", { class: "latent", cx: x(place), cy: y(at + 1) }), title = el("title");
        const label = el("text", { x: x(place), class: "middle score" });
        circle.append(title);
        return { circle, label, title, y: y(at + 1), most: Math.min(19, room / 2 - 1), isNamed: room >= 13, lift: room < 26 && k % 2 ? 11 : 0 };
      }));
      svg.replaceChildren(...lines, ...names, ...ends, ...nodes.flat().flatMap(({ circle, label }) => [circle, label]));
      paint(State.get());
    });
    return svg;
  };

  let picture = null, painted = -1;
  const paint = (state) => {
    const k = painted = indexAt(state.at ?? 0);
    nodes.forEach((level, at) => level.forEach(({ circle, label, title, y, most, isNamed, lift }, latent) => {
      const score = tree.gains[k][at][latent], share = Math.max(0, score ?? 0), r = 4 + (most - 4) * Math.sqrt(share);
      set(circle, { r, style: `--found: ${Math.round(100 * share)}%`, class: `latent ${score === null ? "unknown" : ""}` });
      say(label, isNamed ? (score === null ? "?" : Draw.fixed(score, 2).replace("0.", ".")) : "");
      set(label, { y: r < 12 ? y - r - 4 - lift : y + 4 }); // above a circle that has no room for it, and every other one higher
      const raw = tree.scores[k][at][latent], first = tree.scores[0][at][latent];
      say(title, `level ${at}, latent ${latent}: ${score === null ? "no score" : `gain ${number(score, 2)}, score ${number(raw, 3)}, untrained ${number(first, 3)}`}`);
    }));
  };

  const drawCurves = () => {
    const lines = tree.scores[0].map((_, level) => ({
      points: tree.steps.map((step, k) => [step, tree.level_gains[k][level] ?? NaN]),
      label: `level ${level}`,
      shade: tree.scores[0].length > 1 ? level / (tree.scores[0].length - 1) : 0,
      strong: level === 0,
    }));
    const { steps, values } = tree.accuracy;
    if (steps.length) lines.push({ points: steps.map((step, k) => [step, values[k]]), kind: "dotted", label: "accuracy" });
    const all = lines.flatMap((line) => line.points.map(([, value]) => value));
    curves.show({
      x: [tree.steps[0], tree.steps.at(-1)], y: [Math.min(0, ...all.filter(Number.isFinite)), 1], lines, right: 66,
      xLabel: "step", yLabel: "gain of a level's mean score; accuracy", summary: sentence(),
    });
  };

  const sentence = () => {
    const last = tree.scores.length - 1;
    const levels = tree.scores[0].map((_, level) => {
      const [first, end] = [mean(tree.scores[0][level]), mean(tree.scores[last][level])];
      return `level ${level} from ${number(first, 2)} to ${number(end, 2)}`;
    });
    const { values } = tree.accuracy;
    const right = values.length ? ` The network then predicts ${Math.round(100 * values.at(-1))}% of the labels; guessing gives ${Math.round(100 * tree.guessing)}%.` : "";
    const gains = tree.level_gains[last].map((gain, at) => `${number(100 * gain, 2)}% at level ${at}`);
    return `Training covers ${gains.join(" and ")} of what the untrained network misses: the mean scores of the latents go from step ${tree.steps[0]} to ${tree.steps[last].toLocaleString("en")} as follows: ${levels.join(", ")}.${right}`;
  };

  const begin = () => {
    curves = Draw.chart(byId("levels"), {
      pick: (step) => State.set({ at: Math.max(0, tree.steps.findLastIndex((own) => own <= step)) / Math.max(1, tree.steps.length - 1) }),
    });
    byId("tree-story").textContent = sentence();
    picture = build();
    drawCurves();
  };

  const update = (state) => {
    const k = indexAt(state.at), step = tree.steps[k];
    if (k !== painted) paint(state);
    curves.cursor(step);
    const scores = tree.level_gains[k].map((gain, at) => `level ${at}: ${number(gain ?? NaN, 2)}`).join(", ");
    say(byId("tree-now"), `Step ${step.toLocaleString("en")}, gains of the levels: ${scores}`);
    set(picture, { "aria-label": `Latents at step ${step}, gains of the levels: ${scores}` });
    return `tree step ${step.toLocaleString("en")}`;
  };

  return { reads: ["at"], fields, begin, update };
})();
