// Times to the sample: seconds since a start, from ISO texts with nanoseconds, which milliseconds would round.

const PART = /^(.*?\d{2}:\d{2}:\d{2})(?:\.(\d+))?(?:Z|\+00:00)?$/;

/** Seconds from `start` to `time` (both ISO texts, UTC), exact to about a nanosecond. */
export function since(start, time) {
  const [wholeA, partA] = split(start);
  const [wholeB, partB] = split(time);
  return wholeB - wholeA + (partB - partA);
}

function split(iso) {
  const [, whole, digits] = PART.exec(iso) ?? [null, iso, ""];
  return [Date.parse(`${whole}Z`) / 1000, digits ? Number(`0.${digits}`) : 0];
}

/** The ISO text, with microseconds, of `seconds` after `start`. */
export function after(start, seconds) {
  const [whole, part] = split(start);
  const micro = Math.round((part + seconds) * 1e6);
  const carry = Math.floor(micro / 1e6);
  return `${new Date((whole + carry) * 1000).toISOString().slice(0, 19)}.${String(micro - carry * 1e6).padStart(6, "0")}Z`;
}

/** "12.3456 s" or "2:03:04.5": seconds into a recording, with the digits that `step` needs. */
export function into(seconds, step = 0.001) {
  const digits = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step))));
  if (seconds < 60) return `${seconds.toFixed(digits)} s`;
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  const rest = (seconds % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
