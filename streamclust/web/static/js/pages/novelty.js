// The list of what fits no cluster well: the most novel windows of the last days, with pictures.

import { address, get } from "../api.js";
import { colourOf } from "../colour.js";
import { h, icon, replace, text } from "../dom.js";
import { bindKeys } from "../keys.js";
import { picture, samplesOf, wave, whenSeen } from "../parts/picture.js";
import { stamp } from "../parts/stamp.js";
import { chip, clusters, streamName } from "../store.js";
import { count, figure, novelty, percent, utc } from "../time.js";

const MOST = 60;

export async function show(root) {
  await clusters();
  const { items } = await get("novelty", { limit: MOST });
  const ends = [];
  const list = h("ol", { class: "novelties" }, items.map((event) => tile(event, ends)));
  replace(root,
    h("header", { class: "page-head" }, h("div", null, h("h1", null, "Novelty"), h("p", null, "Windows of the last 7 days of data that lie farthest outside what the model was trained on."),
      h("p", { class: "small" }, "Novelty is the share of the windows that the model was checked with that lie less far out. More than 0.9999 is beyond all of them; among these the least certain of their cluster come first, then the newest.")),
      h("a", { class: "button small", href: "#/events?novel=true" }, icon("events"), "All novel events")),
    items.length ? list : h("div", { class: "empty" }, icon("novelty"), h("h2", null, "Nothing novel"), h("p", null, "In the last 7 days of data every window looked like something that the model knows.")));
  const move = (step) => {
    const links = [...list.querySelectorAll(".novelty-link")];
    const now = links.indexOf(document.activeElement);
    links[Math.min(links.length - 1, Math.max(0, now + step))]?.focus();
  };
  ends.push(bindKeys("Novelty", { j: ["Next window", () => move(1)], k: ["Previous window", () => move(-1)] }));
  if (items.length) root.querySelector(".page-head p").textContent += ` ${count(items.length)} are listed.`;
  return () => { for (const end of ends) end(); };
}

function tile(event, ends) {
  const id = encodeURIComponent(event.window_id);
  const box = h("div", { class: "novelty-picture" });
  const below = h("div", { class: "novelty-wave" });
  const surest = Math.max(0, ...Object.values(event.memberships ?? {}));
  const node = h("li", { class: "card novelty" }, box, below,
    h("div", { class: "novelty-texts" },
      h("a", { class: "novelty-link", href: `#/events?window=${id}` }, stamp(event.start)),
      h("span", { class: "badge novel", title: "Share of what the model was trained on that is less unusual" }, `novelty ${novelty(event.novelty)}`),
      text(streamName(event.stream), "small muted truncate block"),
      h("span", { class: "row tight small" }, h("span", { class: "muted" }, "nearest"), chip(event.cluster, { colour: colourOf(event.cluster) }), h("span", { class: "muted", title: "Membership of the nearest cluster" }, percent(surest))),
      h("span", { class: "small muted" }, `peak ${figure(event.peak)}, rms ${figure(event.rms)}`)));
  ends.push(whenSeen(node, async () => {
    const { kept, wave: has } = await get(`events/${id}`, {}, { quiet: true }).catch(() => ({ kept: false, wave: false }));
    const drawn = wave(has ? samplesOf(event.window_id) : null, `Waveform, ${streamName(event.stream)}, ${utc(event.start)}`);
    ends.push(drawn.close);
    if (kept) replace(below, drawn.node);
    replace(box, kept ? picture(address(`windows/${id}/spectrogram.png`), `Spectrogram, ${streamName(event.stream)}, ${utc(event.start)}`) : h("span", { class: "pic none" }, h("span", { class: "small" }, "this window is not kept")));
  }));
  return node;
}
