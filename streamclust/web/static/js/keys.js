// The keyboard: single keys that pages bind while they are shown, and "g" then a letter to go to a page.

import { dialog } from "./dialog.js";
import { h } from "./dom.js";

const bound = []; // the newest first: a page's key hides the shell's
let prefix = 0; // when "g" was pressed, ms of the event

/**
 * `bindKeys("Events", {"j": ["Next event", run], "/": [...]})`; names are `event.key`, "g e" for sequences.
 * Returns the function that unbinds them.
 */
export function bindKeys(title, keys) {
  const entry = { title, keys };
  bound.unshift(entry);
  return () => { const at = bound.indexOf(entry); if (at >= 0) bound.splice(at, 1); };
}

function typing(target) {
  return target instanceof HTMLElement
    && (target.isContentEditable || target.matches("textarea, select, input:not([type=checkbox], [type=radio], [type=range], [type=color])"));
}

function find(name) {
  for (const { keys } of bound) if (Object.hasOwn(keys, name)) return keys[name];
  return null;
}

function press(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  const inSequence = prefix && event.timeStamp - prefix < 1200;
  prefix = 0;
  const found = inSequence ? find(`g ${event.key}`) : find(event.key);
  if (found) {
    event.preventDefault();
    found[1](event);
  } else if (event.key === "g") prefix = event.timeStamp;
}

/** Starts to listen; `?` shows what is bound. */
export function startKeys() {
  document.addEventListener("keydown", press);
  bindKeys("Everywhere", { "?": ["Show the keys", showKeys] });
}

/** The keys bound now, as a dialog. */
export function showKeys() {
  return dialog({ title: "Keys", wide: true, body: h("div", { class: "grid two" }, keyList()) });
}

/** The keys bound now, as lists. */
export function keyList() {
  return bound.map(({ title, keys }) => h("section", { class: "stack start" }, h("h3", null, title),
    h("dl", { class: "pairs" }, Object.entries(keys).map(([name, [means]]) => [
      h("dt", null, name.split(" ").map((part, at) => [at ? " " : null, h("kbd", null, part)])),
      h("dd", null, means),
    ]))));
}
