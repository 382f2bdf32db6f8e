// Lineage over retrains as a drawing: models from left to right, one line an identity, branches where windows went.

import { colourOf } from "../colour.js";
import { clean, h, s, text } from "../dom.js";
import { labelOf } from "../store.js";
import { utc } from "../time.js";
import { stamp } from "./stamp.js";

const [COLUMN, ROW, LEFT, TOP] = [92, 40, 14, 30];
const MOST = 60; // columns

const SAID = {
  birth: () => "was born",
  keep: (record) => `was kept${overlap(record)}`,
  split: (record) => `was split from ${record.parents.map(labelOf).join(", ")}${overlap(record)}`,
  merge: (record) => `took in ${record.parents.filter((id) => id !== record.identity).map(labelOf).join(", ") || "windows"}${overlap(record)}`,
  retire: () => "was retired",
  return: () => "came back",
};

function overlap({ jaccard }) {
  return jaccard === null || jaccard === undefined ? "" : `, overlap ${jaccard.toFixed(2)}`;
}

function sentence(record) {
  return `${clean(labelOf(record.identity))} ${SAID[record.kind]?.(record) ?? record.kind} in version ${record.to_model}`;
}

/** The drawing and the same as a list; `id` is the identity whose lineage it is. */
export function lineageDrawing(records, id) {
  if (!records.length) return h("p", { class: "muted" }, "No model has been trained again since this cluster was made.");
  const columns = columnsOf(records);
  const rows = rowsOf(records, id);
  const width = LEFT + columns.length * COLUMN + 90;
  const height = TOP + rows.length * ROW + 6;
  const x = (model) => LEFT + 10 + columns.indexOf(model) * COLUMN;
  const y = (identity) => TOP + rows.indexOf(identity) * ROW + ROW / 2;
  const drawn = { x, y, columns };
  const main = records.filter((record) => record.kind !== "keep" || columns.includes(record.to_model));
  const list = [...records].reverse().filter((record, at) => record.kind !== "keep" || at === 0 || record.jaccard < 0.8);
  return h("div", { class: "stack" },
    h("div", { class: "lineage-wrap", tabindex: 0, role: "region", "aria-label": "Lineage drawing, can be scrolled" },
      s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "lineage", role: "img", "aria-label": `Lineage of ${clean(labelOf(id))} over ${columns.length} models; listed below` },
        columns.map((model) => [
          s("line", { x1: x(model), x2: x(model), y1: TOP - 4, y2: height, class: "grid-line" }),
          s("text", { x: x(model), y: 18, "text-anchor": "middle", class: "tick" }, `v${model}`),
        ]),
        rows.map((identity) => life(identity, records, drawn)),
        main.map((record) => branch(record, drawn)),
        main.map((record) => knot(record, drawn)))),
    h("details", null, h("summary", null, "As a list"), h("ol", { class: "lineage-list" }, list.map((record) => h("li", null,
      h("span", { class: "muted" }, stamp(record.at)), " ", h("span", null, text(sentence(record))))))));
}

/** Models at which something happened, and the first and last of all: what lies between is a plain line. */
function columnsOf(records) {
  const seen = new Set();
  for (const record of records) {
    if (record.kind === "keep") continue;
    seen.add(record.to_model);
    if (record.from_model !== null && record.parents.length) seen.add(record.from_model);
  }
  const all = records.map((record) => record.to_model);
  seen.add(Math.min(...all)).add(Math.max(...all));
  return [...seen].sort((a, b) => a - b).slice(-MOST);
}

/** Parents above, the identity itself, children below. */
function rowsOf(records, id) {
  const above = new Set();
  const below = new Set();
  for (const record of records) {
    if (record.identity !== id) below.add(record.identity);
    else for (const parent of record.parents) if (parent !== id) above.add(parent);
  }
  for (const parent of above) below.delete(parent);
  return [...above, id, ...below];
}

/** The line of one identity from the first to the last model that is known to have it. */
function life(identity, records, { x, y, columns }) {
  const own = records.filter((record) => record.identity === identity);
  const asParent = records.filter((record) => record.parents.includes(identity) && record.from_model !== null).map((record) => record.from_model);
  const models = [...own.map((record) => record.to_model), ...asParent].map((model) => nearest(columns, model));
  const first = Math.min(...models);
  const last = Math.max(...models);
  const retired = own.some((record) => record.kind === "retire");
  const colour = colourOf(identity);
  return s("g", null,
    s("line", { x1: x(first), x2: x(last) + (retired ? 0 : 26), y1: y(identity), y2: y(identity), stroke: colour, "stroke-width": 4, "stroke-linecap": "round" }),
    s("text", { x: x(last) + (retired ? 14 : 34), y: y(identity) + 4, class: "name" }, short(labelOf(identity))));
}

function short(label) {
  const signs = [...clean(label)];
  return signs.length > 14 ? `${signs.slice(0, 13).join("")}…` : signs.join("");
}

function nearest(columns, model) {
  return columns.filter((column) => column <= model).at(-1) ?? columns[0];
}

function branch(record, { x, y, columns }) {
  if (!["split", "merge"].includes(record.kind) || record.from_model === null) return null;
  const from = x(nearest(columns, record.from_model));
  const to = x(nearest(columns, record.to_model));
  return record.parents.filter((parent) => parent !== record.identity).map((parent) => {
    const middle = (from + to) / 2;
    return s("path", { d: `M${from} ${y(parent)}C${middle} ${y(parent)} ${middle} ${y(record.identity)} ${to} ${y(record.identity)}`, fill: "none", stroke: colourOf(parent), "stroke-width": 2.5, "stroke-dasharray": record.kind === "merge" ? null : "6 3" });
  });
}

function knot(record, { x, y, columns }) {
  const [cx, cy] = [x(nearest(columns, record.to_model)), y(record.identity)];
  const about = s("title", null, `${sentence(record)} · ${utc(record.at)}`);
  if (record.kind === "retire") return s("path", { d: `M${cx - 5} ${cy - 5}l10 10m0 -10l-10 10`, class: "retired" }, about);
  return s("circle", { cx, cy, r: record.kind === "keep" ? 3.5 : 6.5, fill: record.kind === "keep" ? "var(--card)" : colourOf(record.identity), class: "knot" }, about);
}
