// A recording as a trace coloured by cluster, with its spectrogram below; zoom and pan share one axis of time.

import { address, get } from "../api.js";
import { alpha } from "../colour.js";
import { h, later, onResize, s, surface, token } from "../dom.js";
import { into } from "./exact.js";

const [LEFT, FOOT, RASTER] = [46, 22, 14];
const FETCH_WAIT = 140; // ms after the last move

/**
 * `{node, choose(mark), dim(hidden), zoom(factor), reset(), close()}` of one stream of an upload that is `seconds` long.
 * `marks`: [{from, to, cluster, colour, index}] in seconds since the recording's start, sorted; `spikes` draws ticks instead of bands.
 */
export function trace({ path, stream, seconds, marks, clusters, spikes, onPick = () => {} }) {
  const canvas = h("canvas", { class: "trace-canvas", tabindex: 0, role: "img", "aria-label": `Waveform of ${stream.id}, ${into(seconds, 1)} long, with ${marks.length} ${spikes ? "spikes" : "windows"} coloured by cluster; the table below lists them` });
  const box = h("div", { class: ["trace-plot", spikes && "with-raster"] }, canvas);
  const image = h("img", { class: "trace-source", alt: "", hidden: true });
  const spectrum = h("canvas", { class: "trace-spectrum", "aria-hidden": "true" });
  const node = h("div", { class: "trace" }, box, h("div", { class: "trace-spectrum-box" }, spectrum), image);
  const view = { from: 0, to: seconds, seconds, envelope: null, hidden: new Set(), chosen: null, marks, clusters, spikes, stream };
  let size = [0, 0];
  let frame = 0;
  let abort = null;
  const paint = () => { frame ||= requestAnimationFrame(() => { frame = 0; drawTrace(canvas, size, view); drawSpectrum(spectrum, image, view); }); };
  const load = later(async () => {
    abort?.abort();
    abort = new AbortController();
    const part = view.from > 0 || view.to < seconds ? { from: view.from, to: view.to } : {};
    try {
      const found = await get(`${path}/waveform`, { stream: stream.id, ...part, points: Math.min(4000, Math.max(400, Math.round(size[0]))) }, { signal: abort.signal, quiet: true });
      view.envelope = found;
      paint();
    } catch { /* an older picture stays */ }
  }, FETCH_WAIT);
  const look = (from, to) => {
    const least = Math.max(20 / stream.rate, seconds / 1e6);
    const width = Math.min(seconds, Math.max(least, to - from));
    const middle = (from + to) / 2;
    view.from = Math.min(Math.max(0, middle - width / 2), seconds - width);
    view.to = view.from + width;
    paint();
    load();
  };
  const zoom = (factor, at = (view.from + view.to) / 2) => look(at - (at - view.from) * factor, at + (view.to - at) * factor);
  follow(canvas, { view, look, zoom, onPick });
  image.addEventListener("load", paint);
  image.addEventListener("error", () => spectrum.parentNode.classList.add("none"));
  image.src = address(`${path}/spectrogram.png`, { stream: stream.id });
  const stop = onResize(box, (width, height) => { size = [width, height]; paint(); load(); });
  return {
    node,
    choose(mark) {
      view.chosen = mark;
      const wide = Math.max((mark.to - mark.from) * 8, view.spikes ? 0.02 : 0);
      if (mark.from < view.from || mark.to > view.to || view.to - view.from > wide * 6) look((mark.from + mark.to - wide) / 2, (mark.from + mark.to + wide) / 2);
      else paint();
    },
    dim(hidden) { view.hidden = hidden; paint(); },
    zoom,
    reset() { look(0, seconds); },
    close() { stop(); load.cancel(); abort?.abort(); cancelAnimationFrame(frame); },
  };
}

function visible(view) {
  const { marks, from, to, hidden } = view;
  return marks.filter((mark) => mark.to >= from && mark.from <= to && !hidden.has(mark.cluster));
}

function drawTrace(canvas, [width, height], view) {
  if (!width) return;
  const context = surface(canvas, width, height);
  const raster = view.spikes ? view.clusters.length * RASTER + 6 : 0;
  const bottom = height - FOOT - raster;
  const x = (seconds) => LEFT + ((seconds - view.from) / (view.to - view.from)) * (width - LEFT - 6);
  const shown = visible(view);
  frameLines(context, { width, height, view, x });
  context.save();
  context.beginPath();
  context.rect(LEFT, 0, width - LEFT - 6, height - FOOT);
  context.clip();
  if (!view.spikes) bands(context, { shown, x, bottom });
  envelope(context, { view, shown, x, bottom });
  if (view.spikes) ticksOf(context, { view, shown, x, bottom });
  if (view.chosen) {
    context.strokeStyle = token("--fg");
    context.lineWidth = 1.5;
    context.strokeRect(x(view.chosen.from) - 1, 1, Math.max(3, x(view.chosen.to) - x(view.chosen.from)) + 2, bottom - 2);
  }
  context.restore();
}

/** The axis of time, in seconds since the start. */
function frameLines(context, { width, height, view, x }) {
  const wanted = ((view.to - view.from) * 90) / Math.max(width - LEFT, 1);
  const step = nice(wanted);
  context.font = `11px ${token("--sans")}`;
  context.textAlign = "center";
  context.fillStyle = token("--muted");
  context.strokeStyle = token("--line");
  context.lineWidth = 1;
  for (let at = Math.ceil(view.from / step) * step; at <= view.to + step * 1e-6; at += step) {
    const px = Math.round(x(at)) + 0.5;
    context.beginPath();
    context.moveTo(px, 0);
    context.lineTo(px, height - FOOT);
    context.stroke();
    if (px > LEFT + 14 && px < width - 26) context.fillText(into(at, step), px, height - 6);
  }
}

/** A round step of at least `value` seconds. */
function nice(value) {
  if (value > 30) return [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400].find((step) => step >= value) ?? 86400 * Math.ceil(value / 86400);
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((part) => part * size).find((step) => step >= value * 0.999);
}

function bands(context, { shown, x, bottom }) {
  for (const mark of shown) {
    const left = x(mark.from);
    context.fillStyle = alpha(mark.colour, 0.17);
    context.fillRect(left, 0, Math.max(1, x(mark.to) - left), bottom);
    context.fillStyle = mark.colour;
    context.fillRect(left, bottom - 5, Math.max(1, x(mark.to) - left - 0.5), 5);
  }
}

/** The line between least and greatest sample of each step, grey where no cluster is and in its colour where one is. */
function envelope(context, { view, shown, x, bottom }) {
  const found = view.envelope;
  if (!found?.min.length) return;
  const { middle, reach } = extent(found);
  const y = (value) => bottom / 2 - ((value - middle) / reach) * (bottom / 2 - 10);
  const step = (found.to - found.from) / found.min.length;
  context.lineWidth = Math.max(1, x(step) - x(0));
  const paths = new Map();
  let next = 0;
  found.min.forEach((low, at) => {
    if (low === null) return;
    const from = found.from + at * step;
    while (next < shown.length && shown[next].to < from) next++;
    const mark = shown[next];
    const colour = mark && mark.from < from + step ? mark.colour : "";
    const path = paths.get(colour) ?? new Path2D();
    const px = x(from + step / 2);
    path.moveTo(px, y(low) + 0.5);
    path.lineTo(px, y(found.max[at]) - 0.5);
    paths.set(colour, path);
  });
  for (const [colour, path] of paths) {
    context.strokeStyle = colour === "" ? token("--faint") : colour;
    context.stroke(path);
  }
  if (step < 3 / view.stream.rate) joined(context, { found, x, y, step });
  scale(context, { middle, reach, y });
}

/** What the height shows: around 0, unless the samples lie far beside it, as raw counts with an offset do. */
function extent(found) {
  const high = Math.max(...found.max.filter((value) => value !== null), -Infinity);
  const low = Math.min(...found.min.filter((value) => value !== null), Infinity);
  if (low > high) return { middle: 0, reach: 1 };
  const middle = (high + low) / 2;
  const beside = Math.abs(middle) > 0.3 * (high - low);
  return beside ? { middle, reach: (high - low) / 2 || 1 } : { middle: 0, reach: Math.max(Math.abs(high), Math.abs(low)) || 1 };
}

/** Close up, the samples are joined by a line. */
function joined(context, { found, x, y, step }) {
  context.beginPath();
  found.max.forEach((high, at) => { if (high !== null) context.lineTo(x(found.from + (at + 0.5) * step), y((high + found.min[at]) / 2)); });
  context.strokeStyle = token("--muted");
  context.lineWidth = 1;
  context.stroke();
}

function scale(context, { middle, reach, y }) {
  context.restore();
  context.save();
  context.fillStyle = token("--muted");
  context.textAlign = "right";
  context.font = `11px ${token("--sans")}`;
  const digits = middle ? Math.min(5, 2 + Math.max(0, Math.ceil(Math.log10(Math.abs(middle) / reach)))) : 2;
  const text = (value) => (Math.abs(value) >= 1e5 || (Math.abs(value) < 1e-2 && value) ? value.toExponential(digits - 2 ? 2 : 0) : String(Number(value.toPrecision(digits))));
  for (const value of [middle + reach, middle, middle - reach]) context.fillText(text(value), LEFT - 6, y(value) + 4);
}

/** Below the trace: a line a cluster, a tick a spike. */
function ticksOf(context, { view, shown, x, bottom }) {
  const rows = new Map(view.clusters.map((cluster, at) => [cluster.id, bottom + 6 + at * RASTER]));
  for (const mark of shown) {
    const top = rows.get(mark.cluster);
    if (top === undefined) continue;
    context.fillStyle = mark.colour;
    context.fillRect(x((mark.from + mark.to) / 2) - 0.75, top, 1.5, RASTER - 3);
  }
}

function drawSpectrum(canvas, image, view) {
  const box = canvas.parentNode;
  const [width, height] = [box.clientWidth, box.clientHeight];
  if (!width || !image.naturalWidth) return;
  const context = surface(canvas, width, height);
  const part = (seconds) => (seconds / view.seconds) * image.naturalWidth;
  context.imageSmoothingEnabled = true;
  context.drawImage(image, part(view.from), 0, Math.max(part(view.to) - part(view.from), 1e-3), image.naturalHeight, LEFT, 0, width - LEFT - 6, height);
}

/** Pointer, wheel and keys. */
function follow(canvas, { view, look, zoom, onPick }) {
  const down = new Map();
  let moved = 0;
  const seconds = (event) => {
    const box = canvas.getBoundingClientRect();
    return view.from + ((event.clientX - box.left - LEFT) / (box.width - LEFT - 6)) * (view.to - view.from);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, event.clientX);
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (before === undefined) return;
    const per = (view.to - view.from) / Math.max(canvas.clientWidth - LEFT - 6, 1);
    moved += Math.abs(event.clientX - before);
    if (down.size === 2) {
      const [other] = [...down].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      zoom(Math.max(1, Math.abs(before - other)) / Math.max(1, Math.abs(event.clientX - other)));
    } else if (moved > 4) look(view.from - (event.clientX - before) * per, view.to - (event.clientX - before) * per);
    down.set(event.pointerId, event.clientX);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!down.delete(event.pointerId) || moved > 4) return;
    const at = seconds(event);
    const reach = view.spikes ? (4 * (view.to - view.from)) / canvas.clientWidth : 0;
    const found = visible(view).find((mark) => mark.from - reach <= at && at <= mark.to + reach);
    if (found) onPick(found);
  });
  canvas.addEventListener("pointercancel", (event) => down.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const step = ((view.to - view.from) * event.deltaX) / 600;
      look(view.from + step, view.to + step);
    } else if (event.ctrlKey || document.activeElement === canvas) {
      event.preventDefault();
      zoom(Math.exp(event.deltaY / 300), seconds(event));
    }
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoom(0.5, seconds(event)));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.2, ArrowRight: 0.2 }[event.key];
    if (!step) return;
    event.preventDefault();
    look(view.from + step * (view.to - view.from), view.to + step * (view.to - view.from));
  });
}

/** A mean waveform as a small drawing: `samples` in the colour of its cluster, on the scale of all of them. */
export function meanWave(samples, colour, reach, label) {
  const [width, height] = [220, 90];
  const y = (value) => height / 2 - (value / reach) * (height / 2 - 6);
  const points = samples.map((value, at) => `${((at / Math.max(samples.length - 1, 1)) * width).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return s("svg", { viewBox: `0 0 ${width} ${height}`, class: "mean-wave", role: "img", "aria-label": label },
    s("line", { x1: 0, x2: width, y1: height / 2, y2: height / 2, class: "axis" }),
    s("polyline", { points, fill: "none", stroke: colour, "stroke-width": 2.4, "stroke-linejoin": "round", "stroke-linecap": "round" }));
}
