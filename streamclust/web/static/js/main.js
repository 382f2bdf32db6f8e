// The shell: the bar of pages, the router on the address's hash, and what lasts while pages change.

import { h, icon, replace, s } from "./dom.js";
import { bindKeys, startKeys } from "./keys.js";
import { onLive, startLive, stopLive } from "./live.js";
import { dialog } from "./dialog.js";
import { clusters, refresh } from "./store.js";
import { currentStatus, startStatus } from "./status.js";

const PAGES = [
  { name: "overview", title: "Overview", key: "o", bar: true },
  { name: "clusters", title: "Clusters", key: "c", bar: true },
  { name: "events", title: "Events", key: "e", bar: true },
  { name: "streams", title: "Streams", key: "s" },
  { name: "map", title: "Map", key: "m" },
  { name: "novelty", title: "Novelty", key: "n" },
  { name: "models", title: "Models", key: "v" },
  { name: "upload", title: "Upload", key: "u", bar: true },
  { name: "help", title: "Help", key: "h" },
];

let close = null;
let shown = 0;

/** What the hash says: {page, parts, query}; "#/events?cluster=C3" -> page "events". */
function parse(hash) {
  const [path, tail] = hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean).map(unescaped);
  const page = PAGES.find((entry) => entry.name === parts[0]) ?? PAGES[0];
  return { page: page.name, parts: parts.slice(1), id: parts[1] ?? null, query: Object.fromEntries(new URLSearchParams(tail ?? "")) };
}

function unescaped(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

async function route() {
  const turn = ++shown;
  const to = parse(location.hash);
  const entry = PAGES.find((page) => page.name === to.page);
  const root = document.getElementById("page");
  document.title = `${entry.title} · streamclust`;
  mark(to.page);
  close?.();
  close = null;
  root.dataset.page = to.page;
  replace(root);
  scrollTo(0, 0);
  try {
    const module = await import(`./pages/${to.page}.js`);
    if (turn !== shown) return;
    const end = await module.show(root, to);
    if (turn === shown) close = end ?? null;
    else end?.();
  } catch (error) {
    if (turn === shown) replace(root, failed(entry.title, error));
    if (!error.status && error.status !== 0) throw error;
  }
}

function failed(title, error) {
  return h("div", { class: "empty" }, icon("warn"), h("h1", null, `${title} could not be shown`), h("p", null, error.message),
    h("button", { class: "button", onClick: route }, "Try again"));
}

function mark(name) {
  for (const link of document.querySelectorAll(".nav [data-page]")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function link(page) {
  return h("a", { class: "nav-link", href: `#/${page.name}`, data: { page: page.name }, title: `${page.title} (g ${page.key})` },
    icon(page.name), h("span", null, page.title));
}

function brand() {
  return h("a", { class: "brand", href: "#/overview" },
    s("svg", { viewBox: "0 0 32 32", "aria-hidden": "true" },
      s("rect", { width: 32, height: 32, rx: 8, fill: "#4349c0" }),
      s("path", { d: "M4 17h5l2-5 3 11 3-15 3 12 2-5h6", fill: "none", stroke: "#fff", "stroke-width": 2.2, "stroke-linecap": "round", "stroke-linejoin": "round" })),
    "streamclust");
}

function showMore() {
  const items = h("ul", { class: "sheet" }, PAGES.filter((page) => !page.bar).map((page) => h("li", null, link(page))));
  const body = h("div", { class: "stack" }, items, h("div", { class: "row" }, h("span", { class: "muted grow" }, "Theme"), themes()));
  items.addEventListener("click", (event) => { if (event.target.closest("a")) items.closest("dialog").close(); });
  dialog({ title: "More", body, actions: [] });
  mark(parse(location.hash).page);
}

function themes() {
  const group = h("div", { class: "segmented", role: "group", "aria-label": "Theme" });
  const paint = () => {
    let chosen = null;
    try { chosen = localStorage.getItem("theme"); } catch { /* no storage */ }
    replace(group, [["light", "Light"], ["dark", "Dark"], ["system", "Auto"]].map(([name, title]) => h("button", {
      class: "button", type: "button", "aria-pressed": String((chosen ?? "system") === name),
      onClick: () => { document.dispatchEvent(new CustomEvent("theme:choose", { detail: name })); paint(); group.children[["light", "dark", "system"].indexOf(name)].focus(); },
    }, title)));
  };
  paint();
  return group;
}

function build() {
  const nav = document.getElementById("nav");
  const list = h("ul", { class: "nav-list" }, PAGES.map((page) => h("li", { class: page.bar ? null : "rest" }, link(page))));
  const more = h("button", { class: "nav-link nav-more", type: "button", "aria-haspopup": "dialog", onClick: showMore }, icon("more"), h("span", null, "More"));
  replace(nav, brand(), list, more, h("div", { class: "nav-foot" }, h("div", { class: "small muted", id: "nav-state" }), themes()));
}

function start() {
  build();
  startKeys();
  const pages = Object.fromEntries(PAGES.map((page) => [`g ${page.key}`, [`Go to ${page.title.toLowerCase()}`, () => { location.hash = `#/${page.name}`; }]]));
  bindKeys("Go to", pages);
  startStatus(document.getElementById("nav-state"));
  clusters().catch(() => {});
  startLive();
  addEventListener("pagehide", stopLive);
  addEventListener("pageshow", (event) => { if (event.persisted) startLive(); });
  document.addEventListener("session", () => { startLive(); currentStatus(true).catch(() => {}); refresh().catch(() => {}); });
  onLive("open", () => { document.documentElement.dataset.live = "on"; });
  onLive("lost", () => { document.documentElement.dataset.live = "lost"; });
  addEventListener("hashchange", route);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("page").focus();
  });
  route();
}

start();
