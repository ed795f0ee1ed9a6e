"use strict";
/* The page's own script: sorting, filtering, the dialog of a row, and figures that can be zoomed. Everything that it
   shows is in the page already; without it the table, the drawn figures and the details stand below one another. */
(() => {
  const byId = (id) => document.getElementById(id);
  const parsed = (id) => JSON.parse(byId(id).textContent);
  const data = parsed("data");
  const specs = parsed("specs");
  const templates = parsed("templates");
  const copied = (value) => JSON.parse(JSON.stringify(value));
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const say = (text) => { byId("said").textContent = text; };

  /* ---------------------------------------------------------------------------------------- figures */

  const SHORTEST_SPAN = Math.log(1.002);

  class Plot {
    /* A figure in `figure`, an element with a `.plot` inside; `vertical` where its log axis is upright. */
    constructor(figure, spec, { vertical = false, onClick = null } = {}) {
      this.figure = figure;
      this.holder = figure.querySelector(".plot");
      this.region = figure.querySelector(".plot-region");
      this.spec = copied(spec);
      this.vertical = vertical;
      this.onClick = onClick;
      this.dragged = false;
      const value = (name) => this.spec.params.find((one) => one.name === name).value;
      this.home = [Math.log(value("lo")), Math.log(value("hi"))];
      this.ends = [...this.home];
    }

    async draw() {
      const room = this.room();
      this.limitTexts(room);
      this.width = Math.max(140, room - 160);
      await this.embed();
      await this.fit();
      new ResizeObserver(() => this.fit()).observe(this.region);
      this.listen();
      return this;
    }

    /* Anew for every width: a view that is only resized goes on clipping its marks at the old one. */
    async embed() {
      (this.spec.spec || this.spec).width = this.width;
      if (this.view) this.view.finalize();
      const embedded = await vegaEmbed(this.holder, this.spec, { actions: false, renderer: "svg", mode: "vega-lite", logLevel: 1 });
      this.view = embedded.view;
      if (this.onClick) {
        this.view.addEventListener("click", (event, item) => { if (!this.dragged && item && item.datum) this.onClick(item.datum); });
      }
      this.show(...this.ends);
    }

    room() { return Math.max(240, this.region.clientWidth - 4); }

    /* No text may be wider than the room for it: it would take that from the plot. */
    limitTexts(room) {
      const limit = Math.max(84, Math.min(430, 0.36 * room));
      const { config } = this.spec;
      const inner = Math.max(120, room - limit - 24);
      this.spec.config = {
        ...config,
        axis: { ...config.axis, labelLimit: limit, titleLimit: inner },
        header: { ...config.header, labelLimit: inner },
        legend: { ...config.legend, labelLimit: Math.min(220, inner), ...(room < 420 ? { columns: 1 } : {}) },
      };
    }

    /* What stands beside the plot itself is only known once it is drawn. */
    async fit() {
      const svg = this.holder.querySelector("svg");
      if (!svg || !this.region.clientWidth || this.isFitting) return;
      const width = Math.max(140, this.width + this.room() - svg.width.baseVal.value);
      if (Math.abs(width - this.width) < 3) return;
      this.width = width;
      this.isFitting = true;
      this.limitTexts(this.room());
      await this.embed();
      this.isFitting = false;
    }

    listen() {
      for (const button of this.figure.querySelectorAll("[data-zoom]")) {
        button.addEventListener("click", () => this.zoomBy(button.dataset.zoom));
      }
      this.holder.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls the page
        event.preventDefault();
        this.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 200))), this.shareAt(event.clientX));
      }, { passive: false });
      if (!this.vertical) this.listenToDrags();
    }

    listenToDrags() {
      let from = null;
      this.holder.addEventListener("pointerdown", (event) => {
        this.dragged = false;
        if (event.pointerType === "mouse" && event.button === 0) from = { x: event.clientX, ends: [...this.ends] };
      });
      window.addEventListener("pointermove", (event) => {
        if (!from || (Math.abs(event.clientX - from.x) < 4 && !this.dragged)) return;
        this.dragged = true;
        const shift = (from.x - event.clientX) / this.width * (from.ends[1] - from.ends[0]);
        this.show(from.ends[0] + shift, from.ends[1] + shift);
      });
      window.addEventListener("pointerup", () => { from = null; });
    }

    /* Where on the axis the pointer is, from 0 to 1. */
    shareAt(clientX) {
      if (this.vertical) return 0.5;
      const boxes = [...this.holder.querySelectorAll("path.background")].map((one) => one.getBoundingClientRect());
      const box = boxes.find((one) => Math.abs(one.width - this.width) < 4) || this.holder.getBoundingClientRect();
      return Math.max(0, Math.min(1, (clientX - box.left) / box.width));
    }

    zoomBy(what) {
      const span = this.ends[1] - this.ends[0];
      if (what === "reset") this.show(...this.home);
      else if (what === "in" || what === "out") this.zoom(what === "in" ? 1 / 1.6 : 1.6, 0.5);
      else { const shift = (what === "left" ? -0.25 : 0.25) * span; this.show(this.ends[0] + shift, this.ends[1] + shift); }
    }

    zoom(factor, share) {
      const span = this.ends[1] - this.ends[0];
      const wanted = Math.max(SHORTEST_SPAN, Math.min(4 * (this.home[1] - this.home[0]), span * factor));
      const fixed = this.ends[0] + share * span;
      this.show(fixed - share * wanted, fixed + (1 - share) * wanted);
    }

    show(low, high) {
      this.ends = [low, high];
      this.view.signal("lo", Math.exp(low)).signal("hi", Math.exp(high)).runAsync();
    }

    end() { this.view.finalize(); }
  }

  const start = async (name, options) => {
    const figure = document.querySelector(`[data-figure="${name}"]`);
    if (figure) await new Plot(figure, specs[name], options).draw();
  };

  /* ------------------------------------------------------------------------------ the figures of a row */

  const toolsOf = (label, isUpright) => {
    const group = make("div", { class: "tools", role: "group", "aria-label": `Zoom: ${label}` });
    const moves = isUpright ? [["\u2193", "Move down"], ["\u2191", "Move up"]] : [["\u2190", "Move left"], ["\u2192", "Move right"]];
    for (const [what, text, name] of [["left", ...moves[0]], ["out", "\u2212", "Zoom out"], ["in", "+", "Zoom in"], ["right", ...moves[1]], ["reset", "Reset", ""]]) {
      const button = make("button", { type: "button", "data-zoom": what }, text);
      if (name) button.setAttribute("aria-label", name);
      group.append(button);
    }
    return group;
  };

  const figureOf = (title, label, caption, isUpright) => make("figure", { class: "figure" },
    make("h4", {}, title), toolsOf(title, isUpright),
    make("div", { class: "plot-region", role: "region", tabindex: "0", "aria-label": `${title}, scrolls` },
      make("div", { role: "img", "aria-label": label }, make("div", { class: "plot", "aria-hidden": "true" }))),
    make("figcaption", {}, caption));

  const withData = (name, values, parameters) => {
    const spec = copied(templates[name]);
    spec.data = { values };
    if (spec.height && spec.height.step && values.length < 25) spec.height = { step: 18 };
    for (const one of spec.params) if (one.name in parameters) one.value = parameters[one.name];
    return spec;
  };

  const spanOf = (values) => {
    const positive = values.filter((value) => value > 0);
    if (!positive.length) return null;
    const low = Math.min(...positive), high = Math.max(...positive);
    const room = Math.max(0.06 * Math.log(high / low), 0.01);
    return { lo: low * Math.exp(-room), hi: high * Math.exp(room) };
  };

  const sidesOf = (row) => [["base", row.base], ["head", row.head]];

  const figuresOfRow = (row) => {
    const names = { baseName: data.kind === "run" ? "plain loop" : `base: ${data.base}`, headName: data.kind === "run" ? "runtime" : `head: ${data.head}` };
    const found = [];
    const rates = row.pairs.flatMap(([seed, base, head, counts]) => [
      { seed, side: "base", rate: base, counts: !!counts }, { seed, side: "head", rate: head, counts: !!counts }]);
    if (rates.length) {
      found.push([figureOf("Pairs", "Both speeds of each pair; the table of pairs below has the numbers", `Speeds of the two of each pair, in ${row.unit} a second.${rates.every((one) => one.counts) ? "" : " Pale ones are of a first set and do not count."}`, false),
        withData("pairs", rates, { ...names, ...spanOf(rates.map((one) => one.rate)) }), {}]);
      const ratios = row.pairs.map(([seed, base, head, counts]) => ({ seed, ratio: head / base, counts: !!counts }));
      const [point, low, high] = row.ratio || [1, 1, 1];
      found.push([figureOf("Ratios of pairs", "The ratio of each pair with the estimate; the table of pairs below has the numbers", "The ratio of each pair; the line and the band are the estimate and its interval, the dashed line is 1.", false),
        withData("ratios", ratios, { point, low, high, ...spanOf([...ratios.map((one) => one.ratio), low, high, 1]) }), {}]);
    }
    const distribution = [], strip = [];
    const inOrder = sidesOf(row).flatMap(([side, keys]) => keys.map((key) => ({ side, key, line: Number(key.replace(/\D/g, "")) })))
      .filter((one) => data.durations[one.key]).sort((a, b) => a.line - b.line);
    inOrder.forEach(({ side, key, line }, place) => {
      const { o, q } = data.durations[key];
      q.forEach((value, number) => { if (value > 0) distribution.push({ side, line, s: value * 1e-6, p: number / (q.length - 1) }); });
      o.forEach((value, number) => { if (value > 0) strip.push({ side, line, s: value * 1e-6, x: place + 0.9 * (number + 0.5) / o.length }); });
    });
    if (distribution.length) {
      found.push([figureOf("Distribution of rounds", "Which share of the rounds took at most so long; the table of records below has quantiles", "A line for each invocation: the share of its rounds that took at most so long. Steeper is steadier, further left is faster.", false),
        withData("distribution", distribution, { ...names, ...spanOf(distribution.map((one) => one.s)) }), {}]);
      found.push([figureOf("Rounds in the order in which they ran", "Durations in run order; the table of records below has the first and last quarter", "A line for each invocation, of medians of consecutive rounds. A slope within a line, or from one to the next, is drift.", true),
        withData("order", strip, { ...names, ...spanOf(strip.map((one) => one.s)) }), { vertical: true }]);
    }
    return found;
  };

  /* -------------------------------------------------------------------------------------- the dialog */

  const dialog = byId("dialog");
  const content = dialog.querySelector(".content");
  let opened = null;

  const open = async (number, opener) => {
    const article = byId(`detail-${number}`);
    if (!article || (opened && opened.number === number)) return;
    if (opened) dialog.close();
    const home = document.createComment("");
    article.replaceWith(home);
    content.replaceChildren(article);
    opened = { number, article, home, opener, plots: [] };
    dialog.setAttribute("aria-labelledby", `detail-title-${number}`);
    dialog.showModal();
    dialog.scrollTop = 0;
    article.querySelector("h3").focus();
    keepAddress({ row: number });
    const slot = article.querySelector(".slot");
    const mine = opened;
    for (const [figure, spec, options] of figuresOfRow(data.rows[number])) {
      slot.append(figure);
      const plot = new Plot(figure, spec, options);
      await plot.draw();
      if (opened !== mine) { plot.end(); return; }
      mine.plots.push(plot);
    }
    dialog.dataset.drawn = number;
  };

  dialog.addEventListener("close", () => {
    if (!opened) return;
    const { article, home, opener, plots } = opened;
    opened = null;
    delete dialog.dataset.drawn;
    for (const plot of plots) plot.end();
    article.querySelector(".slot").replaceChildren();
    home.replaceWith(article);
    keepAddress({ row: "" });
    if (opener && opener.isConnected) opener.focus({ preventScroll: true });
  });
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); }); // the backdrop

  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-opens]");
    const number = event.target.closest("#rows tbody td.num");
    if (link) {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      open(link.dataset.opens, link);
    } else if (number && !String(window.getSelection())) {
      const row = number.closest("tr");
      open(row.dataset.row, row.querySelector("[data-opens]"));
    }
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
      say("Command copied");
    } catch {
      window.getSelection().selectAllChildren(code);
      button.textContent = "Press Ctrl+C";
      say("The command is selected: copy it with the keyboard");
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2500);
  });

  /* --------------------------------------------------------------------------------- table and filter */

  const table = byId("rows");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((element) => ({ element, text: element.textContent.toLowerCase() }));
  const form = document.querySelector(".filters");
  const fields = ["q", "verdict", "runtime"];

  for (const heading of table.tHead.rows[0].cells) {
    const button = make("button", { type: "button" });
    const words = make("span", {}, ...heading.childNodes);
    button.append(words);
    heading.append(button);
  }
  const numberOf = (text) => (text === "" ? NaN : Number(text));
  // Tablesort wants the larger first; a field without a number comes last, whichever way.
  Tablesort.extend("number", () => false, (a, b) => {
    const x = numberOf(a), y = numberOf(b);
    return Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) : y - x;
  });
  new Tablesort(table);
  for (const heading of table.tHead.rows[0].cells) heading.removeAttribute("tabindex"); // the button takes the focus
  table.addEventListener("afterSort", () => {
    const heading = table.querySelector("thead [aria-sort]");
    const empty = [...body.rows].filter((row) => row.cells[heading.cellIndex].dataset.sort === "");
    body.append(...empty);
    say(`Sorted by ${heading.textContent.trim()}, ${heading.getAttribute("aria-sort")}`);
  });

  const filter = () => {
    const words = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { verdict, runtime } = form.elements;
    let shown = 0;
    for (const { element, text } of rows) {
      const fits = words.every((word) => text.includes(word))
        && (!verdict.value || element.dataset.verdict === verdict.value)
        && (!runtime.value || element.dataset.runtime === runtime.value);
      element.hidden = !fits;
      shown += fits;
    }
    byId("shown").textContent = `${shown} of ${rows.length} rows`;
    document.querySelector(".nothing").hidden = shown > 0;
  };

  const inAddress = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");

  function keepAddress(changes) {
    const kept = inAddress();
    for (const [name, value] of Object.entries(changes)) {
      if (value) kept.set(name, value); else kept.delete(name);
    }
    const text = kept.toString();
    // A place in the page stays in the address unless there is something to keep.
    if (text || location.hash.includes("=")) history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  const fromAddress = () => {
    const kept = inAddress();
    for (const name of fields) form.elements[name].value = kept.get(name) || "";
    for (const name of fields.slice(1)) if (form.elements[name].selectedIndex < 0) form.elements[name].value = "";
    filter();
    return kept;
  };

  const changed = () => { filter(); keepAddress(Object.fromEntries(fields.map((name) => [name, form.elements[name].value]))); };
  const showAll = () => { for (const name of fields) form.elements[name].value = ""; changed(); };
  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => { event.preventDefault(); showAll(); });
  document.querySelector("[data-show-all]").addEventListener("click", () => { showAll(); form.elements.q.focus(); });
  window.addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return;
    const kept = fromAddress();
    if (kept.get("row")) open(kept.get("row"), null);
    else { byId("table").scrollIntoView(); byId("table").focus({ preventScroll: true }); }
  });
  window.addEventListener("beforeprint", () => { if (opened) dialog.close(); });

  /* ------------------------------------------------------------------------------------------- begin */

  (async () => {
    const kept = fromAddress();
    const openDatum = (datum) => { if (datum.n) open(String(datum.n), document.querySelector(`#rows [data-opens="${datum.n}"]`)); };
    if (kept.get("row")) open(kept.get("row"), document.querySelector(`#rows [data-opens="${CSS.escape(kept.get("row"))}"]`));
    for (const name of Object.keys(specs)) await start(name, { vertical: name.startsWith("scaling"), onClick: name === "forest" ? openDatum : null });
    document.documentElement.dataset.ready = "yes";
  })();
})();
