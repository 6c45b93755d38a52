// The page that compares fits: their rates, and what they are at the time under the pointer.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("numbers").textContent);
const store = new Store(data.arrays);
const list = (number) => Array.from(store.get(number));

// The value of a curve at a time, NaN beyond its ends.
function valueAt(curve, time, name) {
  const x = store.get(curve.time);
  if (time < x[0] || time > x.at(-1)) return NaN;
  let k = 1;
  while (k < x.length - 1 && x[k] < time) k++;
  const y = store.get(curve[name]);
  return y[k - 1] + ((time - x[k - 1]) / (x[k] - x[k - 1])) * (y[k] - y[k - 1]);
}

const charts = data.rates.map((rate) => {
  const chart = new Chart($(`rate-${rate.key}`), {
    name: $(`rate-${rate.key}`).dataset.name,
    height: 320,
    tell: (k) => {
      const time = chart.times[k];
      const told = rate.curves.map((curve) => {
        const [value, error] = ["value", "error"].map((name) => valueAt(curve, time, name));
        return Number.isNaN(value) ? "" : `${curve.label}: ${withError(value, error)}`;
      });
      return `${rate.symbol} at ${shown(time)} s: ${told.filter(Boolean).join("; ")} ${rate.unit}`;
    },
  });
  return chart;
});

function show() {
  data.rates.forEach((rate, n) => {
    const choice = $("rate-axis").value;
    const log = choice === "log" || (choice === "auto" && rate.log);
    const curves = rate.curves.map((curve) => {
      const [x, y, error] = ["time", "value", "error"].map((name) => list(curve[name]).slice(log ? 1 : 0));
      const ends = [y.map((v, k) => v - error[k]), y.map((v, k) => v + error[k])];
      const floor = Math.min(...y.filter((v) => v > 0)) / 10;
      return { ...curve, x, y, low: log ? ends[0].map((v) => Math.max(v, floor)) : ends[0], high: ends[1] };
    });
    const times = [...new Set(curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);
    charts[n].times = times;
    // A band that is wide at a few times, or everywhere, does not hide the curves.
    const most = Math.max(...curves.flatMap((curve) => curve.y.map(Math.abs)));
    const bands = curves.flatMap(({ low, high }) => [
      Math.max(-most, quantile(Float32Array.from(low), 0.1)),
      Math.min(2 * most, quantile(Float32Array.from(high), 0.9)),
    ]);
    charts[n].set({
      x: axisAround("time (s)", [times], { log }),
      y: axisAround(`${rate.symbol} (${rate.unit})`, [...curves.map((curve) => curve.y), bands], { log, zero: true }),
      series: curves.flatMap(({ kind, x, y, low, high, label }) => [
        { type: "band", kind, x, low, high },
        { type: "line", kind, x, y, label: label.replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`) },
      ]),
      samples: times,
    });
  });
}

for (const section of document.querySelectorAll("[data-script]")) section.hidden = false;
$("static").hidden = true;
$("rate-axis").addEventListener("change", show);
show();
document.documentElement.dataset.ready = "yes";
