"use strict";
// Small SVG charts: lines over one axis that share a cursor. Texts are set as text, never as markup.
const Draw = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const MARGIN = { left: 44, right: 62, top: 18, bottom: 24 };
  const LEAST_WIDTH = 240, LABEL_HEIGHT = 12, MOST_SPREAD = 8;
  const RAISED = Object.fromEntries([..."-0123456789"].map((sign, k) => [sign, "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"[k]]));

  const el = (name, attributes = {}, ...children) => {
    const made = document.createElementNS(SVG, name);
    set(made, attributes);
    made.append(...children);
    return made;
  };
  // What stays the same is not written again, so that the browser need not lay it out and paint it at every frame.
  const set = (node, attributes) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) node.removeAttribute(name);
      else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
    }
    return node;
  };
  const say = (node, text) => {
    if (node.textContent !== String(text)) node.textContent = text;
  };

  const number = (value, digits = 4) => {
    if (Number.isNaN(value)) return "–";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    const size = Math.abs(value), isPlain = size === 0 || (size >= 1e-3 && size < 1e6);
    const rounded = Number(value.toPrecision(digits));
    const [mantissa, power] = (isPlain ? String(rounded) : rounded.toExponential()).split("e");
    return `${mantissa.replace("-", "−")}${power === undefined ? "" : tenTo(Number(power))}`;
  };
  const tenTo = (power) => `·10${[...String(power)].map((sign) => RAISED[sign]).join("")}`;
  // A number by its natural logarithm: it may be too large or too small for a float.
  const exponential = (log, digits = 4) => {
    const value = Math.exp(log);
    if (!Number.isFinite(log) || (value > 0 && value < Infinity)) return number(value, digits);
    const power = Math.floor(log / Math.LN10);
    return `${number(10 ** (log / Math.LN10 - power), digits)}${tenTo(power)}`;
  };
  const fixed = (value, decimals) => (Number.isFinite(value) ? value.toFixed(decimals).replace("-", "−") : number(value));

  // Round numbers on an axis.
  const ticks = ([low, high], most) => {
    const rough = (high - low) / Math.max(1, most), power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) found.push(k * step);
    return found;
  };

  // The range of some values with a margin; `around` are values that it includes at least.
  const range = (values, around = []) => {
    const kept = [...values, ...around].filter(Number.isFinite);
    const low = Math.min(...kept), high = Math.max(...kept), pad = 0.05 * (high - low || Math.abs(high) || 1);
    return [around.includes(low) ? low : low - pad, around.includes(high) ? high : high + pad];
  };

  const tenth = (value) => Math.round(10 * value) / 10; // several times as fast as toFixed
  const pathOf = (points, x, y) => {
    let text = "", isOpen = false;
    for (const [at, value] of points) {
      if (!Number.isFinite(value)) {
        isOpen = false;
        continue;
      }
      text += `${isOpen ? "L" : "M"}${tenth(x(at))} ${tenth(y(value))}${isOpen ? "" : "h0"}`; // h0: a dot, if alone
      isOpen = true;
    }
    return text;
  };

  // Texts at the right ends of lines, the strong one first. A few are moved apart; of many, some are left out.
  const endLabels = (lines, y) => {
    const wanted = lines.filter((line) => line.label && line.points.some(([, value]) => Number.isFinite(value)));
    const placed = wanted.map((line) => {
      const [, value] = line.points.findLast(([, value]) => Number.isFinite(value));
      return { line, at: Math.max(y.top, Math.min(y.bottom, y(value))) };
    });
    if (placed.length > MOST_SPREAD) {
      placed.sort((a, b) => (b.line.strong ? 1 : 0) - (a.line.strong ? 1 : 0));
      return placed.reduce((kept, one) => {
        return kept.every((other) => Math.abs(other.at - one.at) >= LABEL_HEIGHT) ? [...kept, one] : kept;
      }, []);
    }
    placed.sort((a, b) => a.at - b.at);
    for (let k = 1; k < placed.length; k += 1) placed[k].at = Math.max(placed[k].at, placed[k - 1].at + LABEL_HEIGHT);
    let lowest = y.bottom + 4;
    for (const one of placed.reverse()) {
      one.at = Math.min(one.at, lowest);
      lowest = one.at - LABEL_HEIGHT;
    }
    return placed;
  };

  // Call back with an element's width, now and whenever it changes; reading it at every frame costs a layout.
  const onWidth = (host, call) => {
    const width = () => Math.max(LEAST_WIDTH, host.clientWidth || 600);
    call(width());
    new ResizeObserver(() => call(width())).observe(host);
  };

  let numClips = 0;
  // host: an element; pick(x): called with the place on the axis that is pointed at.
  const chart = (host, { height = 220, pick = null } = {}) => {
    const svg = el("svg", { class: "drawn", role: "img", height });
    const clip = `clip${(numClips += 1)}`;
    const cursor = el("line", { class: "cursor" });
    let spec = null, scale = null, at = null;
    host.append(svg);

    let width = 600;
    const draw = () => {
      if (!spec) return;
      const right = spec.right ?? MARGIN.right;
      const inner = { left: MARGIN.left, right: Math.max(MARGIN.left + 60, width - right) };
      const [x0, x1] = spec.x, [y0, y1] = spec.y;
      const warp = spec.isLog ? (value) => Math.log1p(value) : (value) => value;
      const x = (value) =>
        inner.left + ((warp(value) - warp(x0)) / (warp(x1) - warp(x0) || 1)) * (inner.right - inner.left);
      const y = (value) => {
        const place = height - MARGIN.bottom - ((value - y0) / (y1 - y0 || 1)) * (height - MARGIN.bottom - MARGIN.top);
        return Math.max(-1e4, Math.min(1e4, place));
      };
      Object.assign(y, { top: MARGIN.top, bottom: height - MARGIN.bottom });
      const unwarp = spec.isLog ? (value) => Math.expm1(value) : (value) => value;
      scale = {
        x,
        inverse: (pixel) => {
          const share = Math.min(1, Math.max(0, (pixel - inner.left) / (inner.right - inner.left)));
          return unwarp(warp(x0) + share * (warp(x1) - warp(x0)));
        },
      };
      set(svg, { viewBox: `0 0 ${width} ${height}`, width, "aria-label": spec.summary });
      const nodes = [
        el("clipPath", { id: clip }, el("rect", {
          x: inner.left, y: y.top - 2, width: inner.right - inner.left, height: y.bottom - y.top + 4,
        })),
      ];
      for (const tick of ticks(spec.y, height / 55)) {
        nodes.push(el("line", { class: "grid", x1: inner.left, x2: inner.right, y1: y(tick), y2: y(tick) }));
        nodes.push(el("text", { x: inner.left - 6, y: y(tick) + 3.5, class: "tick end" }, number(tick, 3)));
      }
      for (const tick of spec.xTicks ?? ticks(spec.x, (inner.right - inner.left) / 80)) {
        nodes.push(el("line", { class: "grid", x1: x(tick), x2: x(tick), y1: y.bottom, y2: y.bottom + 4 }));
        nodes.push(el("text", { x: x(tick), y: height - 8, class: "tick middle" }, number(tick, 3)));
      }
      nodes.push(el("text", { x: 2, y: 10, class: "tick" }, spec.yLabel));
      nodes.push(el("text", { x: inner.right + 20, y: height - 8, class: "tick" }, spec.xLabel));
      const body = el("g", { "clip-path": `url(#${clip})` });
      for (const { x: from, width: share, y: low, height: tall, ...rest } of spec.areas ?? []) {
        body.append(el("rect", {
          x: x(from), width: Math.max(0, x(from + share) - x(from)), y: y(low + tall), height: y(low) - y(low + tall), ...rest,
        }));
      }
      for (const line of spec.lines) {
        body.append(el("path", {
          d: pathOf(line.points, x, y),
          class: `line ${line.kind ?? ""} ${line.strong ? "strong" : ""}`,
          style: line.shade === undefined ? null : `--shade: ${Math.round(100 * line.shade)}%`,
        }));
      }
      nodes.push(body);
      for (const { at: place, line } of endLabels(spec.lines, y)) {
        nodes.push(el("text", {
          x: inner.right + 5, y: place + 4, class: `label ${line.strong ? "strong" : ""}`,
        }, line.label));
      }
      for (const mark of spec.marks ?? []) {
        const place = x(mark.x), isLeft = place > (inner.left + inner.right) / 2;
        nodes.push(el("line", { class: "mark", x1: place, x2: place, y1: y.top - 6, y2: y.bottom }));
        if (mark.y !== undefined) nodes.push(el("circle", { class: "mark", cx: place, cy: y(mark.y), r: 4 }));
        nodes.push(el("text", {
          x: place + (isLeft ? -6 : 6), y: y.top + 4, class: `note ${isLeft ? "end" : ""}`,
        }, mark.text));
      }
      svg.replaceChildren(...nodes, cursor);
      placeCursor();
    };
    const placeCursor = () => {
      if (!scale || at === null) return;
      const place = scale.x(at);
      set(cursor, { x1: place, x2: place, y1: MARGIN.top - 6, y2: height - MARGIN.bottom });
    };
    onWidth(host, (found) => {
      width = found;
      draw();
    });
    if (pick) {
      svg.classList.add("picks");
      const point = (event) => {
        if (event.buttons & 1) pick(scale.inverse(event.clientX - svg.getBoundingClientRect().left));
      };
      svg.addEventListener("pointerdown", (event) => {
        svg.setPointerCapture(event.pointerId);
        point(event);
      });
      svg.addEventListener("pointermove", point);
    }
    return {
      show: (next) => {
        spec = next;
        draw();
      },
      cursor: (next) => {
        at = next;
        placeCursor();
      },
    };
  };

  return { el, set, say, number, exponential, fixed, range, onWidth, chart };
})();
