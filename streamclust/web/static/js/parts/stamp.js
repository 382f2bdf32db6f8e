// A time to read that breaks between day and clock at most, never within one of them, however narrow the page is.

import { h } from "../dom.js";
import { iso, ms, utc } from "../time.js";

/** What `utc` says, as an element; a line may end between the day and the clock. */
export function stamp(value, how = {}) {
  const said = utc(value, how);
  if (said === "–") return said;
  const [day, ...clock] = said.split(" ");
  return h("time", { datetime: iso(ms(value)) }, h("span", { class: "nowrap" }, day), " ", h("span", { class: "nowrap" }, clock.join(" ")));
}
