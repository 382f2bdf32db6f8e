// Line charts over time with uPlot, in the colours of the theme, times in UTC.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { clean, h, onResize, replace, token } from "./dom.js";
import { brief, count, tick, ticks, utc } from "./time.js";

function axes(height) {
  const common = { stroke: token("--muted"), font: `11px ${token("--sans")}`, ticks: { show: false }, grid: { stroke: token("--line"), width: 1 } };
  return [
    { ...common, size: 26, splits: (u, _, low, high) => ticks(low * 1000, high * 1000, Math.max(2, u.width / 96)).at.map((at) => at / 1000), values: (_, splits) => splits.map((at) => tick(at * 1000, splits.length > 1 ? splits[1] - splits[0] : 1)) },
    { ...common, space: height < 160 ? 26 : 36, size: 44, values: (_, splits) => splits.map((at) => (at === null ? "" : small(at))) },
  ];
}

function small(value) {
  return Math.abs(value) >= 10 || Number.isInteger(value) ? brief(value) : String(Number(value.toPrecision(2)));
}

/**
 * A chart of `series` ([{label, colour, values, dash}]) over `times` (seconds since 1970) in `node`; the reader of the screen
 * hears `describe`. Returns {set(times, series), close()}. `bars` draws steps, `unit` stands behind the values in the legend.
 */
export function lineChart(node, { height = 200, unit = "", describe = "", onRange = null, stepped = false, hint = "" } = {}) {
  let plot = null;
  let shown = [[], []];
  const host = h("div", { class: "plot", role: "img", "aria-label": describe });
  const legend = h("div", { class: "plot-legend small", "aria-hidden": "true" });
  replace(node, host, legend);
  const tell = (at) => {
    const [times, series] = shown;
    if (at === null || at === undefined || times[at] === undefined) replace(legend, h("span", { class: "muted" }, hint));
    else replace(legend, h("span", { class: "muted" }, utc(times[at] * 1000)),
      series.map((line, order) => ({ line, value: line.values[at], order })).filter(({ value }) => value).sort((a, b) => b.value - a.value).slice(0, 6)
        .map(({ line, value }) => h("span", { class: "plot-value" }, h("span", { class: "dot", style: { background: line.colour } }), h("bdi", null, clean(line.label)), ` ${value < 10 ? small(value) : count(value)}${unit}`)));
  };
  const build = (width) => {
    plot?.destroy();
    const [times, series] = shown;
    const paths = stepped ? uPlot.paths.stepped({ align: 1 }) : undefined;
    plot = new uPlot({
      width, height, legend: { show: false }, tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"), padding: [8, 8, 0, 0],
      cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false, setScale: !onRange } },
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.06 : 1] } },
      axes: axes(height),
      series: [{}, ...series.map((line) => ({ label: clean(line.label), stroke: line.colour, width: 1.6, dash: line.dash, points: { show: false }, paths }))],
      hooks: {
        setCursor: [(u) => tell(u.cursor.idx)],
        setSelect: [(u) => { if (onRange && u.select.width > 4) onRange(u.posToVal(u.select.left, "x") * 1000, u.posToVal(u.select.left + u.select.width, "x") * 1000); }],
      },
    }, [times, ...series.map((line) => line.values)], host);
    plot.root.setAttribute("aria-hidden", "true");
  };
  const stop = onResize(host, (width) => { if (shown[0].length) build(width); });
  tell(null);
  return {
    set(times, series, said = describe) {
      shown = [times, series];
      host.setAttribute("aria-label", said);
      if (host.clientWidth && times.length) build(host.clientWidth);
    },
    close() { stop(); plot?.destroy(); },
  };
}
