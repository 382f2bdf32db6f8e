// One connection to the live events for the whole page, however many parts of it listen.

import { listen } from "./api.js";

const NAMES = ["assignment", "skipped", "status", "cluster"];
const subscribers = new Map([...NAMES, "open", "lost"].map((name) => [name, new Set()]));
let stop = null;

function tell(name, data) {
  for (const handle of subscribers.get(name)) handle(data);
}

/** Calls `handle(data)` for each event of that name; returns the function that stops it. */
export function onLive(name, handle) {
  subscribers.get(name).add(handle);
  return () => subscribers.get(name).delete(handle);
}

/** Connects; again after a sign-in. */
export function startLive() {
  stop?.();
  const handlers = { open: () => tell("open"), lost: () => tell("lost") };
  for (const name of NAMES) handlers[name] = (data) => tell(name, data);
  stop = listen("live", handlers);
}

/** Closes the connection, for a page that goes away. */
export function stopLive() {
  stop?.();
  stop = null;
}
