// The card of the occurrence heat map: its labels, its controls, its data, and the same numbers as a table.

import { get } from "../api.js";
import { colourOf } from "../colour.js";
import { h, icon, later, onResize, replace, text, token } from "../dom.js";
import { Heat } from "../heat.js";
import { onLive } from "../live.js";
import { currentStatus, serverNow } from "../status.js";
import { known, labelOf, streamName, streams, subscribe } from "../store.js";
import { brief, count, day, clock, iso, ms, percent, span, utc } from "../time.js";
import { tip } from "../tip.js";

const SPANS = [["1 h", 3600], ["6 h", 21600], ["24 h", 86400], ["7 d", 604800], ["30 d", 2592000], ["1 y", 31557600], ["All", 0]];
const BIN_PX = 6;
const FRESH_MS = 5000; // how often new windows make the map ask again

/** `{node, start(), look(from, to), zoom(factor), reset(), close()}`; `onData(data, rows)` hears of each answer. */
export function heatPanel({ onData }) {
  const state = { view: null, whole: null, data: null, rows: [], following: true, seconds: 0, stream: "", asking: null, asked: 0 };
  const note = tip();
  const canvas = h("canvas", { class: "heat-canvas", tabindex: 0, role: "application", "aria-roledescription": "heat map" });
  const labels = h("ul", { class: "heat-labels" });
  const sums = h("div", { class: "heat-sums", "aria-hidden": "true" });
  const range = h("p", { class: "small muted heat-range" });
  const said = h("div", { class: "visually-hidden", "aria-live": "polite" });
  const table = h("div", { class: "visually-hidden" });
  const picker = h("select", { class: "select", "aria-label": "Stream of the map", onChange: () => { state.stream = picker.value; load(); } }, h("option", { value: "" }, "All streams"));
  const presets = h("div", { class: "segmented", role: "group", "aria-label": "Length of time shown" },
    SPANS.map(([name, seconds]) => h("button", { class: "button", type: "button", data: { seconds }, onClick: () => choose(seconds) }, name)));
  const body = h("div", { class: "heat" }, labels, h("div", { class: "heat-plot" }, canvas), sums);
  const node = h("section", { class: "card", "aria-labelledby": "heat-title" },
    h("div", { class: "card-head" }, h("h2", { id: "heat-title" }, "Occurrence"), picker, presets,
      h("div", { class: "row tight" },
        h("button", { class: "button small square", "aria-label": "Earlier", title: "Earlier", onClick: () => heat.view && heat.pan(-0.5) }, icon("left")),
        h("button", { class: "button small square", "aria-label": "Zoom out", title: "Zoom out", onClick: () => zoom(2) }, icon("minus")),
        h("button", { class: "button small square", "aria-label": "Zoom in", title: "Zoom in", onClick: () => zoom(0.5) }, icon("plus")),
        h("button", { class: "button small square", "aria-label": "Later", title: "Later", onClick: () => heat.view && heat.pan(0.5) }, icon("right")))),
    h("div", { class: "card-body" }, range, body, said, table));

  const heat = new Heat(canvas, {
    view: (from, to) => { state.view = { from, to }; state.following = false; marks(); soon(); },
    reset,
    pick: (cell) => open(cell, state.stream),
    hover: (cell, event) => hover(cell, event),
  });
  const soon = later(() => load(), 140);

  function hover(cell, event) {
    if (!cell) { note.hide(); return; }
    if (!event) { said.textContent = heat.describe(cell); }
    const box = canvas.getBoundingClientRect();
    const [x, y] = event ? [event.clientX, event.clientY] : [box.left + heat.x((cell.from + cell.to) / 2), box.top + 60];
    note.show(x, y, tipLines(cell));
  }

  function bins() {
    return Math.max(20, Math.min(400, Math.round((heat.size[0] || 800) / BIN_PX)));
  }

  async function load() {
    state.asking?.abort();
    state.asking = new AbortController();
    state.asked = Date.now();
    const view = state.view;
    const params = { bins: bins(), stream: state.stream, from: view ? iso(view.from) : null, to: view ? iso(view.to) : null };
    try {
      const data = await get("occurrence", params, { signal: state.asking.signal });
      accept(data);
    } catch (error) {
      if (error.name !== "AbortError") range.textContent = error.message;
    }
  }

  function accept(data) {
    body.hidden = data.from === null;
    if (data.from === null) {
      range.textContent = "No window was classified yet; the map fills as data arrive.";
      return;
    }
    data.start = ms(data.from);
    state.view ??= { from: data.start, to: data.start + data.bin_seconds * 1000 * data.total.length };
    state.whole ??= state.view;
    state.data = data;
    paint();
  }

  function paint() {
    if (!state.data) return;
    state.rows = rowsOf(state.data);
    paintLabels(labels, state.rows);
    paintSums(sums, state.data, state.rows);
    paintTable(table, state.data, state.rows);
    const height = heat.height(state.rows.length);
    body.style.setProperty("--heat-height", `${height}px`);
    canvas.setAttribute("aria-label", `Windows per cluster and time from ${utc(state.view.from)} to ${utc(state.view.to)}; arrow keys walk, plus and minus zoom, Enter opens the windows`);
    heat.size[1] = height;
    heat.set(state.data, state.rows, state.view);
    marks();
    onData(state.data, state.rows);
  }

  function marks() {
    const { from, to } = state.view;
    const short = to - from < 3 * 86400e3;
    replace(range, short && day(from) === day(to) ? `${day(from)} ${clock(from)} – ${clock(to)} UTC` : short ? `${utc(from, { zone: false })} – ${utc(to)}` : `${day(from)} – ${day(to)} UTC`,
      ` · ${span((to - from) / 1000)}`, state.data ? ` · ${count(state.data.total.reduce((sum, value) => sum + value, 0))} windows` : null);
    for (const button of presets.children) button.setAttribute("aria-pressed", String(state.following && Number(button.dataset.seconds) === state.seconds));
  }

  async function newest() {
    const status = await currentStatus();
    return status.newest ? ms(status.newest) + 1000 : serverNow();
  }

  async function choose(seconds) {
    state.seconds = seconds;
    state.following = true;
    const end = await newest();
    if (seconds) state.view = { from: end - seconds * 1000, to: end };
    else { state.view = null; state.whole = null; }
    if (heat.view && state.view) { heat.view = state.view; heat.draw(); }
    await load();
  }

  function reset() { return choose(0); }

  function zoom(factor) { if (heat.view) heat.zoom(factor); }

  const fresh = () => { // the newest windows move into a map that follows them
    if (Date.now() - state.asked < (state.data ? FRESH_MS : 500) || document.hidden) return;
    if (state.following) choose(state.seconds);
    else if (state.view.to > serverNow() - 3600e3) load();
  };
  const ends = [
    onResize(body, () => { const box = canvas.parentElement.clientWidth; if (box && box !== heat.size[0]) { const before = bins(); heat.size[0] = box; if (state.data && Math.abs(bins() - before) > before / 8) soon(); } heat.draw(); }),
    onLive("assignment", fresh), subscribe(paint), soon.cancel, note.close, () => state.asking?.abort(),
  ];
  return {
    node, reset, zoom,
    look(from, to) { state.view = { from, to }; state.following = false; heat.view = state.view; heat.draw(); load(); },
    async start() {
      heat.size[0] = canvas.parentElement.clientWidth;
      streams({ quiet: true }).then((items) => fillPicker(picker, items)).catch(() => {});
      await choose(0);
    },
    close() { for (const end of ends) end(); },
  };
}

export function fillPicker(picker, streams) {
  const chosen = picker.value;
  for (const { id } of streams) picker.append(h("option", { value: id, selected: id === chosen }, streamName(id)));
}

/** Rows of the map: the clusters by the number of their identity, those without a window here left out, then the novel ones. */
function rowsOf(data) {
  const present = data.clusters.filter((id, at) => data.counts[at].some((value) => value > 0) || known(id)?.in_model);
  const number = (id) => Number(/(\d+)\D*$/.exec(id)?.[1] ?? 0);
  const rows = [...present].sort((a, b) => number(a) - number(b) || a.localeCompare(b)).map((id) => ({ id, label: labelOf(id), colour: colourOf(id) }));
  return [...rows, { id: null, label: "novel", colour: token("--novel") }];
}

function paintLabels(list, rows) {
  replace(list, rows.map((row) => h("li", null, row.id === null
    ? h("a", { class: "chip", href: "#/novelty" }, h("span", { class: "dot ring" }), "novel")
    : h("a", { class: "chip", href: `#/clusters/${encodeURIComponent(row.id)}`, title: row.label === row.id ? row.id : `${row.id}: ${text(row.label).textContent}` },
      h("span", { class: "dot", style: { background: row.colour } }), text(row.label)))));
}

function sumOf(data, row) {
  const line = row.id === null ? data.novel : data.counts[data.clusters.indexOf(row.id)] ?? [];
  return line.reduce((sum, value) => sum + value, 0);
}

function paintSums(node, data, rows) {
  replace(node, rows.map((row) => h("span", null, brief(sumOf(data, row)))));
}

function paintTable(node, data, rows) {
  const all = data.total.reduce((sum, value) => sum + value, 0);
  replace(node, h("table", null, h("caption", null, "Windows per cluster in the time shown"),
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "Cluster"), h("th", { scope: "col" }, "Windows"), h("th", { scope: "col" }, "Share"))),
    h("tbody", null, rows.map((row) => h("tr", null, h("th", { scope: "row" }, text(row.label)), h("td", null, count(sumOf(data, row))),
      h("td", null, percent(all ? sumOf(data, row) / all : 0)))))));
}

function tipLines(cell) {
  return [
    cell.row ? h("div", { class: "row tight" }, h("span", { class: "dot", style: { background: cell.row.colour } }), h("b", null, text(cell.row.label))) : h("b", null, "All clusters"),
    h("div", null, h("b", null, count(cell.count)), cell.count === 1 ? " window" : " windows", cell.row && cell.total ? h("span", { class: "muted" }, ` · ${percent(cell.count / cell.total)} of ${count(cell.total)}`) : null),
    h("div", { class: "muted" }, `${utc(cell.from)} + ${span((cell.to - cell.from) / 1000)}`),
  ];
}

function open(cell, stream) {
  const query = new URLSearchParams({ from: iso(cell.from), to: iso(cell.to) });
  if (cell.row?.id) query.set("cluster", cell.row.id);
  else if (cell.row) query.set("novel", "true");
  if (stream) query.set("stream", stream);
  location.hash = `#/events?${query}`;
}
