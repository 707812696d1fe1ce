// Tiles: thumbnails of many cells share an image, which is loaded when one of them is asked for.
"use strict";

const ATLASES_KEPT = 64;
const atlases = new Map(); // number → promise of an image, the last used at the end

function atlasOf(row) {
  const k = Math.floor(row / about.tiles.across ** 2);
  let atlas = atlases.get(k);
  atlases.delete(k);
  if (!atlas) {
    const image = new Image();
    image.src = `tiles/${String(k).padStart(4, "0")}.jpg`;
    atlas = image.decode().then(() => image);
    atlas.catch(() => atlases.delete(k)); // asked for again next time
    if (atlases.size >= ATLASES_KEPT) atlases.delete(atlases.keys().next().value);
  }
  atlases.set(k, atlas);
  return atlas;
}

// A canvas of `side` CSS pixels that shows the cell's tile once it is there.
function tileOf(row, side) {
  const canvas = document.createElement("canvas");
  canvas.className = "tile";
  canvas.style.width = canvas.style.height = `${side}px`;
  canvas.setAttribute("aria-hidden", "true");
  if (!about.tiles || !seen[row]) {
    canvas.classList.add("missing");
    return canvas;
  }
  canvas.width = canvas.height = Math.round(side * devicePixelRatio);
  const { side: pixels, across } = about.tiles;
  const place = row % across ** 2;
  atlasOf(row).then(
    (image) => {
      const brush = canvas.getContext("2d");
      brush.imageSmoothingQuality = "high";
      brush.drawImage(
        image,
        (place % across) * pixels,
        Math.floor(place / across) * pixels,
        ...[pixels, pixels, 0, 0, canvas.width, canvas.height],
      );
    },
    () => canvas.classList.add("missing"),
  );
  return canvas;
}
