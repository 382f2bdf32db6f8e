// The page of one cluster: what it looks like, when and where it comes, where it came from, what people said.

import { address, get } from "../api.js";
import { h, icon, replace, text } from "../dom.js";
import { bindKeys } from "../keys.js";
import { lineChart } from "../plot.js";
import { known, streamName, subscribe } from "../store.js";
import { ago, count, figure, ms, percent, span, utc } from "../time.js";
import { actorButton, curationButtons, curationKeys, marks, said, splitState } from "./curate.js";
import { histogram, shares } from "./histogram.js";
import { lineageDrawing } from "./lineage.js";
import { picture, samplesOf, wave } from "./picture.js";
import { stamp } from "./stamp.js";

const STRONGEST = "Where the typical power of its windows, when the model was made, is farthest above the usual noise; of background, where there is most power";

export async function showCluster(root, id) {
  const path = `clusters/${encodeURIComponent(id)}`;
  let data = await get(path);
  const head = h("header", { class: "cluster-head" });
  const journal = h("div");
  const lineage = h("div");
  const ends = [];
  const paintTexts = () => {
    const focused = head.contains(document.activeElement) ? document.activeElement.title : null;
    replace(head, header({ ...data, ...(known(id) ?? {}) }));
    if (focused) [...head.querySelectorAll("button")].find((button) => button.title === focused)?.focus();
    replace(journal, journalTable(data.journal));
    replace(lineage, lineageDrawing(data.lineage, id));
  };
  replace(root, head, h("div", { class: "stack" },
    h("div", { class: "grid wide-left" }, exemplars(data, ends), h("div", { class: "stack top" }, mean(data), exports(data))),
    rates(data, ends), distributions(data),
    h("div", { class: "grid two" }, panel(data.sampled && data.sampled < data.windows ? `Streams, of the newest ${count(data.sampled)} windows` : "Streams", shares(data.streams, { name: streamName, href: (stream) => `#/events?${new URLSearchParams({ cluster: id, stream })}`, colour: data.colour }), "flush"),
      panel("Journal", journal, "flush")),
    panel("Lineage over retrains", lineage)));
  paintTexts();
  ends.push(bindKeys("Cluster", { ...curationKeys(() => id), Escape: ["Back to the gallery", () => { location.hash = "#/clusters"; }] }));
  let asked = false;
  ends.push(subscribe(async () => {
    if (asked) return;
    asked = true;
    try { data = await get(path, {}, { quiet: true }); } catch { /* the next change asks again */ } finally { asked = false; }
    if (root.isConnected) paintTexts();
  }));
  return () => { for (const end of ends) end(); };
}

function panel(title, body, kind = "") {
  return h("section", { class: `card ${kind}`, "aria-label": title }, h("div", { class: "card-head" }, h("h2", null, title)), h("div", { class: "card-body" }, body));
}

function header(item) {
  const facts = [
    ["Windows", count(item.windows)], ["Last 24 h", count(item.windows_24h)], ["Last hour", count(item.windows_1h)], ["Share", percent(item.share)],
    [h("span", { title: STRONGEST }, "Strongest at"), item.dominant_hz ? `${figure(item.dominant_hz)} Hz` : "–"], ["Duration", span(item.duration_s)], ["Typical rms", figure(item.typical_rms)],
  ];
  return [
    h("a", { class: "small back", href: "#/clusters" }, icon("left", "icon tiny"), "All clusters"),
    h("div", { class: "page-head" },
      h("div", { class: "grow" }, h("h1", { class: "cluster-name" }, h("span", { class: "dot huge", style: { background: item.colour } }), text(item.label), item.name ? h("span", { class: "muted cluster-id" }, item.id) : null),
        h("p", null, item.description || null), h("div", { class: "row tight" }, marks(item))),
      actorButton()),
    item.note ? h("p", { class: "note" }, text(item.note)) : null,
    item.split ? h("p", { class: "small muted" }, text(splitState(item))) : null,
    curationButtons(item),
    h("dl", { class: "card facts" }, facts.map(([name, value]) => h("div", { class: "fact" }, h("dt", null, name), h("dd", null, value)))),
    h("p", { class: "small muted cluster-times" }, "Born ", stamp(item.born), item.first ? [" · first window ", stamp(item.first)] : null, item.last ? [" · last window ", stamp(item.last)] : null, item.retired ? [" · retired ", stamp(item.retired)] : null),
  ];
}

function mean(data) {
  if (!data.exemplars.length) return panel("Mean spectrogram", h("p", { class: "muted" }, "No window of this cluster is kept now."));
  return panel("Mean spectrogram", h("figure", null, picture(address(`clusters/${encodeURIComponent(data.id)}/spectrogram.png`), `Mean spectrogram of ${data.label}`, { none: "No window of this cluster is in the buffer.", className: "large" }),
    h("figcaption", { class: "small muted" }, "Time to the right, frequency upwards, brighter is stronger.")));
}

function exemplars(data, ends) {
  if (!data.exemplars.length) return panel("Exemplars", h("p", { class: "muted" }, "No window of this cluster is in the buffer now, so there is no picture of it."));
  const tiles = data.exemplars.map((one, at) => {
    const drawn = wave(one.wave === false ? null : samplesOf(one.window_id), `Waveform, ${streamName(one.stream)}, ${utc(one.start)}`);
    ends.push(drawn.close);
    return h("li", { class: "exemplar" },
      picture(address(`windows/${encodeURIComponent(one.window_id)}/spectrogram.png`), `Spectrogram, ${streamName(one.stream)}, ${utc(one.start)}`), drawn.node,
      h("a", { class: "small", href: `#/events?window=${encodeURIComponent(one.window_id)}` }, stamp(one.start)),
      h("span", { class: "small muted truncate" }, text(streamName(one.stream))),
      h("span", { class: "small muted" }, at === 0 ? "most typical · " : "", one.membership === null ? "" : `membership ${percent(one.membership)}`));
  });
  return panel("Exemplars", h("ul", { class: "exemplars" }, tiles));
}

function exports(data) {
  const cluster = data.id;
  const files = [["CSV", "csv"], ["JSON lines", "jsonl"], ["Parquet", "parquet"]].map(([title, format]) => h("a", { class: "button small", href: address("events", { cluster, format }), download: true }, icon("download"), title));
  return panel("Export", h("div", { class: "row" }, files, h("a", { class: "button small", href: address(`clusters/${encodeURIComponent(cluster)}/waveforms.mseed`), download: true }, icon("download"), "Waveforms, miniSEED"),
    h("a", { class: "button small", href: `#/events?cluster=${encodeURIComponent(cluster)}` }, icon("events"), "Show events")));
}

function rates(data, ends) {
  const hourly = h("div");
  const total = h("div");
  const series = data.hourly ?? [];
  const draw = (node, points, label, stepped) => {
    if (!points.length) return;
    const chart = lineChart(node, { height: 180, stepped, describe: label });
    ends.push(chart.close);
    queueMicrotask(() => chart.set(points.map(([at]) => ms(at) / 1000), [{ label: data.label, colour: data.colour, values: points.map(([, value]) => value) }]));
  };
  draw(total, data.cumulative ?? [], `Cumulative count of ${data.label}: ${count(data.cumulative?.at(-1)?.[1] ?? 0)} windows by ${utc(data.cumulative?.at(-1)?.[0])}`, false);
  draw(hourly, series, `Windows of ${data.label} per hour; the most is ${count(Math.max(0, ...series.map(([, value]) => value)))}`, true);
  const cards = [panel("Cumulative count", data.cumulative?.length ? total : h("p", { class: "muted" }, "No window yet."))];
  if (series.length) cards.unshift(panel("Windows per hour", hourly));
  return h("div", { class: cards.length > 1 ? "grid two" : "stack" }, cards);
}

function distributions(data) {
  return panel("Distributions", h("div", { class: "histograms" },
    histogram("Amplitude, rms", data.rms, "counts", data.colour), histogram("Amplitude, peak", data.peak, "counts", data.colour), histogram("Strongest frequency of each kept window", data.dominant_hz_counts, "Hz", data.colour, data.dominant_hz ? `the typical spectrum of the cluster is strongest at ${figure(data.dominant_hz)} Hz` : null)));
}

function journalTable(actions) {
  if (!actions.length) return h("p", { class: "muted padded" }, "Nobody has changed anything here yet.");
  const undone = new Set(actions.map((action) => action.undoes));
  return h("div", { class: "table-wrap scroll", tabindex: 0, role: "region", "aria-label": "Journal" }, h("table", { class: "table compact" },
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "When, UTC"), h("th", { scope: "col" }, "Who"), h("th", { scope: "col" }, "What"))),
    h("tbody", null, [...actions].sort((a, b) => b.entry - a.entry).map((action) => h("tr", { class: undone.has(action.entry) ? "undone" : null },
      h("td", { class: "nowrap", title: ago(action.at, Date.now()) }, stamp(action.at, { zone: false })), h("td", null, text(action.who)),
      h("td", null, text(said(action)), action.undoes ? h("span", { class: "badge" }, "undo") : null))))));
}
