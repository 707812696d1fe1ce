// What is chosen: colour, filters, lasso, kept cell, part of the map. All of it is in the address.
"use strict";

const state = {
  colour: null,
  // column → {values: [name or null, …]}, none of them: all; or {low, high}, either may be null
  filters: {},
  lasso: null, // [x, y, x, y, …] on the map
  pin: null, // row of the kept cell
  view: null, // [left, right, bottom, top]; null: everything
};

// Treatments, unless there are more than colours and clusters are not.
const DEFAULT_COLOUR =
  ["treatment", "cluster"].find((name) => columnsByName[name].groups <= about.colours.categories.length) ??
  "treatment";

function address() {
  const parts = new URLSearchParams();
  if (state.colour !== DEFAULT_COLOUR) parts.set("colour", state.colour);
  for (const [name, filter] of Object.entries(state.filters)) {
    if (filter.values?.length) parts.set(`is:${name}`, JSON.stringify(filter.values));
    if (filter.low != null) parts.set(`from:${name}`, filter.low);
    if (filter.high != null) parts.set(`to:${name}`, filter.high);
  }
  if (state.lasso) parts.set("lasso", state.lasso.join(","));
  if (state.pin != null && cellIds) parts.set("cell", cellIds[state.pin]);
  if (state.view) parts.set("view", state.view.map((v) => Number(v.toPrecision(6))).join(","));
  return `#${parts}`;
}

function writeAddress() {
  history.replaceState(null, "", address());
}

// Take the state from the address; returns what it names that is not here.
async function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const unknown = [];
  Object.assign(state, { colour: DEFAULT_COLOUR, filters: {}, lasso: null, pin: null, view: null });
  for (const [key, text] of parts) {
    const [kind, name] = [key.split(":")[0], key.slice(key.indexOf(":") + 1)];
    if (["is", "from", "to"].includes(kind) && !(name in columnsByName)) {
      unknown.push(`column ${name}`);
    } else if (kind === "is") {
      const values = parsed(text);
      if (Array.isArray(values)) state.filters[name] = { values };
    } else if (kind === "from" || kind === "to") {
      if (text === "" || !Number.isFinite(Number(text))) continue;
      const filter = (state.filters[name] ??= { low: null, high: null });
      filter[kind === "from" ? "low" : "high"] = Number(text);
    } else if (key === "colour") {
      if (text in columnsByName) state.colour = text;
      else unknown.push(`column ${text}`);
    } else if (key === "lasso") {
      const path = numbers(text);
      if (path && path.length >= 6 && path.length % 2 === 0) state.lasso = path;
    } else if (key === "view") {
      const view = numbers(text);
      if (view?.length === 4 && view[0] < view[1] && view[2] < view[3]) state.view = view;
    } else if (key === "cell") {
      const row = (await needIds()).indexOf(text);
      if (row >= 0) state.pin = row;
      else unknown.push(`cell ${text}`);
    }
  }
  // A filter that does not fit its column's kind would hide everything.
  for (const [name, filter] of Object.entries(state.filters)) {
    if ((columnsByName[name].kind === "category") !== Boolean(filter.values)) {
      delete state.filters[name];
    }
  }
  return unknown;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function numbers(text) {
  const values = text.split(",").map(Number);
  return values.every(Number.isFinite) ? values : null;
}

// Rows that pass the filters and lie in the lasso, in the order of drawing, and the others.
function split() {
  const pass = new Uint8Array(xs.length).fill(1);
  for (const [name, filter] of Object.entries(state.filters)) {
    const column = decoded[name];
    if (filter.values) {
      if (!filter.values.length) continue;
      const wanted = column.levels.map((level) => filter.values.includes(level));
      for (let row = 0; row < pass.length; row++) pass[row] &= wanted[column.codes[row]];
    } else {
      const low = filter.low ?? -Infinity;
      const high = filter.high ?? Infinity;
      for (let row = 0; row < pass.length; row++) {
        const value = column.numbers[row]; // a missing value passes no limit
        pass[row] &= value >= low && value <= high;
      }
    }
  }
  if (state.lasso) {
    for (let row = 0; row < pass.length; row++) {
      if (pass[row]) pass[row] = inside(state.lasso, xs[row], ys[row]);
    }
  }
  return { chosen: drawOrder.filter((row) => pass[row]), rest: drawOrder.filter((row) => !pass[row]) };
}

// Whether a ray from (x, y) crosses the closed path an odd number of times.
function inside(path, x, y) {
  let odd = false;
  for (let i = 0, j = path.length - 2; i < path.length; j = i, i += 2) {
    const [xi, yi, xj, yj] = [path[i], path[i + 1], path[j], path[j + 1]];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}

// Choose or drop one category of a column; nothing chosen is no filter.
function toggle(name, level) {
  const values = new Set(state.filters[name]?.values ?? []);
  if (!values.delete(level)) values.add(level);
  if (values.size) state.filters[name] = { values: [...values] };
  else delete state.filters[name];
}
