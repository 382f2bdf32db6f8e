// The result of an upload: the trace coloured by cluster, the clusters, the map, the table, and what can be taken away.

import { address, get, send } from "../api.js";
import { confirm } from "../dialog.js";
import { h, icon, replace, text } from "../dom.js";
import { bindKeys } from "../keys.js";
import { may } from "../status.js";
import { count, figure, percent, span, utc } from "../time.js";
import { toast } from "../toast.js";
import { into } from "./exact.js";
import { picture } from "./picture.js";
import { scatter } from "./scatter.js";
import { meanWave, trace } from "./trace.js";

const ROWS = 50;
const NONE = "#8a93a0"; // no cluster

/** Shows the result in `root`; returns the function that ends it. */
export async function showResult(root, job, path) {
  const data = await get(`${path}/result.json`);
  const view = { job, path, data, hidden: new Set(), stream: data.streams[0] ?? null, ends: [], listeners: new Set() };
  view.colours = new Map(data.clusters.map((cluster) => [cluster.id, cluster.colour]));
  const traceBox = h("div");
  const head = header(view);
  replace(root, head, h("div", { class: "stack" }, view.stream ? traceCard(view, traceBox) : null, clusterCards(view), h("div", { class: "grid wide-left result-lower" }, tableCard(view), mapCard(view))));
  view.ends.push(bindKeys("Result", {
    "+": ["Zoom in", () => view.trace?.zoom(0.5)],
    "-": ["Zoom out", () => view.trace?.zoom(2)],
    0: ["The whole recording", () => view.trace?.reset()],
  }));
  return () => { view.trace?.close(); for (const end of view.ends) end(); };
}

/** What is marked in the trace and listed: spikes where there are some, else windows; seconds since the recording's start. */
function marksOf({ data, colours }, stream) {
  const half = 1e-3;
  const rows = (data.spikes ?? data.windows).map((row, index) => {
    const from = data.spikes ? row.seconds - half / 2 : row.seconds;
    return { from, to: data.spikes ? row.seconds + half : row.seconds + data.window_seconds, cluster: row.cluster, colour: colours.get(row.cluster) ?? NONE, index, stream: row.stream };
  });
  return rows.filter((mark) => !mark.stream || mark.stream === stream.id).sort((a, b) => a.from - b.from);
}

function named(view, id) {
  if (id === null || id === undefined) return "none";
  const cluster = view.data.clusters.find((each) => each.id === id);
  return cluster?.name ?? (/^\d+$/.test(String(id)) ? `Cluster ${id}` : String(id));
}

function header(view) {
  const { job, path, data } = view;
  const found = data.spikes ? `${count(data.spikes.length)} spikes` : `${count(data.windows.length)} windows`;
  const files = [["CSV", "events.csv"], ["JSON", "events.json"], ["Image", "image.png"], ["Model", "model.zip"], ["Report", "report.html"]];
  const share = h("button", { class: "button small", type: "button", onClick: copyLink }, icon("share"), "Copy link");
  const facts = [data.seconds === null ? ["Windows", count(data.windows.length)] : ["Length", span(data.seconds)], ["Rate", data.rate ? `${count(data.rate)} Hz` : "–"], ["Profile", data.profile], ["Method", data.method], ["Clusters", count(data.clusters.length)]];
  return h("header", { class: "result-head stack" },
    h("div", { class: "page-head" }, h("div", { class: "grow" }, h("a", { class: "small back", href: "#/upload" }, icon("left", "icon tiny"), "Upload another"), h("h1", null, text(job.title || job.filename)),
      h("p", { class: "result-said" }, `${found} in ${data.clusters.length} ${data.clusters.length === 1 ? "cluster" : "clusters"}.`), told(data)),
    h("div", { class: "stack tight result-links" }, h("div", { class: "row" }, share, learnButton(view)), h("p", { class: "small muted" }, `Whoever has the link can see this until ${utc(job.expires)}.`))),
    h("dl", { class: "card facts" }, facts.map(([name, value]) => h("div", { class: "fact" }, h("dt", null, name), h("dd", null, text(value))))),
    h("div", { class: "row downloads", role: "group", "aria-label": "Downloads" }, files.filter(([, name]) => job.mode !== "assign" || !["model.zip", "report.html"].includes(name)).map(([title, name]) => h("a", { class: "button small", href: address(`${path}/${name}`), download: true }, icon("download"), title))));
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href);
    toast("The link is copied.", { kind: "good" });
  } catch {
    toast(`Copy the address of this page: ${location.href}`);
  }
}

/** Why there are so many clusters, and what the reader had to say: samples left out, streams that could not be used. */
function told({ k, notes }) {
  const why = k?.why ? h("details", null, h("summary", null, `Why ${k.chosen}?`), h("p", { class: "small muted" }, text(k.why))) : null;
  const said = notes?.length ? h("details", null, h("summary", null, `${notes.length} ${notes.length === 1 ? "note" : "notes"}`), h("ul", { class: "reasons small" }, notes.map((note) => h("li", null, text(note))))) : null;
  return [why, said];
}

function learnButton({ path }) {
  if (!may("operate")) return null;
  return h("button", { class: "button small", type: "button", title: "Adds the windows to what the next retrain learns from", onClick: async () => {
    if (!(await confirm("Learn from this recording?", "Its windows are put where the next retrain of the running model looks. Until then nothing changes; without this, an upload never touches the running model.", { yes: "Learn from this" }))) return;
    try {
      await send("POST", `${path}/learn`, {});
      toast("The next retrain will look at this recording.", { kind: "good" });
    } catch { /* the toast has said why */ }
  } }, icon("models"), "Learn from this");
}

function card(title, body, { kind = "", tools = null } = {}) {
  return h("section", { class: `card ${kind}`, "aria-label": title }, h("div", { class: "card-head" }, h("h2", null, title), tools), h("div", { class: "card-body" }, body));
}

function traceCard(view, box) {
  const { data, path } = view;
  const draw = () => {
    view.trace?.close();
    view.trace = trace({ path, stream: view.stream, seconds: data.seconds, marks: marksOf(view, view.stream), clusters: data.clusters, spikes: Boolean(data.spikes), onPick: (mark) => view.choose?.(mark.index) });
    view.trace.dim(view.hidden);
    replace(box, view.trace.node);
  };
  draw();
  view.listeners.add(() => view.trace?.dim(view.hidden));
  const select = data.streams.length > 1 ? h("select", { class: "select", "aria-label": "Stream", onChange: () => { view.stream = data.streams[select.selectedIndex]; draw(); } }, data.streams.map((stream) => h("option", null, stream.id))) : null;
  const tools = h("div", { class: "row tight" }, select, [["plus", "Zoom in (+)", () => view.trace?.zoom(0.5)], ["minus", "Zoom out (-)", () => view.trace?.zoom(2)], ["reset", "The whole recording (0)", () => view.trace?.reset()]].map(([sign, title, run]) => h("button", {
    class: "button small square", type: "button", title, "aria-label": title, onClick: run }, icon(sign))));
  return card("Recording", h("div", null, box, h("p", { class: "small muted" }, `${data.timeless ? "The file says no time; seconds from its beginning." : `Starts ${utc(data.start, { digits: 3 })}; seconds since then.`} Drag to move, double click to zoom in.`)), { tools });
}

function clusterCards(view) {
  const { data, path } = view;
  const means = data.mean_waveforms ?? {};
  const numbers = new Map(data.windows.map((row) => [row.window_id, row.number]));
  const reach = Object.values(means).flat().reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  const cards = data.clusters.map((cluster) => {
    const title = named(view, cluster.id);
    const box = h("input", { type: "checkbox", checked: true, onChange: () => {
      if (box.checked) view.hidden.delete(cluster.id);
      else view.hidden.add(cluster.id);
      for (const tell of view.listeners) tell();
    } });
    return h("li", { class: "card result-cluster", style: { "--own": cluster.colour } },
      h("label", { class: "check" }, box, h("span", { class: "dot big" }), h("b", null, text(title)), h("span", { class: "muted small" }, `${count(cluster.windows)} · ${percent(cluster.share)}`)),
      means[cluster.id] ? meanWave(means[cluster.id], cluster.colour, reach, `Mean waveform of ${title}`) : null,
      means[cluster.id] ? null : h("ul", { class: "thumbs" }, cluster.exemplars.slice(0, 6).map((id) => h("li", null, h("button", { class: "thumb", type: "button", "aria-label": `Show window ${numbers.get(id) ?? id} of ${title}`, onClick: () => view.chooseWindow?.(id) },
        picture(address(`${path}/windows/${encodeURIComponent(id)}/spectrogram.png`), "", { none: "–" }))))),
      h("p", { class: "small muted" }, text(cluster.description ?? "")));
  });
  return card("Clusters", h("ul", { class: "result-clusters" }, cards), { kind: "bare" });
}

function mapCard(view) {
  const { data } = view;
  if (!data.map?.length) return card("Map", h("p", { class: "muted" }, "There are too few windows for a map."));
  const plot = scatter({ label: `Map of ${data.map.length} ${data.spikes ? "spikes" : "windows"}: near each other means alike; the cards above count each cluster`, onPick: (at) => view.choose?.(data.map[at][2]), onLasso: (found) => view.only?.(found.map((at) => data.map[at][2])) });
  const of = (index) => (data.spikes ?? data.windows)[index] ?? data.windows[index];
  plot.set(data.map.map(([x, y, index]) => {
    const cluster = of(index)?.cluster;
    return { x, y, group: cluster, colour: view.colours.get(cluster) ?? NONE, shape: Math.floor(data.clusters.findIndex((each) => each.id === cluster) / 7) };
  }), new Map(data.clusters.map((cluster) => [cluster.id, named(view, cluster.id)])));
  view.listeners.add(() => plot.hide(view.hidden));
  view.mapSelect = (index) => plot.select(data.map.flatMap(([, , of], at) => (of === index ? [at] : [])));
  view.ends.push(plot.close);
  const lasso = h("button", { class: "button small", type: "button", "aria-pressed": "false", onClick: () => { const on = lasso.getAttribute("aria-pressed") === "false"; lasso.setAttribute("aria-pressed", String(on)); plot.lasso(on); } }, "Lasso");
  const tools = h("div", { class: "row tight" }, lasso, [["plus", "Zoom the map in", () => plot.zoom(1.6)], ["minus", "Zoom the map out", () => plot.zoom(1 / 1.6)], ["reset", "The whole map", () => { plot.reset(); plot.select([]); view.only?.(null); }]].map(([sign, title, run]) => h("button", {
    class: "button small square", type: "button", title, "aria-label": title, onClick: run }, icon(sign))));
  return card("Map", h("div", { class: "result-map" }, plot.node), { tools });
}

function tableCard(view) {
  const { data } = view;
  const rows = (data.spikes ?? data.windows).map((row, index) => ({ row, index }));
  const state = { page: 0, chosen: null, only: null };
  const body = h("tbody");
  const place = h("span", { class: "muted small", "aria-live": "polite" });
  const step = 1 / (data.rate || 1000);
  const shown = () => rows.filter(({ row, index }) => !view.hidden.has(row.cluster) && (!state.only || state.only.has(index)));
  const paint = () => {
    const found = shown();
    const pages = Math.max(1, Math.ceil(found.length / ROWS));
    state.page = Math.min(Math.max(0, state.page), pages - 1);
    replace(body, found.slice(state.page * ROWS, (state.page + 1) * ROWS).map((entry) => tableRow(view, entry, { step, chosen: entry.index === state.chosen, onClick: () => view.choose(entry.index) })));
    place.textContent = `${count(found.length)} ${data.spikes ? "spikes" : "windows"}, page ${state.page + 1} of ${pages}`;
    [before.disabled, after.disabled] = [state.page === 0, state.page === pages - 1];
  };
  const turn = (by) => { state.page += by; paint(); };
  const before = h("button", { class: "button small square", type: "button", "aria-label": "Previous page", onClick: () => turn(-1) }, icon("left"));
  const after = h("button", { class: "button small square", type: "button", "aria-label": "Next page", onClick: () => turn(1) }, icon("right"));
  view.choose = (index) => {
    state.chosen = index;
    const at = shown().findIndex((entry) => entry.index === index);
    if (at >= 0) state.page = Math.floor(at / ROWS);
    paint();
    view.mapSelect?.(index);
    show(view, index);
  };
  view.chooseWindow = (id) => { const index = data.windows.findIndex((row) => row.window_id === id); if (index >= 0) view.choose(index); };
  view.only = (indices) => { state.only = indices ? new Set(indices) : null; state.page = 0; paint(); };
  view.listeners.add(paint);
  paint();
  const heads = data.spikes ? ["Time", "Cluster", "Membership", "Peak"] : [data.seconds === null ? "Window" : "Start", "Cluster", "Membership", "Novelty", "Peak", "Rms"];
  return card(data.spikes ? "Spikes" : "Windows", [h("div", { class: "table-wrap scroll", tabindex: 0, role: "region", "aria-label": data.spikes ? "Spikes" : "Windows" }, h("table", { class: "table compact" },
    h("thead", null, h("tr", null, heads.map((name, at) => h("th", { scope: "col", class: at < 2 ? null : "number" }, name)))), body))], { kind: "flush", tools: h("div", { class: "row tight" }, place, before, after) });
}

function tableRow(view, { row, index }, { step, chosen, onClick }) {
  const { data } = view;
  const time = row.time ?? row.start;
  const window = data.spikes ? data.windows[index] : row;
  const colour = view.colours.get(row.cluster) ?? NONE;
  const numbers = data.spikes ? [percent(window?.membership), figure(window?.peak)] : [percent(row.membership), row.novelty === null ? "–" : row.novelty.toFixed(3), figure(row.peak), figure(row.rms)];
  return h("tr", { class: "link", "aria-selected": String(chosen), onClick },
    h("td", { class: "nowrap" }, h("button", { class: "link-button", type: "button", title: time ? utc(time, { digits: 3 }) : null }, row.seconds === null ? `Window ${row.number}` : into(row.seconds, step))),
    h("td", null, h("span", { class: "chip" }, h("span", { class: "dot", style: { background: colour } }), text(named(view, row.cluster)))),
    numbers.map((value) => h("td", { class: "number" }, value)));
}

function show(view, index) {
  const mark = view.stream && marksOf(view, view.stream).find((each) => each.index === index);
  if (mark) view.trace?.choose(mark);
}
