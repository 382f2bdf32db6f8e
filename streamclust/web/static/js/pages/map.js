// The embedding map: a point a window, in two dimensions; zoom, point, or draw a lasso to list windows.

import { address, get } from "../api.js";
import { colourOf } from "../colour.js";
import { clean, h, icon, replace, text } from "../dom.js";
import { bindKeys } from "../keys.js";
import { picture } from "../parts/picture.js";
import { scatter } from "../parts/scatter.js";
import { stamp } from "../parts/stamp.js";
import { chip, clusters, labelOf, streamName, subscribe } from "../store.js";
import { count, figure, novelty, percent } from "../time.js";
import { tip } from "../tip.js";

const MOST = 5000;
const LISTED = 200;

export async function show(root) {
  const state = { points: [], axes: [], hidden: new Set(), lasso: false };
  const bubble = tip();
  const side = h("section", { class: "card map-side", "aria-live": "polite", "aria-label": "Chosen windows" });
  const legend = h("ul", { class: "map-legend" });
  const plot = scatter({
    label: "Map of windows; the legend lists how many each cluster has",
    onPick: (index) => { plot.select([index]); showWindow(side, state.points[index]); },
    onLasso: (indices) => showList(side, indices.map((index) => state.points[index])),
    onHover: (index, x, y) => {
      if (index < 0) bubble.hide();
      else bubble.show(x, y, h("b", null, clean(labelOf(state.points[index][2]))), state.points[index][4] ? " · novel" : "");
    },
  });
  const lassoButton = h("button", { class: "button small", type: "button", "aria-pressed": "false", title: "Draw around windows (a); or hold Shift", onClick: () => lasso(!state.lasso) }, icon("pen"), "Lasso");
  const lasso = (on) => { state.lasso = on; plot.lasso(on); lassoButton.setAttribute("aria-pressed", String(on)); };
  const axes = h("p", { class: "small muted map-axes" });
  const said = h("p");
  replace(root,
    h("header", { class: "page-head" }, h("div", null, h("h1", null, "Map"), said),
      h("div", { class: "row" }, lassoButton,
        [["plus", "Zoom in (+)", () => plot.zoom(1.6)], ["minus", "Zoom out (-)", () => plot.zoom(1 / 1.6)], ["reset", "The whole map (0)", plot.reset]].map(([sign, title, run]) => h("button", {
          class: "button small square", type: "button", "aria-label": title, title, onClick: run }, icon(sign))))),
    h("div", { class: "map-grid" }, h("section", { class: "card map-card", "aria-label": "Map" }, plot.node, axes),
      h("div", { class: "stack map-aside" }, h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", null, "Legend")), h("div", { class: "card-body" }, legend)), side)));
  const paint = () => {
    plot.set(state.points.map(pointOf), labels(state.points));
    plot.hide(state.hidden);
    paintLegend(legend, state, () => plot.hide(state.hidden));
  };
  await clusters();
  let found = await get("map", { limit: MOST });
  for (let turn = 0; found.missing && !found.points.length && turn < 20; turn++) found = await get("map", { limit: MOST }); // the first look places the windows
  const { points, axes: names } = found;
  Object.assign(state, { points, axes: names });
  said.textContent = points.length ? `${count(points.length)} windows of the buffer; near each other means alike.` : "";
  if (!points.length) {
    replace(root, h("div", { class: "empty" }, icon("map"), h("h1", null, "No map yet"), h("p", null, "The map shows the windows that are kept in the buffer, once there is a model.")));
    return () => { bubble.close(); plot.close(); };
  }
  axes.textContent = `→ ${clean(names[0])}   ↑ ${clean(names[1])}`;
  hint(side);
  paint();
  const ends = [subscribe(paint), bindKeys("Map", {
    a: ["Lasso on or off", () => lasso(!state.lasso)],
    "+": ["Zoom in", () => plot.zoom(1.6)],
    "-": ["Zoom out", () => plot.zoom(1 / 1.6)],
    0: ["The whole map", plot.reset],
    Escape: ["Choose nothing", () => { plot.select([]); hint(side); }],
  })];
  return () => { for (const end of [...ends, plot.close, bubble.close]) end(); };
}

function pointOf([x, y, cluster, , novel]) {
  return { x, y, group: cluster, colour: colourOf(cluster), shape: shapeOf(cluster), ring: novel };
}

/** Identities that share a colour differ in shape: C1 to C7 are circles, C8 to C14 squares, and so on. */
function shapeOf(cluster) {
  const number = Number(/\d+$/.exec(cluster ?? "")?.[0] ?? 1);
  return Math.floor((number - 1) / 7) % 4;
}

function labels(points) {
  return new Map([...new Set(points.map(([, , cluster]) => cluster))].map((id) => {
    const signs = [...clean(labelOf(id))];
    return [id, signs.length > 20 ? `${signs.slice(0, 19).join("")}…` : signs.join("")];
  }));
}

const SHAPES = ["●", "■", "▲", "◆"];

function paintLegend(node, state, tell) {
  const sums = new Map();
  for (const [, , cluster] of state.points) sums.set(cluster, (sums.get(cluster) ?? 0) + 1);
  const rows = [...sums].sort((a, b) => b[1] - a[1]);
  replace(node, rows.map(([id, sum]) => {
    const box = h("input", { type: "checkbox", checked: !state.hidden.has(id), onChange: () => {
      if (box.checked) state.hidden.delete(id);
      else state.hidden.add(id);
      tell();
    } });
    return h("li", null, h("label", { class: "check" }, box, h("span", { class: "shape", style: { color: colourOf(id) }, "aria-hidden": "true" }, SHAPES[shapeOf(id)]), text(labelOf(id), "truncate"), h("span", { class: "muted small" }, count(sum))));
  }), h("li", { class: "small muted" }, "A ring: novel."));
}

function hint(side) {
  replace(side, h("div", { class: "card-body muted small" }, "Click on a point to see the window. Hold Shift and drag, or press ", h("kbd", null, "a"), ", to draw around many. Scroll or pinch to zoom, drag to move."));
}

async function showWindow(side, [, , cluster, windowId]) {
  const id = encodeURIComponent(windowId);
  replace(side, h("div", { class: "card-body stack" }, h("div", { class: "row" }, chip(cluster, { colour: colourOf(cluster) })),
    picture(address(`windows/${id}/spectrogram.png`), "Spectrogram of the window", { className: "large" }), h("dl", { class: "pairs small", id: "map-facts" })));
  const facts = side.querySelector("#map-facts");
  try {
    const event = await get(`events/${id}`, {}, { quiet: true });
    if (!facts.isConnected) return;
    const rows = [["Start", stamp(event.start)], ["Stream", streamName(event.stream)], ["Novelty", novelty(event.novelty)], ["Peak", figure(event.peak)], ["Membership", percent(event.memberships?.[cluster] ?? null)]];
    replace(facts, rows.map(([name, value]) => [h("dt", null, name), h("dd", null, text(value))]));
    facts.after(h("a", { class: "small", href: `#/events?window=${id}` }, "Open the event"));
  } catch (error) {
    replace(facts, h("dd", { class: "muted" }, error.message));
  }
}

function showList(side, points) {
  if (!points.length) {
    hint(side);
    return;
  }
  const sums = new Map();
  for (const [, , cluster] of points) sums.set(cluster, (sums.get(cluster) ?? 0) + 1);
  const rows = points.map(([x, y, cluster, id, novel]) => [id, cluster, labelOf(cluster), novel, x, y]);
  replace(side, h("div", { class: "card-head" }, h("h2", null, `${count(points.length)} windows`),
    h("button", { class: "button small", type: "button", onClick: () => save(rows) }, icon("download"), "CSV")),
  h("div", { class: "card-body stack" },
    h("div", { class: "row" }, [...sums].sort((a, b) => b[1] - a[1]).map(([id, sum]) => h("span", { class: "badge" }, chip(id, { colour: colourOf(id), link: false }), count(sum)))),
    h("ul", { class: "thumbs" }, points.slice(0, LISTED).map(([, , cluster, id, novel]) => h("li", null, h("a", { href: `#/events?window=${encodeURIComponent(id)}`, class: "thumb", style: { "--own": colourOf(cluster) }, "aria-label": `${clean(labelOf(cluster))}${novel ? ", novel" : ""}, window ${clean(id)}` },
      picture(address(`windows/${encodeURIComponent(id)}/spectrogram.png`), "", { none: "–" }))))),
    points.length > LISTED ? h("p", { class: "small muted" }, `${LISTED} are shown; the CSV has them all.`) : null));
}

/** Saves rows as CSV; texts are quoted, and a leading sign that a table program would take for a formula is kept from it. */
function save(rows) {
  const cell = (value) => (typeof value === "number" || typeof value === "boolean" ? String(value) : `"${String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`);
  const lines = ["window_id,cluster,label,novel,x,y", ...rows.map((row) => row.map(cell).join(","))];
  const link = h("a", { href: URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" })), download: "windows.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
