// Pictures of windows: spectrograms as images and waveforms on canvas, loaded when they come into sight.

import { get } from "../api.js";
import { h, onResize, surface, token } from "../dom.js";

/** An image that says so when there is none; `alt` tells what it shows. */
export function picture(src, alt, { none = "no picture kept", className = "" } = {}) {
  const image = h("img", { src, alt, loading: "lazy", decoding: "async", draggable: "false" });
  const box = h("span", { class: ["pic", className] }, image);
  image.addEventListener("error", () => {
    image.remove();
    box.classList.add("none");
    box.append(h("span", { class: "small" }, none));
  }, { once: true });
  return box;
}

/** Calls `run()` once when the node comes near the visible part; returns the function that stops waiting. */
export function whenSeen(node, run) {
  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    run();
  }, { rootMargin: "200px" });
  watcher.observe(node);
  return () => watcher.disconnect();
}

/** Draws samples as a line through the middle of a canvas's box; the colour may be a function. */
export function drawWave(context, width, height, samples, colour) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of samples) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const reach = high - low || 1;
  const y = (value) => 3 + (1 - (value - low) / reach) * (height - 6);
  context.beginPath();
  let down = false;
  samples.forEach((value, at) => {
    if (value !== null) context[down ? "lineTo" : "moveTo"]((at / Math.max(samples.length - 1, 1)) * width, y(value));
    down = value !== null;
  });
  context.strokeStyle = colour;
  context.lineWidth = samples.length > 200 ? 1 : 1.6;
  context.lineJoin = "round";
  context.stroke();
}

/** A box with a waveform: `samples` or a promise of them; nothing is drawn where there are none. */
export function wave(samples, label) {
  const canvas = h("canvas", { class: "wave-canvas", role: "img", "aria-label": label });
  const box = h("span", { class: "wave-slot" }, canvas);
  let stop = () => {};
  Promise.resolve(samples).then((values) => {
    if (!values?.length) {
      box.classList.add("none");
      canvas.remove();
      box.append(h("span", { class: "small muted" }, "waveform not kept"));
      return;
    }
    stop = onResize(box, (width, height) => drawWave(surface(canvas, width, height), width, height, values, token("--fg")));
  }).catch(() => box.classList.add("none"));
  return { node: box, close: () => stop() };
}

/** The waveform of a kept window, or null where it is not kept (any more). */
export async function samplesOf(windowId) {
  const found = await get(`windows/${encodeURIComponent(windowId)}/waveform`, {}, { quiet: true });
  return found?.samples ?? null;
}
