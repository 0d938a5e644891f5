"use strict";
// A text in pieces, coloured by one row of one of the maps beside it.
(() => {
  const NUMBERS = 4; // below the colours
  const parts = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const between = (low, high, share) => low + share * (high - low);
  const unescaped = (name) => name.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
  const written = (value) => value.toLocaleString("en", { maximumSignificantDigits: 15 });

  // As the map has it: its colours lie at shares of the way from the least to the largest value.
  function colour(stops, share) {
    const next = Math.max(1, stops.findIndex(([place]) => place >= share));
    const [[low, from], [high, to]] = [stops[next - 1], stops[next]];
    return parts(from).map((level, at) => Math.round(between(level, parts(to)[at], (share - low) / (high - low))));
  }

  // Black or white, whichever stands out more: never below 4.5 to 1.
  function ink(rgb) {
    const linear = rgb.map((level) => level / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 ? "#000" : "#fff";
  }

  function numbersOf({ colorscale, zmin, zmax }, pointing) {
    return Array.from({ length: NUMBERS }, (_, number) => {
      const at = (number * (colorscale.length - 1)) / (NUMBERS - 1), low = Math.floor(at);
      const share = between(colorscale[low][0], colorscale[Math.ceil(at)][0], at - low);
      const value = between(zmin, zmax, share);
      return written(pointing ? Math.round(value) : Number(value.toPrecision(3)));
    });
  }

  for (const view of document.querySelectorAll(".reading")) {
    const figures = [...view.closest(".shown").querySelectorAll("figure.chart")], kept = new Map();
    const [list, which, slider, site, said] = [".pieces", "select", "input", "label span", "output"].map((each) => view.querySelector(each));
    const pieces = [...list.children];

    function mapOf(figure) {
      if (!kept.has(figure)) {
        const { data: [map, bar], layout } = JSON.parse(figure.querySelector("script").textContent);
        const largest = map.z.map((row) => Math.max(...row.filter((value) => value !== null)));
        const row = "pointing" in figure.dataset ? 0 : largest.indexOf(Math.max(...largest));
        const [along, up] = [layout.xaxis, layout.yaxis].map((axis) => unescaped(axis.title.text));
        kept.set(figure, { ...map, along, up, row, unit: unescaped((map.colorbar ?? bar.marker.colorbar).title.text) });
      }
      return kept.get(figure);
    }

    function paint() {
      const figure = figures[which.value], map = mapOf(figure), pointing = "pointing" in figure.dataset;
      const place = map.y ? unescaped(map.y[map.row]) : `${map.up} ${map.row}`;
      [slider.max, slider.value, site.textContent] = [map.z.length - 1, map.row, map.up];
      said.value = slider.ariaValueText = place;
      list.ariaLabel = `${figure.dataset.title}, ${place}`;
      view.querySelector(".caption").textContent = `${list.ariaLabel} [${map.unit}]`;
      const colors = map.colorscale.map(([, color]) => color);
      view.querySelector(".bar").style.background = `linear-gradient(to right, ${colors})`;
      const numbers = numbersOf(map, pointing);
      view.querySelectorAll(".numbers span").forEach((each, at) => (each.textContent = numbers[at]));
      const named = (at) => `${map.along} ${at}, ${pieces[at].textContent}`;
      pieces.forEach((piece, at) => {
        const value = map.z[map.row][at] ?? null;
        const share = Math.min(1, Math.max(0, (value - map.zmin) / (map.zmax - map.zmin)));
        const rgb = value === null ? null : colour(map.colorscale, share);
        [piece.style.background, piece.style.color] = rgb ? [`rgb(${rgb})`, ink(rgb)] : ["", ""];
        const told = value === null ? "\u2013" : pointing ? `to ${named(value)}` : `${written(value)} ${map.unit}`;
        piece.ariaLabel = piece.dataset.said = `${named(at)}: ${told}`;
      });
    }

    which.addEventListener("change", paint);
    slider.addEventListener("input", () => {
      mapOf(figures[which.value]).row = Number(slider.value);
      paint();
    });
    figures.forEach((figure, number) =>
      figure.addEventListener("cell", ({ detail: [, row] }) => {
        const map = mapOf(figure);
        [which.value, map.row] = [number, map.y ? map.y.indexOf(row) : row];
        paint();
        view.scrollIntoView({ block: "nearest" });
      }),
    );
    list.addEventListener("focusin", ({ target }) => {
      for (const piece of pieces) piece.tabIndex = piece === target ? 0 : -1;
    });
    list.addEventListener("keydown", (event) => {
      const at = pieces.indexOf(event.target), last = pieces.length - 1;
      const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      pieces[Math.max(0, Math.min(last, to))].focus();
    });
    pieces[0].tabIndex = 0;
    view.querySelector(".choose").hidden = view.querySelector(".scale").hidden = false;
    paint();
  }
})();
