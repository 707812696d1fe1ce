// What the page knows from the start: about itself, and where every cell lies.
"use strict";

const about = received.about;
const columnsByName = Object.assign(Object.create(null),
  Object.fromEntries(about.columns.map((column) => [column.name, column])));
const xs = unpack(received.map.x);
const ys = unpack(received.map.y);
const seen = unpack(received.map.seen); // 1: the cell has a tile

// Cells are stored along the map. Drawn in that order, one group would cover the next: the order
// of drawing is shuffled, the same way every time.
const drawOrder = shuffled(Int32Array.from(xs, (_, row) => row));

function shuffled(rows) {
  let seed = 1;
  for (let i = rows.length - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((seed / 2 ** 32) * (i + 1));
    [rows[i], rows[j]] = [rows[j], rows[i]];
  }
  return rows;
}
