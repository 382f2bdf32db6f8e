// What a person can do to a cluster: name, note, colour, mute, watch, merge, split, undo. One function an action.

import { actor, send } from "../api.js";
import { OKABE_ITO } from "../colour.js";
import { ask, confirm, dialog } from "../dialog.js";
import { clean, h, icon, text } from "../dom.js";
import { may } from "../status.js";
import { chip, clusters, known, labelOf, refresh } from "../store.js";
import { toast } from "../toast.js";

const NAME = 64;
const NOTE = 4000;

/** Changes fields of a cluster, says so with an undo, and refreshes; resolves to whether it was done. */
async function change(id, body, message) {
  try {
    await send("PATCH", `clusters/${encodeURIComponent(id)}`, body);
  } catch {
    return false; // the toast has said why
  }
  await refresh();
  toast(message, { kind: "good", action: ["Undo", undo] });
  return true;
}

/** Takes the last action back, whoever did it; says what it was. */
export async function undo() {
  try {
    const { undone } = await send("POST", "clusters/undo", {});
    await refresh();
    toast(undone ? `Undone: ${said(undone)}` : "There is nothing to undo.", { kind: undone ? "good" : "plain" });
  } catch { /* the toast has said why */ }
}

const FIELDS = { name: "name", note: "note", colour: "colour", mute: "mute", muted: "mute", alarm: "watch", merged_into: "merge", split: "split", split_done: "split" };

/** One action of the journal in words. */
export function said({ field, cluster: identity, before, after }) {
  const what = FIELDS[field] ?? field;
  if (["mute", "muted", "alarm"].includes(field)) return `${what} of ${identity}: ${before ? "on" : "off"} → ${after ? "on" : "off"}`;
  if (field === "merged_into") return after ? `${identity} is shown as ${after}` : `${identity} stands by itself again`;
  if (field === "split") return after ? `${identity} shall be split into ${after} parts` : `${identity} shall not be split`;
  if (field === "split_done") return `${identity} was split into ${clean(after)}`;
  return `${what} of ${identity}: ${quoted(before)} → ${quoted(after)}`;
}

function quoted(value) {
  if (value === null || value === undefined || value === "") return "none";
  const signs = [...clean(value)];
  return `“${signs.length > 40 ? `${signs.slice(0, 39).join("")}…` : signs.join("")}”`;
}

export async function rename(id) {
  const entry = known(id);
  const value = await ask(`Name ${id}`, "Name", {
    value: entry?.name ?? "", maxlength: NAME, hint: "Shown everywhere in place of the identity; leave it empty to take the name away. The name stays with the cluster when the model is trained again.",
  });
  if (value === null || value.trim() === (entry?.name ?? "")) return;
  await change(id, { name: value.trim() || null }, value.trim() ? `${id} is now called ${value.trim()}` : `${id} has no name now`);
}

export async function annotate(id) {
  const entry = known(id);
  const area = h("textarea", { class: "textarea", maxlength: NOTE, rows: 6, autofocus: true });
  area.value = entry?.note ?? "";
  const value = await dialog({ title: `Note on ${labelOf(id)}`, body: h("label", { class: "field" }, h("span", null, "Note"), area), actions: [["Cancel", null, ""], ["Save", () => area.value, "primary"]] });
  if (value === null || value.trim() === (entry?.note ?? "")) return;
  await change(id, { note: value.trim() || null }, `Note on ${labelOf(id)} saved`);
}

export async function recolour(id) {
  const entry = known(id);
  const input = h("input", { type: "color", class: "colour-input", "aria-label": "Any colour", value: entry?.colour ?? "#0072b2" });
  const set = h("div", { class: "colour-set", role: "group", "aria-label": "Colours that everyone can tell apart" }, OKABE_ITO.map((colour) => h("button", {
    type: "button", class: "colour-pick", "aria-label": colour, style: { background: colour }, onClick: () => { input.value = colour; },
  })));
  const actions = [["Cancel", null, ""], ["Save", () => input.value, "primary"]];
  if (entry?.own_colour) actions.splice(1, 0, ["Use the usual colour", "none", ""]);
  const value = await dialog({ title: `Colour of ${labelOf(id)}`, body: h("div", { class: "stack" }, set, h("label", { class: "row" }, input, "Any colour")), actions });
  if (!value) return;
  await change(id, { colour: value === "none" ? null : value }, `Colour of ${labelOf(id)} changed`);
}

export async function mute(id) {
  const on = !known(id)?.muted;
  await change(id, { muted: on }, on ? `${labelOf(id)} is muted: counted, but it raises no alarm` : `${labelOf(id)} is no longer muted`);
}

export async function watch(id) {
  const on = !known(id)?.alarm;
  await change(id, { alarm: on }, on ? `${labelOf(id)} is watched: seeing it raises an alert` : `${labelOf(id)} is no longer watched`);
}

export async function merge(id) {
  const entry = known(id);
  if (entry?.merged_into) {
    const sure = await confirm(`Take ${id} out of ${labelOf(entry.merged_into)}?`, `${id} is shown as a cluster of its own again.`, { yes: "Take out" });
    if (sure) await change(id, { merged_into: null }, `${id} stands by itself again`);
    return;
  }
  const others = (await clusters()).filter((other) => other.id !== id && !other.merged_into && !other.retired);
  if (!others.length) {
    toast("There is no other cluster to merge it into.");
    return;
  }
  const select = h("select", { class: "select", autofocus: true }, others.map((other) => h("option", { value: other.id }, clean(other.name ? `${other.name} (${other.id})` : other.id))));
  const body = h("div", { class: "stack" }, h("p", null, "All windows of ", text(labelOf(id)), " are shown and counted as the other cluster. Nothing is deleted, and it can be undone."),
    h("label", { class: "field" }, h("span", null, "Merge into"), select));
  const into = await dialog({ title: `Merge ${labelOf(id)}`, body, actions: [["Cancel", null, ""], ["Merge", () => select.value, "primary"]] });
  if (into) await change(id, { merged_into: into }, `${id} is shown as ${labelOf(into)}`);
}

const MOST_PARTS = 8;

/** Asks the next training to split a cluster, or no longer. */
export async function split(id) {
  const entry = known(id);
  if (entry?.split) {
    const sure = await confirm(`No longer split ${labelOf(id)}?`, splitState(entry), { yes: "Do not split" });
    if (sure) await change(id, { split: null }, `${labelOf(id)} will not be split`);
    return;
  }
  const select = h("select", { class: "select", autofocus: true }, Array.from({ length: MOST_PARTS - 1 }, (_, at) => h("option", { value: at + 2 }, String(at + 2))));
  const body = h("div", { class: "stack" }, h("p", null, "The next training splits ", text(labelOf(id)), " by what its windows look like. The largest part keeps the identity and the name, the others get new ones; the lineage shows it."),
    h("p", { class: "muted" }, "It can be undone until then. Afterwards the parts can be merged."),
    h("label", { class: "field" }, h("span", null, "Parts"), select));
  const parts = await dialog({ title: `Split ${labelOf(id)}`, body, actions: [["Cancel", null, ""], ["Split", () => select.value, "primary"]] });
  if (parts) await change(id, { split: Number(parts) }, `${labelOf(id)} will be split by the next training`);
}

/** What becomes of a wish for a split, in words. */
export function splitState({ split: parts, split_why: why }) {
  return `Will be split into ${parts} parts by the next training.${why ? ` The last one did not: ${clean(why)}.` : ""}`;
}

/** Says under which name this browser writes to the journal, and changes it. */
export function actorButton() {
  const label = h("span");
  const paint = () => { label.textContent = actor() ? `You are ${clean(actor())}` : "Say who you are"; };
  paint();
  return h("button", { class: "button ghost small", type: "button", title: "Your name in the journal", onClick: async () => {
    const value = await ask("Who are you?", "Your name", { value: actor(), maxlength: NAME, hint: "It is written into the journal beside what you change. Kept in this browser only." });
    if (value === null) return;
    actor(value.trim());
    paint();
  } }, icon("pen"), label);
}

export const ACTIONS = [
  ["l", "Name", "pen", rename],
  ["n", "Note", "events", annotate],
  ["c", "Colour", "sun", recolour],
  ["x", "Mute", "mute", mute],
  ["w", "Watch", "bell", watch],
  ["m", "Merge", "merge", merge],
  ["s", "Split", "split", split],
];

/** The keys of all actions for the cluster that `current()` names; nothing happens where there is none. */
export function curationKeys(current) {
  const on = (act) => () => { const id = current(); if (id) act(id); };
  const keys = Object.fromEntries(ACTIONS.map(([key, title, , act]) => [key, [title, on(act)]]));
  return { ...keys, z: ["Undo the last action of anyone", undo] };
}

/** A row of the buttons of all actions; pressed ones show their state. */
export function curationButtons(entry) {
  const allowed = may("operate");
  const why = allowed ? "" : " (needs the scope operate)";
  return h("div", { class: "row curation", role: "group", "aria-label": "Curation" },
    ACTIONS.map(([key, title, sign, act]) => h("button", {
      class: "button small", type: "button", disabled: !allowed, title: `${title} (${key})${why}`,
      "aria-pressed": title === "Mute" ? String(entry.muted) : title === "Watch" ? String(entry.alarm) : title === "Split" ? String(Boolean(entry.split)) : null, onClick: () => act(entry.id),
    }, icon(sign), title === "Merge" && entry.merged_into ? "Unmerge" : title)),
    h("button", { class: "button small", type: "button", disabled: !allowed, title: `Undo the last action (z)${why}`, onClick: undo }, icon("undo"), "Undo"));
}

/** Badges of what a person or a retrain said of a cluster. */
export function marks(entry) {
  return [
    entry.alarm ? h("span", { class: "badge accent" }, icon("bell", "icon tiny"), "watched") : null,
    entry.muted ? h("span", { class: "badge" }, icon("mute", "icon tiny"), "muted") : null,
    entry.merged_into ? h("span", { class: "badge" }, "shown as ", chip(entry.merged_into, { link: false })) : null,
    entry.split ? h("span", { class: `badge ${entry.split_why ? "warn" : "accent"}`, title: splitState(entry) }, icon("split", "icon tiny"), entry.split_why ? "not split yet" : "to be split") : null,
    entry.retired ? h("span", { class: "badge warn" }, "retired") : entry.in_model === false ? h("span", { class: "badge warn" }, "not in the model") : null,
  ];
}
