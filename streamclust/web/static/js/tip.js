// A small note beside the pointer; what it says is told in another way as well.

import { h, replace } from "./dom.js";

/** Returns `{show(x, y, ...children), hide(), close()}` with places in CSS px of the window. */
export function tip() {
  const node = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  document.body.append(node);
  return {
    show(x, y, ...children) {
      replace(node, ...children);
      node.hidden = false;
      const { width, height } = node.getBoundingClientRect();
      const left = x + 14 + width > innerWidth - 8 ? x - width - 14 : x + 14;
      node.style.left = `${Math.max(8, left)}px`;
      node.style.top = `${Math.max(8, Math.min(y + 14, innerHeight - height - 8))}px`;
    },
    hide() { node.hidden = true; },
    close() { node.remove(); },
  };
}
