// One field finds groups (treatment, well, …), which become a filter, and cells, which are kept.
"use strict";

const MOST_GROUPS = 8;
const MOST_CELLS = 20;

const field = document.getElementById("search");
const list = document.getElementById("found");
let found = []; // what is listed: {text, note, act}
let active = -1;

// Columns whose names can be searched; those that have about as many names as cells cannot.
function searchable() {
  const first = ["treatment", "well", "plate", "cluster"];
  const names = about.columns.filter((column) => column.kind === "category").map((column) => column.name);
  return [...first.filter((column) => names.includes(column)), ...names.filter((column) => !first.includes(column))];
}

async function search(text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  await Promise.all([need(searchable()), needIds()]);
  const groups = [];
  for (const column of searchable()) {
    const { levels, counts } = decoded[column];
    if (levels.length > xs.length / 2 && levels.length > 1000) continue;
    levels.forEach((level, code) => {
      if (level === null || !level.toLowerCase().includes(wanted)) return;
      const rank = level.toLowerCase() === wanted ? 0 : level.toLowerCase().startsWith(wanted) ? 1 : 2;
      groups.push({ rank, text: level, note: `${column}, ${plural(counts[code])}`, act: () => choose(column, level) });
    });
  }
  groups.sort((a, b) => a.rank - b.rank);
  const cells = [];
  for (let row = 0; row < cellIds.length && cells.length < MOST_CELLS; row++) {
    if (cellIds[row].toLowerCase().includes(wanted)) {
      cells.push({ text: cellIds[row], note: "cell", act: () => keep(row, true) });
    }
  }
  return [...groups.slice(0, MOST_GROUPS), ...cells];
}

function choose(column, level) {
  if (!state.filters[column]?.values?.includes(level)) toggle(column, level);
  update();
}

let asked = 0;

async function listFound() {
  const turn = ++asked;
  const answer = await search(field.value);
  if (turn !== asked) return;
  found = answer;
  active = found.length ? 0 : -1;
  drawFound();
}

function drawFound() {
  const options = found.map(({ text, note, act }, k) => {
    const option = el("li", { role: "option", id: `found-${k}`, "aria-selected": String(k === active) },
      el("span", { className: "name" }, text), el("span", { className: "note" }, note));
    option.addEventListener("pointerdown", (event) => {
      event.preventDefault(); // the field keeps the focus
      closeFound();
      act();
    });
    return option;
  });
  const nothing = field.value.trim() && !found.length;
  list.replaceChildren(...(nothing ? [el("li", { className: "note" }, "Nothing found among the cells shown")] : options));
  list.hidden = !field.value.trim();
  field.setAttribute("aria-expanded", String(!list.hidden));
  if (active >= 0) {
    field.setAttribute("aria-activedescendant", `found-${active}`);
    list.children[active].scrollIntoView({ block: "nearest" });
  } else field.removeAttribute("aria-activedescendant");
}

function closeFound() {
  asked++;
  found = [];
  active = -1;
  list.hidden = true;
  field.setAttribute("aria-expanded", "false");
  field.removeAttribute("aria-activedescendant");
}

field.addEventListener("input", listFound);
field.addEventListener("focus", () => field.value.trim() && listFound());
field.addEventListener("blur", closeFound);
field.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (!found.length) return;
    active = (active + (event.key === "ArrowDown" ? 1 : found.length - 1)) % found.length;
    drawFound();
  } else if (event.key === "Enter" && active >= 0) {
    const { act } = found[active];
    closeFound();
    act();
  } else if (event.key === "Escape") closeFound();
});
