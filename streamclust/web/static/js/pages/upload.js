// Upload a recording: the form, what this browser has uploaded, and each upload's own page.

import { get, send } from "../api.js";
import { h, icon, replace, text } from "../dom.js";
import { remembered, showJob } from "../parts/upload-job.js";
import { currentStatus, may } from "../status.js";
import { utc } from "../time.js";

const FORMATS = "miniSEED, SAC, WAV, CSV, NumPy (npy, npz) or EDF";
const WITHOUT_RATE = /\.(csv|txt|tsv|npy)$|^[^.]*$/i;
const PROFILES = [
  ["auto", "Automatic"],
  ["seismic", "Seismic: local earthquakes, rockfalls, 100 Hz"],
  ["regional", "Seismic, regional: 40 Hz"],
  ["broadband", "Seismic, broadband: 20 Hz"],
  ["volcano", "Volcano: tremor, long-period events, 50 Hz"],
  ["icequake", "Icequakes: short, 200 Hz"],
  ["infrasound", "Infrasound: 40 Hz"],
  ["spikes", "Spikes of nerve cells: found and sorted, 24 kHz"],
  ["eeg", "EEG: brain waves, 125 Hz"],
  ["ecg", "ECG: heart beats, 125 Hz"],
  ["emg", "EMG: muscles, 1000 Hz"],
];

export async function show(root, route) {
  return route.id ? showJob(root, route.id) : showForm(root);
}

async function showForm(root) {
  const status = await currentStatus();
  const state = { file: null };
  const form = buildForm(state, status);
  replace(root,
    h("header", { class: "page-head" }, h("div", null, h("h1", null, "Upload a recording"), h("p", null, "It is cut into windows, and windows that look alike become one cluster. It stays apart from the running streams."))),
    h("div", { class: "upload-grid" }, form, h("aside", { class: "stack" }, await pastCard(), kinds())));
  const over = (event) => { if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); };
  addEventListener("dragover", over); // a file that misses the zone must not replace the page
  addEventListener("drop", over);
  return () => { removeEventListener("dragover", over); removeEventListener("drop", over); };
}

function buildForm(state, status) {
  const input = h("input", { type: "file", id: "file", name: "file", class: "visually-hidden" });
  const chosen = h("span", { class: "drop-file", "aria-live": "polite" });
  const zone = h("label", { class: "drop", for: "file" }, icon("upload", "icon drop-icon"), h("strong", null, "Drop a file here, or choose one"), h("span", { class: "muted small" }, FORMATS), chosen);
  const profile = select("profile", PROFILES);
  const clusters = select("clusters", [["auto", "Automatic"], ...Array.from({ length: 19 }, (_, at) => [String(at + 2), String(at + 2)])]);
  const rate = h("input", { class: "input", name: "rate", type: "number", min: "0.001", step: "any", inputmode: "decimal", placeholder: "for example 24000" });
  const rateField = h("label", { class: "field", hidden: true }, h("span", null, "Sampling rate, Hz"), rate, h("small", { class: "muted" }, "Unless the file has a column of times."));
  const channels = select("channels", [["separate", "Each by itself"], ["together", "Together: one tetrode or probe"]]);
  const channelsField = h("label", { class: "field", hidden: true }, h("span", null, "Channels"), channels);
  const title = h("input", { class: "input", name: "title", maxlength: 120, placeholder: "optional" });
  const modes = modeField(status);
  const problem = h("p", { class: "form-problem", role: "alert", hidden: true });
  const go = h("button", { class: "button primary big", type: "submit", disabled: true }, icon("play"), "Cluster it");
  const clustersField = h("label", { class: "field" }, h("span", null, "Number of clusters"), clusters);
  const pick = (file) => {
    if (!file) return; // the person closed the chooser
    state.file = file;
    replace(chosen, text(file.name), h("span", { class: "muted" }, ` ${size(file.size)}`));
    zone.classList.add("full");
    rateField.hidden = !WITHOUT_RATE.test(file.name);
    go.disabled = !may("upload") || status.uploads === false;
    problem.hidden = true;
  };
  const mode = () => form.querySelector("input[name=mode]:checked").value;
  const submit = async (event) => {
    event.preventDefault();
    if (!state.file || go.disabled) return;
    go.disabled = true;
    form.classList.add("sending");
    try {
      const { id } = await send("POST", "uploads", body(state.file, { profile: profile.value, mode: mode(), clusters: clusters.value, rate: rateField.hidden ? "" : rate.value, channels: channelsField.hidden ? "" : channels.value, title: title.value.trim() }), { quiet: true });
      location.hash = `#/upload/${encodeURIComponent(id)}`;
    } catch (error) {
      replace(problem, text(error.message));
      problem.hidden = false;
      go.disabled = false;
    } finally {
      form.classList.remove("sending");
    }
  };
  const form = h("form", { class: "card upload-form", onSubmit: submit }, h("div", { class: "card-body stack" }, input, zone, modes,
    h("div", { class: "toolbar upload-fields" }, h("label", { class: "field" }, h("span", null, "Kind of signal"), profile), clustersField, rateField, channelsField, h("label", { class: "field" }, h("span", null, "Title"), title)),
    problem, h("div", { class: "row" }, go, h("span", { class: "sending-note muted", role: "status" }, "Sending…")),
    status.uploads === false ? h("p", { class: "small muted" }, "Another server of this state directory takes the uploads; send the recording there.") : null,
    may("upload") ? null : h("p", { class: "small muted" }, "Uploading needs a token with the scope upload.")));
  const electrodes = () => { channelsField.hidden = profile.value !== "spikes" || mode() === "assign"; };
  profile.addEventListener("change", electrodes);
  modes.addEventListener("change", () => { electrodes(); clustersField.hidden = mode() === "assign"; go.lastChild.textContent = mode() === "assign" ? "Assign it" : "Cluster it"; });
  input.addEventListener("change", () => pick(input.files[0]));
  for (const name of ["dragenter", "dragover"]) zone.addEventListener(name, (event) => { event.preventDefault(); zone.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) zone.addEventListener(name, () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) pick(event.dataTransfer.files[0]); });
  return form;
}

function body(file, fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value === "" || (name === "clusters" && fields.mode === "assign")) continue;
    form.append(name, value);
  }
  form.append("file", file, file.name);
  return form;
}

function modeField(status) {
  const option = (value, title, about, disabled = false) => h("label", { class: "mode" }, h("input", { type: "radio", name: "mode", value, checked: value === "cluster", disabled }),
    h("span", null, h("b", null, title), h("small", { class: "muted block" }, about)));
  return h("fieldset", { class: "modes" }, h("legend", { class: "visually-hidden" }, "What to do"),
    option("cluster", "Cluster it by itself", "finds the groups within this recording"),
    option("assign", "Assign with the running model", status.model === null ? "there is no model yet" : `to the clusters of version ${status.model}, profile ${status.profile?.name ?? ""}`, status.model === null));
}

function select(name, options) {
  return h("select", { class: "select", name }, options.map(([value, title]) => h("option", { value }, title)));
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(0)} KiB` : `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}

/** What this browser has uploaded; an operator sees all. */
async function pastCard() {
  let list = remembered();
  let title = "Your uploads";
  if (may("operate")) {
    try {
      list = (await get("uploads", {}, { quiet: true })).items;
      title = "Uploads";
    } catch { /* the own ones are shown */ }
  }
  return h("section", { class: "card", "aria-label": title }, h("div", { class: "card-head" }, h("h2", null, title)), h("div", { class: "card-body" },
    list.length ? h("ul", { class: "past" }, list.slice(0, 20).map((one) => h("li", null, h("a", { href: `#/upload/${encodeURIComponent(one.id)}` }, text(one.title || one.filename)),
      h("span", { class: "small muted" }, `${one.state ?? ""} · ${utc(one.created)}`)))) : h("p", { class: "small muted" }, "None yet. Each has a link of its own that can be shared, and is deleted after a set time.")));
}

function kinds() {
  const rows = [["miniSEED, SAC", "rate and time are in the file; names of an SDS archive are understood"], ["WAV", "mono or several channels"], ["CSV", "a column a channel, before them the time if you have it: seconds, or as 2026-01-31T12:00:00Z; a first line may name the columns"], ["npy", "samples, or channels by samples"], ["npz", "x and fs, as streamclust fit takes"], ["EDF", "continuous; each signal a channel"]];
  return h("section", { class: "card", "aria-label": "Kinds of files" }, h("div", { class: "card-head" }, h("h2", null, "Kinds of files")), h("div", { class: "card-body" },
    h("dl", { class: "pairs small" }, rows.map(([name, about]) => [h("dt", null, name), h("dd", null, about)]))));
}
