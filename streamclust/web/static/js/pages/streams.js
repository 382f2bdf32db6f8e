// The streams: which live, how far behind, how good, and what they sound like now.

import { get } from "../api.js";
import { h, icon, later, onResize, replace } from "../dom.js";
import { bindKeys } from "../keys.js";
import { onLive } from "../live.js";
import { flagMeans } from "../parts/event-detail.js";
import { serverNow } from "../status.js";
import { chip, clusters, streamName, streams, subscribe } from "../store.js";
import { drawStrip } from "../strip.js";
import { clock, count, day, ms, percent, span, utc } from "../time.js";

const STRIP_SECONDS = 1800;
const SHOWN = 60;
const REFRESH_MS = 15000;
const STATES = { live: "good", late: "warn", silent: "bad", stopped: "" };
const MEANS = { live: "Windows of it were classified just now", late: "It is behind the others, or nothing was classified for a while", silent: "Nothing has come for long", stopped: "No daemon runs: this is what one has left" };

export async function show(root) {
  const state = { items: [], search: "", only: "", limit: SHOWN, strips: new Map(), asked: 0 };
  const body = h("tbody");
  const summary = h("div", { class: "segmented", role: "group", "aria-label": "Which streams" });
  const search = h("input", { class: "input", type: "search", placeholder: "Search streams", "aria-label": "Search streams", onInput: () => { state.search = search.value.toLowerCase(); state.limit = SHOWN; paint(); } });
  const more = h("button", { class: "button", hidden: true, onClick: () => { state.limit += SHOWN; paint(); } }, "Show more");
  const head = ["Stream", "State", "Last data", "Now", `Last ${span(STRIP_SECONDS)}`, "Quality", "Windows", "Novel"];
  const table = h("table", { class: "table streams" }, h("thead", null, h("tr", null, head.map((name, at) => h("th", { scope: "col", class: at > 5 ? "number" : null }, name)))), body);
  replace(root, h("header", { class: "page-head" }, h("div", null, h("h1", null, "Streams"), h("p", null, "Where the data come from, and how well they come.")),
    h("div", { class: "row" }, summary, search)),
  h("section", { class: "card flush", "aria-label": "Streams" }, h("div", { class: "card-body table-wrap streams-wrap" }, table, h("div", { class: "more" }, more))));

  const sight = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { sight.unobserve(entry.target); loadStrip(entry.target.dataset.stream); }
  }, { rootMargin: "200px" });
  let stops = [];

  function chosen() {
    return state.items.filter((item) => (!state.only || item.state === state.only) && `${item.id} ${streamName(item.id)}`.toLowerCase().includes(state.search));
  }

  function paint() {
    const items = chosen();
    paintStates(summary, state, paint);
    for (const stop of stops) stop();
    stops = [];
    const rows = items.slice(0, state.limit).map(streamRow);
    replace(body, rows.length ? rows : h("tr", null, h("td", { colspan: head.length }, h("div", { class: "empty" }, h("h2", null, "No streams"), h("p", null, state.items.length ? "None fits the search." : "Nothing has arrived yet.")))));
    more.hidden = items.length <= state.limit;
    for (const row of rows) hook(row);
  }

  function hook(row) {
    const box = row.querySelector(".mini");
    const canvas = box.firstElementChild;
    const id = row.dataset.stream;
    stops.push(onResize(box, (width) => drawMini(canvas, width, state.strips.get(id) ?? [])));
    if (!state.strips.has(id)) sight.observe(box);
  }

  async function loadStrip(id) {
    const { windows } = await get("strip", { stream: id, seconds: STRIP_SECONDS }, { quiet: true }).catch(() => ({ windows: [] }));
    state.strips.set(id, windows);
    redraw(id);
  }

  function redraw(id) {
    for (const box of body.querySelectorAll(".mini")) {
      if (box.dataset.stream === id && box.clientWidth) drawMini(box.firstElementChild, box.clientWidth, state.strips.get(id) ?? []);
    }
  }

  async function load(quiet = false) {
    state.asked = Date.now();
    state.items = await streams({ quiet });
    paint();
  }

  const refresh = later(() => load(true).catch(() => {}), 400);
  const heard = (event) => {
    const strip = state.strips.get(event.stream);
    if (strip && !strip.some((entry) => entry.window_id === event.window_id)) {
      strip.push({ ...event, novel: event.is_novel });
      redraw(event.stream);
    }
    if (Date.now() - state.asked > REFRESH_MS / 3) { state.asked = Date.now(); refresh(); }
  };
  const timer = setInterval(() => { if (!document.hidden) load(true).catch(() => {}); }, REFRESH_MS);
  const ends = [onLive("assignment", heard), subscribe(paint), () => clearInterval(timer), refresh.cancel, () => sight.disconnect(), () => { for (const stop of stops) stop(); },
    bindKeys("Streams", { "/": ["Search streams", () => search.focus()] })];
  await Promise.all([clusters().catch(() => {}), load()]); // without the clusters the identities stand alone
  return () => { for (const end of ends) end(); };
}

function drawMini(canvas, width, windows) {
  const last = windows.length ? ms(windows.at(-1).end) : serverNow();
  const to = serverNow() - last < STRIP_SECONDS * 1000 ? serverNow() : last;
  drawStrip(canvas, width, 34, { windows, from: to - STRIP_SECONDS * 1000, to, axis: false });
}

function paintStates(node, state, paint) {
  const number = (name) => state.items.filter((item) => !name || item.state === name).length;
  replace(node, [["", "All"], ["live", "Live"], ["late", "Late"], ["silent", "Silent"], ["stopped", "Stopped"]].filter(([name]) => name !== "stopped" || number(name) || state.only === name).map(([name, title]) => h("button", {
    class: "button", type: "button", "aria-pressed": String(state.only === name),
    onClick: () => { state.only = name; paint(); node.querySelector('[aria-pressed="true"]').focus(); },
  }, `${title} ${number(name)}`)));
}

function streamRow(item) {
  const canvas = h("canvas", { role: "img", "aria-label": `Windows of the last ${span(STRIP_SECONDS)}` });
  return h("tr", { data: { stream: item.id } },
    h("th", { scope: "row", class: "stream-id" }, h("a", { href: `#/events?stream=${encodeURIComponent(item.id)}`, title: item.id }, h("bdi", null, streamName(item.id)))),
    h("td", { class: "s-state" }, h("span", { class: `badge ${STATES[item.state] ?? ""}`, title: MEANS[item.state] ?? null }, h("span", { class: ["dot", item.state === "live" && "pulse"] }), item.state)),
    h("td", { class: "s-last nowrap" }, h("div", null, item.lag_seconds === null ? "–" : `${span(item.lag_seconds)} ago`), h("div", { class: "small muted", title: utc(item.last) }, item.lag_seconds > 86400 ? `${day(item.last)} ${clock(item.last).slice(0, 5)} UTC` : `${clock(item.last)} UTC`)),
    h("td", { class: "s-now" }, chip(item.cluster)),
    h("td", { class: "s-strip" }, h("div", { class: "mini", data: { stream: item.id } }, canvas)),
    h("td", { class: "s-quality" }, quality(item)),
    h("td", { class: "number s-windows", "data-label": "windows" }, count(item.windows)),
    h("td", { class: "number s-novel", "data-label": "novel" }, percent(item.novel_share)));
}

function quality(item) {
  const flags = Object.entries(item.flags ?? {}).filter(([, number]) => number > 0).sort((a, b) => b[1] - a[1]);
  const marks = [share("gaps", item.gap_share, "Share of the samples that were missing"), share("incomplete", item.incomplete_share, "Share of the windows that were not complete")].filter(Boolean);
  const told = flags.slice(0, 4).map(([flag, number]) => h("span", { title: flagMeans(flag) }, `${flag.replace("_", " ")} ${count(number)}`));
  return h("div", null, h("div", { class: "row tight" }, marks.length ? marks : h("span", { class: "badge good" }, icon("check", "icon tiny"), "good")),
    told.length ? h("div", { class: "small muted flags" }, told) : null);
}

/** A badge for what is more than one in two hundred. */
function share(name, value, means) {
  if (!(value > 0.005)) return null;
  return h("span", { class: `badge ${value > 0.05 ? "bad" : "warn"}`, title: means }, `${name} ${percent(value)}`);
}
