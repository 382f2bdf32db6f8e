// Every window that was classified: filter, page through all of them, look at one, take them away.

import { address, get } from "../api.js";
import { h, icon, later, replace, text } from "../dom.js";
import { bindKeys } from "../keys.js";
import { onLive } from "../live.js";
import { showDetail } from "../parts/event-detail.js";
import { chip, clusters, streamName, streams, subscribe } from "../store.js";
import { brief, clock, count, day, figure, iso, ms, percent, utc } from "../time.js";
import { VirtualTable } from "../virtual.js";

const FLAGS = ["invalid", "dead", "constant", "clipped", "spike", "timing_poor", "interpolated", "partial"];
const FIELDS = ["stream", "cluster", "from", "to", "novel", "flag", "order"];
const ROW = 38;
const FORMATS = [["csv", "CSV"], ["jsonl", "JSON lines"], ["parquet", "Parquet"]];

export async function show(root, route) {
  const filter = Object.fromEntries(FIELDS.map((name) => [name, route.query[name] ?? ""]));
  const state = { selected: null, index: -1, endDetail: null, fresh: 0 };
  const detail = h("aside", { class: "card detail", "aria-label": "The chosen window", hidden: true });
  const body = h("tbody");
  const none = h("div", { class: "empty", hidden: true });
  const scroller = h("div", { class: "table-wrap virtual", tabindex: 0, role: "region", "aria-label": "Events" }, eventTable(body), none);
  const summary = h("p", { class: "small muted", "aria-live": "polite" });
  const news = h("button", { class: "button primary small news", hidden: true, onClick: () => reload() });
  const exports = h("div", { class: "row tight exports" });
  const form = filterForm(filter, () => { write(); reload(); });
  const list = h("section", { class: "card flush events-card", "aria-label": "List of events" }, h("div", { class: "events-bar" }, summary, news, exports), scroller);
  form.node.classList.toggle("folded", !anyFilter(filter));
  const opener = h("button", { class: "button phone-only", type: "button", "aria-expanded": String(anyFilter(filter)), onClick: () => opener.setAttribute("aria-expanded", String(!form.node.classList.toggle("folded"))) }, icon("search"), "Filter");
  const layout = h("div", { class: "events-layout" }, list, detail);
  replace(root, h("header", { class: "page-head" }, h("div", null, h("h1", null, "Events"), h("p", null, "Each window, as it was classified.")), opener),
    h("div", { class: "stack" }, form.node, layout));

  const table = new VirtualTable({
    scroller, body, rowHeight: ROW,
    fetchPage: (cursor, limit, signal) => get("events", { ...params(filter), cursor, limit }, { signal }),
    render: (event, index) => eventRow(event, index, state.selected?.window_id === event.window_id, () => choose(event, index)),
    onState: (now) => paintSummary(summary, now),
  });

  function write() {
    const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value));
    history.replaceState(null, "", query.size ? `#/events?${query}` : "#/events");
    replace(exports, h("span", { class: "small muted" }, "Export"), FORMATS.map(([format, name]) => h("a", {
      class: "button small", href: address("events", { ...params(filter), format }), download: "", title: `All events of this filter as ${name}`,
    }, icon("download"), name)));
  }

  async function reload(options) {
    state.fresh = 0;
    news.hidden = true;
    await table.reload(options);
    none.hidden = !(table.ended && table.rows === 0);
    replace(none, h("h2", null, "No events"), h("p", null, anyFilter(filter) ? "Nothing fits this filter." : "No window was classified yet."));
  }

  function choose(event, index) {
    state.endDetail?.();
    state.selected = event;
    state.index = index;
    detail.hidden = false;
    layout.classList.add("open");
    state.endDetail = showDetail(detail, event, { onClose: unchoose });
    table.draw();
  }

  function unchoose() {
    state.endDetail?.();
    state.endDetail = null;
    state.selected = null;
    detail.hidden = true;
    layout.classList.remove("open");
    table.draw();
    body.querySelector(`tr[data-index="${state.index}"]`)?.focus({ preventScroll: true });
  }

  function step(by) {
    const index = Math.max(0, state.index + by);
    const event = table.item(index);
    if (!event) return;
    table.reveal(index);
    choose(event, index);
  }

  const refresh = later(() => {
    if (scroller.scrollTop < ROW && !state.selected) reload({ keepPlace: true }).catch(() => {});
    else {
      news.hidden = false;
      news.textContent = `${count(state.fresh)} new`;
    }
  }, 700);
  const ends = [
    onLive("assignment", (event) => { if (filter.order !== "oldest" && fits(filter, event)) { state.fresh++; if (!refresh.waiting) { refresh.waiting = true; setTimeout(() => { refresh.waiting = false; }, 2000); refresh(); } } }),
    subscribe(() => { form.fill(); table.draw(); }), refresh.cancel, () => table.close(), () => state.endDetail?.(),
    bindKeys("Events", {
      j: ["Next event", () => step(1)], k: ["Event before", () => step(-1)], "/": ["Search by stream", () => form.focus()],
      Escape: ["Close the detail", () => { if (state.selected) unchoose(); }],
    }),
  ];
  write();
  const names = clusters().catch(() => {}); // without them the identities stand alone
  form.fill();
  streams({ quiet: true }).then((items) => form.streams(items)).catch(() => {});
  await Promise.all([names, reload()]);
  table.draw();
  if (route.query.window) openWindow(route.query.window, choose);
  return () => { for (const end of ends) end(); };
}

function openWindow(window, choose) {
  get(`events/${encodeURIComponent(window)}`).then((event) => choose(event, -1)).catch(() => {});
}

/** The filter as the API takes it. */
function params(filter) {
  return { ...filter, order: filter.order || "newest" };
}

function anyFilter(filter) {
  return FIELDS.some((name) => name !== "order" && filter[name]);
}

function fits(filter, event) {
  return (!filter.stream || event.stream === filter.stream) && (!filter.cluster || event.cluster === filter.cluster)
    && (!filter.novel || String(event.is_novel) === filter.novel) && (!filter.flag || event.flags.includes(filter.flag))
    && (!filter.to || ms(event.start) < ms(filter.to)) && (!filter.from || ms(event.start) >= ms(filter.from));
}

function paintSummary(node, { rows, ended, failed }) {
  node.textContent = failed ? failed.message : ended ? `${count(rows)} ${rows === 1 ? "event" : "events"}` : `first ${brief(rows)} loaded, more as you scroll`;
}

function eventTable(body) {
  const head = ["Start (UTC)", "Cluster", "Stream", "Membership", "Novelty", "Peak", "RMS", "Flags"];
  return h("table", { class: "table events", "aria-rowcount": -1 }, h("thead", null, h("tr", null, head.map((name, at) => h("th", { scope: "col", class: [`c${at}`, at > 2 && at < 7 && "number"] }, name)))), body);
}

function eventRow(event, index, selected, choose) {
  const membership = event.cluster ? event.memberships?.[event.cluster] : null;
  return h("tr", {
    class: "link", tabindex: 0, "aria-selected": String(selected), "aria-rowindex": index + 2, data: { index, window: event.window_id },
    onClick: (click) => { if (!click.target.closest("a")) choose(); },
    onKeydown: (press) => { if (press.key === "Enter" && press.target === press.currentTarget) { press.preventDefault(); choose(); } },
  },
  h("td", { class: "nowrap c0" }, h("span", { class: "muted date" }, `${day(event.start)} `), clock(event.start, 2)),
  h("td", { class: "c1" }, h("div", null, chip(event.cluster, { link: false }), event.is_novel ? h("span", { class: "badge novel" }, "novel") : null),
    h("bdi", { class: "phone-only small muted truncate" }, streamName(event.stream))),
  h("td", { class: "c2" }, h("bdi", { class: "truncate block", title: event.stream }, streamName(event.stream))),
  h("td", { class: "number c3" }, percent(membership)),
  h("td", { class: "number c4" }, event.novelty === null ? "–" : event.novelty.toFixed(2)),
  h("td", { class: "number c5" }, figure(event.peak)),
  h("td", { class: "number c6" }, figure(event.rms)),
  h("td", { class: "c7" }, event.flags.length ? h("span", { class: "row tight nowrap" }, event.flags.map((flag) => h("span", { class: "badge warn" }, flag.replace("_", " ")))) : null));
}

function filterForm(filter, changed) {
  const names = h("datalist", { id: "event-streams" });
  const stream = h("input", { class: "input", name: "stream", list: "event-streams", placeholder: "all", value: filter.stream, autocomplete: "off", spellcheck: "false" });
  const cluster = h("select", { class: "select", name: "cluster" });
  const from = timeField("from", filter.from);
  const to = timeField("to", filter.to);
  const novel = options("novel", [["", "all"], ["true", "novel only"], ["false", "known only"]], filter.novel);
  const flag = options("flag", [["", "all"], ...FLAGS.map((name) => [name, name.replace("_", " ")])], filter.flag);
  const order = options("order", [["", "newest"], ["oldest", "oldest"]], filter.order);
  const field = (label, input) => h("label", { class: "field" }, h("span", null, label), input);
  const read = () => {
    Object.assign(filter, { stream: stream.value.trim(), cluster: cluster.value, novel: novel.value, flag: flag.value, order: order.value, from: fieldTime(from), to: fieldTime(to) });
    changed();
  };
  const node = h("form", { class: "card toolbar filters", role: "search", "aria-label": "Filter of the events", onSubmit: (event) => { event.preventDefault(); read(); }, onChange: read },
    field("Stream", stream), names, field("Cluster", cluster), field("From (UTC)", from), field("To (UTC)", to), field("Novelty", novel), field("Flag", flag), field("First", order),
    h("button", { class: "button clear", type: "button", onClick: () => { for (const input of [stream, from, to, novel, flag, order, cluster]) input.value = ""; read(); } }, "Clear"));
  return {
    node,
    fill() {
      clusters().then((items) => replace(cluster, h("option", { value: "" }, "all"), items.map((item) => h("option", { value: item.id, selected: item.id === filter.cluster }, optionName(item))),
        filter.cluster && !items.some((item) => item.id === filter.cluster) ? h("option", { value: filter.cluster, selected: true }, text(filter.cluster).textContent) : null)).catch(() => {});
    },
    streams(items) { replace(names, items.map(({ id }) => h("option", { value: id }, streamName(id)))); },
    focus() { stream.focus(); stream.select(); },
  };
}

function optionName(item) {
  return text(item.name ? `${item.id} · ${item.name}` : item.id).textContent;
}

function options(name, entries, chosen) {
  return h("select", { class: "select", name }, entries.map(([value, label]) => h("option", { value, selected: value === chosen }, label)));
}

function timeField(name, value) {
  const node = h("input", { class: "input", name, placeholder: "2026-01-31 14:05", autocomplete: "off", inputmode: "numeric", spellcheck: "false" });
  if (value && !Number.isNaN(ms(value))) {
    node.value = utc(value, { zone: false });
    node.dataset.exact = value; // keeps the fractions of a second that the field does not show
    node.dataset.shown = node.value;
    node.title = utc(value, { digits: 3 });
  }
  node.addEventListener("input", () => node.setCustomValidity(""));
  return node;
}

/** The ISO time of a field, "" for none; what is no time is told at the field and read as none. */
function fieldTime(node) {
  const said = node.value.trim();
  if (!said) return "";
  if (said === node.dataset.shown) return node.dataset.exact;
  const parts = /^(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2})(\.\d+)?)?)? *Z?$/.exec(said);
  const time = parts ? ms(`${said.slice(0, 10)}T${parts[4] ?? "00"}:${parts[5] ?? "00"}:${parts[6] ?? "00"}Z`) : Number.NaN;
  node.setCustomValidity(Number.isNaN(time) ? "Write the time in UTC as 2026-01-31, or 2026-01-31 14:05" : "");
  if (Number.isNaN(time)) node.reportValidity();
  return Number.isNaN(time) ? "" : iso(time);
}
