// Matrices as pictures on canvas, a cursor over them, and a strip of small ones to choose from.

// Colours from low to high: viridis of matplotlib, and RdBu of ColorBrewer reversed.
const VIRIDIS = "440154 482475 414487 355f8d 2a788e 21918c 22a884 44bf70 7ad151 bddf26 fde725";
const RED_BLUE = "053061 2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b 67001f";

function colourTable(stops) {
  const anchors = stops.split(" ").map((hex) => [0, 2, 4].map((k) => parseInt(hex.slice(k, k + 2), 16)));
  const table = new Uint8Array(256 * 3);
  for (let n = 0; n < 256; n++) {
    const place = (n / 255) * (anchors.length - 1);
    const k = Math.min(anchors.length - 2, Math.floor(place));
    for (let c = 0; c < 3; c++) {
      table[3 * n + c] = anchors[k][c] + (place - k) * (anchors[k + 1][c] - anchors[k][c]);
    }
  }
  return table;
}

const COLOURS = { c2: colourTable(VIRIDIS), residual: colourTable(RED_BLUE) };

// Draw a square matrix with t1 to the right and t2 upwards. What is missing stays transparent.
function paint(canvas, values, side, low, high, table, log = false) {
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const value = values[row * side + column];
      if (Number.isNaN(value)) continue;
      let share = Math.min(1, Math.max(0, (value - low) / (high - low)));
      if (log) share = Math.log1p(99 * share) / Math.log(100);
      const [from, to] = [3 * Math.round(255 * share), 4 * ((side - 1 - row) * side + column)];
      for (let c = 0; c < 3; c++) image.data[to + c] = table[from + c];
      image.data[to + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

class MatrixPanel {
  // move(i, j, key): the pointer, the finger or the keys are at pixel i of t1, j of t2.
  constructor(host, name, { frames, dt, move, unit = "s" }) {
    Object.assign(this, { host, name, frames, dt, move, side: 1, block: 1 });
    host.innerHTML =
      '<div class="square"><canvas aria-hidden="true"></canvas><svg viewBox="0 0 100 100" tabindex="0" ' +
      'role="application" preserveAspectRatio="none"></svg></div>' +
      `<div class="ends"><span>0</span><span>t₁ (${unit}) →, t₂ ↑</span><span></span></div>` +
      '<div class="colours"><span></span><canvas aria-hidden="true"></canvas><span></span></div>';
    this.canvas = host.querySelector("canvas");
    this.svg = host.querySelector("svg");
    host.querySelector(".ends span:last-child").textContent = shown((frames - 1) * dt, 4);
    this.svg.setAttribute("aria-label", `${name}: arrow keys move the cursor`);
    for (const kind of ["pointermove", "pointerdown"]) {
      this.svg.addEventListener(kind, (event) => {
        const box = this.svg.getBoundingClientRect();
        this.move(
          this.pixel((event.clientX - box.left) / box.width),
          this.pixel(1 - (event.clientY - box.top) / box.height),
        );
      });
    }
  }

  pixel(share) {
    return Math.min(this.side - 1, Math.max(0, Math.floor((share * this.frames) / this.block)));
  }

  // Show a matrix; `colours` is c2 or residual.
  show(values, { side, block }, { low, high, log = false, colours }) {
    Object.assign(this, { side, block });
    paint(this.canvas, values, side, low, high, COLOURS[colours], log);
    // Pixels at the end may be cut off by the last frame.
    const wide = `${(100 * side * block) / this.frames}%`;
    Object.assign(this.canvas.style, { width: wide, height: wide });
    const [first, bar, last] = this.host.querySelector(".colours").children;
    const unit = colours === "residual" ? " σ" : "";
    first.textContent = `${shown(low, 4)}${unit}`;
    last.textContent = `${shown(high, 4)}${unit}`;
    bar.width = 128;
    bar.height = 1;
    const line = bar.getContext("2d").createImageData(128, 1);
    for (let k = 0; k < 128; k++) {
      let share = k / 127;
      if (log) share = Math.log1p(99 * share) / Math.log(100);
      line.data.set([...COLOURS[colours].slice(3 * Math.round(255 * share)).slice(0, 3), 255], 4 * k);
    }
    bar.getContext("2d").putImageData(line, 0, 0);
  }

  // Mark pixel (i, j), and the cuts of equal age and equal lag through it.
  mark(i, j) {
    const place = (k) => (100 * (k + 0.5) * this.block) / this.frames;
    const [a, b] = [place(i), 100 - place(j)];
    this.svg.innerHTML =
      `<path class="through" d="M${a},0V100M0,${b}H100"/>` +
      `<path class="along" d="M${a - 100},${b - 100}L${a + 100},${b + 100}M${a - 100},${b + 100}L${a + 100},${b - 100}"/>`;
  }
}

// The arrow keys move the cursor (with Shift: ten pixels), Page Up and Page Down turn to the next
// matrix; where nothing else takes them, the arrow keys do, too.
function keysOfMatrices(host, where, { move, turn }) {
  host.addEventListener("keydown", (event) => {
    const step = { PageUp: -1, PageDown: 1 }[event.key];
    const [a, b] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (!a && !b && !step) return;
    event.preventDefault();
    event.stopPropagation();
    if (step) return turn(step);
    const { i, j, side } = where();
    const size = event.shiftKey ? 10 : 1;
    const within = (k) => Math.min(side - 1, Math.max(0, k));
    move(within(i + a * size), within(j + b * size));
  });
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const plain = !event.ctrlKey && !event.altKey && !event.metaKey;
    if (step && plain && event.target === document.body) turn(step);
  });
}

// The range of colours that the controls ask for, which then tell it: that of this matrix, of all, or
// a range of one's own. ranges(all) gives pairs of numbers.
function chosenColours(ranges) {
  const [scope, low, high, scale] = ["range", "low", "high", "colours"].map((id) => document.getElementById(id));
  if (scope.value !== "own") {
    const known = ranges(scope.value === "all").filter(([first]) => Number.isFinite(first));
    low.value = Math.min(...known.map(([first]) => first)).toPrecision(5);
    high.value = Math.max(...known.map(([, last]) => last)).toPrecision(5);
  }
  return { low: Number(low.value), high: Number(high.value), log: scale.value === "log", colours: "c2" };
}

// Call show() when these controls change.
function onColours(show) {
  for (const id of ["range", "colours", "low", "high"]) {
    document.getElementById(id).addEventListener("change", () => {
      if (id === "low" || id === "high") document.getElementById("range").value = "own";
      show();
    });
  }
}

// Where the cursor is at first.
const firstPixel = (side) => ({ i: Math.round(0.35 * (side - 1)), j: Math.round(0.55 * (side - 1)) });

// Mean t1 and t2 of the points t1 < t2 of a pixel, seconds.
function centre({ block }, i, j, { frames, dt }) {
  const length = (k) => Math.min(block, frames - k * block);
  const middle = (k) => k * block + (length(k) - 1) / 2;
  const apart = i === j ? (length(i) + 1) / 6 : 0;
  return [(middle(i) - apart) * dt, (middle(j) + apart) * dt];
}

// Pixels (i, j), t1 ≤ t2, of about equal age as one of them, or of equal lag.
function pixelsAlong(equal, i, j, side) {
  const [low, high] = [Math.min(i, j), Math.max(i, j)];
  const found = [];
  for (let k = 0; k < side; k++) {
    const [a, b] = equal === "age" ? [k, low + high - k] : [k, k + high - low];
    if (b >= a && b < side) found.push([a, b]);
  }
  return equal === "age" ? found.reverse() : found;
}

class Strip {
  // names for those who hear the page, labels, paint(canvas, k) and choose(k).
  constructor(host, { names, labels, paint, choose }) {
    Object.assign(this, { host, paint });
    host.innerHTML = names
      .map(() => '<button type="button" role="radio"><canvas aria-hidden="true"></canvas><span></span></button>')
      .join("");
    this.buttons = Array.from(host.children);
    this.buttons.forEach((button, k) => {
      button.setAttribute("aria-label", names[k]);
      button.lastChild.textContent = labels[k];
      button.addEventListener("click", () => choose(k));
    });
    host.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const next = (this.buttons.indexOf(event.target) + step + names.length) % names.length;
      choose(next);
      this.buttons[next].focus();
    });
  }

  // One after the other, so that the page answers meanwhile.
  draw(k = 0) {
    if (k === this.buttons.length) return;
    this.paint(this.buttons[k].firstChild, k);
    setTimeout(() => this.draw(k + 1), 0);
  }

  mark(chosen) {
    this.buttons.forEach((button, k) => {
      button.setAttribute("aria-checked", String(k === chosen));
      button.tabIndex = k === chosen ? 0 : -1;
    });
    const { host } = this;
    const { offsetLeft, offsetWidth } = this.buttons[chosen];
    const outside = offsetLeft < host.scrollLeft || offsetLeft + offsetWidth > host.scrollLeft + host.clientWidth;
    if (outside) host.scrollLeft = offsetLeft - host.clientWidth / 2;
  }
}
