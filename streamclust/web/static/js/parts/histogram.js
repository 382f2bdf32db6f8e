// Small bars of counts, a line of values, and shares as rows: drawings in SVG and a text that says the same.

import { h, s, text } from "../dom.js";
import { count, figure, percent } from "../time.js";

const [WIDTH, HEIGHT, FOOT] = [280, 104, 18];

/** A histogram card body: `data` {edges (n + 1), counts (n)} or null; `unit` behind the numbers; `more` stands below. */
export function histogram(title, data, unit, colour, more = null) {
  if (!data || !data.counts.some(Boolean)) return figureOf(title, h("p", { class: "muted small histogram-none" }, "Not known for this cluster."));
  const { edges, counts } = data;
  const most = Math.max(...counts);
  const total = counts.reduce((sum, value) => sum + value, 0);
  const step = WIDTH / counts.length;
  const top = HEIGHT - FOOT;
  const bars = counts.map((value, at) => value && s("rect", {
    x: at * step + 0.5, y: top - Math.max(1.5, (value / most) * (top - 6)), width: Math.max(step - 1, 0.8), height: Math.max(1.5, (value / most) * (top - 6)), rx: 1.5, fill: colour,
  }, s("title", null, `${figure(edges[at])} to ${figure(edges[at + 1])} ${unit}: ${count(value)}`)));
  const middle = quantile(edges, counts, 0.5);
  const said = `${title}: half of ${count(total)} windows are below ${figure(middle)} ${unit}; from ${figure(edges[0])} to ${figure(edges.at(-1))} ${unit}.`;
  return figureOf(title, s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "histogram", role: "img", "aria-label": said },
    s("line", { x1: 0, x2: WIDTH, y1: top, y2: top, class: "axis" }), bars,
    label(0, edges[0], "start"), counts.length > 1 ? label(WIDTH * (counts.length >> 1) / counts.length, edges[counts.length >> 1], "middle") : null, label(WIDTH, edges.at(-1), "end")),
  h("p", { class: "small muted" }, `median ${figure(middle)} ${unit}`), more ? h("p", { class: "small muted" }, more) : null);
}

function label(x, value, anchor) {
  return s("text", { x, y: HEIGHT - 4, "text-anchor": anchor, class: "tick" }, figure(value));
}

function figureOf(title, ...children) {
  return h("figure", { class: "histogram-box" }, h("figcaption", null, title), children);
}

/** The value below which the share `part` of the counts lies, linear within a bin. */
export function quantile(edges, counts, part) {
  const total = counts.reduce((sum, value) => sum + value, 0);
  let sum = 0;
  for (let at = 0; at < counts.length; at++) {
    if (counts[at] && sum + counts[at] >= part * total) return edges[at] + ((part * total - sum) / counts[at]) * (edges[at + 1] - edges[at]);
    sum += counts[at];
  }
  return edges.at(-1);
}

/** Shares as a table of bars: rows [{id, windows, share}]; `href(id)` links them. */
export function shares(rows, { head = "Stream", name = (id) => id, href = null, colour = "var(--accent)", most = 12 } = {}) {
  const top = Math.max(...rows.map((row) => row.share), 0) || 1;
  const body = rows.slice(0, most).map((row) => h("tr", null,
    h("td", { class: "share-name" }, href ? h("a", { class: "plain", href: href(row.id) }, text(name(row.id))) : text(name(row.id))),
    h("td", { class: "share-bar", "aria-hidden": "true" }, h("span", { style: { width: `${(row.share / top) * 100}%`, background: colour } })),
    h("td", { class: "number" }, percent(row.share)), h("td", { class: "number muted" }, count(row.windows))));
  return h("table", { class: "table compact shares" },
    h("thead", null, h("tr", null, h("th", { scope: "col" }, head), h("th", { scope: "col", class: "share-bar" }, h("span", { class: "visually-hidden" }, "Bar")), h("th", { scope: "col", class: "number" }, "Share"), h("th", { scope: "col", class: "number" }, "Windows"))),
    h("tbody", null, body, rows.length > most ? h("tr", null, h("td", { colspan: 4, class: "muted small" }, `and ${rows.length - most} more`)) : null));
}

/** A line through points [[x, y], …], x ascending, from the least to the greatest value; `ends` stand below. */
export function lineDrawing(points, { label: said, ends, colour = "var(--accent)" }) {
  const [wide, tall] = [420, 150];
  const values = points.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const x = (value) => 56 + ((value - first) / (last - first || 1)) * (wide - 64);
  const tell = (value) => (low !== high && figure(low) === figure(high) ? String(Number(value.toPrecision(6))) : figure(value));
  const y = (value) => 12 + (1 - (value - low) / (high - low || 1)) * (tall - 42);
  return s("svg", { viewBox: `0 0 ${wide} ${tall}`, class: "histogram line-drawing", role: "img", "aria-label": said },
    [low, high].map((value) => [s("line", { x1: 56, x2: wide - 8, y1: y(value), y2: y(value), class: "axis" }), s("text", { x: 50, y: y(value) + 4, "text-anchor": "end", class: "tick" }, tell(value))]),
    s("polyline", { points: points.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" "), fill: "none", stroke: colour, "stroke-width": 2, "stroke-linejoin": "round" }),
    points.length <= 60 ? points.map(([at, value]) => s("circle", { cx: x(at), cy: y(value), r: 3, fill: colour }, s("title", null, figure(value)))) : null,
    s("text", { x: 56, y: tall - 6, class: "tick" }, ends[0]), s("text", { x: wide - 8, y: tall - 6, "text-anchor": "end", class: "tick" }, ends[1]));
}
