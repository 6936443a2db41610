"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const places = [...document.querySelectorAll(".plot")];
  const coarse = matchMedia("(pointer: coarse)").matches;
  const config = { displayModeBar: false, displaylogo: false, responsive: true, showTips: false };

  // Colours travel as names of CSS variables, optionally with an opacity: "series-1/0.16".
  const colour = (text) => {
    const [name, opacity] = text.split("/");
    const value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    if (!value) return text;
    const parts = [1, 3, 5].map((at) => parseInt(value.slice(at, at + 2), 16));
    return `rgba(${parts.join(",")},${opacity ?? 1})`;
  };
  const painted = (part, key = "") => {
    if (typeof part === "string") return /color$/.test(key) ? colour(part) : part;
    if (Array.isArray(part)) return typeof part[0] === "number" ? part.slice() : part.map((entry) => painted(entry));
    if (part === null || typeof part !== "object") return part;
    return Object.fromEntries(Object.entries(part).map(([name, entry]) => [name, painted(entry, name)]));
  };

  const hidden = (place) => {
    const buttons = place.closest("figure").querySelectorAll('.legend button[aria-pressed="false"]');
    return [...buttons].flatMap((button) => button.dataset.traces.split(" ").map(Number));
  };

  const draw = (place, width) => {
    const plot = plots[place.dataset.plot];
    const { data, layout } = painted({ data: plot.data, layout: plot.layout });
    for (const number of hidden(place)) data[number].visible = false;
    layout.font.family = getComputedStyle(document.body).fontFamily;
    layout.uirevision = "kept"; // a change of theme does not undo a zoom
    layout.dragmode = coarse ? false : "zoom"; // a finger on a chart scrolls the page
    if (width) layout.width = width;
    return Plotly.react(place, data, layout, config);
  };
  // What is folded has no size and is drawn when it is unfolded.
  const isShown = (place) => !place.closest("details:not([open])");
  const drawAll = (width) => places.filter(isShown).forEach((place) => show(place, width));

  // The values under the pointer are written into the legend, and its x next to the axis label.
  const brief = (value) => String(Number(value.toPrecision(4))).replace("-", "−");
  const clear = (place) => {
    for (const reading of place.closest("figure").querySelectorAll(".reading")) reading.textContent = "";
  };
  const read = (place, points) => {
    clear(place);
    const figure = place.closest("figure");
    for (const { curveNumber, x, y, z } of points) {
      if (z !== undefined) {
        const { x: columns, y: rows, xNames, yNames } = place.dataset;
        const [column, row] = [xNames.split("\n")[x], yNames.split("\n")[y]];
        const where = `${columns} ${column}, ${rows} ${row}`;
        figure.querySelector(".axis-label.x .reading").textContent = `${where}: ${brief(z)}`;
        continue;
      }
      const buttons = [...figure.querySelectorAll(".legend button")];
      const button = buttons.find(({ dataset }) => dataset.traces.split(" ").includes(String(curveNumber)));
      button.querySelector(".reading").textContent = brief(y);
      figure.querySelector(".axis-label.x .reading").textContent = brief(x);
    }
  };

  const show = (place, width) => {
    const isNew = !place.on;
    draw(place, width);
    if (!isNew) return;
    place.on("plotly_hover", ({ points }) => read(place, points));
    place.on("plotly_unhover", () => clear(place));
  };

  // Each control of a film chooses along one axis of its frames, in the order of the page.
  const films = [...document.querySelectorAll(".films")];
  const placesOf = (film) => [...film.querySelectorAll(".plot")];
  const setFrames = (film) => {
    const controls = [...film.querySelectorAll("[data-frame]")];
    const chosen = controls.map(({ value }) => value).join();
    if (chosen === (film.dataset.chosen ?? "")) return false;
    film.dataset.chosen = chosen;
    for (const control of controls) {
      const output = control.parentElement.querySelector("output");
      if (output) output.textContent = control.dataset.steps.split("\n")[control.value];
    }
    for (const place of placesOf(film)) {
      const plot = plots[place.dataset.plot];
      plot.data[0].z = controls.reduce((frames, control) => frames[control.value], plot.frames);
    }
    return true;
  };

  const folds = [...document.querySelectorAll("details")];
  const unfold = (id) => {
    const target = id && document.getElementById(decodeURIComponent(id));
    const fold = target && target.closest("details");
    if (!fold) return;
    fold.open = true;
    target.scrollIntoView();
  };
  document.addEventListener("toggle", ({ target }) => {
    if (target.open) [...target.querySelectorAll(".plot")].filter(isShown).forEach((place) => show(place));
  }, true);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link) unfold(link.hash.slice(1));
    const button = event.target.closest(".unfold");
    if (!button) return;
    const open = button.textContent === "Unfold all";
    for (const fold of document.querySelectorAll(".claim > details")) fold.open = open;
    button.textContent = open ? "Fold all" : "Unfold all";
  });
  for (const button of document.querySelectorAll(".unfold")) button.hidden = false;
  addEventListener("hashchange", () => unfold(location.hash.slice(1)));
  unfold(location.hash.slice(1));
  // Browsers set controls to what was chosen before the page was loaded again or left: before this script or after it.
  films.forEach(setFrames);
  drawAll();
  addEventListener("pageshow", () => films.filter(setFrames).flatMap(placesOf).forEach((place) => draw(place)));
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".legend button");
    if (!button) return;
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    draw(button.closest("figure").querySelector(".plot"));
  });
  document.addEventListener("input", ({ target }) => {
    const film = target.closest(".films");
    if (film && setFrames(film)) placesOf(film).forEach((place) => draw(place));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
  let folded = [];
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    folded = folds.filter((fold) => !fold.open && !fold.matches(".code"));
    for (const fold of folded) fold.open = true;
    // Paper has another width than the window, and nothing is drawn again for it.
    for (const place of places) place.style.height = `${place.clientHeight}px`;
    drawAll(640);
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    for (const fold of folded) fold.open = false;
    for (const place of places) place.style.height = "";
    drawAll();
  });
})();
