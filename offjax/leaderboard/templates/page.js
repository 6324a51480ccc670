"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const data = JSON.parse($("#data").textContent);
  const fields = ["method", "dataset", "domain", "source", "at"];
  const initial = document.body.dataset.at;

  // Text only: nothing from a run is ever parsed as HTML.
  function element(tag, text, attributes = {}) {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  // --- theme ---
  const root = document.documentElement;
  const stored = (value) => {
    try {
      if (value === undefined) return localStorage.getItem("offjax-theme");
      localStorage.setItem("offjax-theme", value);
    } catch (error) { /* storage may be forbidden for local files */ }
    return null;
  };
  if (stored()) root.dataset.theme = stored();
  $("#theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    stored(root.dataset.theme);
  });

  // --- sorting ---
  function sortValue(row, index) {
    const cell = row.cells[index];
    if (cell.dataset.sort !== undefined) return cell.dataset.sort;
    const values = $$("[data-value]", cell);
    const shown = values.find((v) => v.classList.contains("at-" + document.body.dataset.at)) || values[0];
    return shown && shown.dataset.value !== "" ? Number(shown.dataset.value) : null;
  }

  function sortBy(head, direction) {
    const table = head.closest("table");
    const sign = direction === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [sortValue(row, head.cellIndex), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);  // gaps last
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    });
    for (const other of table.tHead.rows[0].cells) {
      other.setAttribute("aria-sort", other === head ? direction : "none");
    }
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".sort");
    if (!button) return;
    const head = button.closest("th");
    const first = head.cellIndex === 0 ? "ascending" : "descending";
    const second = head.cellIndex === 0 ? "descending" : "ascending";
    sortBy(head, head.getAttribute("aria-sort") === first ? second : first);
  });

  // --- the matrix: columns in the order of a row ---
  function sortAcross(head, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    const row = head.closest("tr");
    const table = row.closest("table");
    const value = (cell) => (cell.dataset.value === undefined ? null : Number(cell.dataset.value));
    const order = [...row.cells].map((cell, i) => [value(cell), i]).slice(1);
    order.sort(([a], [b]) =>
      a === null || b === null ? (a === null) - (b === null) : sign * (a - b));
    for (const each of table.rows) {
      const cells = [...each.cells];
      each.append(...order.map(([, i]) => cells[i]));
    }
    for (const other of $$("tbody th", table)) {
      other.setAttribute("aria-sort", other === head ? direction : "none");
    }
  }

  // Numbers at another checkpoint; columns may have been moved.
  const columns = $$(".all thead th").map((head) => head.dataset.name);

  function fillMatrix(at) {
    const place = $$(".all thead th").map((head) => columns.indexOf(head.dataset.name));
    $$(".all tbody tr").forEach((row, i) => {
      place.forEach((from, to) => {
        const [text, small, value, kind] = data.matrix[at][i][from];
        const cell = row.cells[to + 1];
        const lines = small.map((line) => element("small", line));
        ($("button", cell) || cell).replaceChildren(text, ...lines);
        cell.className = kind;
        if (value === null) delete cell.dataset.value;
        else cell.dataset.value = value;
      });
    });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".across");
    if (!button) return;
    const head = button.closest("th");
    sortAcross(head, head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending");
  });

  // --- filters ---
  const has = (text, query) =>
    query.toLowerCase().split(/\s+/).filter(Boolean).every((word) => text.toLowerCase().includes(word));

  function state() {
    return Object.fromEntries(fields.map((name) => [name, $("#" + name).value]));
  }

  function apply() {
    const wanted = state();
    if (document.body.dataset.at !== wanted.at) {
      document.body.dataset.at = wanted.at;
      fillMatrix(wanted.at);
      for (const head of $$('th[aria-sort]:not([aria-sort="none"])')) {
        const sort = head.closest(".all") ? sortAcross : sortBy;
        sort(head, head.getAttribute("aria-sort"));
      }
    }
    applyMatrix(wanted);
    let shown = 0;
    let all = 0;
    for (const section of $$(".group")) {
      const hiddenMethods = new Set();
      const inDomain = !wanted.domain || section.dataset.domain === wanted.domain;
      let rows = 0;
      for (const row of $$("table.board tbody tr", section)) {
        const visible = inDomain && has(row.dataset.name, wanted.method) &&
          (!wanted.source || row.dataset.source === wanted.source);
        row.hidden = !visible;
        if (!visible) hiddenMethods.add(row.dataset.method);
        rows += visible;
        all += 1;
      }
      for (const node of $$(".series, .legend li, .matrix [data-method]", section)) {
        node.style.display = hiddenMethods.has(node.dataset.method) ? "none" : "";
      }
      const columns = $$("thead [data-dataset]", section);
      for (const node of $$("[data-dataset]", section)) {
        node.hidden = !has(node.dataset.dataset, wanted.dataset);
      }
      const anyColumn = columns.some((node) => !node.hidden);
      $(".figures", section)?.toggleAttribute("hidden", wanted.source === "reported");
      section.hidden = !rows || !anyColumn;
      shown += section.hidden ? 0 : rows;
    }
    shown += applyReported(wanted);
    $(".nothing").hidden = shown > 0;
    const active = wanted.method || wanted.dataset || wanted.domain || wanted.source;
    $("#shown").textContent = active ? `${shown} rows shown` : "";
    const changed = fields.filter((n) => wanted[n] && !(n === "at" && wanted.at === initial));
    const hash = changed.map((n) => `${n}=${encodeURIComponent(wanted[n])}`).join("&");
    history.replaceState(null, "", hash ? "#" + hash : "#boards");
  }

  function applyMatrix(wanted) {
    const section = $(".overview");
    if (!section) return;
    const [head, ...rows] = $(".all", section).rows;
    const hidden = [...head.cells].map((cell, i) => i > 0 && !has(cell.dataset.name, wanted.method));
    let shown = 0;
    for (const row of rows) {
      const single = row.classList.contains("dataset");
      row.hidden = (wanted.domain && row.dataset.domain !== wanted.domain) ||
        (wanted.dataset && !(single && has(row.dataset.name, wanted.dataset)));
      shown += !row.hidden;
    }
    for (const row of [head, ...rows]) {
      [...row.cells].forEach((cell, i) => { cell.hidden = hidden[i]; });
    }
    section.hidden = wanted.source === "reported" || !shown || hidden.slice(1).every(Boolean);
    $(".pairs")?.toggleAttribute("hidden", wanted.source === "reported");
  }

  function applyReported(wanted) {
    const section = $(".reported");
    const off = wanted.source === "measured" || Boolean(wanted.domain);
    let shown = 0;
    for (const paper of $$(".paper", section)) {
      let rows = 0;
      for (const row of $$("tbody tr", paper)) {
        row.hidden = !has(row.dataset.name, wanted.method);
        rows += !row.hidden;
      }
      const columns = $$("thead [data-dataset]", paper);
      for (const node of $$("[data-dataset]", paper)) {
        node.hidden = !has(node.dataset.dataset, wanted.dataset);
      }
      paper.hidden = off || !rows || columns.every((node) => node.hidden);
      shown += paper.hidden ? 0 : rows;
    }
    section.hidden = shown === 0;
    return wanted.source === "reported" || wanted.method || wanted.dataset ? shown : 0;
  }

  function restore() {
    const known = new URLSearchParams(location.hash.slice(1));
    for (const name of fields) {
      if (known.has(name)) $("#" + name).value = known.get(name);
    }
  }

  const form = $(".filters");
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  restore();
  if (fields.some((name) => state()[name] !== (name === "at" ? initial : ""))) apply();

  // --- legend: hover fades the others, a click keeps it so ---
  function pick(section) {
    const keys = $$(".legend li", section).filter((item) =>
      item.matches(":hover, :focus-within") || $(".key", item).getAttribute("aria-pressed") === "true");
    const chosen = new Set(keys.map((item) => item.dataset.method));
    section.classList.toggle("picking", chosen.size > 0);
    for (const node of $$(".series", section)) {
      node.classList.toggle("picked", chosen.has(node.dataset.method));
    }
  }
  for (const section of $$(".group")) {
    const legend = $(".legend", section);
    if (!legend) continue;
    for (const name of ["mouseover", "mouseout", "focusin", "focusout"]) {
      legend.addEventListener(name, () => setTimeout(() => pick(section)));
    }
    legend.addEventListener("click", (event) => {
      const key = event.target.closest(".key");
      if (!key) return;
      key.setAttribute("aria-pressed", String(key.getAttribute("aria-pressed") !== "true"));
      pick(section);
    });
  }

  // --- details ---
  const dialog = $("#details");
  const number = (value) => (value === null ? "–" : value.toFixed(1));

  function facts(run) {
    const list = element("dl");
    for (const [name, value] of run.facts) list.append(element("dt", name), element("dd", value));
    return list;
  }

  function seedTable(cell) {
    const table = element("table");
    const head = table.createTHead().insertRow();
    for (const name of ["seed", "last", "best", "mean of last ten", ""]) head.append(element("th", name));
    const body = table.createTBody();
    for (const [seed, last, best, ten, , diverged] of cell.seeds) {
      const row = body.insertRow();
      for (const text of [seed, number(last), number(best), number(ten), diverged ? "† diverged" : ""]) {
        row.append(element("td", text));
      }
    }
    return table;
  }

  // One line per seed; the range of both axes stands at their ends.
  function seedChart(cell) {
    const points = cell.curves.flat();
    if (points.length < 2) return "";
    const make = (tag, attributes, text) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
      if (text !== undefined) node.textContent = text;
      return node;
    };
    const range = (index) => {
      const values = points.map((point) => point[index]);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      return low === high ? [low - 1, high + 1] : [low, high];
    };
    const [[x0, x1], [y0, y1]] = [range(0), range(1)];
    const place = ([x, y]) =>
      `${(46 + 306 * (x - x0) / (x1 - x0)).toFixed(1)},${(128 - 118 * (y - y0) / (y1 - y0)).toFixed(1)}`;
    const svg = make("svg", { viewBox: "0 0 360 148", role: "img", "aria-label": "Learning curve of every seed" });
    svg.append(
      make("path", { class: "axis", d: "M46 128H352" }),
      make("text", { x: 40, y: 131, "text-anchor": "end" }, y0.toFixed(1)),
      make("text", { x: 40, y: 14, "text-anchor": "end" }, y1.toFixed(1)),
      make("text", { x: 46, y: 144 }, x0.toLocaleString("en")),
      make("text", { x: 352, y: 144, "text-anchor": "end" }, `${x1.toLocaleString("en")} updates`));
    cell.curves.forEach((curve, i) => {
      const line = make("polyline", { class: `line seed s${i % 10}`, points: curve.map(place).join(" ") });
      line.append(make("title", {}, `seed ${cell.seeds[i][0]}`));
      svg.append(line);
    });
    return svg;
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.cell");
    if (button) {
      const cell = data.cells[Number(button.dataset.cell)];
      const title = $("#details-title");
      title.textContent = cell.method + " ";
      if (cell.variant !== "default") title.append(element("span", cell.variant, { class: "variant" }));
      const body = $(".body", dialog);
      body.replaceChildren(element("code", cell.dataset), element("h3", `Seeds (${cell.unit})`), seedTable(cell), seedChart(cell));
      for (const index of new Set(cell.seeds.map((seed) => seed[4]))) {
        const run = data.runs[index];
        const config = element("details");
        config.append(element("summary", "Configuration"), element("pre", data.configs[run.config]));
        const seeds = cell.seeds.filter((seed) => seed[4] === index).map((seed) => seed[0]);
        body.append(element("h3", `Run of seeds ${seeds.join(", ")}`), facts(run), config);
      }
      dialog.showModal();
    } else if (event.target === dialog) {
      dialog.close();
    }
  });

  // --- two methods ---
  const pairs = data.pairs;
  const signed = (value) => (value > 0 ? "+" : "") + number(value);

  /** The differences A − B of all rows: [value, half, probability, seeds, datasets]. */
  function differences(a, b) {
    if (a < b) return pairs.pairs[`${a},${b}`];
    return pairs.pairs[`${b},${a}`].map((d) => d && [-d[0], d[1], 1 - d[2], d[3], d[4]]);
  }

  function intervalChart([value, half], reach) {
    const make = (tag, attributes) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, given] of Object.entries(attributes)) node.setAttribute(name, given);
      return node;
    };
    const x = (v) => 75 + 72 * Math.max(-1, Math.min(1, v / reach));
    const ends = half === null ? number(value) : `${number(value - half)} to ${number(value + half)}`;
    const svg = make("svg", { viewBox: "0 0 150 16", role: "img", "aria-label": ends });
    svg.append(
      make("line", { class: "axis", x1: 75, x2: 75, y1: 0, y2: 16 }),
      make("line", { class: "reach", x1: x(value - (half ?? 0)), x2: x(value + (half ?? 0)), y1: 8, y2: 8 }),
      make("circle", { class: "dot", cx: x(value), cy: 8, r: 3.5 }));
    return svg;
  }

  function pairRow(name, means, found, reach) {
    const [value, half, probability, seeds] = found;
    const row = element("tr");
    const last = name === "mean";
    row.className = [last && "mean", !(half !== null && Math.abs(value) > half) && "open"].filter(Boolean).join(" ");
    const interval = half === null ? "" : ` [${number(value - half)}, ${number(value + half)}]`;
    const needed = half === null ? "–" : seeds === null ? "more than 100 seeds" : `${seeds} seeds`;
    const chart = element("td");
    chart.append(intervalChart(found, reach));
    row.append(
      element("th", last ? `mean of ${found[4]}` : name, { scope: "row" }),
      element("td", last ? "" : number(means[0])), element("td", last ? "" : number(means[1])),
      element("td", signed(value) + interval), chart,
      element("td", probability.toFixed(2)), element("td", needed));
    return row;
  }

  function showPair() {
    const [a, b] = ["a", "b"].map((name) => Number($("#pair-" + name).value));
    const body = $(".pair").tBodies[0];
    const found = a === b ? [] : differences(a, b);
    const ends = found.filter(Boolean).map(([value, half]) => Math.abs(value) + (half ?? 0));
    const rows = found.map((each, i) => each &&
      pairRow(pairs.rows[i], [pairs.means[a][i], pairs.means[b][i]], each, Math.max(...ends) || 1));
    body.replaceChildren(...rows.filter(Boolean));
    if (!body.rows.length) {
      const text = a === b ? "Choose two methods." : "The two have no dataset in common.";
      body.insertRow().append(element("td", text, { colspan: 7 }));
    }
  }

  if ($(".pairs")) {
    for (const name of ["#pair-a", "#pair-b"]) $(name).addEventListener("input", showPair);
    $("#pair-swap").addEventListener("click", () => {
      const [a, b] = [$("#pair-a"), $("#pair-b")];
      [a.value, b.value] = [b.value, a.value];
      showPair();
    });
    showPair();
  }

  // --- live page ---
  const refresh = Number(document.body.dataset.refresh);
  if (refresh) {
    setInterval(() => { if (!dialog.open) location.reload(); }, 1000 * refresh);
  }
})();
