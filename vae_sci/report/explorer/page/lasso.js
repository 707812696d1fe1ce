// The lasso: a line drawn on the map.
"use strict";

const drawing = document.getElementById("drawing");

// Let the user draw a closed line; `done` gets it as [x, y, x, y, …].
function watchLasso(done) {
  let path = null; // CSS pixels
  const at = (event) => {
    const box = drawing.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  drawing.addEventListener("pointerdown", (event) => {
    drawing.setPointerCapture(event.pointerId);
    drawing.width = size.width;
    drawing.height = size.height;
    path = [at(event)];
  });
  drawing.addEventListener("pointermove", (event) => {
    if (!path) return;
    const [x, y] = at(event);
    const [lastX, lastY] = path.at(-1);
    if (Math.hypot(x - lastX, y - lastY) < 5) return;
    path.push([x, y]);
    const brush = drawing.getContext("2d");
    brush.clearRect(0, 0, drawing.width, drawing.height);
    brush.beginPath();
    path.forEach((point) => brush.lineTo(...point));
    brush.fillStyle = "rgba(0, 114, 178, 0.12)";
    brush.strokeStyle = "#222222";
    brush.lineWidth = 1.5;
    brush.fill();
    brush.stroke();
  });
  const end = (event) => {
    if (!path) return;
    drawing.getContext("2d").clearRect(0, 0, drawing.width, drawing.height);
    const points = path;
    path = null;
    if (event.type !== "pointerup" || points.length < 3) return;
    // Rounded as it stands in the address: a link then holds the same cells.
    done(points.flatMap((p) => placeAt(...p)).map((value) => Number(value.toPrecision(5))));
  };
  drawing.addEventListener("pointerup", end);
  drawing.addEventListener("pointercancel", end);
}
