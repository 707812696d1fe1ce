// What stands beside the map: legend, filters, the kept cell, the chosen cells. Names come from
// users: they enter the page as text only.
"use strict";

const MOST_LEVELS = 200; // entries of a list; the search finds the others
const MOST_COUNTS = 100;
const GALLERY = 24;
const NARROWED = 12; // more categories than this get a field to narrow their list
const CORE = ["treatment", "concentration", "plate", "well", "site", "cluster"];
const ANY_ORDER = new Intl.Collator("en", { numeric: true });

let galleryShown = GALLERY;
let countedBy = null;
let narrowed = {}; // list of a column → what was typed to narrow it

// An element with properties, attributes (aria-…, role, for) and children: text or elements.
function el(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function plural(count, one = "cell") {
  return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
}

function labelOf(level) {
  return level ?? about.not_given;
}

// Side of a small tile, CSS pixels.
function gallerySide() {
  return innerWidth >= 2000 ? 72 : 56;
}

// Replace what `box` holds, and keep the keyboard's focus on the part with the same data-key.
function refill(box, ...children) {
  const key = box.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const scrolled = [...box.querySelectorAll(".levels")].map((list) => list.scrollTop);
  box.replaceChildren(...children.filter((child) => child != null));
  box.querySelectorAll(".levels").forEach((list, k) => (list.scrollTop = scrolled[k] ?? 0));
  if (key != null) box.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

function keyed(element, key) {
  element.dataset.key = key;
  return element;
}

/* Legend and filters */

function fillColumnChoices() {
  const groups = (first, usable) => [
    el("option", { value: "" }, first),
    ...[["category", "Groups"], ["number", "Numbers"]].map(([kind, label]) =>
      el("optgroup", { label }, ...about.columns
        .filter((column) => column.kind === kind && usable(column))
        .map((column) => el("option", { value: column.name }, column.name))),
    ),
  ];
  const colour = document.getElementById("colour");
  colour.replaceChildren(...groups("", () => true).slice(1));
  colour.value = state.colour;
  document.getElementById("add").replaceChildren(
    ...groups("Add a filter …", (column) => !(column.name in state.filters)),
  );
}

function drawLegend() {
  const column = decoded[state.colour];
  document.getElementById("meaning").textContent = column.meaning;
  const box = document.getElementById("legend");
  if (column.codes) refill(box, ...levelList(column, "legend", paletteOf(column)));
  else refill(box, colourBar(column));
}

function colourBar(column) {
  const [low, high] = limitsOf(column);
  const missing = column.numbers.reduce((count, value) => count + Number.isNaN(value), 0);
  const rest = missing ? el("p", { className: "note" }, `grey: ${plural(missing)} without a value`) : null;
  if (low === undefined) return el("p", { className: "note" }, "No cell has a value.");
  if (!(low < high)) return el("div", {}, el("p", {}, `${number(low)} for all cells`), rest);
  const strip = el("div", { className: "strip" });
  strip.style.background = `linear-gradient(to right, ${about.colours.numbers.join(",")})`;
  return el("div", {}, strip,
    el("div", { className: "ends" },
      ...[low, (low + high) / 2, high].map((value) => el("span", {}, number(value, 3)))),
    el("p", { className: "note" }, "2nd to 98th percentile; what lies beyond has the colour of the end"),
    rest);
}

// The categories of a column as buttons that choose them; with swatches where `palette` is given.
function levelList(column, place, palette) {
  const key = `${place}:${column.name}`;
  const counts = countsOf(column);
  const wanted = state.filters[column.name]?.values ?? [];
  const typed = (narrowed[key] ?? "").toLowerCase();
  let codes = column.levels.map((_, code) => code).filter((code) => column.counts[code]);
  const all = codes.length;
  codes = codes.filter((code) => labelOf(column.levels[code]).toLowerCase().includes(typed));
  // Chosen ones first, then those with a colour, then the commonest.
  codes.sort((a, b) =>
    wanted.includes(column.levels[b]) - wanted.includes(column.levels[a]) ||
    (palette?.[a] || Infinity) - (palette?.[b] || Infinity) ||
    column.counts[b] - column.counts[a] ||
    ANY_ORDER.compare(labelOf(column.levels[a]), labelOf(column.levels[b])));
  const buttons = codes.slice(0, MOST_LEVELS).map((code) => {
    const level = column.levels[code];
    const swatch = palette && el("span", { className: "swatch" });
    if (swatch) swatch.style.background = [OTHER, ...about.colours.categories][palette[code]];
    const button = el("button", { type: "button", className: "level",
      "aria-pressed": String(wanted.includes(level)), title: `${labelOf(level)}: show only this` },
      swatch,
      el("span", { className: level === null ? "name none" : "name" }, labelOf(level)),
      el("span", { className: "count" }, counts[code].toLocaleString("en")));
    button.addEventListener("click", () => {
      toggle(column.name, level);
      update();
    });
    return keyed(button, `${key}:${code}`);
  });
  const narrow = all > NARROWED && keyed(el("input", { type: "search", className: "narrow",
    placeholder: `Find among ${all}`, "aria-label": `Find among ${all} of ${column.name}`,
    value: narrowed[key] ?? "" }), `${key}:narrow`);
  if (narrow) {
    narrow.addEventListener("input", () => {
      narrowed[key] = narrow.value;
      if (place === "legend") drawLegend();
      else drawFilters();
    });
  }
  const grey = palette ? palette.filter((k, code) => !k && column.counts[code] &&
    column.levels[code] !== null && (!wanted.length || wanted.includes(column.levels[code]))).length : 0;
  const notes = [
    codes.length > MOST_LEVELS && `${codes.length - MOST_LEVELS} more: type to find them`,
    grey && `${grey} without a colour of their own are grey: choose up to ${about.colours.categories.length} to colour those`,
  ].filter(Boolean);
  return [narrow || null, el("div", { className: "levels", role: "group", "aria-label": column.name }, ...buttons),
    notes.length ? el("p", { className: "note" }, notes.join(". ") + ".") : null];
}

function drawFilters() {
  const parts = Object.entries(state.filters).map(([column, filter]) => {
    const drop = keyed(el("button", { type: "button", className: "drop", "aria-label": `Remove the filter on ${column}` }, "×"), `drop:${column}`);
    drop.addEventListener("click", () => {
      delete state.filters[column];
      update();
    });
    const inside = filter.values
      ? column === state.colour
        ? [el("p", { className: "note" }, filter.values.map(labelOf).join(", "))]
        : levelList(decoded[column], "filter", null)
      : [limits(column, filter)];
    return el("fieldset", {}, el("legend", {}, column, drop), ...inside.filter(Boolean));
  });
  refill(document.getElementById("filters"), ...parts);
}

function limits(column, filter) {
  const ends = limitsOf(decoded[column]);
  const one = (end, label, hint) => {
    const input = keyed(el("input", { type: "number", step: "any", value: filter[end] ?? "",
      placeholder: hint === undefined ? "" : Number(hint.toPrecision(3)), "aria-label": `${label} ${column}` }), `${end}:${column}`);
    input.addEventListener("change", () => {
      filter[end] = input.value === "" ? null : Number(input.value);
      update();
    });
    return input;
  };
  return el("div", { className: "limits" }, one("low", "Least", ends[0]), " to ", one("high", "Most", ends[1]));
}

/* The kept cell */

function neighboursOf(row) {
  if (!neighbours || !about.neighbours) return [];
  return neighbours.cells.subarray(row * about.neighbours, (row + 1) * about.neighbours);
}

// A button with the cell's tile that keeps it.
function cellButton(row, side, key, below) {
  const parts = CORE.filter((column) => decoded[column]).map((column) => shown(column, row));
  const label = `${cellIds[row]}: ${parts.join(", ")}`;
  const button = el("button", { type: "button", className: "cell", "aria-label": `Keep ${label}`, title: label },
    tileOf(row, side), below == null ? null : el("span", { className: "below" }, below));
  button.addEventListener("click", () => keep(row));
  button.addEventListener("pointerenter", () => point(row));
  button.addEventListener("pointerleave", () => point(null));
  button.addEventListener("focus", () => point(row));
  button.addEventListener("blur", () => point(null));
  return keyed(button, key);
}

function drawKept() {
  const box = document.getElementById("kept");
  const row = state.pin;
  if (row == null) {
    refill(box, el("h2", { id: "kept-title" }, "Cell"),
      el("p", { className: "note" }, "Click a cell, or choose one in the search or the gallery: it stays here, with its nearest cells in z."));
    return;
  }
  const drop = keyed(el("button", { type: "button", className: "drop", "aria-label": "Let go of the cell" }, "×"), "drop");
  drop.addEventListener("click", () => keep(null));
  const facts = about.columns.map((column) => column.name).filter((column) => decoded[column]);
  const order = [...CORE.filter((column) => facts.includes(column)), ...facts.filter((column) => !CORE.includes(column))];
  const list = (columns) => el("dl", {}, ...columns.flatMap((column) => [
    el("dt", { title: columnsByName[column].meaning }, column), el("dd", {}, shown(column, row))]));
  const core = order.filter((column) => CORE.includes(column));
  const width = about.tiles?.micrometres;
  const near = [...neighboursOf(row)];
  const more = keyed(el("summary", {}, `All ${order.length} columns`), "more");
  refill(box, el("h2", { id: "kept-title" }, "Cell ", el("span", { className: "id" }, cellIds[row]), drop),
    el("div", { className: "card" },
      el("figure", {}, tileOf(row, 2.2 * gallerySide()), el("figcaption", {}, seen[row] ? width ? `${number(width, 3)} µm wide` : "" : "no tile")),
      list(core)),
    el("details", { open: detailsOpen, ontoggle: (event) => { detailsOpen = event.target.open; } }, more, list(order.filter((column) => !CORE.includes(column)))),
    near.length ? el("h3", {}, "Nearest in z, with distance") : null,
    near.length ? el("div", { className: "gallery" }, ...near.map((other, k) =>
      cellButton(other, gallerySide(), `near:${k}`, number(neighbours.distances[row * about.neighbours + k], 3)))) : null,
    channels());
}

let detailsOpen = false;

// Which colour is which channel, and what black stands for.
function channels() {
  if (!about.channels) return null;
  return el("p", { className: "channels note", title: about.contrast }, ...about.channels.flatMap(({ name, colour }) => {
    const swatch = el("span", { className: "swatch" });
    swatch.style.background = colour;
    return [el("span", { className: "channel" }, swatch, name), " "];
  }));
}

/* The chosen cells */

function drawChosen() {
  const rows = drawn.chosen;
  const limited = rows.length < xs.length;
  const button = (text, key, act, disabled = false) => {
    const made = keyed(el("button", { type: "button", disabled }, text), key);
    made.addEventListener("click", act);
    return made;
  };
  const more = rows.length > galleryShown && button("More tiles", "more-tiles", () => {
    galleryShown += 2 * GALLERY;
    drawChosen();
  });
  refill(document.getElementById("chosen"),
    el("h2", { id: "chosen-title" }, limited ? `Chosen: ${plural(rows.length)}` : `All ${plural(rows.length)}`),
    el("p", { className: "note" }, limited ? "They pass every filter and lie in the lasso." : "Filters and the lasso choose among them."),
    el("div", { className: "row" },
      button("Download CSV", "csv", downloadCsv, rows.length === 0),
      state.lasso ? button("Clear lasso", "clear-lasso", () => { state.lasso = null; update(); }) : null,
      Object.keys(state.filters).length ? button("Clear all", "clear", () => { state.lasso = null; state.filters = {}; update(); }) : null),
    about.tiles && cellIds && rows.length ? el("h3", {}, rows.length > galleryShown ? `${galleryShown} at random` : "All of them") : null,
    about.tiles && cellIds ? el("div", { className: "gallery" }, ...[...rows.subarray(0, galleryShown)].map((row, k) => cellButton(row, gallerySide(), `gallery:${k}`))) : null,
    more || null,
    about.tiles && state.pin == null ? channels() : null,
    ...countsTable());
}

// How the chosen cells spread over the categories of a column.
function countsTable() {
  const choices = about.columns.filter((column) => column.kind === "category" && decoded[column.name]);
  if (!choices.length) return [];
  countedBy ??= (choices.find((column) => column.name === "treatment") ?? choices[0]).name;
  const column = decoded[countedBy];
  const found = countsOf(column);
  const codes = found.map((_, code) => code).filter((code) => found[code])
    .sort((a, b) => found[b] - found[a] || a - b);
  const select = keyed(el("select", { id: "counted" }, ...choices.map((choice) => el("option", { value: choice.name, selected: choice.name === countedBy }, choice.name))), "counted");
  select.addEventListener("change", () => {
    countedBy = select.value;
    drawChosen();
  });
  const most = Math.max(...codes.map((code) => found[code] / column.counts[code]), 1e-9);
  const lines = codes.slice(0, MOST_COUNTS).map((code) => {
    const share = found[code] / column.counts[code];
    const bar = el("span", { className: "bar" });
    bar.style.width = `${(100 * share) / most}%`;
    return el("tr", {},
      el("th", { scope: "row", className: column.levels[code] === null ? "none" : "" }, labelOf(column.levels[code])),
      el("td", {}, found[code].toLocaleString("en")),
      el("td", {}, `${number(100 * share, 2)} %`),
      el("td", { className: "bars", "aria-hidden": "true" }, bar));
  });
  return [
    el("h3", {}, el("label", { htmlFor: "counted" }, "Cells by "), select),
    el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, countedBy), el("th", { scope: "col" }, "cells"),
      el("th", { scope: "col", title: "of the cells shown on this page in that group" }, "% of group"), el("td", { "aria-hidden": "true" }))),
      el("tbody", {}, ...lines)),
    codes.length > MOST_COUNTS ? el("p", { className: "note" }, `${codes.length - MOST_COUNTS} more groups; the CSV has all cells.`) : null,
  ];
}

/* CSV */

// Text that a spreadsheet would take for a formula gets an apostrophe before it.
function csvField(value) {
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

async function downloadCsv() {
  const names = about.columns.map((column) => column.name);
  await Promise.all([need(names), needIds()]);
  const value = (column, row) => {
    const { numbers, codes, levels } = decoded[column];
    if (!numbers) return levels[codes[row]] ?? "";
    const found = numbers[row];
    if (Number.isNaN(found)) return "";
    return numbers instanceof Float32Array && !Number.isInteger(found) ? Number(found.toPrecision(7)) : found;
  };
  const lines = [["cell_id", ...names, "umap_1", "umap_2"].map(csvField).join(",")];
  for (const row of [...drawn.chosen].sort((a, b) => (cellIds[a] < cellIds[b] ? -1 : 1))) {
    lines.push([cellIds[row], ...names.map((column) => value(column, row)), xs[row], ys[row]].map(csvField).join(","));
  }
  const link = el("a", { href: URL.createObjectURL(new Blob([lines.join("\r\n"), "\r\n"], { type: "text/csv" })), download: `cells_${about.model}.csv` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`${plural(drawn.chosen.length)} written to cells_${about.model}.csv`);
}
