// The clusters as the server knows them, kept once for all pages and refreshed when an identity changes.

import { get } from "./api.js";
import { clean, h, text } from "./dom.js";
import { onLive } from "./live.js";

const state = { items: [], byId: new Map(), novel: 0, loaded: null, stale: false };
const listeners = new Set();

/** All clusters, from the cache or the server: [{id, label, colour, …}]. */
export function clusters() {
  state.loaded ??= fetchClusters();
  return state.loaded;
}

/** Asks the server again and tells the subscribers; resolves to the clusters. */
export function refresh() {
  state.loaded = fetchClusters();
  return state.loaded;
}

async function fetchClusters() {
  try {
    const answer = await get("clusters");
    state.items = answer.items;
    state.byId = new Map(answer.items.map((item) => [item.id, item]));
    state.novel = answer.novel?.windows ?? 0;
  } catch (error) {
    state.loaded = null;
    throw error;
  }
  for (const tell of listeners) tell(state.items);
  return state.items;
}

/** What is in the cache of one cluster; undefined when nothing is. */
export function known(id) {
  return state.byId.get(id);
}

/** The label of a cluster: its name, else its identity; "novel" for none. */
export function labelOf(id) {
  if (id === null || id === undefined) return "none";
  return known(id)?.label ?? String(id);
}

/** Calls `tell(items)` at every change; returns the function that stops it. */
export function subscribe(tell) {
  listeners.add(tell);
  return () => listeners.delete(tell);
}

/** A cluster as dot and name, a link to its page. */
export function chip(id, { link = true, colour = null } = {}) {
  const entry = known(id);
  const inside = [
    h("span", { class: "dot", style: { background: colour ?? entry?.colour ?? "var(--faint)" } }),
    text(labelOf(id)),
    entry?.name && entry.name !== id ? h("span", { class: "chip-id" }, text(id)) : null,
  ];
  if (id === null || id === undefined || !link) return h("span", { class: "chip" }, inside);
  return h("a", { class: "chip", href: `#/clusters/${encodeURIComponent(id)}` }, inside);
}

let asking = null;

/** The streams now; those who ask at the same time share one answer. */
export function streams(options) {
  asking ??= get("streams", {}, options).then(({ items }) => items).finally(() => { asking = null; });
  return asking;
}

/** A stream as its network writes it: "FDSN:BW_RJOB__E_H_Z" is "BW.RJOB..EHZ"; others as they are. */
export function streamName(id) {
  const parts = /^FDSN:([^_]+)_([^_]+)_([^_]*)_([A-Z0-9])_([A-Z0-9])_([A-Z0-9])$/.exec(id);
  return parts ? `${parts[1]}.${parts[2]}.${parts[3]}.${parts[4]}${parts[5]}${parts[6]}` : clean(id);
}

onLive("cluster", () => { refresh().catch(() => {}); });
