// A small line chart of one time window, whose values can be read by pointer and by keyboard.
const WIDTH = 300, HEIGHT = 80, SVG = "http://www.w3.org/2000/svg";

// Invisible characters, and those that reverse the order of others, are written as codes: no name must look like another.
const UNSEEN = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

export function visible(text) {
  return String(text).replace(UNSEEN, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = visible(text);
  return made;
}

// Unchanged text is not touched, so that it can be selected and copied.
export function setText(node, text) {
  const shown = visible(text);
  if (node.textContent !== shown) node.textContent = shown;
}

export function short(value) {
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e7 || size < 1e-4) ? value.toPrecision(4) : String(Number(value.toPrecision(6)));
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
}

function shape(name, className) {
  const made = document.createElementNS(SVG, name);
  made.setAttribute("class", className);
  return made;
}

// Keep at most two rows, [time, value, failed], for each pixel: the lowest and the highest.
function thin(rows, from, to) {
  if (rows.length <= 2 * WIDTH) return rows;
  const buckets = new Map();
  for (const row of rows) {
    const place = Math.floor(((row[0] - from) / (to - from)) * WIDTH), known = buckets.get(place);
    if (known === undefined) buckets.set(place, { low: row, high: row });
    else {
      if (row[1] < known.low[1]) known.low = row;
      if (row[1] > known.high[1]) known.high = row;
    }
  }
  return [...buckets.values()].flatMap(({ low, high }) => (low === high ? [low] : low[0] <= high[0] ? [low, high] : [high, low]));
}

export class Plot {
  // describe: makes the text beside the pointer of a row.
  constructor(describe) {
    this.describe = describe;
    this.root = element("div", "plot");
    this.svg = shape("svg", "");
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("tabindex", "0");
    this.base = shape("path", "base");
    this.base.setAttribute("d", `M0,0H${WIDTH}M0,${HEIGHT}H${WIDTH}`);
    this.line = shape("path", "line");
    this.second = shape("path", "second");
    this.failed = shape("path", "failed");
    this.dot = shape("path", "dot");
    this.cursor = shape("path", "cursor");
    this.svg.append(this.base, this.second, this.line, this.failed, this.cursor, this.dot);
    this.scale = element("div", "scale");
    this.top = element("span"), this.bottom = element("span");
    this.scale.append(this.top, this.bottom);
    this.range = element("div", "range");
    this.first = element("span"), this.last = element("span");
    this.range.append(this.first, this.last);
    this.readout = element("div", "readout");
    this.root.append(this.svg, this.scale, this.range, element("span"), this.readout);
    this.rows = [];
    this.at = null;
    this.svg.addEventListener("pointermove", (event) => this.#point(event));
    this.svg.addEventListener("pointerleave", () => this.#choose(null));
    this.svg.addEventListener("blur", () => this.#choose(null));
    this.svg.addEventListener("keydown", (event) => this.#key(event));
  }

  // rows and others: [time, value, failed], the oldest first.
  draw(rows, from, to, label, others = []) {
    this.from = from, this.to = to;
    this.rows = rows.filter((row) => typeof row[1] === "number");
    const values = [...this.rows, ...others].map((row) => row[1]);
    this.low = values.reduce((a, b) => Math.min(a, b), Infinity);
    this.high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    const isEmpty = values.length === 0;
    this.line.setAttribute("d", this.#path(this.rows));
    this.second.setAttribute("d", this.#path(others));
    this.failed.setAttribute("d", this.rows.filter((row) => row[2]).slice(-200).map((row) => `M${this.#place(row)}h0`).join(""));
    setText(this.top, isEmpty ? "" : short(this.high));
    setText(this.bottom, isEmpty || this.low === this.high ? "" : short(this.low));
    setText(this.first, clock(from));
    setText(this.last, clock(to));
    this.svg.setAttribute("aria-label", label);
    this.#show();
  }

  #path(rows) {
    return thin(rows, this.from, this.to).map((row, index) => `${index ? "L" : "M"}${this.#place(row)}`).join("") + (rows.length === 1 ? "h0" : "");
  }

  #place([time, value]) {
    const x = ((time - this.from) / (this.to - this.from)) * WIDTH;
    // The values are halved first, since the difference of two doubles may be too large for a double.
    const share = this.high > this.low ? (value / 2 - this.low / 2) / (this.high / 2 - this.low / 2) : 0.5;
    return `${x.toFixed(1)},${((1 - share) * HEIGHT).toFixed(1)}`;
  }

  #point(event) {
    const box = this.svg.getBoundingClientRect();
    const time = this.from + ((event.clientX - box.left) / box.width) * (this.to - this.from);
    let nearest = null;
    for (const row of this.rows) if (nearest === null || Math.abs(row[0] - time) <= Math.abs(nearest[0] - time)) nearest = row;
    this.#choose(nearest);
  }

  #key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (!Object.hasOwn(steps, event.key) || this.rows.length === 0) return;
    event.preventDefault();
    const known = this.rows.indexOf(this.at), last = this.rows.length - 1;
    const next = known === -1 ? last : Math.min(last, Math.max(0, known + steps[event.key]));
    this.readout.setAttribute("aria-live", "polite");
    this.#choose(this.rows[next]);
  }

  #choose(row) {
    this.at = row;
    this.#show();
  }

  #show() {
    const isHere = this.at !== null && this.at[0] >= this.from;
    const shown = isHere ? this.at : this.rows[this.rows.length - 1];
    this.dot.setAttribute("class", shown !== undefined && shown[2] ? "dot failed" : "dot");
    this.dot.setAttribute("d", shown === undefined ? "" : `M${this.#place(shown)}h0`);
    this.cursor.setAttribute("d", isHere ? `M${this.#place(shown).split(",")[0]},0V${HEIGHT}` : "");
    setText(this.readout, isHere ? this.describe(shown) : "");
  }
}
