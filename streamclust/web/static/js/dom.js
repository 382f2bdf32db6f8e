// Builds elements. Text from data only ever becomes a text node: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg"; // a name of the standard, not an address that is fetched

/** Sets one property: `class`, `style` (an object), `data` (an object), `onX` (a listener), `value`/`checked`/…, else an attribute. */
function put(node, key, value) {
  if (value === null || value === undefined || value === false) return;
  if (key === "class") node.setAttribute("class", Array.isArray(value) ? value.filter(Boolean).join(" ") : value);
  else if (key === "style") for (const [name, rule] of Object.entries(value)) styled(node, name, rule);
  else if (key === "data") Object.assign(node.dataset, value);
  else if (key.startsWith("on") && typeof value === "function") node.addEventListener(key.slice(2).toLowerCase(), value);
  else if (["value", "checked", "selected", "disabled", "hidden", "indeterminate"].includes(key)) node[key] = value;
  else if (key === "href" && !safe(String(value))) node.setAttribute("href", "#");
  else node.setAttribute(key, value === true ? "" : String(value));
}

function styled(node, name, rule) {
  if (rule === null || rule === undefined) return;
  if (name.startsWith("--")) node.style.setProperty(name, String(rule));
  else node.style[name] = String(rule);
}

/** Links lead to this page, this host or a blob of it; never to a script. */
function safe(href) {
  return /^(#|\/(?!\/)|\.{0,2}\/|blob:|[\w-]+(\/|$|\.|\?))/.test(href) && !/^\s*(javascript|data|vbscript):/i.test(href);
}

function fill(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === true) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

/** `h("p", {class: "muted"}, "text", node, [more])` */
export function h(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props ?? {})) put(node, key, value);
  return fill(node, children);
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(props ?? {})) put(node, key, value);
  return fill(node, children);
}

/** Replaces what a node holds. */
export function replace(node, ...children) {
  node.replaceChildren();
  return fill(node, children);
}

/** A text of a person or a device, isolated so that its writing direction cannot rearrange what stands beside it. */
export function text(value, className) {
  return h("bdi", { class: className }, clean(value));
}

/** Bidi overrides and control characters shown as a sign instead of obeyed. */
export function clean(value) {
  return String(value ?? "").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g, "\ufffd");
}

const ICONS = {
  overview: "M3 12h4l2-6 4 12 3-9 2 3h3",
  clusters: "M7 8.5a2.5 2.5 0 1 0 0-.01M17 7.5a2.5 2.5 0 1 0 0-.01M8.5 18a2.5 2.5 0 1 0 0-.01M17 17.5a3 3 0 1 0 0-.01",
  events: "M4 6h16M4 12h16M4 18h10",
  streams: "M3 7c3-4 6 4 9 0s6 4 9 0M3 13c3-4 6 4 9 0s6 4 9 0M3 19c3-4 6 4 9 0s6 4 9 0",
  map: "M4 4v16h16M9 14h.01M13 9h.01M17 6h.01M12 15h.01M17 12h.01",
  novelty: "M12 3l2.4 6.2L21 12l-6.6 2.8L12 21l-2.4-6.2L3 12l6.6-2.8z",
  models: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  upload: "M12 16V4M7 9l5-5 5 5M4 16v4h16v-4",
  help: "M9 9a3 3 0 1 1 4 2.8c-.8.4-1 1-1 2.2M12 18h.01",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  close: "M6 6l12 12M18 6L6 18",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l4 4",
  download: "M12 4v12M7 11l5 5 5-5M4 20h16",
  undo: "M8 5L4 9l4 4M4 9h10a5 5 0 0 1 0 10H9",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 2v2M12 20v2M4 12H2M22 12h-2M5 5l1.5 1.5M17.5 17.5L19 19M5 19l1.5-1.5M17.5 6.5L19 5",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  reset: "M4 12a8 8 0 1 0 2.5-5.8M4 4v5h5",
  bell: "M6 16V11a6 6 0 0 1 12 0v5l2 2H4zM10 21h4",
  mute: "M4 9v6h4l5 4V5L8 9zM17 9l4 6M21 9l-4 6",
  pen: "M4 20l1-5L16 4l4 4L9 19z",
  merge: "M6 4v4a6 6 0 0 0 6 6 6 6 0 0 0 6-6V4M12 14v6",
  split: "M6 20v-4a6 6 0 0 1 6-6 6 6 0 0 1 6 6v4M12 10V4",
  check: "M5 12l5 5 9-10",
  warn: "M12 4l9 16H3zM12 10v4M12 17h.01",
  pin: "M9 4h6l-1 6 3 3H7l3-3zM12 13v7",
  share: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l12 7-12 7z",
};

/** A line drawing beside a text that says the same; hidden from readers. */
export function icon(name, className = "icon") {
  return s("svg", { viewBox: "0 0 24 24", class: className, "aria-hidden": "true" }, s("path", { d: ICONS[name] ?? ICONS.more }));
}

/** Runs `call` once after the last of many calls within `wait` ms. */
export function later(call, wait) {
  let timer = 0;
  const run = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), wait);
  };
  run.cancel = () => clearTimeout(timer);
  return run;
}

/** Calls `draw(width, height)` at once and whenever the size of `node` or the theme changes; returns the function that stops it. */
export function onResize(node, draw) {
  const run = () => { if (node.isConnected && node.clientWidth) draw(node.clientWidth, node.clientHeight); };
  const watcher = new ResizeObserver(run);
  watcher.observe(node);
  document.addEventListener("theme", run);
  return () => { watcher.disconnect(); document.removeEventListener("theme", run); };
}

/** The 2-D context of a canvas set to the device's pixels: draw in CSS pixels. */
export function surface(canvas, width, height) {
  const ratio = Math.min(devicePixelRatio || 1, 3);
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** The value of a CSS variable in the present theme. */
export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
