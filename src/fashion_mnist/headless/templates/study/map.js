"use strict";
const find = (id) => document.getElementById(id);
const dots = JSON.parse(find("contents").textContent);
const map = find("map"), pen = map.getContext("2d"), boxes = [...document.querySelectorAll("input[name=class]")];
const TILE = 28, REACH = 25; // pixels: an image's side; how far from the pointer a dot may lie
let drawn = [], chosen = -1, held = null;
const view = { x: 0, y: 0, zoom: 1 };

// Where a dot, or anything else between 0 and 1, lies on the canvas, in CSS pixels.
function place(x, y) {
  return [(x - view.x) * view.zoom * map.clientWidth, (y - view.y) * view.zoom * map.clientWidth];
}
const dot = (i) => place(dots.x[i], dots.y[i]);

function draw() {
  const side = map.clientWidth, dense = window.devicePixelRatio || 1, few = drawn.length < 2000;
  const size = Math.min(2 + view.zoom + few, 7) * (side < 500 ? 0.8 : 1);
  map.width = map.height = side * dense;
  pen.scale(dense, dense);
  for (const i of drawn) {
    const [x, y] = dot(i);
    pen.fillStyle = dots.colours[dots.label[i]];
    pen.fillRect(x - size / 2, y - size / 2, size, size);
  }
  pen.font = `bold ${side < 500 ? 12 : 15}px "DejaVu Sans", Verdana, system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.lineJoin = "round";
  for (const [label, at] of Object.entries(dots.headings)) {
    if (!boxes[label].checked) continue;
    const [x, y] = place(...at), half = pen.measureText(dots.names[label]).width / 2 + 4;
    const across = view.zoom > 1 ? x : Math.min(Math.max(x, half), side - half);
    pen.strokeStyle = "#ffffffd0";
    pen.lineWidth = 4;
    pen.strokeText(dots.names[label], across, y);
    pen.fillStyle = "#1f2328";
    pen.fillText(dots.names[label], across, y);
  }
  if (chosen < 0) return;
  for (const [colour, width] of [["#fff", 5], ["#000", 2]]) {
    pen.beginPath();
    pen.arc(...dot(chosen), 9, 0, 7);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke();
  }
}

function filter() {
  const asked = boxes.map((box) => box.checked), wrong = find("wrong") && find("wrong").checked;
  drawn = [...dots.x.keys()].filter((i) => asked[dots.label[i]] && !(wrong && dots.named[i] === dots.label[i]));
  if (!drawn.includes(chosen)) chosen = -1;
  find("count").textContent = `${drawn.length.toLocaleString("en")} of ${dots.x.length.toLocaleString("en")} images`;
  choose(chosen);
}

function choose(i) {
  chosen = i;
  const garment = find("garment").getContext("2d");
  garment.clearRect(0, 0, TILE, TILE);
  let words = "No image is chosen.";
  if (i >= 0) {
    const left = (i % dots.columns) * TILE, top = Math.floor(i / dots.columns) * TILE;
    garment.drawImage(find("sprite"), left, top, TILE, TILE, 0, 0, TILE, TILE);
    words = `${dots.names[dots.label[i]]}\ntest image ${dots.number[i]}`;
    const mark = dots.named[i] === dots.label[i] ? "✓" : "✗";
    if (find("wrong")) words += `\n${mark} named ${dots.names[dots.named[i]]}, ${dots.sure[i]}%`;
  }
  find("what").textContent = words;
  draw();
}

// The drawn dot with the least distance; `far` gives it from how far the dot lies to the right and below.
function nearest(x, y, far, least = Infinity) {
  let best = -1;
  for (const i of drawn) {
    const [u, v] = dot(i), distance = far(u - x, v - y);
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
}

function zoom(factor, x = map.clientWidth / 2, y = map.clientWidth / 2) {
  const before = view.zoom;
  view.zoom = Math.min(Math.max(before * factor, 1), 16);
  const gained = (1 / before - 1 / view.zoom) / map.clientWidth;
  move(x * gained, y * gained);
  map.style.touchAction = view.zoom > 1 ? "none" : "auto"; // so that a finger moves the map, else the page
}

function move(x, y) {
  const most = 1 - 1 / view.zoom;
  view.x = Math.min(Math.max(view.x + x, 0), most);
  view.y = Math.min(Math.max(view.y + y, 0), most);
  draw();
}

function point(event) {
  const i = nearest(event.offsetX, event.offsetY, Math.hypot, REACH);
  if (i >= 0 && i !== chosen) choose(i);
}

map.addEventListener("pointerdown", (event) => {
  held = { x: event.offsetX, y: event.offsetY };
  point(event);
});
map.addEventListener("pointermove", (event) => {
  if (!held || view.zoom === 1) return point(event);
  const scale = view.zoom * map.clientWidth;
  move((held.x - event.offsetX) / scale, (held.y - event.offsetY) / scale);
  held = { x: event.offsetX, y: event.offsetY };
});
for (const end of ["pointerup", "pointercancel", "pointerleave"]) map.addEventListener(end, () => (held = null));
map.addEventListener(
  "wheel",
  (event) => {
    if (!event.ctrlKey) return; // a pinch; the plain wheel scrolls the page
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 100), event.offsetX, event.offsetY);
  },
  { passive: false },
);
map.addEventListener("keydown", (event) => {
  const [right, down] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key] || [0, 0];
  if (!right && !down) return;
  event.preventDefault();
  const [x, y] = chosen < 0 ? [map.clientWidth / 2, map.clientWidth / 2] : dot(chosen);
  const next = nearest(x, y, (u, v) => {
    const ahead = u * right + v * down, aside = Math.abs(u * down) + Math.abs(v * right);
    return ahead > 0 && aside <= ahead ? ahead + aside : Infinity;
  });
  if (next >= 0) choose(next);
});
for (const box of [...boxes, find("wrong")]) if (box) box.addEventListener("change", filter);
for (const [id, asked] of [["all", true], ["none", false]])
  find(id).addEventListener("click", () => {
    for (const box of boxes) box.checked = asked;
    filter();
  });
find("closer").addEventListener("click", () => zoom(1.6, ...(chosen < 0 ? [] : dot(chosen))));
find("farther").addEventListener("click", () => zoom(1 / 1.6));
find("whole").addEventListener("click", () => zoom(0));
window.addEventListener("resize", draw);
find("sprite").decode().then(filter, filter);
