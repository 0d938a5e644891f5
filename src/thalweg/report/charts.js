"use strict";
// Charts: drawn when they come into view, switched by their legend, zoomed, saved, and printed.
(() => {
  const figures = [...document.querySelectorAll("figure.chart")];
  const layouts = new WeakMap(); // as they came, to go back to
  const PRINTED = 340; // pixels, two charts across a page
  let printing = false;
  const plotOf = (figure) => figure.querySelector(".plot");
  const drawn = (within) => [...within.querySelectorAll(".plot[data-drawn='yes']")];

  // Many numbers come compressed.
  globalThis.contentOf = async (script) => {
    if (script.type === "application/json") return JSON.parse(script.textContent);
    const bytes = Uint8Array.from(atob(script.textContent), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  };

  // Names inside charts are escaped, since plotly reads its own small HTML in them.
  const escaped = (name) => name.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const unescaped = (name) => name.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

  // What is in view is drawn at once, what is near it when there is nothing else to do.
  const idle = globalThis.requestIdleCallback ?? setTimeout;
  const observers = [["0px", draw], ["300px", (figure) => idle(() => draw(figure))]].map(
    ([rootMargin, act]) => new IntersectionObserver(
      (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => act(entry.target)),
      { rootMargin },
    ),
  );
  for (const observer of observers) for (const figure of figures) observer.observe(figure);

  async function draw(figure) {
    const plot = plotOf(figure);
    if (plot.dataset.drawn) return;
    plot.dataset.drawn = "begun";
    for (const observer of observers) observer.unobserve(figure);
    const chart = await contentOf(figure.querySelector("script"));
    layouts.set(plot, structuredClone(chart.layout));
    choose(chart, figure.closest(".shown"));
    // A name with dollar signs is a name and no formula.
    const options = { responsive: true, displaylogo: false, displayModeBar: false, typesetMath: false };
    await Plotly.newPlot(plot, chart.data, chart.layout, options);
    if (printing) await Plotly.relayout(plot, { width: PRINTED });
    plot.on("plotly_click", ({ points: [{ x, y, data, customdata }] }) => {
      figure.dispatchEvent(new CustomEvent("cell", { detail: data.type === "heatmap" ? [x, y] : customdata }));
    });
    plot.dataset.drawn = "yes";
  }

  // What the legend's buttons and the slider of a section have chosen.
  function choose(chart, section) {
    const buttons = [...section.querySelectorAll(".legend button")];
    const off = new Set(buttons.filter((button) => button.ariaPressed === "false").map((button) => escaped(button.dataset.series)));
    const slider = section.querySelector(".slider input");
    const names = slider ? JSON.parse(slider.dataset.names).map(escaped) : [];
    const one = slider ? names[slider.value - 1] : undefined;
    for (const trace of chart.data) {
      if (buttons.length) trace.visible = !off.has(trace.legendgroup);
      if (names.includes(trace.legendgroup)) trace.opacity = one === undefined || one === trace.legendgroup ? 1 : 0.1;
    }
    for (const shape of chart.layout.shapes ?? []) if (shape.legendgroup) shape.visible = !off.has(shape.legendgroup);
  }

  function chosen(section) {
    for (const plot of drawn(section)) {
      choose(plot, section);
      Plotly.redraw(plot);
    }
  }

  for (const button of document.querySelectorAll(".legend button"))
    button.addEventListener("click", () => {
      const section = button.closest(".shown"), shown = String(button.ariaPressed !== "true");
      for (const other of section.querySelectorAll(".legend button"))
        if (other.dataset.series === button.dataset.series) other.ariaPressed = shown;
      chosen(section);
    });

  for (const place of document.querySelectorAll(".slider")) {
    const [slider, said] = [place.querySelector("input"), place.querySelector("output")];
    place.hidden = false;
    slider.addEventListener("input", () => {
      said.value = slider.ariaValueText = slider.value === "0" ? "all" : JSON.parse(slider.dataset.names)[slider.value - 1];
      chosen(place.closest(".shown"));
    });
  }

  function zoom(plot, factor) {
    const [low, high] = plot.layout.xaxis.range;
    const [middle, half] = [(low + high) / 2, ((high - low) / 2) * factor];
    return Plotly.relayout(plot, { "xaxis.range": [middle - half, middle + half] });
  }

  function reset(plot) {
    const up = layouts.get(plot).yaxis.range;
    return Plotly.relayout(plot, { "xaxis.autorange": true, ...(up ? { "yaxis.range": [...up] } : { "yaxis.autorange": true }) });
  }

  async function picture(plot, format) {
    const { width, height } = plot.getBoundingClientRect();
    const title = { text: escaped(titleOf(plot)), font: { size: 14 } }, legend = plot.layout.showlegend ? 0 : 60;
    const margin = { ...plot.layout.margin, t: 40, b: plot.layout.margin.b + legend };
    const layout = { ...plot.layout, title, margin, showlegend: true, paper_bgcolor: "#ffffff" };
    const size = { width, height: height + 32 + legend, scale: format === "png" ? 3 : 1 };
    return Plotly.toImage({ data: plot.data, layout }, { format, ...size });
  }

  // A cell that a spreadsheet would take for a formula stays text.
  const cell = (value) => (typeof value === "string" ? `"${value.replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"` : value ?? "");

  function numbers(plot) {
    const named = (axis) => unescaped(axis.title.text);
    const lines = [["name", named(plot.layout.xaxis), named(plot.layout.yaxis), "value", "below", "above"]];
    const at = (names, place) => (names ? unescaped(names[place]) : place);
    for (const trace of plot.data.filter((trace) => trace.fill !== "toself" && !trace.marker?.showscale)) {
      if (trace.z)
        trace.z.forEach((row, y) => row.forEach((value, x) => lines.push(["", at(trace.x, x), at(trace.y, y), value])));
      else
        trace.x.forEach((x, place) => {
          const spread = [trace.error_y?.arrayminus[place], trace.error_y?.array[place]];
          lines.push([unescaped(trace.name ?? ""), x, trace.y[place], "", ...spread]);
        });
    }
    const text = lines.map((line) => line.map(cell).join(",")).join("\n");
    return URL.createObjectURL(new Blob([text + "\n"], { type: "text/csv" }));
  }

  const titleOf = (plot) => plot.closest("figure").dataset.title;

  async function save(plot, ending, address) {
    const name = titleOf(plot).replace(/[^\p{L}\p{N}]+/gu, "_").replace(/^_+|_+$/g, "").slice(0, 80);
    Object.assign(document.createElement("a"), { href: await address, download: `${name || "chart"}.${ending}` }).click();
  }

  const tools = {
    "Zoom in": (plot) => zoom(plot, 0.5),
    "Zoom out": (plot) => zoom(plot, 2),
    Reset: reset,
    SVG: (plot) => save(plot, "svg", picture(plot, "svg")),
    PNG: (plot) => save(plot, "png", picture(plot, "png")),
    CSV: (plot) => save(plot, "csv", numbers(plot)),
  };

  for (const figure of figures) {
    const menu = document.createElement("details"), opener = document.createElement("summary"), inside = document.createElement("div");
    menu.className = "tools";
    opener.textContent = "\u22ef";
    opener.ariaLabel = `Zoom or save: ${figure.dataset.title}`;
    for (const [name, act] of Object.entries(tools)) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
      button.addEventListener("click", () => draw(figure).then(() => act(plotOf(figure))));
      inside.append(button);
    }
    menu.append(opener, inside);
    menu.addEventListener("keydown", (event) => {
      if (event.key === "Escape") opener.focus(menu.open = false);
    });
    menu.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
    });
    figure.querySelector("figcaption").append(menu);
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open], .tools)")];
    for (const details of closed) details.open = true;
    printing = true;
    for (const plot of drawn(document)) Plotly.relayout(plot, { width: PRINTED });
    figures.forEach(draw);
  });
  addEventListener("afterprint", () => {
    printing = false;
    for (const details of closed) details.open = false;
    for (const plot of drawn(document)) Plotly.relayout(plot, { width: null, autosize: true });
  });
})();
