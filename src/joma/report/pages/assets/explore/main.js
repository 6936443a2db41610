"use strict";
// One time for all parts: a slider, play and step, and the keyboard.
(() => {
  const data = JSON.parse(document.getElementById("plots").textContent);
  const PLAY_SECONDS = 14, STEP = 0.01, CALM_STEP = 0.05, CALM_MS = 700;
  const byId = (id) => document.getElementById(id);
  const slider = byId("time"), play = byId("play"), clocks = byId("clocks");
  const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const views = [
    [TheoryView, data.theory.figure4],
    [LayerView, data.theory.layer],
    [RunView, data.run],
    [TreeView, data.tree],
  ].filter(([, given]) => given);

  let playing = null;
  const move = (by) => State.set({ at: Math.min(1, Math.max(0, State.get().at + by)) });
  const stop = () => {
    if (playing !== null) {
      cancelAnimationFrame(playing.frame);
      clearInterval(playing.timer);
    }
    playing = null;
    play.textContent = "▶ Play";
    play.setAttribute("aria-pressed", "false");
  };
  const start = () => {
    if (State.get().at >= 1) State.set({ at: 0 });
    playing = {};
    play.textContent = "⏸ Pause";
    play.setAttribute("aria-pressed", "true");
    if (isCalm()) { // steps instead of motion
      playing.timer = setInterval(() => (State.get().at >= 1 ? stop() : move(CALM_STEP)), CALM_MS);
      return;
    }
    let before = null;
    const tick = (stamp) => {
      if (before !== null) move((stamp - before) / 1000 / PLAY_SECONDS);
      before = stamp;
      if (State.get().at >= 1) stop();
      else playing.frame = requestAnimationFrame(tick);
    };
    playing.frame = requestAnimationFrame(tick);
  };

  // Several changes within one frame are drawn once.
  let waiting = null;
  const texts = [];
  const pending = new Set();
  const draw = () => {
    waiting = null;
    const state = State.get(), changed = new Set(pending);
    pending.clear();
    slider.value = Math.round(1000 * state.at);
    views.forEach(([view], k) => {
      if (view.reads.some((name) => changed.has(name))) texts[k] = view.update(state, changed);
    });
    const read = texts.filter(Boolean);
    slider.setAttribute("aria-valuetext", read.join(", "));
    Draw.say(clocks, read.join(" · "));
  };
  State.listen((_, changed) => {
    for (const name of changed) pending.add(name);
    waiting ??= requestAnimationFrame(draw);
  });

  slider.addEventListener("input", () => State.set({ at: Number(slider.value) / 1000 }));
  play.addEventListener("click", () => (playing ? stop() : start()));
  for (const button of document.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => {
      stop();
      move(STEP * Number(button.dataset.step));
    });
  }
  // A key does what the control with the focus makes of it, and otherwise moves the time.
  const OWN_KEYS = {
    space: "button, summary, select, textarea, input:not([type=range], [type=radio]:checked)",
    arrows: "input, select, textarea, [role=slider]",
  };
  document.addEventListener("keydown", (event) => {
    const kind = { " ": "space", ArrowLeft: "arrows", ArrowRight: "arrows" }[event.key];
    if (!kind || event.target.closest(OWN_KEYS[kind]) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (kind === "arrows") move(event.key === "ArrowRight" ? STEP : -STEP);
    else if (!event.repeat) play.click();
  });
  // After a click with a pointer, Space is for playing again, not for the same button.
  document.addEventListener("click", ({ target, detail }) => detail && target.closest("button")?.blur());

  const fields = { at: State.between(data.theory.at, 0, 1) };
  for (const [view, given] of views) Object.assign(fields, view.fields(given));
  for (const [view, given] of views) view.begin(given);
  State.begin(fields);
  document.documentElement.classList.toggle("framed", window.self !== window.top);
  draw(); // at once, so that nothing is empty before the first frame
})();
