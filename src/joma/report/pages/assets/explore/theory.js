"use strict";
// The dynamics with attention integrated out, solved exactly (docs/theory.md, section 3).
//
// The progress p of a component is u = ln[(μ − v₀)/(μ − v)] with a nonlinear MLP and (v − v₀)/Δ with a linear one. It
// grows at the rate w(v), the attention before normalisation, so that t = ∫ dp / w(v(p)): a quadrature, inverted by
// interpolation. Softmax attention divides all rates by Z = Σ w, so that Σ p = t: one number, the progress of the
// fastest component, is found such that this holds, and the others are where that component's clock says.
const Theory = (() => {
  // Gauss–Legendre on [0, 1], exact to rounding on pieces as short as those below.
  const NODES = [0.06943184420297371, 0.33000947820757187, 0.6699905217924281, 0.9305681557970262];
  const WEIGHTS = [0.17392742256872692, 0.32607257743127307, 0.32607257743127307, 0.17392742256872692];
  const PIECE = 0.045; // the most that ln w, or v on the length on which w changes, moves within a piece
  const LONGEST = 0.5; // of a piece, in p
  const SETTLED = 1e-13; // a distance from the target that changes no digit
  const NEGLIGIBLE = 45; // ln w beyond which the rest of the way to infinity takes no time
  const LEAST_RISE = 1e-9; // of entropy after its minimum; less is rounding, where it has reached 0
  const MOMENTS = 10; // of a component, at which it is looked at besides an even grid
  const CLOCK_ERROR = 1e-5; // of Σ p; one Runge–Kutta step removes the rest

  // w(v) and its logarithm, the slope of the latter, and the length of v on which w changes. Theorem 1 gives the logit
  // as z = v²/2T for exp attention (α = 1/2T²), and as z² = v² + c for linear attention.
  const exponential = (gain) => ({
    log: (v) => gain * v * v,
    weight: (v) => Math.exp(gain * v * v),
    slope: (v) => 2 * gain * v,
    reach: () => 1 / Math.sqrt(2 * gain),
  });
  const linear = (constant) => ({
    log: (v) => Math.log(v * v + constant) / 2,
    weight: (v) => Math.sqrt(v * v + constant),
    slope: (v) => v / (v * v + constant),
    reach: (v) => Math.sqrt(v * v + constant),
  });

  // v as a function of progress, and its derivative.
  const nonlinearPlace = (mu, v0) => ({
    v: (p) => (p > Math.LN2 ? mu - (mu - v0) * Math.exp(-p) : v0 - (mu - v0) * Math.expm1(-p)),
    speed: (p) => (mu - v0) * Math.exp(-p),
    isSettled: (p) => Math.abs(mu - v0) * Math.exp(-p) < SETTLED,
  });
  const linearPlace = (delta, v0, attention) => ({
    v: (p) => v0 + delta * p,
    speed: () => delta,
    isSettled: (p) => delta === 0 || (delta * (v0 + delta * p) > 0 && attention.log(v0 + delta * p) > NEGLIGIBLE),
  });

  // The way of one component, cut into pieces: at each cut the progress p, the time t, and dp/dt and d²p/dt².
  const pathOf = (place, attention, isEndless) => {
    const { weight, reach, slope } = attention;
    const passing = (from, to) => {
      let sum = 0;
      for (let k = 0; k < 4; k += 1) sum += WEIGHTS[k] / weight(place.v(from + (to - from) * NODES[k]));
      return sum * (to - from);
    };
    const cuts = [], times = [], rates = [], bends = [];
    for (let p = 0, t = 0; ; ) {
      const v = place.v(p), speed = place.speed(p), rate = weight(v), steepness = slope(v) * speed;
      cuts.push(p);
      times.push(t);
      rates.push(rate);
      bends.push(rate * rate * steepness);
      if (place.isSettled(p)) break;
      const next = p + Math.min(LONGEST, PIECE / Math.max(Math.abs(steepness), Math.abs(speed) / reach(v)));
      t += passing(p, next);
      p = next;
    }
    const last = cuts.length - 1, end = isEndless ? Infinity : times[last], pace = isEndless ? rates[last] : Infinity;
    const pieceOf = (sorted, value) => {
      let low = 0, high = last;
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (sorted[middle] <= value) low = middle;
        else high = middle;
      }
      return low;
    };
    const stride = Math.ceil(cuts.length / MOMENTS);
    return {
      v: place.v,
      end,
      moments: times.filter((_, k) => k % stride === 0),
      time: (p) => {
        if (p >= cuts[last]) return times[last] + (p - cuts[last]) / pace;
        const k = pieceOf(cuts, p);
        return times[k] + passing(cuts[k], p);
      },
      // The quadrature is inverted by interpolation of fifth degree between the cuts.
      progress: (t) => {
        if (t >= times[last]) return isEndless ? cuts[last] + (t - times[last]) * pace : Infinity;
        const k = pieceOf(times, t), width = times[k + 1] - times[k], x = (t - times[k]) / width;
        const rise = cuts[k + 1] - cuts[k];
        const a = rates[k] * width, b = (bends[k] * width * width) / 2;
        const left = rise - a - b, leftRate = rates[k + 1] * width - a - 2 * b;
        const leftBend = (bends[k + 1] * width * width) / 2 - b;
        const c = 10 * left - 4 * leftRate + leftBend;
        const d = -15 * left + 7 * leftRate - 2 * leftBend;
        const e = 6 * left - 3 * leftRate + leftBend;
        return cuts[k] + x * (a + x * (b + x * (c + x * (d + x * e))));
      },
    };
  };

  // Linear attention over a linear MLP has a closed form.
  const sinhPath = (delta, v0, constant) => {
    const root = Math.sqrt(constant), start = Math.asinh(v0 / root);
    const weight = Math.sqrt(v0 * v0 + constant);
    return {
      v: (p) => v0 + delta * p,
      end: Infinity,
      moments: delta === 0 ? [] : Array.from({ length: MOMENTS }, (_, k) => k / 2 / Math.abs(delta)),
      log: (t) => { // where v is too large for a number, too
        const y = Math.abs(start + delta * t);
        return Math.log(root / 2) + y + Math.log1p(Math.exp(-2 * y));
      },
      time: (p) => (delta === 0 ? p / weight : (Math.asinh((v0 + delta * p) / root) - start) / delta),
      progress: (t) => (delta === 0 ? t * weight : (root * Math.sinh(start + delta * t) - v0) / delta),
    };
  };

  const entropyOf = (logs) => {
    const highest = Math.max(...logs);
    if (!Number.isFinite(highest)) return { entropy: NaN, shares: logs.map(() => NaN), logZ: NaN };
    let z = 0, mean = 0;
    const shares = logs.map((log) => Math.exp(log - highest));
    for (const share of shares) z += share;
    shares.forEach((share, k) => {
      shares[k] = share / z;
      mean += shares[k] * (logs[k] - highest);
    });
    return { entropy: Math.max(0, Math.log(z) - mean), shares, logZ: highest + Math.log(z) };
  };

  // mlp: "nonlinear" (rates are targets μ) or "linear" (rates are Δ); attention: "softmax", "exp" or "linear";
  // gain: α of the exponent αv², for softmax and exp; constant: c of z² = v² + c, for linear attention.
  const dynamics = ({ mlp, attention, rates, v0, gain, constant }) => {
    const isNonlinear = mlp === "nonlinear", isSoftmax = attention === "softmax";
    const kind = attention === "linear" ? linear(constant) : exponential(gain);
    const paths = [], which = [], signs = []; // equal components, and mirrored ones from a start at 0, share a path
    const known = new Map();
    for (const rate of rates) {
      const sign = v0 === 0 && rate < 0 ? -1 : 1, key = sign * rate;
      if (!known.has(key)) {
        known.set(key, paths.length);
        if (!isNonlinear && attention === "linear") paths.push(sinhPath(key, v0, constant));
        else if (isNonlinear) paths.push(pathOf(nonlinearPlace(key, v0), kind, true));
        else paths.push(pathOf(linearPlace(key, v0, kind), kind, key === 0));
      }
      which.push(known.get(key));
      signs.push(sign);
    }
    const counts = paths.map((_, at) => which.filter((own) => own === at).length);
    const blowUps = which.map((at) => (isSoftmax ? Infinity : paths[at].end));
    const firstBlowUp = Math.min(...blowUps);
    const early = isNonlinear ? paths.map((path) => -kind.log(path.v(50))) : paths.map((path) => path.end);
    const fastest = early.indexOf(Math.min(...early));

    const attentionOf = (p) => {
      const weights = new Array(p.length); // of one component of each path
      let highest = -Infinity, z = 0;
      for (let k = 0; k < p.length; k += 1) {
        weights[k] = kind.log(paths[k].v(p[k]));
        highest = Math.max(highest, weights[k]);
      }
      for (let k = 0; k < p.length; k += 1) {
        weights[k] = Math.exp(weights[k] - highest);
        z += counts[k] * weights[k];
      }
      for (let k = 0; k < p.length; k += 1) weights[k] /= z;
      return weights;
    };
    const softmaxProgress = (t, near) => {
      if (t === 0) return near.p;
      let low = near.t <= t ? near.p[fastest] : 0, high = t, p = near.p;
      let at = Math.min(high, Math.max(low, p[fastest] + near.pace * (t - near.t)));
      let ahead = Infinity;
      for (let turn = 0; turn < 200; turn += 1) {
        const before = Math.abs(ahead), clock = paths[fastest].time(at);
        p = paths.map((path, k) => (k === fastest ? at : Math.min(t, path.progress(clock))));
        ahead = p.reduce((sum, own, k) => sum + counts[k] * own, -t);
        if (Math.abs(ahead) < CLOCK_ERROR || high - low < 1e-15 * high) break;
        if (ahead < 0) low = at;
        else high = at;
        const newton = at - ahead * attentionOf(p)[fastest];
        const isFast = Math.abs(ahead) < before / 2 && newton > low && newton < high;
        at = isFast ? newton : (low + high) / 2;
      }
      // One Runge–Kutta step of ṗ = attention over the time that is missing.
      const moved = (rate, step) => p.map((own, k) => own + step * rate[k]);
      const first = attentionOf(p), second = attentionOf(moved(first, -ahead / 2));
      const third = attentionOf(moved(second, -ahead / 2)), fourth = attentionOf(moved(third, -ahead));
      return p.map((own, k) => Math.max(0, own - (ahead / 6) * (first[k] + 2 * second[k] + 2 * third[k] + fourth[k])));
    };

    const start = { t: 0, p: paths.map(() => 0) };
    start.pace = attentionOf(start.p)[fastest];
    const at = (t, near = start) => {
      const from = near.t <= t ? near : start;
      const p = isSoftmax
        ? softmaxProgress(t, from)
        : paths.map((path, k) => path.progress(t));
      const places = paths.map((path, k) => path.v(p[k]));
      const v = which.map((own, k) => signs[k] * places[own]);
      const logs = which.map((own) => paths[own].log?.(t) ?? kind.log(places[own]));
      const { entropy, shares, logZ } = entropyOf(logs);
      const speeds = which.map((own, k) => {
        const weight = Math.exp(logs[k] - (isSoftmax ? logZ : 0));
        return (isNonlinear ? (rates[k] - v0) * Math.exp(-p[own]) : rates[k]) * weight;
      });
      const slopes = which.map((_, k) => kind.slope(v[k]) * speeds[k]); // of ln w
      const mean = slopes.reduce((sum, slope, k) => sum + shares[k] * slope, 0);
      const meanLog = logs.reduce((sum, log, k) => sum + shares[k] * log, 0);
      const entropyRate = slopes.reduce((sum, slope, k) => sum - shares[k] * (logs[k] - meanLog) * (slope - mean), 0);
      const pace = isSoftmax ? attentionOf(p)[fastest] : 0, progress = which.map((own) => p[own]);
      return { t, p, pace, progress, v, speeds, shares, entropy, entropyRate, logs, logZ };
    };
    const over = (times) => {
      let near = start;
      return times.map((t) => (near = at(t, near)));
    };
    // Times up to `end` or a blow-up: evenly spaced ones, close ones before a blow-up, and those at which a component
    // moves, which may all lie between two of the others. With softmax attention it is then t = Σ p.
    const times = (end, num) => {
      const last = Math.min(end, firstBlowUp);
      const clocks = paths.flatMap((path) => path.moments);
      const moments = isSoftmax
        ? clocks.map((clock) => paths.reduce((sum, path, k) => sum + counts[k] * path.progress(clock), 0))
        : clocks;
      const close = Array.from({ length: 40 }, (_, k) => firstBlowUp * (1 - 10 ** (-1 - k / 4)));
      const found = [...evenly(last, num), ...(firstBlowUp > end ? [] : close), ...moments];
      const sorted = Float64Array.from(found.filter((t) => t <= end && t < firstBlowUp)).sort();
      return [...new Set(sorted)];
    };
    // The lowest entropy between two of the states, or at the first or last one: {state, isInner}.
    const bottom = (states) => {
      const seen = states.filter((state) => Number.isFinite(state.entropy));
      let lowest = { state: seen[0], isInner: false };
      const consider = (state, isInner) => {
        if (state.entropy < lowest.state.entropy - 1e-12) lowest = { state, isInner };
      };
      for (let k = 1; k < seen.length - 1; k += 1) {
        const { entropy } = seen[k];
        if (entropy > seen[k - 1].entropy || entropy > seen[k + 1].entropy) continue;
        if (!seen.slice(k).some((later) => later.entropy > entropy + LEAST_RISE)) continue;
        consider(turning(seen[k - 1], seen[k + 1]), true);
      }
      consider(seen.at(-1), false);
      return lowest;
    };
    // Where the entropy's rate changes its sign: regula falsi (Illinois).
    const turning = (low, high) => {
      const from = low;
      let [a, b, fa, fb] = [low.t, high.t, low.entropyRate, high.entropyRate], found = low;
      if (!(fa < 0 && fb > 0)) return low.entropy < high.entropy ? low : high;
      for (let turn = 0; turn < 60 && b - a > 1e-13 * b; turn += 1) {
        const middle = (a * fb - b * fa) / (fb - fa);
        found = at(middle, from);
        if (found.entropyRate === 0) break;
        if (found.entropyRate > 0) [b, fb, fa] = [middle, found.entropyRate, fa / 2];
        else [a, fa, fb] = [middle, found.entropyRate, fb / 2];
      }
      return found;
    };
    return { at, times, over, bottom, blowUps, firstBlowUp };
  };

  const evenly = (end, num) => Array.from({ length: num }, (_, k) => (end * k) / (num - 1));
  return { dynamics, evenly };
})();
