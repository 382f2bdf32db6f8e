// What the words and colours mean, the keys, and how to take the data elsewhere.

import { OKABE_ITO } from "../colour.js";
import { actor } from "../api.js";
import { h, replace } from "../dom.js";
import { keyList } from "../keys.js";
import { currentStatus } from "../status.js";

const WORDS = [
  ["Window", "A short piece of one stream. Windows overlap; each is turned into a spectrogram and then into a few numbers, and those are clustered."],
  ["Cluster", "Windows that look alike. Its identity (C1, C2, …) lasts over retraining and is never used again; its name is yours."],
  ["Membership", "How much a window belongs to each cluster; the parts add up to 100 %."],
  ["Novel", "Unlike anything that the model was trained on. It still gets its nearest cluster, but do not trust it."],
  ["Model", "What assigns windows to clusters. A new one is trained now and then, and takes over only when it passes its gate; the one before stays at hand."],
  ["Muted", "Counted and shown, but it raises no alarm."],
  ["Merged", "Shown and counted as the cluster that it was merged into; undo brings it back."],
  ["Lag", "The time between the newest sample and now, by the clock of the server."],
  ["Flag", "Something known to be wrong with a window: clipped, gaps filled, dead, a spike, poor timing."],
  ["Kept", "Pictures exist for the windows that the buffer keeps: a sample of all, spread over clusters and time."],
];
const EXAMPLES = [
  ["The newest ten windows of one cluster", "events?cluster=C1&limit=10"],
  ["All novel windows as CSV", "events?novel=true&format=csv"],
  ["Counts per cluster and time", "occurrence?bins=100"],
  ["The clusters with their names", "clusters"],
  ["The description of the whole interface", "openapi.json"],
];

export async function show(root) {
  const name = h("input", { class: "input", id: "actor", maxlength: 64, value: actor(), autocomplete: "name", placeholder: "e.g. Ada", onChange: () => actor(name.value.trim()) });
  const version = h("p");
  replace(root, h("header", { class: "page-head" }, h("div", null, h("h1", null, "Help"), version)),
    h("div", { class: "grid two help" },
      h("div", { class: "stack start" },
        h("section", { class: "card" }, head("Words"), h("div", { class: "card-body" }, h("dl", { class: "words" }, WORDS.map(([word, means]) => [h("dt", null, word), h("dd", null, means)])))),
        h("section", { class: "card" }, head("Occurrence map and charts"), h("div", { class: "card-body stack tight" },
          h("p", null, "The wheel zooms around the pointer; dragging zooms to what is marked; a finger moves, two fingers zoom; a double click shows everything. A click on a cell opens its windows. Strength of colour is the count against the highest of its row."),
          h("p", null, "With the keyboard: arrows walk, ", h("kbd", null, "+"), " and ", h("kbd", null, "-"), " zoom, ", h("kbd", null, "0"), " shows everything, ", h("kbd", null, "Enter"), " opens."),
          h("p", null, "All times are UTC."))),
        h("section", { class: "card" }, head("Colours"), h("div", { class: "card-body stack tight" },
          h("div", { class: "row", "aria-hidden": "true" }, OKABE_ITO.map((colour) => h("span", { class: "patch", style: { background: colour } }))),
          h("p", null, "A colour belongs to an identity and stays. The seven are Okabe and Ito's, which people with every kind of colour vision can tell apart; beyond seven they repeat, so names stand beside them. You can choose a cluster's colour on its page.")))),
      h("div", { class: "stack start" },
        h("section", { class: "card" }, head("Keys"), h("div", { class: "card-body stack" }, keyList())),
        h("section", { class: "card" }, head("You"), h("div", { class: "card-body" }, h("label", { class: "field" }, h("span", null, "Your name in the journal"), name, h("small", { class: "muted" }, "Written beside each name, merge or mute that you make. Kept in this browser.")))),
        h("section", { class: "card" }, head("Interface"), h("div", { class: "card-body stack tight" },
          h("p", null, "Everything on these pages comes from ", h("code", null, "/api/v1/"), ", and you can use it too:"),
          h("ul", { class: "stack tight" }, EXAMPLES.map(([what, path]) => h("li", null, h("div", { class: "small muted" }, what), h("code", { class: "curl", tabindex: 0 }, `curl '${location.origin}/api/v1/${path}'`)))))))));
  currentStatus().then((status) => { version.textContent = `streamclust ${status.version}`; }).catch(() => {});
  return () => {};
}

function head(title) {
  return h("div", { class: "card-head" }, h("h2", null, title));
}
