// The state of the daemon, kept fresh from the live events, and the line about it below the bar of pages.

import { get } from "./api.js";
import { h, replace } from "./dom.js";
import { onLive } from "./live.js";
import { ms, span, utc } from "./time.js";

const state = { status: null, asked: null, offset: 0 };
const listeners = new Set();

/** The last known status, asked for when there is none. `again` asks anew. */
export function currentStatus(again = false) {
  if (again || !state.asked) {
    state.asked = get("status").then(accept).catch((error) => { state.asked = null; throw error; });
  }
  return state.asked;
}

/** Calls `tell(status)` at every change; returns the function that stops it. */
export function onStatus(tell) {
  listeners.add(tell);
  if (state.status) tell(state.status);
  return () => listeners.delete(tell);
}

/** Whether the caller may do what needs the scope. */
export function may(scope) {
  return state.status ? state.status.scopes.includes(scope) : false;
}

/** The server's present time, ms: its clock, not this computer's. */
export function serverNow() {
  return Date.now() + state.offset;
}

function accept(status) {
  state.status = { ...state.status, ...status };
  state.asked = Promise.resolve(state.status);
  if (status.now) state.offset = ms(status.now) - Date.now();
  for (const tell of listeners) tell(state.status);
  return state.status;
}

/** Seconds between the newest sample and now. */
export function lag(status) {
  return status.newest ? Math.max(0, (serverNow() - ms(status.newest)) / 1000) : null;
}

/** Start of what is not yet known, ms: nothing later than the newest sample is counted. */
export function known() {
  return state.status?.newest ? ms(state.status.newest) : serverNow();
}

/** Whether no daemon runs, and what is shown is what one has left. */
export function alone(status) {
  return status.running === false;
}

/** [word, kind of badge] for the whole. */
export function health(status) {
  if (alone(status)) return ["no daemon", ""];
  if (!status.ready) return ["not ready", "warn"];
  if (Object.keys(status.degraded ?? {}).length) return ["degraded", "warn"];
  return ["ready", "good"];
}

/** Shows the state in the node; follows the live status. */
export function startStatus(node) {
  let lost = false;
  const paint = () => {
    const status = state.status;
    if (lost) replace(node, h("span", { class: "badge bad" }, h("span", { class: "dot" }), "connection lost"));
    else if (status) {
      const [word, kind] = health(status);
      const behind = lag(status);
      replace(node, h("span", { class: `badge ${kind}` }, h("span", { class: ["dot", status.ready && "pulse"] }), word),
        h("div", { class: "small" }, behind === null ? "no data yet" : alone(status) ? `last data ${utc(status.newest).slice(0, 10)}` : `newest ${span(behind)} ago`));
    }
  };
  onStatus(paint);
  onLive("status", accept);
  onLive("open", () => { lost = false; paint(); });
  onLive("lost", () => { lost = true; paint(); });
  currentStatus().catch(() => {});
  setInterval(paint, 5000);
}
