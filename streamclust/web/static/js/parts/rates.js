// The card of the rates and cumulative counts, from the same answer as the heat map.

import { h, replace, text } from "../dom.js";
import { lineChart } from "../plot.js";
import { known } from "../status.js";
import { count } from "../time.js";

const LINES = 12; // more than this nobody can tell apart; the rest are one grey line

/** `{node, set(data, rows), close()}`; dragging over a chart calls `onRange(from, to)` in ms. */
export function ratesPanel(onRange) {
  const rate = h("div");
  const sum = h("div");
  const unit = h("span", { class: "small muted" });
  const key = h("ul", { class: "key small", "aria-hidden": "true" });
  const node = h("section", { class: "card", "aria-labelledby": "rates-title" },
    h("div", { class: "card-head" }, h("h2", { id: "rates-title" }, "Rate"), unit),
    h("div", { class: "card-body" }, rate),
    h("div", { class: "card-head" }, h("h2", null, "Cumulative count"), h("span", { class: "small muted" }, "since the left edge")),
    h("div", { class: "card-body" }, sum, key));
  const charts = [lineChart(rate, { height: 170, onRange, stepped: true, hint: "Point at the chart to read it; drag to zoom." }), lineChart(sum, { height: 170, onRange })];
  node.hidden = true; // until there is something to draw
  return {
    node,
    set(answer, rows) {
      const data = complete(answer);
      node.hidden = false;
      const lines = linesOf(data, rows);
      const [times, width, per, name] = regroup(data, lines);
      unit.textContent = `windows per ${name}`;
      charts[0].set(times, lines.map((line) => ({ ...line, values: ended(grouped(line.values, width).map((value) => value * per)) })), said("Rate", lines));
      const edges = data.total.map((_, bin) => data.start / 1000 + (bin + 1) * data.bin_seconds);
      charts[1].set(edges, lines.map((line) => ({ ...line, values: cumulative(line.values) })), said("Cumulative count", lines));
      replace(key, lines.map((line) => h("li", { class: "row tight" }, h("span", { class: ["swatch", line.dash && "dashed"], style: { "--swatch": line.colour } }), text(line.label, "truncate"))));
    },
    close() { for (const chart of charts) chart.close(); },
  };
}

/** Without the bins that time has not filled: they would look like a fall. */
function complete(data) {
  const bins = Math.min(data.total.length, Math.max(1, Math.floor((known() - data.start) / 1000 / data.bin_seconds)));
  const cut = (values) => values.slice(0, bins);
  return { ...data, total: cut(data.total), novel: cut(data.novel), counts: data.counts.map(cut) };
}

function linesOf(data, rows) {
  const all = rows.filter((row) => row.id !== null).map((row) => ({ label: row.label, colour: row.colour, values: data.counts[data.clusters.indexOf(row.id)] ?? data.total.map(() => 0) }))
    .map((line) => ({ ...line, sum: line.values.reduce((sum, value) => sum + value, 0) })).filter((line) => line.sum > 0);
  const order = [...all].sort((a, b) => b.sum - a.sum);
  const rest = order.slice(LINES);
  const seen = new Set();
  for (const line of all) { // a colour that comes again is dashed
    if (seen.has(line.colour)) line.dash = [7, 3];
    seen.add(line.colour);
  }
  const kept = all.filter((line) => !rest.includes(line));
  const novel = rows.find((row) => row.id === null);
  if (rest.length) kept.push({ label: `${rest.length} others`, colour: "#8a93a0", values: data.total.map((_, bin) => rest.reduce((sum, line) => sum + line.values[bin], 0)) });
  if (novel) kept.push({ label: "novel", colour: novel.colour, dash: [4, 3], values: data.novel });
  return kept;
}

/** A rate reads best with about 60 steps: bins are joined, and counted per minute, hour or day. */
function regroup(data, lines) {
  const width = Math.max(1, Math.round(data.total.length / 60));
  const seconds = data.bin_seconds * width;
  const [size, name] = seconds >= 43200 ? [86400, "day"] : seconds >= 600 ? [3600, "hour"] : [60, "minute"];
  const steps = lines.length ? grouped(data.total, width).length : 0;
  const first = data.start / 1000 + (data.total.length % width) * data.bin_seconds;
  const times = Array.from({ length: steps + 1 }, (_, step) => first + step * seconds);
  return [times, width, size / seconds, name];
}

/** Sums of `width` values each, counted from the newest; an incomplete group at the left is left out. */
function grouped(values, width) {
  const sums = [];
  for (let at = values.length % width; at < values.length; at += width) sums.push(values.slice(at, at + width).reduce((sum, value) => sum + value, 0));
  return sums;
}

/** The last step is as wide as the others. */
function ended(values) {
  return values.length ? [...values, values.at(-1)] : values;
}

function cumulative(values) {
  let sum = 0;
  return values.map((value) => (sum += value));
}

function said(what, lines) {
  return `${what} of ${lines.length} clusters; ${lines.slice(0, 8).map((line) => `${text(line.label).textContent} ${count(line.values.reduce((sum, value) => sum + value, 0))}`).join(", ")}`;
}

