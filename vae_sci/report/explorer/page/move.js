// Moving the map by mouse, fingers and keys. While it moves, what was drawn is shifted and scaled
// by the browser; it is drawn anew when it rests. So it moves smoothly without a graphics card too.
"use strict";

const REST = 120; // milliseconds without a move

let resting = null;

// See another part of the map, at once.
function look(part) {
  view = part;
  const whole = fitted(extent);
  const same = part.every((end, k) => Math.abs(end - whole[k]) < 1e-6 * (whole[1] - whole[0]));
  state.view = same ? null : part;
  const scale = (drawnPart[1] - drawnPart[0]) / (part[1] - part[0]);
  const x = ((drawnPart[0] - part[0]) / (part[1] - part[0])) * size.width;
  const y = ((part[3] - drawnPart[3]) / (part[3] - part[2])) * size.height;
  plot.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  clearTimeout(resting);
  resting = setTimeout(rest, REST);
}

// Draw what is seen, and write it into the address.
async function rest() {
  clearTimeout(resting);
  writeAddress();
  const ratio = dotSize(view) / drawnSize;
  if (ratio > 1.25 || ratio < 0.8) {
    await drawMap();
    return;
  }
  drawnPart = view;
  const [left, right, bottom, top] = view;
  await Plotly.relayout(plot, {
    ...size,
    "xaxis.range": [left, right],
    "yaxis.range": [bottom, top],
  });
  if (drawnPart === view) plot.style.transform = "";
}

// Show a part of the map, all of it for null, as the window allows.
function show(part) {
  measure();
  look(fitted(part ?? extent));
  return rest();
}

// Make what is seen `factor` times as wide around a place in CSS pixels.
function zoomAt(px, py, factor) {
  const [x, y] = placeAt(px, py);
  look(view.map((end, k) => (k < 2 ? x : y) + (end - (k < 2 ? x : y)) * factor));
}

function shift(dx, dy) {
  const across = (dx / size.width) * (view[1] - view[0]);
  const up = (dy / size.height) * (view[3] - view[2]);
  look([view[0] - across, view[1] - across, view[2] + up, view[3] + up]);
}

// Bring a cell that lies outside of what is seen into its middle.
function bringIntoView(row) {
  const [px, py] = pixelOf(row);
  if (px < 0 || py < 0 || px > size.width || py > size.height) {
    shift(size.width / 2 - px, size.height / 2 - py);
  }
}

// `moved` is called when a move begins, `clicked` with the place of a click, CSS pixels.
function watchMoves(moved, clicked) {
  const fingers = new Map(); // pointer → its place
  let travelled = 0;
  const at = (event) => {
    const box = mapBox.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  mapBox.addEventListener("pointerdown", (event) => {
    if (event.button || event.target === drawing) return;
    mapBox.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, at(event));
    travelled = 0;
  });
  mapBox.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = at(event);
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    travelled += Math.hypot(dx, dy);
    if (travelled < 4) return; // a click may tremble
    fingers.set(event.pointerId, now);
    moved();
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    if (!other) {
      shift(dx, dy);
      return;
    }
    const apart = (place) => Math.max(Math.hypot(place[0] - other[0], place[1] - other[1]), 1);
    zoomAt(...other, apart(before) / apart(now));
  });
  const end = (event) => {
    if (!fingers.delete(event.pointerId) || fingers.size) return;
    if (travelled < 4 && event.type === "pointerup") clicked(...at(event));
  };
  mapBox.addEventListener("pointerup", end);
  mapBox.addEventListener("pointercancel", end);
  mapBox.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      moved();
      const lines = event.deltaMode ? 16 : 1;
      zoomAt(...at(event), Math.exp(Math.min(Math.max(event.deltaY * lines, -300), 300) * 0.0015));
    },
    { passive: false },
  );
}
