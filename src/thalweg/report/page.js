"use strict";
// The page around its charts: contents that follow, tables that sort, definitions on demand, commands to copy, one head.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const made = (name, fields, ...children) => {
    const element = Object.assign(document.createElement(name), fields);
    element.append(...children);
    return element;
  };

  const contents = document.querySelector("#contents"), wide = matchMedia("(min-width: 1180px)");
  const unfold = () => (contents.open = wide.matches);
  wide.addEventListener("change", unfold);
  unfold();
  const here = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries)
        for (const link of all(`a[href="#${CSS.escape(target.id)}"]`, contents))
          isIntersecting ? link.setAttribute("aria-current", "location") : link.removeAttribute("aria-current");
    },
    { rootMargin: "-15% 0px -84% 0px" }, // a line across the page, which one section meets
  );
  for (const section of all("main > section")) here.observe(section);

  // Numbers as people read them: "1,234", "under 1 %", "0.5 [0.4, 0.6]"; what is missing comes last.
  const number = (text) => {
    const found = /^(?:under |over |x )?([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)/i.exec(text);
    return found ? Number(found[1].replaceAll(",", "")) : NaN;
  };
  const unescaped = (name) => name.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
  const missing = (text) => /^[-\u2013]?$/.test(text);

  function sort(heading) {
    const body = heading.closest("table").tBodies[0], at = heading.cellIndex;
    const sign = heading.ariaSort === "ascending" ? -1 : 1;
    const rows = [...body.rows].map((row) => [row.cells[at].textContent.trim(), row]);
    const numeric = rows.every(([text]) => missing(text) || !Number.isNaN(number(text)));
    const order = (a, b) => (numeric ? number(a) - number(b) : a.localeCompare(b, "en", { numeric: true }));
    rows.sort(([a], [b]) => missing(a) - missing(b) || (missing(a) ? 0 : sign * order(a, b)));
    for (const other of heading.parentElement.cells) other.ariaSort = null;
    heading.ariaSort = sign > 0 ? "ascending" : "descending";
    body.append(...rows.map(([, row]) => row));
  }

  for (const heading of all("main thead th")) {
    if (heading.closest("table").tBodies[0].rows.length < 2) continue;
    const button = made("button", { type: "button", className: "sort" }, ...heading.childNodes);
    button.addEventListener("click", () => sort(heading));
    if (heading.dataset.term) button.dataset.term = heading.dataset.term;
    heading.removeAttribute("data-term");
    heading.append(button);
  }

  // What a number means, where its name is pointed at, focused or clicked.
  const tip = made("div", { id: "definition", role: "tooltip", hidden: true });
  document.body.append(tip);
  let told = null;
  function explain(term, ...said) {
    told = term;
    tip.replaceChildren(...said);
    tip.hidden = false;
    const [at, size] = [term.getBoundingClientRect(), tip.getBoundingClientRect()];
    const below = at.bottom + size.height + 8 < innerHeight;
    tip.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - size.width - 8))}px`;
    tip.style.top = `${below ? at.bottom + 6 : at.top - size.height - 6}px`;
  }
  function define(term) {
    const [title, , unit, range, reads] = [...document.getElementById(`def-${term.dataset.term}`).cells].map((each) => each.textContent);
    explain(term, made("b", {}, title), ` ${[unit, range].filter(Boolean).join(", ")}`, made("br", {}), reads);
    term.setAttribute("aria-describedby", tip.id);
  }
  const forget = () => (tip.hidden = true);
  for (const term of all("[data-term]")) {
    for (const event of ["mouseenter", "focus"]) term.addEventListener(event, () => define(term));
    for (const event of ["mouseleave", "blur"]) term.addEventListener(event, forget);
    term.addEventListener("click", (event) => {
      if (term.tagName === "A") event.preventDefault();
      define(term);
    });
  }
  for (const event of ["mouseover", "focusin"])
    addEventListener(event, ({ target }) => target.dataset?.said && explain(target, target.dataset.said));
  for (const event of ["mouseout", "focusout"]) addEventListener(event, ({ target }) => target.dataset?.said && forget());
  addEventListener("scroll", () => (!tip.hidden && told === document.activeElement ? explain(told, ...tip.childNodes) : forget()), { passive: true });
  addEventListener("keydown", (event) => event.key === "Escape" && forget());

  function copying(code) {
    const button = made("button", { type: "button", className: "copy" }, "Copy");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch { // a browser that lends no clipboard to a file: what is selected can be copied by hand
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    code.after(" ", button);
  }
  for (const code of all("code.command")) copying(code);

  const dialog = document.querySelector("#one-head");
  if (!dialog) return;
  let unpacked = null;
  const [block, head] = all("input", dialog);
  const [list, command, map] = ["dl", "code", ".map"].map((selector) => dialog.querySelector(selector));
  let of = null, index = null, opener = null;

  function mapOf() {
    return document.querySelector(`figure[data-heads="${index}"][data-head="${Number(block.value)},${Number(head.value)}"]`);
  }

  function tell() {
    const place = block.value * of.heads + Number(head.value);
    const valid = block.checkValidity() && head.checkValidity();
    dialog.querySelector(".note").textContent = valid ? of.about : `Blocks 0 to ${of.blocks - 1}, heads 0 to ${of.heads - 1}.`;
    list.replaceChildren(
      ...Object.entries(valid ? of.numbers : {}).flatMap(([name, values]) => [
        made("div", {}, made("dt", {}, name), made("dd", {}, values[place] === null ? "\u2013" : String(values[place]))),
      ]),
    );
    const kept = mapOf();
    map.hidden = !kept;
    dialog.querySelector(".how").hidden = Boolean(kept);
    if (kept) draw(kept);
    command.textContent = `${of.command} --blocks ${Number(block.value)} --heads ${Number(head.value)}${of.out}`;
  }

  // Its map as the page holds it, and the prompt's tokens by the attention that they receive.
  async function draw(kept) {
    const { data, layout } = await contentOf(kept.querySelector("script")), plot = map.querySelector(".plot");
    if (kept !== mapOf()) return; // another head was asked for meanwhile
    const of_prompt = kept.closest(".shown").querySelector("summary b, h3").textContent;
    map.querySelector(".caption").textContent = `${of_prompt} ${kept.dataset.title}`;
    plot.ariaLabel = kept.querySelector(".plot").ariaLabel;
    Plotly.newPlot(plot, data, layout, { responsive: true, displayModeBar: false, typesetMath: false });
    const [{ x, z }] = data, tokens = map.querySelector(".tokens");
    tokens.hidden = !x[1]?.startsWith("1 "); // of a long prompt the map has cells of several tokens
    const received = x.map((_, at) => z.slice(at).reduce((sum, row) => sum + (row[at] ?? 0), 0) / (x.length - at));
    const largest = Math.max(...received);
    tokens.replaceChildren(
      "Attention that each token receives, the stronger the colour the more: ",
      ...received.map((share, at) => {
        const token = made("span", { title: `${share.toPrecision(2)}` }, unescaped(x[at].replace(/^\d+ /, "")));
        token.style.setProperty("--share", `${(45 * share) / largest}%`);
        return token;
      }),
    );
  }

  async function show(figure, x, y, from) {
    index = figure.dataset.heads;
    of = (await (unpacked ??= contentOf(document.querySelector("#head-numbers"))))[index];
    figure.closest(".charts").after(dialog);
    [block.max, head.max, block.value, head.value] = [of.blocks - 1, of.heads - 1, x, y];
    dialog.querySelector("h2").textContent = of.title;
    if (!dialog.open) dialog.show();
    tell();
    opener = from;
  }

  for (const input of [block, head]) input.addEventListener("input", tell);
  dialog.addEventListener("keydown", (event) => event.key === "Escape" && dialog.close());
  dialog.addEventListener("close", () => opener?.focus());
  for (const figure of all("figure[data-heads]:not([data-head])")) {
    figure.addEventListener("cell", ({ detail }) => detail && show(figure, detail[0], detail[1], null));
    const button = made("button", { type: "button", className: "one" }, "One head's numbers");
    button.addEventListener("click", async () => {
      await show(figure, 0, 0, button);
      block.select();
    });
    figure.append(button);
  }
})();
