// The page about a file: which matrix is shown, where the cursor is, and what follows from both.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("numbers").textContent);
const store = new Store(data.arrays);
const { matrices, dt, unit, frames } = data;
const state = { matrix: 0, i: 0, j: 0 };
const shownCuts = { age: [], lag: [] };

const here = () => matrices[state.matrix];
const square = (one, name) => store.square(one[name], one.side);
const time = (seconds) => `${shown(seconds)} ${unit}`;

function pixel(one, i, j) {
  [i, j] = [Math.min(i, j), Math.max(i, j)];
  const [t1, t2] = centre(one, i, j, data);
  const at = i * one.side + j;
  return { i, j, t1, t2, lag: t2 - t1, age: (t1 + t2) / 2, c2: square(one, "data")[at], error: error(one, t2 - t1, square(one, "count")[at]) };
}

// Noise of a point at the nearest lag of which it is known, over the root of the number of points.
function error(one, lag, count) {
  const [lags, noise] = [store.get(one.noise_lags), store.get(one.noise)];
  let best = NaN;
  let distance = Infinity;
  lags.forEach((known, k) => {
    const apart = Math.abs(Math.log((known * dt) / lag));
    if (apart < distance && Number.isFinite(noise[k])) [best, distance] = [noise[k], apart];
  });
  return count > 0 ? best / Math.sqrt(count) : NaN;
}

// ---- Matrix and cursor ----------------------------------------------------------------------------

const panel = new MatrixPanel($("panel-data"), $("panel-data").dataset.name, { frames, dt, unit, move: moveCursor });

const strip = new Strip($("strip"), {
  names: matrices.map((one) => one.name),
  labels: matrices.map((one) => one.label),
  choose,
  paint: (canvas, k) => paint(canvas, square(matrices[k], "data"), matrices[k].side, ...store.range(matrices[k].data), COLOURS.c2),
});

function showMatrix() {
  const range = chosenColours((all) => (all ? matrices : [here()]).map((one) => store.range(one.data)));
  panel.show(square(here(), "data"), here(), range);
}

function choose(k) {
  state.matrix = (k + matrices.length) % matrices.length;
  const one = here();
  strip.mark(state.matrix);
  $("matrix-name").textContent = one.name;
  $("matrix-facts").textContent = `contrast ${shown(one.contrast, 3)}, offset ${shown(one.offset, 4)}`;
  $("block").textContent = one.block === 1 ? "one point" : `the mean over ${one.block} × ${one.block} frames`;
  showMatrix();
  showMean();
  showLevels();
  showCursor();
  scaling.forEach((chart) => chart.move(state.matrix));
}

function moveCursor(i, j) {
  Object.assign(state, { i, j });
  showCursor();
}

function showCursor() {
  const p = pixel(here(), state.i, state.j);
  panel.mark(state.i, state.j);
  for (const name of ["t1", "t2", "lag", "age"]) $(`at-${name}`).textContent = time(p[name]);
  $("at-c2").textContent = Number.isNaN(p.c2) ? "missing" : withError(p.c2, p.error);
  showCut("age", cutAtAge, `fixed age ${time(p.age)}`, "lag", `lag t₂ − t₁ (${unit})`);
  showCut("lag", cutAtLag, `fixed lag ${time(p.lag)}`, "age", `age (t₁ + t₂)/2 (${unit})`);
}

keysOfMatrices(document.querySelector(".panels"), () => ({ ...state, side: here().side }), {
  move: moveCursor,
  turn: (step) => choose(state.matrix + step),
});

// ---- Curves ---------------------------------------------------------------------------------------

function cutChart(id, equal, place) {
  return new Chart($(id), {
    name: $(id).dataset.name,
    height: 200,
    home: () => shownCuts[equal].findIndex((p) => p.i === Math.min(state.i, state.j) && p.j === Math.max(state.i, state.j)),
    tell: (k) => {
      const p = shownCuts[equal][k];
      return p ? `${place} ${time(p[place])}: c2 ${Number.isNaN(p.c2) ? "missing" : withError(p.c2, p.error)}` : "";
    },
    pick: (k) => moveCursor(shownCuts[equal][k].i, shownCuts[equal][k].j),
  });
}

const cutAtAge = cutChart("cut-age", "age", "lag");
const cutAtLag = cutChart("cut-lag", "lag", "age");

function showCut(equal, chart, title, place, axis) {
  const rows = pixelsAlong(equal, state.i, state.j, here().side).map(([i, j]) => pixel(here(), i, j));
  shownCuts[equal] = rows;
  const [x, y, errors] = [place, "c2", "error"].map((name) => rows.map((row) => row[name]));
  const log = equal === "age" && $("lag-axis").value === "log" && x.length > 2;
  chart.host.previousElementSibling.textContent = `At ${title}`;
  chart.set({
    x: axisAround(axis, [x], { log }),
    y: axisAround("c₂", [y]),
    series: [{ type: "points", kind: "c0", x, y, error: errors }],
    samples: x,
  });
}

const meanChart = new Chart($("cut-mean"), {
  name: $("cut-mean").dataset.name,
  height: 200,
  tell: (k) => `lag ${time(store.get(here().lags)[k] * dt)}: c2 ${shown(store.get(here().means)[k], 5)}`,
});

function showMean() {
  const x = Array.from(store.get(here().lags), (lag) => lag * dt);
  const y = Array.from(store.get(here().means));
  const others = matrices
    .filter((one) => one !== here() && one.q === here().q)
    .map((one) => ({ type: "line", kind: "faint", x: Array.from(store.get(one.lags), (lag) => lag * dt), y: Array.from(store.get(one.means)) }));
  if (others.length) others[0].label = "others of this q";
  meanChart.set({
    x: axisAround(`lag t₂ − t₁ (${unit})`, [x], { log: $("lag-axis").value === "log" }),
    y: axisAround("c₂", [y, ...others.map((one) => one.y)]),
    series: [...others, { type: "line", kind: "c1", x, y }, { type: "points", kind: "c1", x, y }],
    samples: x,
  });
}

const levelChart = new Chart($("levels"), {
  name: $("levels").dataset.name,
  height: 200,
  tell: (k) => `frame ${k + 1}: ${shown(store.get(here().levels)[k], 3)}${here().marked.includes(k + 1) ? ", see the notes" : ""}`,
});

function showLevels() {
  const y = Array.from(store.get(here().levels));
  const x = y.map((_, k) => k + 1);
  const marked = here().marked.map((frame) => frame - 1);
  levelChart.set({
    x: axisAround("frame", [x]),
    y: axisAround("level", [y]),
    series: [
      { type: "line", kind: "c0", x, y },
      { type: "points", kind: "moved", x: marked.map((k) => x[k]), y: marked.map((k) => (Number.isFinite(y[k]) ? y[k] : 0)), label: marked.length ? "in the notes" : "" },
    ],
    samples: x,
  });
}

const scaling = matrices.length < 2 ? [] : ["contrast", "offset"].map(
  (name) =>
    new Chart($(`scaling-${name}`), {
      name: $(`scaling-${name}`).dataset.name,
      height: 200,
      home: () => state.matrix,
      tell: (k) => `${matrices[k].name}: ${name} ${shown(matrices[k][name], 4)}`,
      pick: choose,
    }),
);

function showScaling() {
  const known = matrices.every((one) => one.phi !== null);
  const x = matrices.map((one, k) => (known ? one.phi : k + 1));
  ["contrast", "offset"].forEach((name, n) => {
    const y = matrices.map((one) => one[name] ?? NaN);
    scaling[n]?.set({
      x: axisAround(known ? "azimuthal angle φ (°)" : "matrix", [x]),
      y: axisAround(name, [y]),
      series: [{ type: "points", kind: "c0", x, y }],
      samples: x,
    });
  });
}

// ---- Start ----------------------------------------------------------------------------------------

for (const section of document.querySelectorAll("[data-script]")) section.hidden = false;
onColours(showMatrix);
$("lag-axis").addEventListener("change", () => (showMean(), showCursor()));
Object.assign(state, firstPixel(here().side));
strip.draw();
showScaling();
choose(Number(document.body.dataset.first));
document.documentElement.dataset.ready = "yes";
