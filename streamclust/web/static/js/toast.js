// Short notices at the edge of the page; read aloud, gone after a while, with an optional action.

import { clean, h, icon } from "./dom.js";

/** `toast("Saved", {kind: "good"|"bad"|"plain", action: ["Undo", run], seconds})` */
export function toast(message, { kind = "plain", action = null, seconds = kind === "bad" ? 9 : 5 } = {}) {
  const host = document.getElementById("toasts");
  const node = h("div", { class: `toast ${kind}`, role: kind === "bad" ? "alert" : null }, h("span", null, clean(message)));
  const close = () => node.remove();
  for (const old of host.children) if (!action && old.firstElementChild.textContent === clean(message)) old.remove();
  if (action) node.append(h("button", { class: "button small", onClick: () => { close(); action[1](); } }, action[0]));
  node.append(h("button", { class: "button ghost small", "aria-label": "Dismiss", onClick: close }, icon("close")));
  while (host.childElementCount >= 4) host.firstElementChild.remove();
  host.append(node);
  let timer = setTimeout(close, seconds * 1000);
  node.addEventListener("pointerenter", () => clearTimeout(timer));
  node.addEventListener("pointerleave", () => { timer = setTimeout(close, 2000); });
  return close;
}
