"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const figures = [...document.querySelectorAll("figure.chart")];

  // Colours come from the page's own style sheet, so that charts follow light, dark and print.
  function colours() {
    const style = getComputedStyle(document.documentElement);
    const [ink, grid, card] = ["--ink", "--grid", "--card"].map((name) => style.getPropertyValue(name).trim());
    const axis = { "gridcolor": grid, "linecolor": ink, "tickcolor": ink, "color": ink };
    const flat = {
      "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font.color": ink, "font.size": 12,
      "font.family": getComputedStyle(document.body).fontFamily,
      "hoverlabel.bgcolor": card, "hoverlabel.font.color": ink, "legend.bgcolor": "rgba(0,0,0,0)",
    };
    for (const letter of ["x", "y"])
      for (const [name, value] of Object.entries(axis)) flat[`${letter}axis.${name}`] = value;
    return flat;
  }

  async function draw(figure) {
    const plot = figure.querySelector(".plot");
    if (plot.dataset.drawn) return;
    plot.dataset.drawn = "yes";
    const chart = JSON.parse(figure.querySelector("script").textContent);
    // A name with dollar signs is a name and no formula.
    const options = { responsive: true, displaylogo: false, displayModeBar: false, typesetMath: false };
    await Plotly.newPlot(plot, chart.data, chart.layout, options);
    await Plotly.relayout(plot, colours());
    await reink(plot);
  }

  // What is drawn in ink follows the page, as its words do.
  async function reink(plot) {
    const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
    const traces = plot.data.flatMap((trace, at) => (trace.meta === "ink" ? [at] : []));
    if (traces.length) await Plotly.restyle(plot, { "line.color": ink, "marker.color": ink }, traces);
  }

  const drawn = () => figures.map((figure) => figure.querySelector(".plot")).filter((plot) => plot.dataset.drawn);
  const visible = (figure) => !figure.closest("details:not([open])");

  // Names inside charts are escaped, since plotly reads its own small HTML in them.
  const escaped = (name) => name.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  figures.filter(visible).forEach(draw);
  for (const details of document.querySelectorAll("details"))
    details.addEventListener("toggle", () => figures.filter(visible).forEach(draw));

  for (const button of document.querySelectorAll(".legend button"))
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      const section = button.closest(".shown");
      for (const other of section.querySelectorAll(".legend button"))
        if (other.dataset.series === button.dataset.series) other.setAttribute("aria-pressed", String(shown));
      for (const plot of drawn().filter((plot) => section.contains(plot))) {
        const traces = plot.data.flatMap((trace, at) => (trace.legendgroup === escaped(button.dataset.series) ? [at] : []));
        if (traces.length) Plotly.restyle(plot, { visible: shown }, traces);
      }
    });

  dark.addEventListener("change", () => drawn().forEach((plot) => Plotly.relayout(plot, colours()).then(() => reink(plot))));
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    figures.forEach(draw);
    for (const plot of drawn()) Plotly.relayout(plot, { ...colours(), width: 340 });
  });
  addEventListener("afterprint", () => {
    for (const plot of drawn()) Plotly.relayout(plot, { ...colours(), width: null, autosize: true });
  });
})();
