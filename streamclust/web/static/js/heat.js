// The occurrence heat map: clusters down, time across, the count against the row's highest as strength of the cluster's colour.

import { alpha } from "./colour.js";
import { clean, surface, token } from "./dom.js";
import { brief, count, span, tick, ticks, utc } from "./time.js";

const STACK = 60; // px of the stacked counts above the rows
const AXIS = 26; // px below them
const LEAST_SPAN = 60e3; // ms; closer looks show single windows
const MOST_SPAN = 60 * 366 * 86400e3;

/**
 * Draws `data` of GET occurrence into `canvas` and moves `view` ({from, to} in ms).
 *
 * `rows`: [{id, label, colour}] from top to bottom, id null is the novel row; `on`: {view(from, to, done), pick(row, from, to),
 * hover(cell|null), reset()}. Wheel and pinch zoom, a mouse's drag zooms to what it marks, a finger's drag moves, a double
 * click resets; the arrow keys walk over the cells.
 */
export class Heat {
  constructor(canvas, on) {
    this.canvas = canvas;
    this.on = on;
    this.data = null;
    this.rows = [];
    this.view = null;
    this.rowHeight = 24;
    this.size = [0, 0];
    this.mark = null; // [x0, x1] while a mouse drags
    this.cell = null; // {row, bin} under the pointer or the keyboard's cursor
    this.fingers = new Map();
    this.#bind();
  }

  /** Height in CSS px for a number of rows. */
  height(rows) {
    return STACK + rows * this.rowHeight + AXIS;
  }

  get top() { return STACK; }

  set(data, rows, view = null) {
    this.data = data;
    this.rows = rows;
    if (view) this.view = view;
    this.counts = rows.map((row) => (row.id === null ? data.novel : data.counts[data.clusters.indexOf(row.id)] ?? []));
    this.most = this.counts.map((line) => line.reduce((most, value) => Math.max(most, value), 1));
    this.draw();
  }

  resize(width, height) {
    this.size = [width, height];
    this.draw();
  }

  x(time) {
    return ((time - this.view.from) / (this.view.to - this.view.from)) * this.size[0];
  }

  time(x) {
    return this.view.from + (x / this.size[0]) * (this.view.to - this.view.from);
  }

  draw() {
    const [width, height] = this.size;
    if (!width || !this.view) return;
    const context = surface(this.canvas, width, height);
    const paint = { context, width, line: token("--line"), well: token("--well"), muted: token("--muted"), fg: token("--fg"), accent: token("--accent"), card: token("--card") };
    this.#drawAxis(paint);
    if (this.data) {
      this.#drawStack(paint);
      this.#drawRows(paint);
    }
    this.#drawCursor(paint);
  }

  #drawAxis({ context, width, line, muted }) {
    const bottom = STACK + this.rows.length * this.rowHeight;
    const { step, at } = ticks(this.view.from, this.view.to, Math.max(2, width / 96));
    context.font = `11px ${token("--sans")}`;
    context.textBaseline = "top";
    for (const time of at) {
      const x = Math.round(this.x(time)) + 0.5;
      context.strokeStyle = line;
      context.beginPath();
      context.moveTo(x, 4);
      context.lineTo(x, bottom + 4);
      context.stroke();
      const label = tick(time, step);
      const half = context.measureText(label).width / 2;
      context.fillStyle = muted;
      if (x - half >= 0 && x + half <= width) context.fillText(label, x - half, bottom + 8);
    }
  }

  #bins() {
    const { data } = this;
    const bins = [];
    for (let bin = 0; bin < data.total.length; bin++) {
      const from = data.start + bin * data.bin_seconds * 1000;
      const left = this.x(from);
      const right = this.x(from + data.bin_seconds * 1000);
      if (right > 0 && left < this.size[0]) bins.push([bin, left, right]);
    }
    return bins;
  }

  #drawStack({ context, width, muted }) {
    const { data } = this;
    const bins = this.#bins();
    const most = Math.max(1, ...bins.map(([bin]) => data.total[bin]));
    const scale = (STACK - 22) / most;
    const gap = bins.length && bins[0][2] - bins[0][1] > 3.5 ? 1 : 0;
    for (const [bin, left, right] of bins) {
      let y = STACK - 6;
      this.rows.forEach((row, at) => {
        const part = (row.id === null ? 0 : this.counts[at][bin] ?? 0) * scale;
        if (part <= 0) return;
        context.fillStyle = alpha(row.colour, 0.88);
        context.fillRect(left, y - part, Math.max(0.6, right - left - gap), part);
        y -= part;
      });
    }
    context.font = `11px ${token("--sans")}`;
    context.textBaseline = "top";
    const label = `up to ${brief(most)} per ${span(data.bin_seconds)}`;
    context.fillStyle = muted;
    context.fillText(label, width - context.measureText(label).width - 2, 0);
  }

  #drawRows({ context, width, well }) {
    const bins = this.#bins();
    const gap = bins.length && bins[0][2] - bins[0][1] > 3.5 ? 1 : 0;
    this.rows.forEach((row, at) => {
      const y = STACK + at * this.rowHeight + 2;
      const tall = this.rowHeight - 4;
      context.fillStyle = well;
      context.beginPath();
      context.roundRect(0, y, width, tall, 4);
      context.fill();
      for (const [bin, left, right] of bins) {
        const value = this.counts[at][bin];
        if (!value) continue;
        context.fillStyle = alpha(row.colour, 0.12 + 0.88 * (value / this.most[at]) ** 0.75);
        context.fillRect(left, y, Math.max(1, right - left - gap), tall);
      }
    });
  }

  #drawCursor({ context, width, accent, fg }) {
    if (this.mark) {
      const [from, to] = this.mark[0] < this.mark[1] ? this.mark : [this.mark[1], this.mark[0]];
      context.fillStyle = alpha("#808890", 0.22);
      context.fillRect(from, 0, to - from, STACK + this.rows.length * this.rowHeight);
      context.fillStyle = accent;
      context.fillRect(from, 0, 1, STACK + this.rows.length * this.rowHeight);
      context.fillRect(to, 0, 1, STACK + this.rows.length * this.rowHeight);
    } else if (this.cell && this.data) {
      const { row, bin } = this.cell;
      const from = this.data.start + bin * this.data.bin_seconds * 1000;
      const left = Math.max(0, this.x(from));
      const right = Math.min(width, this.x(from + this.data.bin_seconds * 1000));
      context.fillStyle = alpha("#808890", 0.16);
      context.fillRect(left, 0, Math.max(1, right - left), STACK + this.rows.length * this.rowHeight);
      context.strokeStyle = fg;
      context.lineWidth = 1.5;
      if (row !== null) context.strokeRect(left - 0.5, STACK + row * this.rowHeight + 1.5, Math.max(3, right - left), this.rowHeight - 3);
      context.lineWidth = 1;
    }
  }

  /** What is in a cell: {row, label, from, to, count, total}. */
  at(row, bin) {
    const { data } = this;
    if (!data || bin < 0 || bin >= data.total.length) return null;
    const from = data.start + bin * data.bin_seconds * 1000;
    const entry = row === null ? null : this.rows[row];
    return { row: entry, from, to: from + data.bin_seconds * 1000, count: entry ? this.counts[row][bin] ?? 0 : data.total[bin], total: data.total[bin], novel: data.novel[bin] };
  }

  /** A cell as a sentence, for those who do not see the map. */
  describe(cell) {
    return `${cell.row ? clean(cell.row.label) : "All"}: ${count(cell.count)} windows, ${utc(cell.from)}, ${span((cell.to - cell.from) / 1000)}`;
  }

  #locate(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    const row = Math.floor((y - STACK) / this.rowHeight);
    const bin = this.data && this.view ? Math.floor((this.time(x) - this.data.start) / (this.data.bin_seconds * 1000)) : -1;
    return { x, y, row: row >= 0 && row < this.rows.length ? row : null, bin };
  }

  #point(place, event) {
    const cell = this.at(place.row, place.bin);
    this.cell = cell ? { row: place.row, bin: place.bin } : null;
    this.on.hover(cell, event);
    this.draw();
  }

  /** Moves and scales the view around an x in px; factor < 1 zooms in. */
  zoom(factor, x = this.size[0] / 2) {
    const { from, to } = this.view;
    const width = Math.min(Math.max((to - from) * factor, LEAST_SPAN), MOST_SPAN);
    const centre = this.time(x);
    const left = centre - (x / this.size[0]) * width;
    this.#move(left, left + width);
  }

  /** Moves the view by a part of its width. */
  pan(part) {
    const by = (this.view.to - this.view.from) * part;
    this.#move(this.view.from + by, this.view.to + by);
  }

  #move(from, to) {
    this.view = { from, to };
    this.cell = null; // it would tell the counts of what was under the pointer before
    this.on.hover(null);
    this.draw();
    this.on.view(from, to);
  }

  #bind() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      if (!this.view || event.ctrlKey) return;
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) this.pan((event.deltaX || event.deltaY) / this.size[0]);
      else this.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 320))), this.#locate(event).x);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.#up(event));
    canvas.addEventListener("pointerleave", () => { this.cell = null; this.on.hover(null); this.draw(); });
    canvas.addEventListener("dblclick", () => this.on.reset());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => { this.cell = null; this.on.hover(null); this.draw(); });
  }

  #down(event) {
    if (!this.view || event.button > 0) return;
    const { x } = this.#locate(event);
    this.fingers.set(event.pointerId, { x, first: x });
    this.moved = false;
    this.canvas.setPointerCapture(event.pointerId);
  }

  #drag(event) {
    const place = this.#locate(event);
    const finger = this.fingers.get(event.pointerId);
    if (!finger) {
      if (event.pointerType === "mouse") this.#point(place, event);
      return;
    }
    const before = [...this.fingers.values()].map(({ x }) => x);
    finger.x = place.x;
    if (Math.abs(finger.x - finger.first) > 4) this.moved = true;
    if (!this.moved && this.fingers.size < 2) return;
    if (event.pointerType === "mouse") {
      this.mark = [finger.first, finger.x];
      this.on.hover(null);
      this.draw();
    } else if (this.fingers.size === 1) this.pan((before[0] - finger.x) / this.size[0]);
    else this.#pinch(before, [...this.fingers.values()].map(({ x }) => x));
  }

  #pinch(before, after) {
    const [was, now] = [before, after].map((xs) => Math.max(12, Math.abs(xs[0] - xs[1])));
    this.zoom(was / now, (after[0] + after[1]) / 2);
  }

  #up(event) {
    const finger = this.fingers.get(event.pointerId);
    if (!finger) return;
    this.fingers.delete(event.pointerId);
    const marked = this.mark;
    this.mark = null;
    if (marked && Math.abs(marked[1] - marked[0]) > 6) {
      const [from, to] = [this.time(Math.min(...marked)), this.time(Math.max(...marked))];
      const middle = (from + to) / 2;
      const half = Math.max(to - from, LEAST_SPAN) / 2;
      this.#move(middle - half, middle + half);
    } else if (!this.moved && event.type === "pointerup") this.#click(this.#locate(event), event);
    else this.draw();
  }

  #click(place, event) {
    const cell = this.at(place.row, place.bin);
    if (!cell) return;
    if (event.pointerType !== "mouse" && !(this.cell && this.cell.row === place.row && this.cell.bin === place.bin)) {
      this.#point(place, event); // the first tap tells, the second opens
      return;
    }
    clearTimeout(this.opening);
    if (event.detail > 1) return;
    this.opening = setTimeout(() => { if (this.canvas.isConnected) this.on.pick(cell); }, event.pointerType === "mouse" ? 260 : 0);
    this.canvas.addEventListener("dblclick", () => clearTimeout(this.opening), { once: true });
  }

  #key(event) {
    if (!this.data || !this.view) return;
    const bins = this.#bins();
    const cell = this.cell ?? { row: 0, bin: bins.at(-1)?.[0] ?? 0 };
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.shiftKey && (event.key === "ArrowLeft" || event.key === "ArrowRight")) this.pan(event.key === "ArrowLeft" ? -0.2 : 0.2);
    else if (moves[event.key]) {
      const [down, right] = moves[event.key];
      const row = this.cell ? Math.min(Math.max((cell.row ?? 0) + down, 0), this.rows.length - 1) : 0;
      const bin = this.cell ? Math.min(Math.max(cell.bin + right, bins[0]?.[0] ?? 0), bins.at(-1)?.[0] ?? 0) : cell.bin;
      this.#point({ row, bin }, null);
    } else if (event.key === "+" || event.key === "=") this.zoom(0.6);
    else if (event.key === "-") this.zoom(1.6);
    else if (event.key === "0") this.on.reset();
    else if (event.key === "Enter" && this.cell) this.on.pick(this.at(this.cell.row, this.cell.bin));
    else return;
    event.preventDefault();
  }
}
