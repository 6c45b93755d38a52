// Charts as SVG: curves, bands, points with error bars and bars over common axes; what is under the
// pointer, the finger or the arrow keys is told below.

const MARGIN = { left: 62, right: 12, top: 10, bottom: 40 };

class Axis {
  constructor(title, low, high, log = false) {
    Object.assign(this, { title, log });
    if (!(high > low)) [low, high] = [low - (Math.abs(low) || 1) / 2, low + (Math.abs(low) || 1) / 2];
    Object.assign(this, { low, high });
  }

  // 0 to 1 along the axis.
  share(value) {
    if (!this.log) return (value - this.low) / (this.high - this.low);
    return Math.log(Math.max(value, 1e-300) / this.low) / Math.log(this.high / this.low);
  }

  // The value at a share of the axis.
  value(share) {
    if (!this.log) return this.low + share * (this.high - this.low);
    return this.low * (this.high / this.low) ** share;
  }

  // The power of ten that its numbers are multiples of where they are very large or small.
  get order() {
    const order = Math.floor(Math.log10(Math.max(Math.abs(this.low), Math.abs(this.high))));
    return this.log || (order >= -2 && order < 5) ? 0 : order;
  }

  // Round numbers, about as many as asked for.
  ticks(count) {
    const values = [];
    if (this.log) {
      const steps = this.high / this.low > 200 ? [1] : [1, 2, 5];
      const last = Math.ceil(Math.log10(this.high));
      for (let decade = Math.floor(Math.log10(this.low)); decade <= last; decade++) {
        for (const step of steps) values.push(Number(`${step}e${decade}`));
      }
      return values.filter((v) => v >= this.low * 0.999 && v <= this.high * 1.001);
    }
    const raw = (this.high - this.low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((s) => raw <= 1.0001 * s * power);
    const end = Math.floor(this.high / step + 1e-9);
    for (let k = Math.ceil(this.low / step - 1e-9); k <= end; k++) values.push(k * step);
    return values;
  }
}

const pairs = (points) => points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join("L");

class Chart {
  // options: name for those who hear the page; height; tell(k), text of sample k; pick(k), what a
  // click or an arrow key does beyond that.
  constructor(host, options) {
    Object.assign(this, { host, options, at: -1, parts: null, width: 0 });
    host.innerHTML =
      '<svg tabindex="0" role="img"></svg><p class="legend"></p><p class="readout" aria-live="polite"></p>';
    [this.svg, this.legend, this.readout] = host.children;
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerdown", (event) => this.point(event, true));
    this.svg.addEventListener("pointerleave", () => this.move(this.options.home?.() ?? -1));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    // Asking for the width each time would lay out the page each time.
    new ResizeObserver(([entry]) => {
      this.width = Math.max(200, Math.round(entry.contentRect.width));
      this.draw();
    }).observe(host);
  }

  // x, y: axes. series: what is drawn. samples: places on the x axis where tell() has something.
  set(parts) {
    this.parts = parts;
    this.at = Math.min(this.at, parts.samples.length - 1);
    if (this.options.home) this.at = this.options.home();
    this.draw();
    this.tell();
  }

  get height() {
    return this.options.height ?? 240;
  }

  x(value) {
    const inner = this.width - MARGIN.left - MARGIN.right;
    return MARGIN.left + Math.min(1.02, Math.max(-0.02, this.parts.x.share(value))) * inner;
  }

  y(value) {
    const inner = this.height - MARGIN.top - MARGIN.bottom;
    return MARGIN.top + (1 - Math.min(1, Math.max(0, this.parts.y.share(value)))) * inner;
  }

  draw() {
    if (!this.parts || !this.width) return;
    const { series } = this.parts;
    const label = `${this.options.name}. ${this.parts.summary ?? ""}`;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.setAttribute("aria-label", `${label} Arrow keys tell the values.`);
    this.svg.innerHTML =
      this.axes() + series.map((one) => this.one(one)).join("") + '<g class="cursor"></g>';
    this.legend.innerHTML = series
      .filter((one) => one.label)
      .map((one) => `<span class="${one.kind}">${one.label}</span>`)
      .join("");
    this.mark();
  }

  axes() {
    const { x, y } = this.parts;
    const [foot, end] = [this.height - MARGIN.bottom, this.width - MARGIN.right];
    const text = (a, b, anchor, content, more = "") =>
      `<text x="${a.toFixed(1)}" y="${b.toFixed(1)}" text-anchor="${anchor}" ${more}>${content}</text>`;
    let out = "";
    let free = -Infinity;
    for (const value of x.ticks(Math.max(3, this.width / 90))) {
      const a = this.x(value);
      out += `<path class="grid" d="M${a},${MARGIN.top}V${foot}"/>`;
      if (a > free) out += text(a, foot + 15, "middle", shown(value, 4));
      if (a > free) free = a + 34;
    }
    const order = y.order;
    for (const value of y.ticks(5)) {
      const b = this.y(value);
      out += `<path class="grid" d="M${MARGIN.left},${b}H${end}"/>`;
      out += text(MARGIN.left - 5, b + 4, "end", shown(value / 10 ** order, 4));
    }
    const title = order ? `${y.title}, times 10${superscript(order)}` : y.title;
    const middle = (MARGIN.top + foot) / 2;
    return (
      `${out}<path class="axis" d="M${MARGIN.left},${MARGIN.top}V${foot}H${end}"/>` +
      text((MARGIN.left + end) / 2, this.height - 7, "middle", x.title) +
      text(12, middle, "middle", title, `transform="rotate(-90 12 ${middle})"`)
    );
  }

  one({ type, kind, x, y, error, low, high }) {
    if (type === "level") {
      const b = this.y(y);
      return `<path class="level ${kind}" d="M${MARGIN.left},${b}H${this.width - MARGIN.right}"/>`;
    }
    const inside = Array.from(x.keys()).filter(
      (k) => Number.isFinite((y ?? low)[k]) && x[k] >= this.parts.x.low && x[k] <= this.parts.x.high,
    );
    const at = (k, value) => [this.x(x[k]), this.y(value)];
    if (type === "band") {
      const known = inside.filter((k) => Number.isFinite(low[k]) && Number.isFinite(high[k]));
      if (known.length < 2) return "";
      const around = [...known.map((k) => at(k, high[k])), ...known.reverse().map((k) => at(k, low[k]))];
      return `<path class="band ${kind}" d="M${pairs(around)}Z"/>`;
    }
    if (type === "line") {
      return inside.length ? `<path class="line ${kind}" d="M${pairs(inside.map((k) => at(k, y[k])))}"/>` : "";
    }
    if (type === "bars") {
      const wide = ((this.width - MARGIN.left - MARGIN.right) / x.length) * 0.84;
      const foot = this.height - MARGIN.bottom;
      const bar = ([a, b]) =>
        `<rect x="${a - wide / 2}" y="${b}" width="${wide}" height="${Math.max(0, foot - b)}"/>`;
      return `<g class="bars ${kind}">${inside.map((k) => bar(at(k, y[k]))).join("")}</g>`;
    }
    const bars = inside
      .filter((k) => error && error[k] > 0 && Number.isFinite(error[k]))
      .map((k) => `M${this.x(x[k])},${this.y(y[k] - error[k])}V${this.y(y[k] + error[k])}`);
    const dots = inside.map((k) => {
      const [a, b] = at(k, y[k]);
      const open = error && !Number.isFinite(error[k]);
      return `<circle cx="${a.toFixed(1)}" cy="${b.toFixed(1)}" r="2.4"${open ? ' class="open"' : ""}/>`;
    });
    return `<path class="bar ${kind}" d="${bars.join("")}"/><g class="dot ${kind}">${dots.join("")}</g>`;
  }

  // The sample nearest to the pointer.
  point(event, picked = false) {
    if (!this.parts?.samples.length) return;
    const box = this.svg.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * this.width;
    let best = 0;
    this.parts.samples.forEach((value, k) => {
      if (Math.abs(this.x(value) - place) < Math.abs(this.x(this.parts.samples[best]) - place)) best = k;
    });
    this.move(best, picked);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    const last = (this.parts?.samples.length ?? 0) - 1;
    const end = { Home: 0, End: last }[event.key];
    if (step === undefined && end === undefined) return;
    event.preventDefault();
    this.move(end ?? Math.min(last, Math.max(0, (this.at < 0 ? -1 : this.at) + step)), true);
  }

  move(k, picked = false) {
    this.at = k;
    this.mark();
    this.tell();
    if (picked && k >= 0) this.options.pick?.(k);
  }

  mark() {
    const group = this.svg.querySelector(".cursor");
    if (!group) return;
    const value = this.parts.samples[this.at];
    const foot = this.height - MARGIN.bottom;
    group.innerHTML = value === undefined ? "" : `<path d="M${this.x(value)},${MARGIN.top}V${foot}"/>`;
  }

  tell() {
    this.readout.textContent = this.at >= 0 ? this.options.tell(this.at) : (this.options.hint ?? "");
  }
}

// An axis that holds all numbers of some lists, with a little room.
function axisAround(title, lists, { zero = false, log = false } = {}) {
  let [low, high] = [Infinity, -Infinity];
  for (const list of lists) {
    for (const value of list) {
      if (!Number.isFinite(value) || (log && value <= 0)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (low > high) [low, high] = [log ? 0.1 : 0, 1];
  if (log) return new Axis(title, low / 1.1, high * 1.1, true);
  const room = 0.06 * (high - low);
  return new Axis(title, zero && low >= 0 && low < 0.5 * high ? 0 : low - room, high + room);
}
