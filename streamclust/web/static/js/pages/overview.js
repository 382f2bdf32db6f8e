// The first page: is it well, what happened when, what happens now.

import { colourOf } from "../colour.js";
import { h, icon, later, replace, text } from "../dom.js";
import { bindKeys } from "../keys.js";
import { onLive } from "../live.js";
import { alone, currentStatus, health, lag, onStatus, serverNow } from "../status.js";
import { chip, clusters, streamName, subscribe } from "../store.js";
import { clock, count, day, ms, percent, span } from "../time.js";
import { get } from "../api.js";
import { ratesPanel } from "../parts/rates.js";
import { heatPanel } from "../parts/heat-panel.js";
import { stripPanel } from "../parts/strip-panel.js";

const LATEST = 14;

export async function show(root) {
  const ends = [];
  const tiles = h("dl", { class: "card facts", "aria-label": "State of the daemon" });
  const rates = ratesPanel((from, to) => heat.look(from, to));
  const heat = heatPanel({ onData: (data, rows) => rates.set(data, rows) });
  const strip = stripPanel();
  const latest = latestPanel();
  replace(root,
    h("header", { class: "page-head" }, h("div", null, h("h1", null, "Overview"), h("p", null, "What the streams do now, and what they did.")),
      h("a", { class: "button primary", href: "#/upload" }, icon("upload"), "Upload a recording")),
    h("div", { class: "stack" }, tiles, heat.node, strip.node,
      h("div", { class: "grid wide-left" }, rates.node, latest.node)));
  ends.push(onStatus((status) => paintFacts(tiles, status)), heat.close, strip.close, rates.close, latest.close);
  const timer = setInterval(() => currentStatus().then((status) => paintFacts(tiles, status)).catch(() => {}), 1000);
  ends.push(() => clearInterval(timer));
  ends.push(bindKeys("Overview", {
    "+": ["Zoom the map in", () => heat.zoom(0.5)],
    "-": ["Zoom the map out", () => heat.zoom(2)],
    0: ["The whole map", heat.reset],
  }));
  await Promise.all([currentStatus(), clusters().catch(() => {})]); // without them the identities stand alone
  await Promise.all([heat.start(), strip.start(), latest.start()]);
  return () => { for (const end of ends) end(); };
}

function fact(name, value, note, extra = null) {
  return h("div", { class: ["fact", extra] }, h("dt", null, name), h("dd", null, value, note ? h("span", { class: "fact-note" }, note) : null));
}

function paintFacts(node, status) {
  const [word, kind] = health(status);
  const behind = lag(status);
  const reasons = alone(status) ? ["results of a past run"] : [...(status.reasons ?? []), ...Object.entries(status.degraded ?? {}).map(([part, why]) => why || part)].map((reason) => String(reason).replaceAll("_", " "));
  const profile = status.profile;
  replace(node,
    fact("State", h("span", { class: `badge ${kind}` }, h("span", { class: ["dot", kind === "good" && "pulse"] }), word), reasons.join(", ") || "all parts work"),
    fact(alone(status) ? "Last data" : "Newest data", behind === null ? "none yet" : h("span", null, span(Math.round(behind)), h("small", null, " ago")),
      status.newest ? `${behind > 86400 ? `${day(status.newest)} ` : ""}${clock(status.newest)} UTC` : "waiting for the first samples"),
    fact("Streams", h("span", null, count(status.streams.active), h("small", null, ` of ${count(status.streams.known)}`)), alone(status) ? "live; no daemon runs" : "live"),
    fact("Windows", count(status.windows), "classified so far"),
    fact("Novel", percent(status.novel_share), "unlike the training data"),
    fact("Model", status.model === null ? "none yet" : h("a", { href: "#/models" }, `version ${status.model}`),
      status.models_behind ? `${status.models_behind} newer waiting` : status.model === null ? "collecting windows" : "in use"),
    profile ? fact("Profile", text(profile.name), `${span(profile.window_seconds)} windows, every ${span(profile.hop_seconds)}`) : null);
}

function latestPanel() {
  const list = h("tbody");
  let shown = [];
  const paint = () => replace(list, shown.map((event) => h("tr", { class: event.fresh ? "fresh" : null, data: { window: event.window_id } },
    h("td", { class: "nowrap" }, h("a", { class: "plain", href: `#/events?window=${encodeURIComponent(event.window_id)}`, title: `${day(event.start)} ${clock(event.start)} UTC` },
      serverNow() - ms(event.start) > 86400e3 ? `${day(event.start).slice(5)} ${clock(event.start)}` : clock(event.start))),
    h("td", null, chip(event.cluster, { colour: colourOf(event.cluster) }), event.is_novel ? [" ", h("span", { class: "badge novel" }, "novel")] : null),
    h("td", { class: "muted" }, h("bdi", { class: "truncate block", title: event.stream }, streamName(event.stream))))));
  const soon = later(paint, 120);
  const skips = h("p", { class: "small muted padded", role: "status" });
  let skipped = 0;
  const node = h("section", { class: "card flush", "aria-labelledby": "latest-title" },
    h("div", { class: "card-head" }, h("h2", { id: "latest-title" }, "Latest windows"), h("a", { class: "small", href: "#/events" }, "All events")),
    h("div", { class: "card-body" }, h("table", { class: "table compact latest" },
      h("thead", null, h("tr", null, h("th", null, "Start, UTC"), h("th", null, "Cluster"), h("th", null, "Stream"))), list), skips));
  const ends = [
    onLive("assignment", (event) => {
      if (shown.some((old) => old.window_id === event.window_id)) return;
      for (const old of shown) old.fresh = false;
      shown = sorted([{ ...event, fresh: true }, ...shown]);
      soon();
    }),
    onLive("skipped", ({ count: more }) => {
      skipped += more;
      replace(skips, `${count(skipped)} more came too fast to be shown here one by one; they are among the events.`);
    }),
    subscribe(paint), soon.cancel,
  ];
  return {
    node,
    async start() {
      const { items } = await get("events", { order: "newest", limit: LATEST });
      const have = new Set(shown.map((event) => event.window_id));
      shown = sorted([...shown, ...items.filter((event) => !have.has(event.window_id))]);
      if (shown.length) paint();
      else replace(list, h("tr", null, h("td", { colspan: 3 }, h("div", { class: "empty" }, "No window was classified yet."))));
    },
    close() { for (const end of ends) end(); },
  };
}

function sorted(events) {
  return events.sort((a, b) => (a.start > b.start ? -1 : 1)).slice(0, LATEST);
}
