// The gallery of clusters: a card for each, curation by mouse and keyboard. One cluster has a page of its own.

import { address, get } from "../api.js";
import { h, icon, replace, text } from "../dom.js";
import { bindKeys } from "../keys.js";
import { actorButton, curationKeys, marks, mute, rename, undo, watch } from "../parts/curate.js";
import { picture, samplesOf, wave, whenSeen } from "../parts/picture.js";
import { currentStatus, may, serverNow } from "../status.js";
import { clusters, subscribe } from "../store.js";
import { ago, brief, count, figure, ms, percent, span, utc } from "../time.js";
import { showCluster } from "../parts/cluster-detail.js";

const ORDERS = {
  windows: ["Most windows", (a, b) => b.windows - a.windows],
  day: ["Most in 24 h", (a, b) => b.windows_24h - a.windows_24h],
  last: ["Seen last", (a, b) => (b.last ?? "").localeCompare(a.last ?? "")],
  born: ["Newest", (a, b) => (b.born ?? "").localeCompare(a.born ?? "")],
  id: ["Identity", (a, b) => Number(a.id.slice(1)) - Number(b.id.slice(1))],
};

export async function show(root, route) {
  await Promise.all([clusters(), currentStatus()]);
  return route.id ? showCluster(root, route.id) : showGallery(root, route);
}

async function showGallery(root, route) {
  const state = { order: ORDERS[route.query.order] ? route.query.order : "windows", search: route.query.search ?? "", all: route.query.all === "1", at: null };
  const cards = new Map();
  const grid = h("ul", { class: "gallery" });
  const said = h("p", { "aria-live": "polite" });
  let newest = null;
  const paint = (items) => {
    const found = pick(items, state);
    said.textContent = summary(items, found);
    for (const item of found) {
      if (!cards.has(item.id)) cards.set(item.id, card(item));
      cards.get(item.id).update(item, newest);
    }
    arrange(grid, found.map((item) => cards.get(item.id).node));
    empty.hidden = found.length > 0;
    replace(empty, items.length ? noMatch(() => { state.search = ""; state.all = true; search.value = ""; all.checked = true; again(); }) : noneYet());
  };
  const again = () => clusters().then(paint);
  const empty = h("div", { class: "empty", hidden: true });
  const search = h("input", { class: "input", type: "search", value: state.search, placeholder: "Name, note or description", onInput: () => { state.search = search.value; again(); } });
  const order = h("select", { class: "select", onChange: () => { state.order = order.value; again(); } },
    Object.entries(ORDERS).map(([name, [title]]) => h("option", { value: name, selected: name === state.order }, title)));
  const all = h("input", { type: "checkbox", checked: state.all, onChange: () => { state.all = all.checked; again(); } });
  replace(root,
    h("header", { class: "page-head" }, h("div", null, h("h1", null, "Clusters"), said),
      h("div", { class: "row" }, actorButton(), h("button", { class: "button small", disabled: !may("operate"), onClick: undo, title: "Undo the last action (z)" }, icon("undo"), "Undo"))),
    h("div", { class: "toolbar gallery-tools" }, h("label", { class: "field" }, h("span", null, "Search"), search), h("label", { class: "field" }, h("span", null, "Order"), order),
      h("label", { class: "check" }, all, "Retired and merged too")),
    grid, empty);
  newest = (await currentStatus()).newest;
  paint(await clusters());
  const move = (step) => {
    const nodes = [...grid.children];
    const now = nodes.findIndex((node) => node.contains(document.activeElement));
    const next = nodes[Math.min(nodes.length - 1, Math.max(0, now + step))];
    next?.querySelector(".cluster-link").focus();
    next?.scrollIntoView({ block: "nearest" });
  };
  const current = () => document.activeElement?.closest?.(".cluster-card")?.dataset.id ?? null;
  const ends = [subscribe(paint), bindKeys("Clusters", {
    j: ["Next cluster", () => move(1)],
    k: ["Previous cluster", () => move(-1)],
    "/": ["Search", () => search.focus()],
    ...curationKeys(current),
  })];
  return () => {
    for (const end of ends) end();
    for (const entry of cards.values()) entry.close();
  };
}

function pick(items, { order, search, all }) {
  const wanted = search.trim().toLowerCase();
  return items.filter((item) => (all || (!item.retired && !item.merged_into))
    && (!wanted || [item.id, item.name, item.note, item.description].some((value) => value?.toLowerCase().includes(wanted)))).sort(ORDERS[order][1]);
}

function summary(items, found) {
  const gone = items.filter((item) => item.retired || item.merged_into).length;
  const named = items.filter((item) => item.name).length;
  return `${count(found.length)} shown of ${count(items.length)}, ${count(named)} named${gone ? `, ${count(gone)} retired or merged` : ""}.`;
}

/** Puts the nodes in order; touches nothing that is in place, and keeps the focus. */
function arrange(grid, nodes) {
  if (grid.childElementCount === nodes.length && nodes.every((node, at) => grid.children[at] === node)) return;
  const focused = grid.contains(document.activeElement) ? document.activeElement : null;
  grid.replaceChildren(...nodes);
  focused?.focus();
}

function noneYet() {
  return [h("h2", null, "No cluster yet"), h("p", null, "The daemon collects windows until there are enough for the first model; then they all get their cluster. Or cluster a recording by itself:"),
    h("a", { class: "button", href: "#/upload" }, icon("upload"), "Upload a recording")];
}

function noMatch(reset) {
  return [h("p", null, "No cluster fits the search."), h("button", { class: "button", onClick: reset }, "Show all")];
}

/** One card: `update(item, newest)` changes the texts and leaves the pictures alone. */
function card(first) {
  const id = encodeURIComponent(first.id);
  const link = h("a", { class: "cluster-link", href: `#/clusters/${id}` }); // stays, with the focus, while texts change
  const title = h("h2", { class: "cluster-title" }, h("span", { class: "dot big" }), link, h("span", { class: "muted small" }));
  const texts = h("div", { class: "cluster-texts-rest" });
  const waveBox = h("div", { class: "cluster-wave" });
  const meanBox = h("div", { class: "mean" });
  const pictures = h("a", { class: "cluster-pictures", href: `#/clusters/${id}`, tabindex: -1, "aria-hidden": "true" }, meanBox, waveBox);
  const quick = h("div", { class: "cluster-quick" });
  const node = h("li", { class: "card cluster-card", data: { id: first.id } }, pictures, h("div", { class: "cluster-texts" }, title, texts), quick);
  let medoid = null;
  const stop = whenSeen(node, async () => {
    const detail = await get(`clusters/${id}`, {}, { quiet: true }).catch(() => null);
    const kept = detail?.exemplars ?? [];
    replace(meanBox, kept.length ? picture(address(`clusters/${id}/spectrogram.png`), "") : h("span", { class: "pic none" }, h("span", { class: "small" }, "no window is kept now")));
    const typical = kept.find((one) => one.wave !== false);
    medoid = wave(typical ? samplesOf(typical.window_id) : null, "Waveform of the most typical window");
    replace(waveBox, medoid.node);
  });
  return {
    node,
    update(item, newest) {
      node.style.setProperty("--own", item.colour);
      node.classList.toggle("faded", Boolean(item.retired || item.merged_into || item.muted));
      replace(link, text(item.label, "truncate"));
      title.lastChild.textContent = item.name ? item.id : "";
      replace(texts, about(item, newest));
      const focused = quick.contains(document.activeElement) ? [...quick.children].indexOf(document.activeElement) : -1;
      replace(quick, buttons(item));
      if (focused >= 0) quick.children[focused]?.focus();
    },
    close() { stop(); medoid?.close(); },
  };
}

function about(item, newest) {
  return [
    h("p", { class: "small muted cluster-about" }, item.note ? text(item.note) : item.description || shortly(item)),
    h("dl", { class: "cluster-rates" }, pair("Windows", brief(item.windows), count(item.windows)), pair("24 h", brief(item.windows_24h)), pair("1 h", brief(item.windows_1h)), pair("Share", percent(item.share))),
    h("div", { class: "row tight cluster-marks small muted" }, marks(item), item.last && newest ? h("span", { title: utc(item.last) }, seen(item.last, newest)) : null,
      item.novel_share > 0.05 ? h("span", { class: "badge novel" }, `${percent(item.novel_share)} novel`) : null),
  ];
}

/** When it was last seen; of data that are old themselves their own time. */
function seen(last, newest) {
  return serverNow() - ms(newest) > 86400e3 ? `last ${utc(last)}` : `seen ${ago(last, serverNow())}`;
}

function shortly(item) {
  const parts = [item.dominant_hz ? `about ${figure(item.dominant_hz)} Hz` : null, item.duration_s ? span(item.duration_s) : null];
  return parts.filter(Boolean).join(", ") || "no description yet";
}

function pair(name, value, title = null) {
  return h("div", null, h("dt", null, name), h("dd", { title }, value));
}

function buttons(item) {
  const disabled = !may("operate");
  const button = (label, sign, act, pressed = null) => h("button", {
    class: "button ghost small square", type: "button", disabled, "aria-label": `${label} ${item.label}`, title: label, "aria-pressed": pressed, onClick: () => act(item.id),
  }, icon(sign));
  return [button("Name", "pen", rename), button("Mute", "mute", mute, String(item.muted)), button("Watch", "bell", watch, String(item.alarm))];
}
