// The colours of clusters: what the server says, else Okabe and Ito's seven bound to the number in the identity.

import { known } from "./store.js";

/** Okabe & Ito (2008), without black: distinguishable with every common colour vision. */
export const OKABE_ITO = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442"];

/** "#rrggbb" of a cluster; grey for none. */
export function colourOf(cluster) {
  if (cluster === null || cluster === undefined) return "#8a93a0";
  return known(cluster)?.colour ?? fallback(cluster);
}

/** The colour that an identity has before anyone chooses one. */
export function fallback(cluster) {
  const digits = /(\d+)\D*$/.exec(String(cluster));
  const number = digits ? Number(digits[1]) : [...String(cluster)].reduce((sum, sign) => sum + sign.codePointAt(0), 0);
  return OKABE_ITO[(number + OKABE_ITO.length - 1) % OKABE_ITO.length];
}

/** [r, g, b] of "#rrggbb". */
export function rgb(hex) {
  const value = Number.parseInt(hex.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

/** The colour with an opacity, for canvas. */
export function alpha(hex, opacity) {
  return `rgb(${rgb(hex).join(" ")} / ${opacity})`;
}

/** Black or white, whichever reads better on the colour (WCAG relative luminance). */
export function ink(hex) {
  const [r, g, b] = rgb(hex).map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}
