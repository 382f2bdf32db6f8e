// Models: versions, what the gate said, losses over trainings; promote one and roll back.

import { get, send } from "../api.js";
import { dialog } from "../dialog.js";
import { h, icon, replace, s, text } from "../dom.js";
import { bindKeys } from "../keys.js";
import { lineDrawing } from "../parts/histogram.js";
import { stamp } from "../parts/stamp.js";
import { currentStatus, may } from "../status.js";
import { clusters, refresh } from "../store.js";
import { count, day, figure, ms, span } from "../time.js";
import { toast } from "../toast.js";

export async function show(root, route) {
  await Promise.all([currentStatus(), clusters()]);
  const state = { items: [], refused: [], current: null, chosen: route.id ? (REFUSED.test(route.id) ? route.id : Number(route.id)) : null, trainings: [] };
  const list = h("div");
  const about = h("div", { class: "stack" });
  const past = h("div");
  const ends = [];
  const load = async () => {
    const [models, trainings] = await Promise.all([get("models"), get("trainings")]);
    Object.assign(state, { items: models.items, refused: models.refused ?? [], current: models.current, trainings: trainings.items });
    state.chosen ??= models.current;
    paint();
  };
  const choose = (version) => { state.chosen = version; paint(); };
  const act = async (path, reason, done) => {
    try { await send("POST", path, { reason }); } catch { return; }
    toast(done, { kind: "good" });
    await Promise.all([currentStatus(true), refresh()]).catch(() => {});
    await load();
  };
  const promote = async (version) => {
    const reason = await why(`Use version ${version}?`, `Windows from now on get their cluster from version ${version} instead of ${state.current ?? "none"}. Windows before keep theirs.`, "Promote");
    if (reason !== null) await act(`models/${version}/promote`, reason, `Version ${version} is in use`);
  };
  const rollback = async () => {
    const reason = await why("Roll back?", `The version that was in use before ${state.current} is used again from now on. Names and notes stay with their clusters.`, "Roll back", true);
    if (reason !== null) await act("models/rollback", reason, "Rolled back to the version before");
  };
  const paint = () => {
    replace(list, state.items.length || state.refused.length ? versionTable(state, choose) : noModel());
    replace(past, pastTrainings(state.trainings));
    paintVersion(about, state, { promote, rollback });
    back.disabled = !may("operate") || state.items.every((item) => item.version === state.current || !item.activated.length);
  };
  const back = h("button", { class: "button", type: "button", onClick: rollback, disabled: true }, icon("undo"), "Roll back");
  const loss = h("div");
  replace(root, h("header", { class: "page-head" }, h("div", null, h("h1", null, "Models"), h("p", null, "Every version is kept as it was; a retrain makes a new one, and the gate decides whether it is used.")), back),
    h("div", { class: "grid wide-left models" }, card("Versions", list, "flush"), about), h("div", { class: "grid two models-past" }, card("Trainings", past, "flush"), card("Loss", loss)));
  await load();
  replace(loss, lossChart(state.trainings));
  const move = (step) => {
    const all = rowsOf(state);
    const at = all.findIndex((item) => item.version === state.chosen) + step;
    if (all[at]) choose(all[at].version);
  };
  ends.push(bindKeys("Models", { j: ["Next version", () => move(1)], k: ["Previous version", () => move(-1)] }));
  return () => { for (const end of ends) end(); };
}

function card(title, body, kind = "") {
  return h("section", { class: `card ${kind}`, "aria-label": title }, h("div", { class: "card-head" }, h("h2", null, title)), h("div", { class: "card-body" }, body));
}

function noModel() {
  return h("div", { class: "empty" }, h("h3", null, "No model yet"), h("p", null, "The first one is made when enough windows have come."));
}

/** A confirm dialog with a reason; resolves to the reason, or null. */
function why(title, message, yes, danger = false) {
  const input = h("input", { class: "input", maxlength: 200, autofocus: true });
  return dialog({ title, body: h("div", { class: "stack" }, h("p", null, message), h("label", { class: "field" }, h("span", null, "Reason, for the journal"), input)), actions: [["Cancel", null, ""], [yes, () => input.value.trim(), danger ? "danger" : "primary"]] });
}

const REFUSED = /^refused-\d+$/;

/** Versions and refused candidates in one list, the newest first; a candidate is called "refused-3". */
function rowsOf(state) {
  const refused = state.refused.map((item) => ({ ...item, version: `refused-${item.number}`, refused: true, active: false, pinned: false, activated: [] }));
  return [...state.items, ...refused].sort((a, b) => (a.made > b.made ? -1 : a.made < b.made ? 1 : 0));
}

function nameOf(item) {
  return item.refused ? `candidate ${item.number}` : `v${item.version}`;
}

function stateOf(item) {
  if (item.refused) return [h("span", { class: "badge bad" }, "refused"), h("span", { class: "small muted" }, item.gate.reasons.map((reason) => h("div", null, text(reason))))];
  return [
    item.active ? h("span", { class: "badge good" }, "in use") : null,
    item.pinned ? h("span", { class: "badge accent" }, icon("pin", "icon tiny"), "pinned") : null,
    item.gate ? h("span", { class: ["badge", item.gate.passed ? "" : "bad"] }, item.gate.passed ? "passed the gate" : "refused") : null,
    !item.gate && !item.active ? h("span", { class: "muted small" }, item.activated.length ? "was in use" : "never in use") : null,
  ];
}

function versionTable(state, choose) {
  return h("div", { class: "table-wrap" }, h("table", { class: "table" },
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "Version"), h("th", { scope: "col" }, "Made, UTC"), h("th", { scope: "col", class: "number wide-only" }, "Clusters"), h("th", { scope: "col", class: "number wide-only" }, "Windows"), h("th", { scope: "col" }, "State"))),
    h("tbody", null, rowsOf(state).map((item) => h("tr", { class: ["link", item.refused && "refused"], "aria-selected": String(item.version === state.chosen), onClick: () => choose(item.version) },
      h("td", null, h("button", { class: "link-button", type: "button", title: item.refused ? "Show this candidate" : "Show this version" }, nameOf(item))),
      h("td", { class: "muted nowrap" }, stamp(item.made, { zone: false })), h("td", { class: "number wide-only" }, count(item.clusters)), h("td", { class: "number wide-only" }, count(item.windows)),
      h("td", { class: "reasons" }, h("span", { class: "row tight" }, stateOf(item))))))));
}

/** A candidate that the gate refused: it was never in use and cannot be. */
function paintRefused(node, item) {
  replace(node, h("section", { class: "card", "aria-label": `Candidate ${item.number}` }, h("div", { class: "card-head" }, h("h2", null, `Candidate ${item.number}`), h("span", { class: "badge bad" }, "refused")),
    h("div", { class: "card-body stack" }, facts([["Made", stamp(item.made)], ["Method", item.method], ["Clusters", count(item.clusters)], ["Trained on", item.windows === null ? "–" : `${count(item.windows)} windows`], ["Size", `${figure(item.size / 1024)} KiB`]]),
      gate(item.gate), lossesOf(item.losses))));
}

async function paintVersion(node, state, acts) {
  const item = rowsOf(state).find((each) => each.version === state.chosen);
  if (!item) {
    replace(node);
    return;
  }
  if (item.refused) {
    paintRefused(node, item);
    return;
  }
  const more = h("div", { class: "stack" });
  const use = h("button", { class: "button primary small", type: "button", disabled: item.active || !may("operate"), onClick: () => acts.promote(item.version), title: may("operate") ? null : "Needs the scope operate" }, icon("check"), item.active ? "In use" : "Promote");
  replace(node, h("section", { class: "card", "aria-label": `Version ${item.version}` }, h("div", { class: "card-head" }, h("h2", null, `Version ${item.version}`), use),
    h("div", { class: "card-body stack" }, facts([["Made", stamp(item.made)], ["Method", item.method], ["Clusters", count(item.clusters)], ["Trained on", item.windows === null ? "–" : `${count(item.windows)} windows`], ["Size", `${figure(item.size / 1024)} KiB`]]), more)));
  try {
    const whole = await get(`models/${item.version}`, {}, { quiet: true });
    if (state.chosen !== item.version || !more.isConnected) return;
    replace(more, gate(whole.gate), lossesOf(whole.losses), activations(whole.activated), detailsOf("Figures", whole.figures), detailsOf("Card", whole.card));
  } catch (error) {
    replace(more, h("p", { class: "muted" }, error.message));
  }
}

function facts(rows) {
  return h("dl", { class: "pairs" }, rows.map(([name, value]) => [h("dt", null, name), h("dd", null, value instanceof Node ? value : text(value))]));
}

/** The losses of one training, step by step, where more than the last one was kept. */
function lossesOf(losses) {
  if (!Array.isArray(losses) || !losses.length) return null;
  if (losses.length < 2) return h("section", { class: "stack tight" }, h("h3", null, "Loss"), h("p", { class: "small muted" }, `${figure(losses[0])} at the end; the training has told no other.`));
  return h("section", { class: "stack tight" }, h("h3", null, "Loss"), lineDrawing(losses.map((value, at) => [at, value]), { label: `Loss over ${losses.length} steps, the last ${figure(losses.at(-1))}`, ends: ["first step", `step ${losses.length}`] }));
}

/** What the gate looked at: each check with its value, its limit and the reason. */
function gate(found) {
  if (!found) return h("p", { class: "small muted" }, "The gate did not look at this version: it is a first model, or a person put it there.");
  const checks = found.checks ?? [];
  return h("section", { class: "stack tight" }, h("h3", null, "Gate ", h("span", { class: `badge ${found.passed ? "good" : "bad"}` }, found.passed ? "passed" : "refused")),
    found.reasons?.length ? h("ul", { class: "reasons" }, found.reasons.map((reason) => h("li", null, text(reason)))) : null,
    checks.length ? checkTable(checks) : null);
}

function checkTable(checks) {
  return h("div", { class: "table-wrap" }, h("table", { class: "table compact inset" },
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "Check"), h("th", { scope: "col", class: "number" }, "Value"), h("th", { scope: "col", class: "number" }, "Limit"), h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Result")))),
    h("tbody", null, checks.map((check) => h("tr", { title: check.text }, h("td", null, String(check.name).replaceAll("_", " ")), h("td", { class: "number" }, figure(check.value)), h("td", { class: "number muted" }, figure(check.limit)),
      h("td", null, h("span", { class: `badge ${check.ok ? "good" : "bad"}` }, check.ok ? "ok" : "no")))))));
}

function activations(list) {
  if (!list.length) return null;
  return h("section", { class: "stack tight" }, h("h3", null, "In use"), h("ul", { class: "small activations" }, list.map((one) => h("li", null, h("b", null, stamp(one.at)), " by ", text(one.by), one.reason ? [": ", text(one.reason)] : null))));
}

function detailsOf(title, values) {
  const rows = Object.entries(values ?? {}).filter(([, value]) => value !== null && typeof value !== "object");
  if (!rows.length) return null;
  return h("details", null, h("summary", null, title), facts(rows.map(([name, value]) => [name.replaceAll("_", " "), typeof value === "number" ? figure(value) : String(value)])));
}

const KINDS = { promoted: "good", refused: "bad", failed: "bad", skipped: "" };

function pastTrainings(items) {
  if (!items.length) return h("p", { class: "muted padded" }, "No training since the first model.");
  return h("div", { class: "table-wrap scroll", tabindex: 0, role: "region", "aria-label": "Trainings" }, h("table", { class: "table compact" },
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "When, UTC"), h("th", { scope: "col" }, "Outcome"), h("th", { scope: "col", class: "number wide-only" }, "Took"), h("th", { scope: "col" }, "Why"))),
    h("tbody", null, items.map((one) => h("tr", null, h("td", { class: "nowrap" }, stamp(one.at, { zone: false })),
      h("td", null, h("span", { class: `badge ${KINDS[one.kind] ?? ""}` }, text(one.kind ?? "–")), spark(one.figures?.losses)), h("td", { class: "number wide-only" }, span(one.seconds)),
      h("td", { class: "small reasons" }, [one.reasons ?? []].flat().map((reason) => h("div", null, text(reason))), one.reasons?.length ? null : text(one.reason ?? (one.version ? `version ${one.version}` : ""))))))));
}

/** The loss of a training as a small curve beside it. */
function spark(losses) {
  if (!Array.isArray(losses) || losses.length < 2) return null;
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const points = losses.map((value, at) => `${(1 + (at / (losses.length - 1)) * 58).toFixed(1)},${(15 - ((value - low) / (high - low || 1)) * 13).toFixed(1)}`);
  const said = `Loss from ${figure(losses[0])} to ${figure(losses.at(-1))} in ${losses.length} steps`;
  return s("svg", { viewBox: "0 0 60 16", class: "spark", role: "img", "aria-label": said }, s("title", null, said), s("polyline", { points: points.join(" "), fill: "none", stroke: "var(--accent)", "stroke-width": 1.5 }));
}

/** The loss of each training that told it, over time. */
function lossChart(trainings) {
  const points = trainings.filter((one) => one.at && Number.isFinite(one.figures?.loss)).map((one) => [ms(one.at), one.figures.loss]).sort((a, b) => a[0] - b[0]);
  if (points.length < 2) return h("p", { class: "muted" }, points.length ? `One training has told its loss so far: ${figure(points[0][1])}.` : "The loss is drawn when two trainings have told theirs.");
  return [h("p", { class: "small muted" }, "At the end of each training; lower fits the windows better."),
    lineDrawing(points, { label: `Loss at the end of ${points.length} trainings, the last ${figure(points.at(-1)[1])}`, ends: [day(points[0][0]), day(points.at(-1)[0])] })];
}
