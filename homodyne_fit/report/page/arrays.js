// The numbers of the page: arrays decoded when they are first used, and numbers in words.

class Store {
  constructor(arrays) {
    this.arrays = arrays;
    this.decoded = new Map();
    this.squares = new Map();
    this.ranges = new Map();
  }

  // The values of an array; a missing one is NaN.
  get(number) {
    if (!this.decoded.has(number)) this.decoded.set(number, Store.decode(this.arrays[number]));
    return this.decoded.get(number);
  }

  static decode(array) {
    const bytes = Uint8Array.from(atob(array.data), (letter) => letter.charCodeAt(0));
    if (array.type === "float32") return new Float32Array(bytes.buffer);
    const whole = array.type === "uint16" ? new Uint16Array(bytes.buffer) : bytes;
    const missing = array.type === "uint16" ? 65535 : 255;
    return Float32Array.from(whole, (n) => (n === missing ? NaN : array.low + array.step * n));
  }

  // The values between which nearly all of an array lies.
  range(number) {
    if (!this.ranges.has(number)) {
      const sorted = this.get(number).filter(Number.isFinite).sort();
      const at = (share) => sorted[Math.round(share * (sorted.length - 1))] ?? NaN;
      this.ranges.set(number, [at(0.01), at(0.99)]);
    }
    return this.ranges.get(number);
  }

  // A symmetric matrix, row after row, of which the upper half is stored.
  square(number, side) {
    if (!this.squares.has(number)) {
      const half = this.get(number);
      const full = new Float32Array(side * side);
      let k = 0;
      for (let i = 0; i < side; i++) {
        for (let j = i; j < side; j++) full[i * side + j] = full[j * side + i] = half[k++];
      }
      this.squares.set(number, full);
    }
    return this.squares.get(number);
  }
}

// A number in some digits, with a power of ten where it is very large or small.
function shown(value, digits = 4) {
  if (value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const order = Math.floor(Math.log10(Math.abs(value)));
  const plain = order >= -3 && order < 6;
  const scaled = plain ? value : value / 10 ** order;
  const places = Math.max(0, digits - 1 - (plain ? order : 0));
  let text = scaled.toFixed(Math.min(places, 12));
  if (text.includes(".")) text = text.replace(/\.?0+$/, "");
  text = text.replace("-", "−");
  return plain ? text : `${text} × 10${superscript(order)}`;
}

function superscript(order) {
  return String(order).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
}

// Value ± error, the error in two digits, the value rounded to the same place.
function withError(value, error) {
  if (!(error > 0) || !Number.isFinite(error)) return shown(value, 5);
  const place = Math.floor(Math.log10(error)) - 1;
  const order = Math.max(place + 1, value ? Math.floor(Math.log10(Math.abs(value))) : -99);
  const scale = order >= -3 && order < 6 ? 0 : order;
  const places = Math.min(12, Math.max(0, scale - place));
  const pair = [value, error].map((each) => (each / 10 ** scale).toFixed(places));
  const text = pair.join(" ± ").replaceAll("-", "−");
  return scale ? `(${text}) × 10${superscript(scale)}` : text;
}

// The value below which a share of the finite numbers lies.
function quantile(values, share) {
  const sorted = values.filter(Number.isFinite).sort();
  return sorted.length ? sorted[Math.round(share * (sorted.length - 1))] : NaN;
}
