// Modal dialogs on <dialog>: focus stays inside, Escape closes, the opener gets the focus back.

import { h, icon } from "./dom.js";

/**
 * Shows `body` and resolves to the value of the button pressed, or null when closed.
 * `actions`: [[label, value, "primary"|"danger"|""]]; `value` may be a function, called at the press.
 */
export function dialog({ title, body, actions = [["Close", null, ""]], wide = false }) {
  return new Promise((resolve) => {
    const opener = document.activeElement;
    let answer = null;
    const node = h("dialog", { class: ["dialog", wide && "wide"], "aria-label": title });
    const pick = (value) => { answer = typeof value === "function" ? value() : value; node.close(); };
    const primary = actions.find(([, , kind]) => kind === "primary" || kind === "danger");
    const form = h("form", {
      method: "dialog",
      onSubmit: (event) => { event.preventDefault(); if (primary) pick(primary[1]); else node.close(); },
    },
    h("header", { class: "dialog-head" }, h("h2", null, title),
      h("button", { type: "button", class: "button ghost small", "aria-label": "Close", onClick: () => node.close() }, icon("close"))),
    h("div", { class: "dialog-body" }, body),
    h("footer", { class: "dialog-foot" }, actions.map(([label, value, kind]) => h("button", {
      class: `button ${kind ?? ""}`,
      type: primary && primary[0] === label ? "submit" : "button",
      onClick: primary && primary[0] === label ? null : () => pick(value),
    }, label))));
    node.append(form);
    node.addEventListener("click", (event) => { if (event.target === node) node.close(); });
    node.addEventListener("close", () => {
      node.remove();
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
      resolve(answer);
    });
    document.body.append(node);
    node.showModal();
    (node.querySelector("[autofocus], .dialog-body input, .dialog-body select, .dialog-body textarea")
      ?? node.querySelector(".dialog-foot .button"))?.focus();
  });
}

/** A question with yes and no; resolves to true only for yes. */
export async function confirm(title, message, { yes = "Yes", danger = false } = {}) {
  const answer = await dialog({
    title, body: h("p", null, message), actions: [["Cancel", null, ""], [yes, true, danger ? "danger" : "primary"]],
  });
  return answer === true;
}

/** Asks for one line of text; resolves to it, or null. `hint` stands below; `list` proposes values. */
export function ask(title, label, { value = "", hint = "", type = "text", yes = "Save", maxlength = 200, list = [] } = {}) {
  const input = h("input", { class: "input", type, value, maxlength, name: "answer", autocomplete: "off", autofocus: true,
    list: list.length ? "ask-list" : null });
  const body = h("label", { class: "field" }, h("span", null, label), input,
    list.length ? h("datalist", { id: "ask-list" }, list.map((entry) => h("option", { value: entry }))) : null,
    hint ? h("small", { class: "muted" }, hint) : null);
  queueMicrotask(() => input.select());
  return dialog({ title, body, actions: [["Cancel", null, ""], [yes, () => input.value, "primary"]] });
}
