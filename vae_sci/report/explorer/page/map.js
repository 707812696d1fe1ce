// The map: plotly.js draws the points; what the mouse does is read in move.js.
"use strict";

const PALE = "#d3d3d3"; // cells that are not chosen
const OTHER = "#8c8c8c"; // categories beyond the palette, missing values
const NEAR = 12; // CSS pixels within which a cell is hit
const TOOLS = 48; // CSS pixels above the cells, where the buttons stand

const plot = document.getElementById("plot");
const mapBox = document.getElementById("map");
const extent = extentOf();
let drawn = { chosen: drawOrder, rest: new Int32Array() };
let drawnSize = 0;
let drawnPart = null; // the part of the map that plotly.js has drawn
let view = null; // the part that is seen: [left, right, bottom, top]
let size = { width: 0, height: 0 };

function extentOf() {
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < xs.length; i++) {
    left = Math.min(left, xs[i]);
    right = Math.max(right, xs[i]);
    bottom = Math.min(bottom, ys[i]);
    top = Math.max(top, ys[i]);
  }
  const margin = 0.04 * Math.max(right - left, top - bottom) || 1;
  return [left - margin, right + margin, bottom - margin, top + margin];
}

// The part of the map that shows all of `part` in the window, one unit as long down as across.
function fitted(part) {
  const above = part === extent ? TOOLS : 0;
  const unit = Math.max(
    (part[1] - part[0]) / size.width,
    (part[3] - part[2]) / (size.height - above),
  );
  const [x, y] = [(part[0] + part[1]) / 2, (part[2] + part[3] + unit * above) / 2];
  const [w, h] = [(unit * size.width) / 2, (unit * size.height) / 2];
  return [x - w, x + w, y - h, y + h];
}

// Diameter of a dot, CSS pixels: small where there are many, larger when zoomed in.
function dotSize(part) {
  const whole = fitted(extent);
  const zoom = (whole[1] - whole[0]) / (part[1] - part[0]);
  const base = Math.sqrt((0.1 * size.width * size.height) / Math.max(xs.length, 1));
  const least = 1.6 + size.width / 1500;
  return Math.min(Math.max(base, least) * Math.sqrt(Math.max(zoom, 1)), Math.max(6, base * 2), 10);
}

// Chosen cells are drawn larger where they are few among many.
function standOut() {
  return Math.min((xs.length / Math.max(drawn.chosen.length, 1)) ** 0.1, 1.5);
}

// Colour of every chosen cell: a number per cell, and what numbers stand for.
function painted(rows) {
  const column = decoded[state.colour];
  const scale = [];
  if (column.numbers) {
    const [low, high] = limitsOf(column);
    const span = high > low ? high - low : 1;
    const values = Float32Array.from(rows, (row) => {
      const value = column.numbers[row];
      return Number.isNaN(value) ? -1 : Math.min(Math.max((value - low) / span, 0), 1);
    });
    scale.push([0, OTHER], [0.49, OTHER]);
    const stops = about.colours.numbers;
    stops.forEach((colour, k) => scale.push([0.5 + (0.5 * k) / (stops.length - 1), colour]));
    return { color: values, colorscale: scale, cmin: -1, cmax: 1 };
  }
  const palette = [OTHER, ...about.colours.categories];
  const place = Uint8Array.from(paletteOf(column));
  const values = Float32Array.from(rows, (row) => place[column.codes[row]]);
  palette.forEach((colour, k) =>
    scale.push([k / palette.length, colour], [(k + 1) / palette.length, colour]),
  );
  return { color: values, colorscale: scale, cmin: -0.5, cmax: palette.length - 0.5 };
}

// Of each category its place in the palette, from 1; 0: grey. Where there are more than colours,
// the commonest among the chosen cells have one.
function paletteOf(column) {
  const wanted = state.filters[column.name]?.values;
  const most = about.colours.categories.length;
  let codes = column.levels.map((_, code) => code).slice(1);
  if (wanted?.length) codes = codes.filter((code) => wanted.includes(column.levels[code]));
  if (codes.length > most) {
    const counts = countsOf(column);
    codes.sort((a, b) => counts[b] - counts[a] || a - b);
  }
  const place = new Array(column.levels.length).fill(0);
  codes.slice(0, most).forEach((code, k) => (place[code] = k + 1));
  return place;
}

// Chosen cells of every category of a column.
function countsOf(column) {
  const counts = new Array(column.levels.length).fill(0);
  for (const row of drawn.chosen) counts[column.codes[row]]++;
  return counts;
}

// 2nd and 98th percentile of a column of numbers, or its ends where these are equal.
function limitsOf(column) {
  if (!column.limits) {
    const sorted = column.numbers.filter((value) => !Number.isNaN(value)).sort();
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    column.limits = [at(0.02), at(0.98)];
    if (!(column.limits[0] < column.limits[1])) column.limits = [sorted[0], sorted.at(-1)];
  }
  return column.limits;
}

// Grey cells lie below those with a colour; among each the order stays shuffled.
function greyFirst() {
  const column = decoded[state.colour];
  const place = column.codes && paletteOf(column);
  const grey = (row) => (place ? !place[column.codes[row]] : Number.isNaN(column.numbers[row]));
  const below = drawn.chosen.filter(grey);
  drawn.painted = new Int32Array(drawn.chosen.length);
  drawn.painted.set(below);
  drawn.painted.set(drawn.chosen.filter((row) => !grey(row)), below.length);
}

function points(rows, marker) {
  return {
    type: "scattergl",
    mode: "markers",
    x: Float32Array.from(rows, (row) => xs[row]),
    y: Float32Array.from(rows, (row) => ys[row]),
    marker: { line: { width: 0 }, ...marker },
    hoverinfo: "skip",
  };
}

// A ring around the kept cell, smaller ones around its neighbours.
function rings() {
  const rows = state.pin == null ? [] : [state.pin, ...neighboursOf(state.pin)];
  const one = (width, color) => ({
    type: "scatter",
    mode: "markers",
    x: rows.map((row) => xs[row]),
    y: rows.map((row) => ys[row]),
    marker: {
      symbol: "circle-open",
      size: rows.map((_, k) => drawnSize + (k ? 6 : 14)),
      opacity: 1,
      line: { width },
      color,
    },
    hoverinfo: "skip",
    cliponaxis: true,
  });
  return [one(5, "#ffffff"), one(2, "#000000")];
}

function lassoShape() {
  if (!state.lasso) return [];
  const ends = [];
  for (let i = 0; i < state.lasso.length; i += 2) ends.push(`${state.lasso[i]},${state.lasso[i + 1]}`);
  const line = { color: "#222222", width: 1.5, dash: "4px,3px" };
  return [{ type: "path", path: `M${ends.join("L")}Z`, line, fillcolor: "rgba(0,0,0,0)" }];
}

// Draw everything anew; `split()` says which cells are chosen.
async function drawMap() {
  drawn = split();
  greyFirst();
  measure();
  const part = fitted(state.view ?? extent);
  drawnSize = dotSize(part);
  [drawnPart, view] = [part, part];
  const axis = { visible: false, zeroline: false, showgrid: false, autorange: false };
  const layout = {
    ...size,
    margin: { l: 0, r: 0, t: 0, b: 0 },
    paper_bgcolor: "#ffffff",
    plot_bgcolor: "#ffffff",
    showlegend: false,
    xaxis: { ...axis, range: part.slice(0, 2) },
    yaxis: { ...axis, range: part.slice(2) },
    shapes: lassoShape(),
  };
  const traces = [
    points(drawn.rest, { size: Math.max(drawnSize * 0.7, 1.5), color: PALE, opacity: 1 }),
    points(drawn.painted, { size: drawnSize * standOut(), opacity: 0.85, ...painted(drawn.painted) }),
    ...rings(),
  ];
  await Plotly.react(plot, traces, layout, {
    staticPlot: true,
    plotGlPixelRatio: Math.min(devicePixelRatio, 2),
  });
  plot.style.transform = "";
}

function measure() {
  size = { width: mapBox.clientWidth, height: mapBox.clientHeight };
}

// From CSS pixels in the map to its coordinates, and back.
function placeAt(px, py) {
  const [left, right, bottom, top] = view;
  return [
    left + (px / size.width) * (right - left),
    top - (py / size.height) * (top - bottom),
  ];
}

function pixelOf(row) {
  const [left, right, bottom, top] = view;
  return [
    ((xs[row] - left) / (right - left)) * size.width,
    ((top - ys[row]) / (top - bottom)) * size.height,
  ];
}

// The chosen cell nearest to a pixel of the map, or null.
function cellAt(px, py) {
  const [x, y] = placeAt(px, py);
  const unit = (view[1] - view[0]) / size.width;
  let best = null;
  let least = (NEAR * unit) ** 2;
  for (const row of drawn.chosen) {
    const distance = (xs[row] - x) ** 2 + (ys[row] - y) ** 2;
    if (distance < least) [best, least] = [row, distance];
  }
  return best;
}
