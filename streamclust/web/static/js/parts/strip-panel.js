// The card of the live strip: the last minutes of one stream, moving with the live events.

import { address, get } from "../api.js";
import { h, onResize, replace } from "../dom.js";
import { onLive } from "../live.js";
import { currentStatus, serverNow } from "../status.js";
import { chip, labelOf, streamName, streams, subscribe } from "../store.js";
import { drawStrip, pictures, slots, visible } from "../strip.js";
import { clock, figure, ms, span, utc } from "../time.js";
import { tip } from "../tip.js";

const LENGTHS = [["5 min", 300], ["15 min", 900], ["1 h", 3600], ["6 h", 21600]];
const HEIGHT = 120;
const AGAIN = 3000; // ms from one asking to the next, while windows come: live events may be skipped, and say nothing of pictures
const LANE = 64; // px more for the spectrograms, when they are wide enough to be seen

/** `{node, start(), close()}` */
export function stripPanel() {
  const state = { stream: null, seconds: 900, windows: [], hot: null, stale: false, asked: 0 };
  const note = tip();
  const images = pictures(picture, () => draw());
  const canvas = h("canvas", { class: "strip-canvas", role: "img" });
  const now = h("p", { class: "strip-now" });
  const picker = h("select", { class: "select", "aria-label": "Stream of the strip", onChange: () => { state.stream = picker.value; load(); } });
  const lengths = h("div", { class: "segmented", role: "group", "aria-label": "Length of the strip" }, LENGTHS.map(([name, seconds]) => h("button", {
    class: "button", type: "button", data: { seconds }, onClick: () => { state.seconds = seconds; load(); },
  }, name)));
  const plot = h("div", { class: "strip-plot" }, canvas);
  const node = h("section", { class: "card", "aria-labelledby": "strip-title" },
    h("div", { class: "card-head" }, h("h2", { id: "strip-title" }, "Live"), picker, lengths),
    h("div", { class: "card-body" }, now, plot));

  function reach() {
    const last = state.windows.length ? ms(state.windows.at(-1).end) : serverNow();
    const now = serverNow();
    const to = now - last < state.seconds * 500 ? now : last; // a stream that fell silent, or a replay, keeps its last windows in sight
    return { from: to - state.seconds * 1000, to, running: to === now };
  }

  function draw() {
    if (!plot.clientWidth) return;
    const lane = visible(state.windows, plot.clientWidth / (state.seconds * 1000)) ? LANE : 0;
    const height = HEIGHT + (lane ? lane + 8 : 0);
    plot.style.height = `${height}px`;
    drawStrip(canvas, plot.clientWidth, height, { ...reach(), windows: state.windows, hot: state.hot, images, lane });
  }

  function tell() {
    const last = state.windows.at(-1);
    picker.hidden = lengths.hidden = plot.hidden = !state.stream;
    for (const button of lengths.children) button.setAttribute("aria-pressed", String(Number(button.dataset.seconds) === state.seconds));
    canvas.setAttribute("aria-label", last ? `${state.windows.length} windows of the last ${span(state.seconds)}; the newest, ${utc(last.start)}, is ${labelOf(last.cluster)}` : "No windows");
    replace(now, last ? [h("span", { class: "muted" }, reach().running ? "now" : `last, ${utc(last.start)}`), chip(last.cluster), last.novel ? h("span", { class: "badge novel" }, "novel") : null,
      h("span", { class: "muted small" }, `peak ${figure(last.peak)} · rms ${figure(last.rms)}`)] : h("span", { class: "muted" }, "No windows of this stream yet."));
  }

  async function load(quiet = false) {
    if (!state.stream) { tell(); return; }
    const { stream, seconds } = state;
    Object.assign(state, { stale: false, asked: Date.now() });
    const answer = await get("strip", { stream, seconds }, { quiet });
    if (stream !== state.stream || seconds !== state.seconds) return; // another was chosen meanwhile
    const last = answer.windows.at(-1)?.start ?? "";
    state.windows = [...answer.windows, ...(state.of === stream ? state.windows.filter((entry) => entry.start > last) : [])];
    state.of = stream;
    tell();
    draw();
  }

  function add(event) {
    if (!state.stream && !state.starting) { // the first stream ever
      state.starting = true;
      begin().catch(() => {}).finally(() => { state.starting = false; });
    }
    if (event.stream !== state.stream || state.windows.some((entry) => entry.window_id === event.window_id)) return;
    const { window_id, start, end, cluster, peak, rms } = event;
    state.stale = true;
    state.windows.push({ window_id, start, end, cluster, novel: event.is_novel, peak, rms });
    state.windows.sort((a, b) => (a.start < b.start ? -1 : 1));
    const oldest = ms(state.windows.at(-1).end) - state.seconds * 1100;
    state.windows = state.windows.filter((entry) => ms(entry.end) > oldest);
    tell();
    draw();
  }

  function under(event) {
    const box = canvas.getBoundingClientRect();
    const { from, to } = reach();
    const time = from + ((event.clientX - box.left) / box.width) * (to - from);
    return slots(state.windows).find((entry) => time >= entry.from && time < entry.to) ?? null;
  }

  canvas.addEventListener("pointermove", (event) => {
    const found = under(event);
    if (found?.window_id !== state.hot) { state.hot = found?.window_id ?? null; draw(); }
    if (!found) { note.hide(); return; }
    note.show(event.clientX, event.clientY, h("div", { class: "row tight" }, chip(found.cluster, { link: false }), found.novel ? h("span", { class: "badge novel" }, "novel") : null),
      h("div", { class: "muted" }, `${clock(found.start)} – ${clock(found.end)} UTC`), h("div", { class: "muted" }, `peak ${figure(found.peak)} · rms ${figure(found.rms)}`));
  });
  canvas.addEventListener("pointerleave", () => { state.hot = null; note.hide(); draw(); });
  canvas.addEventListener("click", (event) => { const found = under(event); if (found) location.hash = `#/events?window=${encodeURIComponent(found.window_id)}`; });

  const timer = setInterval(() => {
    if (document.hidden || !node.isConnected) return;
    draw();
    if (state.stale && Date.now() - state.asked > AGAIN) load(true).catch(() => {});
  }, 1000);
  const ends = [onResize(plot, draw), onLive("assignment", add), onLive("open", () => { if (state.stream) load().catch(() => {}); }), subscribe(() => { tell(); draw(); }), () => clearInterval(timer), note.close, images.close];
  async function begin() {
    const [items] = await Promise.all([streams(), currentStatus()]);
    const first = [...items].sort((a, b) => (a.state === "live" ? 0 : 1) - (b.state === "live" ? 0 : 1) || b.windows - a.windows)[0];
    state.stream = first?.id ?? null;
    replace(picker, items.map(({ id }) => h("option", { value: id, selected: id === state.stream }, streamName(id))));
    await load();
  }

  return {
    node, start: begin,
    close() { for (const end of ends) end(); },
  };
}

/** Where the picture of a window is. */
export function picture(window) {
  return address(`windows/${encodeURIComponent(window)}/spectrogram.png`);
}
