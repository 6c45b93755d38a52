// The page: which angle is shown, where the cursor is, and what follows from both.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("numbers").textContent);
const store = new Store(data.arrays);
const { angles, dt, frames } = data;
const state = { angle: 0, i: 0, j: 0, step: 0 };

const minus = (a, b) => a.map((value, k) => value - b[k]);
const plus = (a, b) => a.map((value, k) => value + b[k]);
const times = (a, factor) => a.map((value) => value * factor);
const degrees = (phi) => `${shown(phi, 5)}°`;

// ---- One angle: pixels, their times, and cuts through them -------------------------------------

const matrix = (angle, name) => store.square(angle[name], angle.side);

// Values of one pixel, t1 ≤ t2.
function pixel(angle, i, j) {
  [i, j] = [Math.min(i, j), Math.max(i, j)];
  const [t1, t2] = centre(angle, i, j, data);
  const of = (name) => matrix(angle, name)[i * angle.side + j];
  const count = of("count");
  return {
    i, j, t1, t2, lag: t2 - t1, age: (t1 + t2) / 2, count, data: of("data"), fit: of("fit"),
    residual: of("residual"), band: of("band"), error: count > 0 ? data.noise / Math.sqrt(count) : NaN,
  };
}

const cut = (angle, equal) =>
  pixelsAlong(equal, state.i, state.j, angle.side).map(([i, j]) => pixel(angle, i, j));

const column = (rows, name) => rows.map((row) => row[name]);

// ---- The fit moved along the weakest direction --------------------------------------------------

// c2 of the model at position `step` of the slider.
function movedModel(angle, number, step, t1, t2) {
  const { move, model } = data;
  const [at, n] = [store.get(move.time), store.get(move.time).length];
  const difference = (key) => {
    const curve = store.get(move.integrals[key]).subarray(step * n, (step + 1) * n);
    return between(at, curve, t2) - between(at, curve, t1);
  };
  let f = Math.exp(-(angle.q ** 2) * difference("J"));
  if (data.flow) {
    const cosine = Math.cos(((move.phi0[step] - angle.phi) * Math.PI) / 180);
    const x = model.phase_per_gap * angle.q * model.gap * cosine * difference("gamma_dot");
    if (Math.abs(x) > 1e-6) f *= (Math.sin(x) / x) ** model.sinc_power;
  }
  const s = move.steps[step];
  const [contrast, offset] = ["contrast", "offset"].map((k) => angle[k].value + s * move[k][number]);
  return offset + contrast * f;
}

// Linear interpolation of y at x0.
function between(x, y, x0) {
  let k = 1;
  while (k < x.length - 1 && x[k] < x0) k++;
  return y[k - 1] + ((x0 - x[k - 1]) / (x[k] - x[k - 1])) * (y[k] - y[k - 1]);
}

const middleStep = () => data.move.steps.findIndex((s) => Math.abs(s) < 1e-9);

// What the move adds to the fit at some pairs of times.
function shift(angle, number, pairsOfTimes) {
  const zero = middleStep();
  return pairsOfTimes.map(
    ([t1, t2]) => movedModel(angle, number, state.step, t1, t2) - movedModel(angle, number, zero, t1, t2),
  );
}

const isMoved = () => data.move !== null && state.step !== middleStep();

// ---- Matrices and their strip -------------------------------------------------------------------

const panels = Object.fromEntries(
  ["data", "fit", "residual"].map((name) => [
    name,
    new MatrixPanel($(`panel-${name}`), $(`panel-${name}`).dataset.name, { frames, dt, move: moveCursor }),
  ]),
);

function showMatrices() {
  const angle = angles[state.angle];
  const of = (one) => ["data", "fit"].map((name) => store.range(one[name]));
  const range = chosenColours((all) => (all ? angles.flatMap(of) : of(angle)));
  const limit = Number($("sigmas").value);
  panels.data.show(matrix(angle, "data"), angle, range);
  panels.fit.show(matrix(angle, "fit"), angle, range);
  panels.residual.show(matrix(angle, "residual"), angle, { low: -limit, high: limit, colours: "residual" });
}

const strip = new Strip($("strip"), {
  names: angles.map((angle) => `φ = ${degrees(angle.phi)}, residuals ${shown(angle.rms, 3)} σ`),
  labels: angles.map((angle) => degrees(angle.phi)),
  choose,
  paint: (canvas, k) => {
    const what = $("strip-shows").value;
    const limit = Number($("sigmas").value);
    const angle = angles[k];
    const [low, high] = what === "residual" ? [-limit, limit] : store.range(angle[what]);
    const colours = COLOURS[what === "residual" ? what : "c2"];
    paint(canvas, matrix(angle, what), angle.side, low, high, colours);
  },
});

function choose(k) {
  const before = angles[state.angle];
  state.angle = (k + angles.length) % angles.length;
  const angle = angles[state.angle];
  const moved = (n) => Math.min(angle.side - 1, Math.floor((n * before.block) / angle.block));
  Object.assign(state, { i: moved(state.i), j: moved(state.j) });
  strip.mark(state.angle);
  $("angle-name").textContent =
    `φ = ${degrees(angle.phi)}` + (data.several_q ? `, q = ${shown(angle.q, 5)} Å⁻¹` : "");
  $("angle-facts").textContent =
    `contrast ${withError(angle.contrast.value, angle.contrast.stderr)}, ` +
    `offset ${withError(angle.offset.value, angle.offset.stderr)}, residuals ${shown(angle.rms, 3)} σ`;
  $("block").textContent = angle.block === 1 ? "one point" : `the mean over ${angle.block} × ${angle.block} frames`;
  showMatrices();
  showMeanCut();
  showResiduals();
  showCursor();
  scaling.forEach((chart) => chart.move(state.angle));
}

// ---- The cursor -----------------------------------------------------------------------------------

function moveCursor(i, j) {
  Object.assign(state, { i, j });
  showCursor();
}

function showCursor() {
  const angle = angles[state.angle];
  const p = pixel(angle, state.i, state.j);
  for (const panel of Object.values(panels)) panel.mark(state.i, state.j);
  const say = (id, text) => ($(id).textContent = text);
  say("at-t1", `${shown(p.t1)} s`);
  say("at-t2", `${shown(p.t2)} s`);
  say("at-lag", `${shown(p.lag)} s`);
  say("at-age", `${shown(p.age)} s`);
  say("at-c2", Number.isNaN(p.data) ? "missing" : withError(p.data, p.error));
  say("at-fit", p.band > 0 ? withError(p.fit, p.band) : shown(p.fit, 6));
  say("at-residual", Number.isNaN(p.residual) ? "–" : `${p.residual > 0 ? "+" : ""}${p.residual.toFixed(2).replace("-", "−")} σ`);
  showCut("age", cutAtAge, `fixed age ${shown(p.age, 3)} s`, "lag", "lag t₂ − t₁ (s)");
  showCut("lag", cutAtLag, `fixed lag ${shown(p.lag, 3)} s`, "age", "age (t₁ + t₂)/2 (s)");
}

keysOfMatrices(document.querySelector(".panels"), () => ({ ...state, side: angles[state.angle].side }), {
  move: moveCursor,
  turn: (step) => choose(state.angle + step),
});

// ---- Cuts -----------------------------------------------------------------------------------------

const shownCuts = { age: [], lag: [] };

function cutChart(id, equal, place) {
  return new Chart($(id), {
    name: $(id).dataset.name,
    home: () => shownCuts[equal].findIndex((p) => p.i === Math.min(state.i, state.j) && p.j === Math.max(state.i, state.j)),
    tell: (k) => {
      const p = shownCuts[equal][k];
      if (!p) return "";
      return `${place} ${shown(p[place])} s: c2 ${Number.isNaN(p.data) ? "missing" : withError(p.data, p.error)}, fit ${shown(p.fit, 5)}`;
    },
    pick: (k) => moveCursor(shownCuts[equal][k].i, shownCuts[equal][k].j),
  });
}

const cutAtAge = cutChart("cut-age", "age", "lag");
const cutAtLag = cutChart("cut-lag", "lag", "age");

function showCut(equal, chart, title, place, axis) {
  const angle = angles[state.angle];
  const rows = cut(angle, equal);
  shownCuts[equal] = rows;
  const x = column(rows, place);
  const [measured, fit, band, error] = ["data", "fit", "band", "error"].map((name) => column(rows, name));
  const logarithmic = equal === "age" && $("lag-axis").value === "log" && x.length > 2;
  const series = [
    { type: "points", kind: "c0", x, y: measured, error, label: "data" },
    { type: "band", kind: "c1", x, low: minus(fit, band), high: plus(fit, band) },
    { type: "line", kind: "c1", x, y: fit, label: "fit" },
  ];
  if (isMoved()) {
    const y = plus(fit, shift(angle, state.angle, rows.map((p) => [p.t1, p.t2])));
    series.push({ type: "line", kind: "moved", x, y, label: "moved" });
  }
  chart.host.previousElementSibling.textContent = `At ${title}`;
  chart.set({
    x: axisAround(axis, [x], { log: logarithmic }),
    y: axisAround("c₂", [fit, trimmed(measured)]),
    series,
    samples: x,
    summary: `At ${title}, φ = ${degrees(angle.phi)}.`,
  });
}

// Without the few values that would hide all others.
function trimmed(values) {
  const [low, high] = [quantile(Float32Array.from(values), 0.02), quantile(Float32Array.from(values), 0.98)];
  return values.filter((value) => value >= low && value <= high);
}

const meanCut = new Chart($("cut-mean"), {
  name: $("cut-mean").dataset.name,
  height: 280,
  hint: "",
  tell: (k) =>
    angles[state.angle].cuts
      .map((one) => {
        const [value, fit, error] = ["data", "fit", "error"].map((name) => store.get(one[name])[k]);
        return value === undefined ? "" : `${span(one)}: ${withError(value, error)}, fit ${shown(fit, 5)}`;
      })
      .filter(Boolean)
      .map((text, n) => (n ? text : `lag ${shown(store.get(angles[state.angle].cuts[0].lag)[k], 3)} s; ages ${text}`))
      .join("; "),
});

const span = (one) => `${shown(one.begin, 3)}–${shown(one.end, 3)} s`;

function showMeanCut() {
  const angle = angles[state.angle];
  const get = (one, name) => Array.from(store.get(one[name]));
  const series = angle.cuts.flatMap((one, n) => {
    const [x, y, fit, error, band] = ["lag", "data", "fit", "error", "band"].map((name) => get(one, name));
    const kind = ["early", "middle", "late"][n];
    const drawn = [
      { type: "points", kind, x, y, error, label: `age ${span(one)}` },
      { type: "band", kind, x, low: minus(fit, band), high: plus(fit, band) },
      { type: "line", kind, x, y: fit },
    ];
    if (isMoved()) {
      const age = (one.begin + one.end) / 2;
      const pairsOfTimes = x.map((lag) => [Math.max(0, age - lag / 2), Math.min((frames - 1) * dt, age + lag / 2)]);
      drawn.push({ type: "line", kind: "moved", x, y: plus(fit, shift(angle, state.angle, pairsOfTimes)) });
    }
    return drawn;
  });
  const all = (name) => angle.cuts.map((one) => get(one, name));
  const quiet = angle.cuts.map((one) => {
    const error = get(one, "error");
    const middle = quantile(Float32Array.from(error), 0.75);
    return get(one, "data").filter((_, k) => error[k] <= middle);
  });
  meanCut.set({
    x: axisAround("lag t₂ − t₁ (s)", all("lag"), { log: $("lag-axis").value === "log" }),
    y: axisAround("c₂, mean over ages", [...all("fit"), ...quiet]),
    series,
    samples: angle.cuts.length ? get(angle.cuts[0], "lag") : [],
    summary: `φ = ${degrees(angle.phi)}; the points are data, the lines the fit.`,
  });
}

// ---- Rates ----------------------------------------------------------------------------------------

const rateCharts = data.rates.map((rate) => {
  const [at, value, error] = ["time", "value", "error"].map((name) => store.get(rate[name]));
  const tell = (k) => {
    const known = rate.rivals.map((rival) => `${rival.label}: ${shown(store.get(rival.value)[k])}`);
    const text = `${rate.symbol} at ${shown(at[k])} s: ${withError(value[k], error[k])} ${rate.unit}`;
    const doubt = Number.isFinite(error[k]) ? [] : [data.success ? "no error known" : "not an answer"];
    return [text, ...doubt, ...known].join("; ");
  };
  return new Chart($(`rate-${rate.key}`), { name: $(`rate-${rate.key}`).dataset.name, tell, hint: "" });
});

function showRates() {
  data.rates.forEach((rate, n) => {
    const log = $("rate-axis").value === "log" || ($("rate-axis").value === "auto" && rate.log);
    const from = log ? 1 : 0;
    const get = (number) => Array.from(store.get(number)).slice(from);
    const [x, y, error] = [get(rate.time), get(rate.value), get(rate.error)];
    const [low, high] = [minus(y, error), plus(y, error)];
    const floor = Math.min(...y.filter((v) => v > 0)) / 10;
    const series = [
      { type: "band", kind: "c1", x, low: log ? low.map((v) => Math.max(v, floor)) : low, high },
      ...rate.rivals.map((rival) => ({ type: "line", kind: "rival", x, y: get(rival.value), label: rival.label })),
      { type: "line", kind: "c1", x, y, label: `${rate.symbol}, 68 % band` },
    ];
    const shift = isMoved() && movedRate(rate.key);
    if (shift) series.push({ type: "line", kind: "moved", x: shift.x.slice(from), y: shift.y.slice(from), label: "moved" });
    // A band that is wide at a few times, or everywhere, does not hide the curve.
    const most = Math.max(...y.map(Math.abs));
    const bands = [
      Math.max(-most, quantile(Float32Array.from(low), 0.1)),
      Math.min(3 * most, quantile(Float32Array.from(high), 0.9)),
    ];
    rateCharts[n].set({
      x: axisAround("time (s)", [x], { log }),
      y: axisAround(`${rate.symbol}${rate.unit && ` (${rate.unit})`}`, [y, bands], { log, zero: true }),
      series,
      samples: x,
      summary: `${rate.symbol} goes from ${shown(y[0])} to ${shown(y.at(-1))} ${rate.unit}.`,
    });
  });
}

// A curve at the position of the slider; the strain is the integral of the shear rate.
function movedRate(key) {
  const { move } = data;
  const x = store.get(move.time);
  const curves = key === "strain" ? move.integrals.gamma_dot : move.rates[key];
  return { x: Array.from(x), y: Array.from(store.get(curves).subarray(state.step * x.length, (state.step + 1) * x.length)) };
}

// ---- The slider -----------------------------------------------------------------------------------

function showMove() {
  const { move } = data;
  const zero = middleStep();
  const rows = Object.entries(move.parameters).map(([name, { values, unit }]) => {
    const [now, fitted] = [values[state.step], values[zero]];
    return `<tr><th scope="row"><code>${name}</code></th><td>${shown(now, 4)} ${unit}</td><td>${now > fitted ? "+" : ""}${shown(now - fitted, 2)}</td></tr>`;
  });
  $("moved-parameters").innerHTML = rows.join("");
  const rise = move.rise[state.step];
  $("rise").textContent = `Δχ² = ${shown(rise, 2)}, ${shown(Math.sqrt(rise), 2)} standard errors`;
  $("move").setAttribute("aria-valuetext", $("rise").textContent);
  showRates();
  showMeanCut();
  showCursor();
}

// ---- Contrast and offset --------------------------------------------------------------------------

const scaling = angles.length < 2 ? [] : ["contrast", "offset"].map(
  (name) =>
    new Chart($(`scaling-${name}`), {
      name: $(`scaling-${name}`).dataset.name,
      height: 200,
      home: () => state.angle,
      tell: (k) => `φ = ${degrees(angles[k].phi)}: ${name} ${withError(angles[k][name].value, angles[k][name].stderr)}`,
      pick: choose,
    }),
);

function showScaling() {
  ["contrast", "offset"].forEach((name, n) => {
    if (!scaling[n]) return;
    const x = angles.map((angle) => angle.phi);
    const y = angles.map((angle) => angle[name].value);
    const error = angles.map((angle) => angle[name].stderr ?? NaN);
    const mean = y.reduce((a, b) => a + b) / y.length;
    const series = [{ type: "points", kind: "c0", x, y, error, label: name }];
    const spread = data.spread?.[name];
    if (spread > 0) {
      const ends = [Math.min(...x), Math.max(...x)];
      const at = (value) => ends.map(() => value);
      series.unshift({ type: "band", kind: "c1", x: ends, low: at(mean - spread), high: at(mean + spread) });
      series.push({ type: "level", kind: "c1", y: mean, label: `mean ± learned spread ${shown(spread, 2)}` });
    }
    scaling[n].set({
      x: axisAround("azimuthal angle φ (°)", [x]),
      y: axisAround(name, [minus(y, error.map((e) => e || 0)), plus(y, error.map((e) => e || 0)), spread > 0 ? [mean - spread, mean + spread] : []]),
      series,
      samples: x,
    });
  });
}

// ---- Residuals ------------------------------------------------------------------------------------

// A function of an angle whose values are kept.
function kept(compute) {
  const known = new Map();
  return (angle) => known.get(angle) ?? known.set(angle, compute(angle)).get(angle);
}

// Mean residual of an angle at each lag over its contrast, %, from the cuts of all ages.
const residualByLag = kept((angle) => {
  const sums = new Map();
  const contrast = Math.abs(angle.contrast.value) || 1;
  for (const one of angle.cuts) {
    const [lag, measured, fit, error] = ["lag", "data", "fit", "error"].map((name) => store.get(one[name]));
    lag.forEach((at, k) => {
      const weight = 1 / error[k] ** 2 || 1;
      const bin = Math.round(20 * Math.log(at / dt));
      const sum = sums.get(bin) ?? [0, 0, 0];
      sums.set(bin, [sum[0] + weight, sum[1] + weight * at, sum[2] + weight * (measured[k] - fit[k])]);
    });
  }
  const rows = [...sums.entries()].sort((a, b) => a[0] - b[0]).map(([, sum]) => sum);
  return {
    x: rows.map(([w, at]) => at / w),
    y: rows.map(([w, , r]) => (100 * r) / w / contrast),
    error: rows.map(([w]) => 100 / Math.sqrt(w) / contrast),
  };
});

const residualByAge = kept((angle) => {
  const [x, y, error] = angle.ages.map((number) => Array.from(store.get(number)));
  return { x, y: times(y, 100), error: times(error, 100) };
});

// Mean over the angles of the mean residual of each frame, %.
const framesOfAll = Array.from({ length: frames }, (_, k) => {
  const known = angles.map((one) => 100 * store.get(one.frames)[k]).filter(Number.isFinite);
  return known.length ? known.reduce((a, b) => a + b) / known.length : NaN;
});

// Points of all angles by residual.
const histogramOfAll = Array.from(store.get(angles[0].histogram), (_, k) =>
  angles.reduce((sum, angle) => sum + store.get(angle.histogram)[k], 0),
);

const byFrame = (angle) => ({
  x: Array.from({ length: frames }, (_, k) => k * dt),
  y: times(Array.from(store.get(angle.frames)), 100),
});

function byHistogram() {
  const bins = store.get(angles[0].histogram).length - 2;
  const width = (2 * data.histogram_range) / bins;
  const x = Array.from({ length: bins + 2 }, (_, k) => -data.histogram_range + (k - 0.5) * width);
  const one = Array.from(store.get(angles[state.angle].histogram));
  const total = (list) => list.reduce((a, b) => a + b, 0) * width;
  const normal = x.map((v) => Math.exp(-(v ** 2) / 2) / Math.sqrt(2 * Math.PI));
  return { x, one: times(one, 1 / total(one)), all: times(histogramOfAll, 1 / total(histogramOfAll)), normal };
}

const per = "% of the contrast";
const residualCharts = {
  lag: residualChart("lag", (p, k) => `lag ${shown(p.x[k], 3)} s: ${withError(p.y[k], p.error[k])} ${per}`),
  age: residualChart("age", (p, k) => `age ${shown(p.x[k], 3)} s: ${withError(p.y[k], p.error[k])} ${per}`),
  frame: residualChart("frame", (p, k) => `frame ${k + 1} at ${shown(p.x[k])} s: ${shown(p.y[k], 3)} ${per}`),
  angle: residualChart("angle", (p, k) => `φ = ${degrees(p.x[k])}: ${shown(p.y[k], 4)} σ`, choose),
  histogram: residualChart("histogram", (p, k) => `residual ${shown(p.x[k], 3)} σ: density ${shown(p.y[k], 3)} at this angle, ${shown(p.all[k], 3)} over all, normal ${shown(p.normal[k], 3)}`),
};

function residualChart(what, tell, pick) {
  const host = $(`residual-${what}`);
  if (!host) return null;
  const chart = new Chart(host, { name: host.dataset.name, height: 210, tell: (k) => tell(chart.points, k), pick });
  return chart;
}

function showResiduals() {
  const angle = angles[state.angle];
  const here = `φ = ${degrees(angle.phi)}`;
  const zero = { type: "level", kind: "zero", y: 0 };
  const several = angles.length > 1;
  const draw = (what, points, x, y, series) => {
    residualCharts[what].points = points;
    residualCharts[what].set({ x, y, series, samples: points.x });
  };
  for (const [what, of, title] of [["lag", residualByLag, "lag t₂ − t₁ (s)"], ["age", residualByAge, "age (t₁ + t₂)/2 (s)"]]) {
    const points = of(angle);
    const others = several ? angles.filter((one) => one !== angle).map(of) : [];
    const lists = [points, ...others].map((one) => one.y);
    draw(what, points,
      axisAround(title, [points.x], { log: what === "lag" && $("lag-axis").value === "log" }),
      axisAround("mean residual (%)", [[0], ...lists.map(trimmed)]),
      [zero, ...others.map((one, k) => ({ type: "line", kind: "faint", ...one, label: k ? "" : "other angles" })),
        { type: "points", kind: "c0", ...points, label: here }]);
  }
  const framewise = byFrame(angle);
  draw("frame", framewise, axisAround("time of the frame (s)", [framewise.x]),
    axisAround("mean residual (%)", [[0], trimmed(framewise.y), several ? framesOfAll : framewise.y]),
    [zero, { type: "line", kind: "faint", ...framewise, label: here },
      ...(several ? [{ type: "line", kind: "c1", x: framewise.x, y: framesOfAll, label: "mean of all angles" }] : [])]);
  const histogram = byHistogram();
  draw("histogram", { ...histogram, y: histogram.one }, axisAround("residual of a point (σ)", [histogram.x]),
    axisAround("density", [[0, 0.42], histogram.all, histogram.one], { zero: true }),
    [{ type: "bars", kind: "c0", x: histogram.x, y: histogram.all, label: several ? "all angles" : "data" },
      { type: "line", kind: "c1", x: histogram.x, y: histogram.normal, label: "normal" },
      ...(several ? [{ type: "line", kind: "late", x: histogram.x, y: histogram.one, label: here }] : [])]);
  if (residualCharts.angle) {
    const points = { x: angles.map((one) => one.phi), y: angles.map((one) => one.rms) };
    draw("angle", points, axisAround("azimuthal angle φ (°)", [points.x]),
      axisAround("root mean square (σ)", [[0.9, 1.1], points.y]),
      [{ type: "level", kind: "zero", y: 1 }, { type: "points", kind: "c0", ...points }]);
    residualCharts.angle.move(state.angle);
  }
}

// ---- Start ----------------------------------------------------------------------------------------

for (const section of document.querySelectorAll("[data-script]")) section.hidden = false;
// The curves can be pointed at now; the still picture says no more.
$("static").hidden = true;
onColours(showMatrices);
$("sigmas").addEventListener("change", () => (showMatrices(), strip.draw()));
$("strip-shows").addEventListener("change", () => strip.draw());
$("lag-axis").addEventListener("change", () => (showMeanCut(), showCursor(), showResiduals()));
$("rate-axis").addEventListener("change", showRates);
if (data.move) {
  $("move").max = data.move.steps.length - 1;
  $("move").value = state.step = middleStep();
  $("move").addEventListener("input", () => ((state.step = Number($("move").value)), showMove()));
  $("move-back").addEventListener("click", () => (($("move").value = state.step = middleStep()), showMove()));
}
Object.assign(state, firstPixel(angles[0].side));
strip.draw();
showScaling();
choose(Number(document.body.dataset.first));
if (data.move) showMove();
else showRates();
document.documentElement.dataset.ready = "yes";
