// An upload on its way: place in the queue, progress, cancel; then its result or why there is none.

import { get, listen, send } from "../api.js";
import { confirm } from "../dialog.js";
import { h, icon, replace, text } from "../dom.js";
import { percent } from "../time.js";
import { showResult } from "./upload-result.js";

const OVER = ["done", "failed", "cancelled"];

/** Shows the upload of that id until the page is left; returns the function that ends it. */
export async function showJob(root, id) {
  const path = `uploads/${encodeURIComponent(id)}`;
  const ends = [];
  let closed = false;
  let stop = () => {};
  let last = null;
  const arrive = async (job) => {
    if (closed || (last && OVER.includes(last.state))) return;
    last = { ...last, ...job };
    remember(last);
    if (OVER.includes(last.state)) stop();
    if (last.state === "done") {
      const whole = await get(path).catch(() => last);
      const end = closed ? null : await showResult(root, whole, path);
      if (closed) end?.();
      else if (end) ends.push(end);
    } else paint();
  };
  const cancel = async () => {
    if (!(await confirm("Cancel this upload?", "Its work stops and its file is deleted.", { yes: "Cancel it", danger: true }))) return;
    try { await arrive({ ...((await send("DELETE", path)) ?? {}), state: "cancelled" }); } catch { /* the toast has said why */ }
  };
  const paint = () => {
    if (last.state === "failed" || last.state === "cancelled") replace(root, over(last));
    else update(root, last, cancel);
  };
  try {
    await arrive(await get(path, {}, { quiet: true }));
  } catch (error) {
    replace(root, gone(error));
    forget(id);
    return () => {};
  }
  if (!OVER.includes(last.state)) {
    const handle = (kind) => (data) => arrive({ ...(kind ? { state: kind } : {}), ...(data ?? {}) });
    const again = () => get(path, {}, { quiet: true }).then(arrive).catch(() => {});
    stop = listen(`${path}/events`, { progress: handle(null), done: handle("done"), failed: handle("failed"), cancelled: handle("cancelled"), lost: again });
  }
  return () => { closed = true; stop(); for (const end of ends) end(); };
}

/** Changes the numbers in place, so that the focus stays on the button. */
function update(root, job, cancel) {
  let card = root.querySelector(".job");
  if (!card) {
    card = h("section", { class: "card job", "aria-labelledby": "job-title" }, h("div", { class: "card-body stack" },
      h("div", null, h("h1", { id: "job-title" }, text(job.title || job.filename)), job.title && job.title !== job.filename ? h("p", { class: "muted" }, text(job.filename)) : null),
      h("div", { class: "progress big", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100 }, h("span")),
      h("div", { class: "row" }, h("p", { class: "grow job-step", role: "status" }), h("span", { class: "job-part muted" })),
      h("p", { class: "small muted" }, "You can leave this page: the link to it stays valid."),
      h("div", null, h("button", { class: "button", type: "button", onClick: cancel }, icon("close"), "Cancel"))));
    replace(root, h("div", { class: "job-page" }, card));
  }
  const waits = job.state === "queued";
  const bar = card.querySelector(".progress");
  bar.setAttribute("aria-valuenow", String(Math.round((job.progress ?? 0) * 100)));
  bar.firstElementChild.style.width = `${Math.max(waits ? 0 : 2, (job.progress ?? 0) * 100)}%`;
  const said = waits ? (job.position ? `Waiting: number ${job.position} in the queue` : "Waiting for its turn") : sentence(job.step) || "Working";
  const step = card.querySelector(".job-step");
  if (step.textContent !== said) step.textContent = said;
  card.querySelector(".job-part").textContent = waits ? "" : percent(job.progress ?? 0).replace(".0", "");
}

function sentence(step) {
  const words = String(step ?? "").replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function over(job) {
  const failed = job.state === "failed";
  return h("div", { class: "job-page" }, h("section", { class: "card" }, h("div", { class: "empty", role: failed ? "alert" : "status" }, icon(failed ? "warn" : "close"),
    h("h1", null, failed ? "This recording could not be clustered" : "Cancelled"), h("p", { class: "job-error" }, text(job.error || (failed ? "The server did not say why." : "The work was stopped and the file deleted."))),
    h("p", { class: "small muted" }, text(job.filename)), h("a", { class: "button primary", href: "#/upload" }, icon("upload"), "Try another file"))));
}

function gone(error) {
  const lost = error.status === 404;
  return h("div", { class: "empty" }, icon("warn"), h("h1", null, lost ? "There is no such upload" : "The upload could not be shown"),
    h("p", null, lost ? "Results are kept for a set time, then they are deleted. Perhaps this one was." : error.message), h("a", { class: "button", href: "#/upload" }, "Upload a recording"));
}

const KEPT = 12;

/** The uploads of this browser, newest first: [{id, title, filename, state, created, expires}]. */
export function remembered() {
  try {
    const list = JSON.parse(localStorage.getItem("uploads") ?? "[]");
    return Array.isArray(list) ? list.filter((one) => typeof one?.id === "string" && !(Date.parse(one.expires) < Date.now())) : [];
  } catch {
    return [];
  }
}

function remember({ id, title, filename, state, created, expires }) {
  const rest = remembered().filter((one) => one.id !== id);
  keep([{ id, title, filename, state, created, expires }, ...rest].slice(0, KEPT));
}

function forget(id) {
  keep(remembered().filter((one) => one.id !== id));
}

function keep(list) {
  try { localStorage.setItem("uploads", JSON.stringify(list)); } catch { /* a browser without storage */ }
}
