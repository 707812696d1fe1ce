// What happens on the page: one function draws the state, the others change it.
"use strict";

let turns = 0;

// Draw everything as the state says, and write it into the address.
async function update() {
  const turn = ++turns;
  const wanted = [state.colour, ...Object.keys(state.filters), ...CORE.filter((column) => column in columnsByName)];
  if (state.pin != null) wanted.push(...about.columns.map((column) => column.name));
  await Promise.all([need(wanted), state.pin == null ? null : needNeighbours(), needIds()]);
  if (turn !== turns) return;
  galleryShown = GALLERY;
  await drawMap();
  if (turn !== turns) return;
  fillColumnChoices();
  drawLegend();
  drawFilters();
  drawKept();
  drawChosen();
  const part = about.shown < about.total ? ` (of ${about.total.toLocaleString("en")}, drawn from every well)` : "";
  say(`${drawn.chosen.length.toLocaleString("en")} of ${plural(about.shown)}${part}`);
  writeAddress();
  document.body.dataset.ready = String(turn);
}

function say(text) {
  document.getElementById("status").textContent = text;
}

// Keep a cell beside the map; null lets go of it.
async function keep(row, reveal = false) {
  state.pin = row;
  hideHover();
  await update();
  if (row != null && reveal) bringIntoView(row);
  if (row != null) say(`Kept: ${cellIds[row]}`);
}

/* Hovering */

const hover = document.getElementById("hover");

function hideHover() {
  hover.hidden = true;
  mapBox.classList.remove("hit");
}

// The cell's tile and what is known of it, beside the cell on the map.
function showHover(row, x, y) {
  const names = [...CORE, state.colour].filter((column, k, all) => decoded[column] && all.indexOf(column) === k);
  if (hover.hidden || hover.dataset.row !== String(row)) {
    hover.dataset.row = row;
    hover.replaceChildren(tileOf(row, 112), el("dl", {}, ...names.flatMap((column) =>
      [el("dt", {}, column), el("dd", {}, shown(column, row))])), el("p", { className: "id" }, cellIds?.[row] ?? ""));
    hover.hidden = false;
  }
  const box = mapBox.getBoundingClientRect();
  const [width, height] = [hover.offsetWidth, hover.offsetHeight];
  // On the side where it covers the map and not the panel, if there is room.
  const beyond = x + 16 + width > box.width && x - 16 - width > 0;
  const left = Math.min(box.left + (beyond ? x - 16 - width : x + 16), innerWidth - width - 4);
  const top = Math.min(Math.max(box.top + y - height / 2, 4), innerHeight - height - 4);
  hover.style.translate = `${Math.max(left, 4)}px ${top}px`;
}

// Show where on the map a cell of a gallery lies.
function point(row) {
  const mark = document.getElementById("mark") ?? mapBox.appendChild(el("div", { id: "mark" }));
  mark.hidden = row == null;
  if (row == null) return;
  const [x, y] = pixelOf(row);
  mark.hidden = x < 0 || y < 0 || x > size.width || y > size.height;
  mark.style.translate = `${x}px ${y}px`;
}

function watchHover() {
  let place = null; // of the mouse, until the next picture
  mapBox.addEventListener("pointermove", (event) => {
    if (event.buttons || event.pointerType === "touch" || !drawing.hidden) {
      hideHover();
      return;
    }
    const first = place === null;
    const box = mapBox.getBoundingClientRect();
    place = [event.clientX - box.left, event.clientY - box.top];
    if (!first) return;
    requestAnimationFrame(() => {
      const row = cellAt(...place);
      place = null;
      mapBox.classList.toggle("hit", row != null);
      if (row == null) hideHover();
      else showHover(row, ...pixelOf(row));
    });
  });
  mapBox.addEventListener("pointerleave", hideHover);
}

/* Buttons and keys */

function useLasso(on) {
  drawing.hidden = !on;
  document.getElementById("lasso").setAttribute("aria-pressed", String(on));
  document.getElementById("pan").setAttribute("aria-pressed", String(!on));
  hideHover();
}

function watchButtons() {
  const on = (id, act) => document.getElementById(id).addEventListener("click", act);
  on("pan", () => useLasso(false));
  on("lasso", () => useLasso(true));
  const zoom = (factor) => zoomAt(size.width / 2, size.height / 2, factor);
  const move = (across, up) => shift(-across * size.width, up * size.height);
  on("in", () => zoom(0.6));
  on("out", () => zoom(1 / 0.6));
  on("fit", () => show(null));
  on("about", tell);
  on("link", async () => {
    writeAddress();
    try {
      await navigator.clipboard.writeText(location.href);
      say("The link to this view is in the clipboard");
    } catch {
      say("Copy the address of this page: it holds the view");
    }
  });
  document.getElementById("colour").addEventListener("change", (event) => {
    state.colour = event.target.value;
    update();
  });
  document.getElementById("add").addEventListener("change", async (event) => {
    const column = event.target.value;
    if (!column) return;
    await need([column]);
    state.filters[column] = columnsByName[column].kind === "number"
      ? { low: null, high: null }
      : { values: [] };
    await update();
    document.querySelector("#filters fieldset:last-child input, #filters fieldset:last-child .level")?.focus();
  });
  mapBox.addEventListener("keydown", (event) => {
    const act = {
      ArrowLeft: () => move(-0.15, 0),
      ArrowRight: () => move(0.15, 0),
      ArrowUp: () => move(0, 0.15),
      ArrowDown: () => move(0, -0.15),
      "+": () => zoom(0.7),
      "=": () => zoom(0.7),
      "-": () => zoom(1 / 0.7),
      0: () => show(null),
      l: () => useLasso(drawing.hidden),
      Escape: () => (drawing.hidden ? keep(null) : useLasso(false)),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    hideHover();
    act();
  });
}

// About: what the page shows, where the tables are, what draws it.
function tell() {
  const { library } = about;
  const line = (...parts) => el("p", {}, ...parts);
  const code = (text) => el("code", {}, text);
  const close = el("button", { type: "button" }, "Close");
  const dialog = document.getElementById("told");
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(
    el("h2", { id: "told-title" }, "About this page"),
    line(`${plural(about.shown)} of ${about.total.toLocaleString("en")}${about.shown < about.total ? ", drawn at random from every well in proportion" : ""}. ` +
      "The UMAP only arranges them for the eye: distances, sizes and gaps on it mean nothing. Clusters, distances and nearest cells are taken in z, the latent vector normalised by control wells."),
    line("Tables with all cells, and what every column means: ", code(`results/phenotypes/${about.model}/`), ", ", code("results/README.md"), "."),
    about.contrast ? line("Tiles: ", about.contrast.replace("all panels", "the whole screen")) : line("There are no tiles."),
    line(about.neighbours ? `Nearest cells: the ${about.neighbours} with the smallest Euclidean distance in z among the cells on this page.` : ""),
    line("Keys on the map: arrows move, + and − zoom, 0 shows all, L takes the lasso, Esc lets go. The address holds the view; a colleague needs this folder, or a server that holds it."),
    line(`${about.program}. Drawn by ${library.name} ${library.version} (wheel ${library.wheel}), ${library.licence} The whole folder has ${number(about.megabytes)} MB; tiles are loaded as they are asked for. Nothing is sent or fetched from anywhere.`),
    close);
  dialog.showModal();
}

/* Start */

function watchSize() {
  let waiting;
  new ResizeObserver(() => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (mapBox.clientWidth !== size.width || mapBox.clientHeight !== size.height) show(state.view);
    }, 100);
  }).observe(mapBox);
}

function hasWebGL() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl") ?? canvas.getContext("experimental-webgl"));
}

async function start() {
  document.title = `Explorer of cells: ${about.model}`;
  document.getElementById("model").textContent = `model ${about.model}`;
  if (!hasWebGL()) {
    const told = document.getElementById("nogl");
    told.textContent = "This browser draws no WebGL, so the map is empty; search, gallery and tables work.";
    told.hidden = false;
  }
  const unknown = await readAddress();
  await update();
  if (unknown.length) say(`Not here: ${unknown.join(", ")}`);
  watchSize();
  watchHover();
  watchMoves(
    () => {
      hideHover();
      point(null);
    },
    (x, y) => {
      const row = cellAt(x, y);
      if (row != null) keep(row);
    },
  );
  watchButtons();
  watchLasso((path) => {
    state.lasso = path;
    useLasso(false);
    update();
  });
  addEventListener("hashchange", async () => {
    if (location.hash === address()) return;
    const missing = await readAddress();
    await update();
    if (missing.length) say(`Not here: ${missing.join(", ")}`);
  });
}

// A part that is missing later than at the start: data of a column, neighbours.
addEventListener("unhandledrejection", (event) => say(event.reason?.message ?? String(event.reason)));
start().catch((error) => say(`This page could not start: ${error.message}`));
