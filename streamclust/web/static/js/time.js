// Times as people of this field write them: UTC, ISO order, the zone always said.

const pad = (value, width = 2) => String(value).padStart(width, "0");

/** Milliseconds since 1970 of an ISO time (nanoseconds are cut); NaN when it is none. */
export function ms(iso) {
  if (typeof iso === "number") return iso;
  return Date.parse(String(iso).replace(/(\.\d{3})\d+/, "$1"));
}

/** The ISO time that the API takes, of milliseconds since 1970. */
export function iso(value) {
  return new Date(value).toISOString();
}

/** "2026-11-23"; the date in UTC. */
export function day(value) {
  const date = new Date(ms(value));
  return `${date.getUTCFullYear()}-${pad(date.getUTCMonth() + 1)}-${pad(date.getUTCDate())}`;
}

/** "19:58:37" or, with digits, "19:58:37.123". */
export function clock(value, digits = 0) {
  const date = new Date(ms(value));
  const whole = `${pad(date.getUTCHours())}:${pad(date.getUTCMinutes())}:${pad(date.getUTCSeconds())}`;
  return digits ? `${whole}.${pad(date.getUTCMilliseconds(), 3).slice(0, digits)}` : whole;
}

/** "2026-11-23 19:58:37 UTC"; "–" for none. */
export function utc(value, { digits = 0, zone = true } = {}) {
  if (value === null || value === undefined || Number.isNaN(ms(value))) return "–";
  return `${day(value)} ${clock(value, digits)}${zone ? " UTC" : ""}`;
}

/** "3 min ago"; the time between `value` and `now`. */
export function ago(value, now) {
  if (value === null || value === undefined) return "never";
  const seconds = (ms(now) - ms(value)) / 1000;
  return seconds < 1 ? "now" : `${span(seconds)} ago`;
}

const UNITS = [[31557600, "y"], [86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** A length of time in one or two units: "2 h 5 min", "40 s", "1.5 ms". */
export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 0) return `−${span(-seconds)}`;
  if (seconds < 1) return seconds === 0 ? "0 s" : `${(seconds * 1000).toPrecision(2)} ms`;
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  const at = UNITS.findIndex(([size]) => seconds >= size);
  const [size, name] = UNITS[at];
  const whole = Math.floor(seconds / size);
  const below = UNITS[at + 1];
  const rest = below ? Math.floor((seconds - whole * size) / below[0]) : 0;
  return rest && whole < 10 ? `${whole} ${name} ${rest} ${below[1]}` : `${whole} ${name}`;
}

/** A tick's label that suits the distance between ticks, in seconds. */
export function tick(value, step) {
  const date = new Date(value);
  if (step >= 27 * 86400 * 11) return String(date.getUTCFullYear());
  if (step >= 27 * 86400) return `${date.getUTCFullYear()}-${pad(date.getUTCMonth() + 1)}`;
  if (step >= 86400) return day(value).slice(5);
  if (step >= 60) return value % 86400e3 === 0 ? day(value).slice(5) : clock(value).slice(0, 5);
  return clock(value);
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

/** Round times between two, at most `count`: {step (seconds), at: [ms, …]}. Months and years keep to the calendar. */
export function ticks(from, to, count) {
  const wanted = (to - from) / 1000 / Math.max(count, 1);
  const step = STEPS.find((size) => size >= wanted);
  if (step) {
    const at = [];
    for (let time = Math.ceil(from / (step * 1000)) * step * 1000; time <= to; time += step * 1000) at.push(time);
    return { step, at };
  }
  return calendar(from, to, wanted);
}

function calendar(from, to, wanted) {
  const months = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600].find((size) => size * 2629800 >= wanted) ?? 1200;
  const first = new Date(from);
  const at = [];
  let month = Math.ceil((first.getUTCFullYear() * 12 + first.getUTCMonth()) / months) * months;
  for (; ; month += months) {
    const time = Date.UTC(Math.floor(month / 12), month % 12, 1);
    if (time > to) break;
    if (time >= from) at.push(time);
  }
  return { step: months * 2629800, at };
}

/** Thin spaces between thousands: "1 234 567". */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return Math.round(value).toString().replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009");
}

/** "1.2k", "3.4M": for narrow places. */
export function brief(value) {
  if (value === null || value === undefined) return "–";
  for (const [size, name] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return `${(value / size).toPrecision(3).replace(/\.?0+$/, "")}${name}`;
  }
  return String(Math.round(value));
}

/** "12.3 %"; "–" for none. */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = share * 100;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

/** A share of windows that lie less far out; what is beyond all of them is more than can be told. */
export function novelty(share) {
  if (share === null || share === undefined) return "–";
  return share >= 0.99995 ? "> 0.9999" : share.toFixed(4);
}

/** A measured number in three digits: "0.012", "1.23e6". */
export function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}
