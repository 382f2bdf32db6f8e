// The live strip: the last windows of one stream, amplitude as height, cluster as colour.

import { alpha, colourOf } from "./colour.js";
import { surface, token } from "./dom.js";
import { ms, tick, ticks } from "./time.js";

/** From when to when a window is drawn: until the next one starts, for windows overlap. */
export function slots(windows) {
  return windows.map((entry, at) => {
    const start = ms(entry.start);
    const end = ms(entry.end);
    const next = at + 1 < windows.length ? ms(windows[at + 1].start) : end;
    return { ...entry, from: start, to: Math.min(end, Math.max(next, start + 1)) };
  });
}

function tallest(windows) {
  const peaks = windows.map((entry) => entry.peak ?? 0).filter((value) => value > 0).sort((a, b) => a - b);
  return peaks.length ? peaks[Math.floor((peaks.length - 1) * 0.98)] : 1;
}

/** Height 0..1 of an amplitude: 40 dB below the tallest is nothing. */
function level(value, most) {
  if (!value || value <= 0) return 0.02;
  return Math.min(1, Math.max(0.04, 1 + Math.log10(value / most) / 2));
}

/**
 * Pictures of the windows that are kept, asked for when they come into sight: `{of(entry), close()}`; `ready` hears of each.
 * At most `most` of them are held.
 */
export function pictures(addressOf, ready, most = 240) {
  const held = new Map();
  return {
    of(entry) {
      if (!entry.kept) return null;
      let image = held.get(entry.window_id);
      if (!image) {
        image = new Image();
        image.decoding = "async";
        image.addEventListener("load", ready);
        image.src = addressOf(entry.window_id);
        held.set(entry.window_id, image);
        if (held.size > most) held.delete(held.keys().next().value);
      }
      return image.complete && image.naturalWidth ? image : null;
    },
    close() { held.clear(); },
  };
}

const LEAST = 5; // px of a picture

/** The windows that are kept, each until the next that is or its own end. */
function pictured(windows) {
  const kept = windows.filter((entry) => entry.kept);
  return kept.map((entry, at) => ({ ...entry, until: Math.min(ms(entry.end), at + 1 < kept.length ? ms(kept[at + 1].start) : Infinity) }));
}

/** Whether the pictures of windows are wide enough to be seen, at `scale` px a millisecond. */
export function visible(windows, scale) {
  const kept = pictured(slots(windows));
  return kept.length > 0 && (scale * kept.reduce((sum, entry) => sum + entry.until - entry.from, 0)) / kept.length >= LEAST;
}

/** The part of each picture until the next one, for windows overlap. */
function drawPictures(context, { lane, top, place, images, windows, width }) {
  context.imageSmoothingEnabled = true;
  for (const entry of pictured(windows)) {
    const left = place(entry.from);
    const right = place(entry.until);
    if (right < 0 || left > width) continue;
    const image = images.of(entry);
    if (!image) continue;
    const share = Math.min(1, (entry.until - entry.from) / Math.max(1, ms(entry.end) - entry.from));
    context.drawImage(image, 0, 0, image.naturalWidth * share, image.naturalHeight, left, top, right - left, lane);
  }
}

/**
 * Draws `windows` (of GET strip, oldest first) between `from` and `to` (ms) into the canvas.
 * `axis` leaves room for the times below; `hot` is the window_id that is marked.
 * With `images` (of `pictures`) the lowest `lane` px show the spectrograms of the windows that are kept.
 */
export function drawStrip(canvas, width, height, { windows, from, to, axis = true, hot = null, images = null, lane = 0 }) {
  const context = surface(canvas, width, height);
  const edge = height - (axis ? 22 : 0);
  const bottom = edge - (lane ? lane + 8 : 0);
  const middle = bottom / 2;
  const place = (time) => ((time - from) / (to - from)) * width;
  if (axis) drawAxis(context, { width, bottom: edge, from, to, place });
  context.fillStyle = token("--line");
  context.fillRect(0, middle - 0.5, width, 1);
  const most = tallest(windows);
  const novel = token("--novel");
  const placed = slots(windows);
  if (lane) {
    context.fillStyle = token("--well");
    context.fillRect(0, edge - lane, width, lane);
    drawPictures(context, { lane, top: edge - lane, place, images, windows: placed, width });
  }
  for (const entry of placed) {
    const left = place(entry.from);
    const right = place(entry.to);
    if (right < 0 || left > width) continue;
    const colour = colourOf(entry.cluster);
    const wide = Math.max(1, right - left - (right - left > 3 ? 1 : 0));
    const outer = level(entry.peak, most) * (middle - (axis ? 3 : 1));
    const inner = level(entry.rms, most) * (middle - (axis ? 3 : 1));
    bar(context, left, middle, wide, outer, alpha(colour, hot === entry.window_id ? 0.75 : 0.38));
    bar(context, left, middle, wide, Math.min(inner, outer), colour);
    if (entry.novel) bar(context, left, 2.5, wide, 2, novel);
  }
}

function bar(context, left, middle, wide, half, fill) {
  context.fillStyle = fill;
  context.beginPath();
  context.roundRect(left, middle - half, wide, half * 2, Math.min(2, wide / 2));
  context.fill();
}

function drawAxis(context, { width, bottom, from, to, place }) {
  const { step, at } = ticks(from, to, Math.max(2, width / 90));
  context.font = `11px ${token("--sans")}`;
  context.textBaseline = "top";
  for (const time of at) {
    const x = Math.round(place(time)) + 0.5;
    context.fillStyle = token("--line");
    context.fillRect(x, 0, 1, bottom + 3);
    const label = tick(time, step);
    const half = context.measureText(label).width / 2;
    context.fillStyle = token("--muted");
    if (x - half >= 0 && x + half <= width) context.fillText(label, x - half, bottom + 7);
  }
}
