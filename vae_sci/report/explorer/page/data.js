// The data: scripts call `receive`, each loaded when it is first needed. Opened from disk, a page
// may not fetch, but it may load scripts.
"use strict";

const received = {};
const loading = {};
const decoded = Object.create(null); // a column may be named as anything

function receive(name, content) {
  received[name] = content;
}

// The content of data/{name}.js.
function load(name) {
  if (name in received) return Promise.resolve(received[name]);
  loading[name] ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = `data/${name}.js`;
    script.onload = () => done(received[name]);
    script.onerror = () => {
      delete loading[name];
      failed(new Error(`data/${name}.js is missing: copy the whole folder of the explorer`));
    };
    document.head.append(script);
  });
  return loading[name];
}

const TYPES = { Uint8Array, Uint16Array, Uint32Array, Int32Array, Float32Array, Float64Array };

// A typed array from its base64.
function unpack({ type, base64 }) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new TYPES[type](bytes.buffer);
}

// Columns by name; {kind, meaning, numbers} or {kind, meaning, codes, levels, counts}. Code 0 is a
// missing value: levels[0] is null.
async function need(names) {
  await Promise.all(
    [...new Set(names)].map(async (name) => {
      if (decoded[name]) return;
      const described = columnsByName[name];
      const content = await load(described.file);
      if (content.numbers) {
        decoded[name] = { ...described, numbers: unpack(content.numbers) };
        return;
      }
      const codes = unpack(content.codes);
      const levels = [null, ...content.levels];
      const counts = new Array(levels.length).fill(0);
      for (const code of codes) counts[code]++;
      decoded[name] = { ...described, codes, levels, counts };
    }),
  );
}

let cellIds = null; // after `needIds`

async function needIds() {
  cellIds ??= (await load("cell_id")).split("\n");
  return cellIds;
}

let neighbours = null; // after `needNeighbours`

async function needNeighbours() {
  const content = await load("neighbours");
  neighbours ??= { cells: unpack(content.cells), distances: unpack(content.distances) };
}

// A value as people read it; the column must be there.
function shown(name, row) {
  const column = decoded[name];
  if (column.numbers) return number(column.numbers[row]);
  return column.levels[column.codes[row]] ?? about.not_given;
}

// Seven digits are what float32 holds.
function number(value, digits = 5) {
  if (Number.isNaN(value)) return about.not_given;
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}
