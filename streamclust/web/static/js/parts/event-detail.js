// One window in full: its picture and waveform, the memberships, what was wrong with it, and what later models say.

import { address, get } from "../api.js";
import { colourOf } from "../colour.js";
import { h, icon, onResize, replace, surface, text, token } from "../dom.js";
import { chip, labelOf } from "../store.js";
import { figure, ms, novelty, percent, span, utc } from "../time.js";
import { stamp } from "./stamp.js";

const MEANS = {
  invalid: "no usable sample", dead: "no signal at all", constant: "one value throughout", clipped: "at the limit of the digitiser",
  spike: "single extreme samples", timing_poor: "the clock of the station was unsure", interpolated: "gaps were filled", partial: "part of it is missing",
};

/** What a flag means, in words. */
export function flagMeans(flag) {
  return MEANS[flag] ?? flag;
}

/** Fills `node` with the window; returns the function that stops what it started. `onClose` adds the button that closes. */
export function showDetail(node, event, { onClose = null } = {}) {
  const ends = [];
  const stop = new AbortController();
  const pictures = h("div", { class: "stack pictures" }, h("div", { class: "skeleton picture-box" }));
  const labels = h("div");
  replace(node,
    h("header", { class: "detail-head" },
      h("div", { class: "grow" }, h("h2", null, chip(event.cluster), event.is_novel ? [" ", h("span", { class: "badge novel" }, "novel")] : null),
        h("p", { class: "small muted" }, stamp(event.start, { digits: 3 }), event.late ? " · classified late" : null)),
      onClose ? h("button", { class: "button ghost small square", "aria-label": "Close the detail", onClick: onClose }, icon("close")) : null),
    pictures, memberships(event), facts(event), labels);
  get(`events/${encodeURIComponent(event.window_id)}`, {}, { signal: stop.signal, quiet: true })
    .then((full) => { paintPictures(pictures, full, ends, stop.signal); replace(labels, history(full)); })
    .catch((error) => { if (error.name !== "AbortError") replace(pictures, h("p", { class: "small muted" }, error.message)); });
  return () => { stop.abort(); for (const end of ends) end(); };
}

function paintPictures(node, event, ends, signal) {
  if (!event.kept) {
    replace(node, h("p", { class: "picture-none small muted" }, "No picture: the buffer keeps a sample of the windows, and this is none of them."));
    return;
  }
  const wave = h("canvas", { class: "wave", role: "img", "aria-label": `Waveform of ${utc(event.start)}` });
  const host = h("figure", { class: "wave-box" }, wave);
  const source = address(`windows/${encodeURIComponent(event.window_id)}/spectrogram.png`);
  const image = h("img", { class: "picture", alt: `Spectrogram of ${utc(event.start)}: time to the right, frequency upwards`, src: source, decoding: "async" });
  image.addEventListener("error", () => image.remove());
  replace(node, host, h("figure", { class: "stack tight" }, image, h("figcaption", { class: "small muted picture-key" }, h("span", null, "0 s"), h("span", null, "frequency ↑ · time →"), h("span", null, span((ms(event.end) - ms(event.start)) / 1000)))));
  if (!event.wave) {
    replace(host, h("p", { class: "small muted" }, "The waveform of this window is not kept, only its spectrogram."));
    return;
  }
  get(`windows/${encodeURIComponent(event.window_id)}/waveform`, {}, { signal, quiet: true })
    .then(({ samples }) => ends.push(onResize(host, (width) => drawWave(wave, width, 84, samples, colourOf(event.cluster)))))
    .catch(() => host.remove());
}

/** A waveform as a line over its whole width. */
export function drawWave(canvas, width, height, samples, colour) {
  const context = surface(canvas, width, height);
  const most = samples.reduce((top, value) => Math.max(top, Math.abs(value ?? 0)), 1e-12);
  context.fillStyle = token("--line");
  context.fillRect(0, height / 2 - 0.5, width, 1);
  context.strokeStyle = colour;
  context.lineWidth = 1.2;
  context.lineJoin = "round";
  context.beginPath();
  let down = false;
  samples.forEach((value, at) => {
    if (value === null) { down = false; return; }
    const x = (at / Math.max(1, samples.length - 1)) * width;
    const y = height / 2 - (value / most) * (height / 2 - 3);
    if (down) context.lineTo(x, y);
    else context.moveTo(x, y);
    down = true;
  });
  context.stroke();
}

function memberships(event) {
  const parts = Object.entries(event.memberships ?? {}).filter(([cluster, value]) => value >= 0.001 || cluster === event.cluster).sort((a, b) => b[1] - a[1]).slice(0, 5);
  if (!parts.length) return h("p", { class: "muted small" }, event.cluster ? "" : "This window could not be clustered.");
  return h("section", { class: "stack tight" }, h("h3", null, "Membership"), h("ul", { class: "members" }, parts.map(([cluster, value]) => h("li", null,
    chip(cluster), h("span", { class: "bar" }, h("span", { style: { width: `${Math.max(1, value * 100)}%`, background: colourOf(cluster) } })),
    h("span", { class: "right" }, percent(value))))));
}

function facts(event) {
  const rows = [
    ["Stream", text(event.stream)], ["Length", span((ms(event.end) - ms(event.start)) / 1000)], ["Sampling", `${figure(event.sampling_rate)} Hz`],
    ["Peak", figure(event.peak)], ["RMS", figure(event.rms)], ["Novelty", novelty(event.novelty)],
    ["Gaps", percent(event.gap_fraction)],
    ["Flags", event.flags.length ? event.flags.map((flag) => h("div", null, h("span", { class: "badge warn" }, flag.replace("_", " ")), h("span", { class: "small muted" }, ` ${flagMeans(flag)}`))) : "none"],
    ["Profile", text(event.profile)], ["Model", event.model ?? "none"], ["Processed", stamp(event.processed_at)],
    ["Window", h("code", { class: "small" }, text(event.window_id))],
  ];
  return h("dl", { class: "pairs small" }, rows.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
}

function history(event) {
  if (!event.labels || event.labels.length < 2) return null;
  return h("section", { class: "stack tight" }, h("h3", null, "As other models say"), h("ul", { class: "small stack tight" },
    event.labels.map((label) => h("li", { class: "row tight" }, h("span", { class: "muted" }, `model ${label.model}`), chip(label.cluster), h("span", { class: "visually-hidden" }, labelOf(label.cluster))))));
}
