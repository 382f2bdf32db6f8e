// Talks to /api/v1: JSON in, JSON out; problems become toasts; a 401 asks for a token once and tries again.

import { ask } from "./dialog.js";
import { toast } from "./toast.js";

const ROOT = "api/v1/";

/** What the server refused, from its problem+json. */
export class ApiError extends Error {
  constructor(status, title, detail) {
    super(detail || title || `The server answered ${status}.`);
    this.name = "ApiError";
    this.status = status;
    this.title = title;
  }
}

/** The address of a resource, for links and pictures: `address("events", {cluster: "C3"})`. */
export function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") query.append(key, String(value));
  }
  const tail = query.toString();
  return ROOT + path.replace(/^\//, "") + (tail ? `?${tail}` : "");
}

/** GET as JSON. `quiet` shows no toast; `signal` aborts. Throws ApiError, or AbortError. */
export function get(path, params = {}, { signal = null, quiet = false } = {}) {
  return call(address(path, params), { signal }, quiet);
}

/** POST, PATCH or DELETE; a body that is no FormData goes as JSON. */
export function send(method, path, body = null, { quiet = false, signal = null } = {}) {
  const options = { method, signal, headers: {} };
  const who = actor();
  if (who) options.headers["X-Actor"] = encodeURIComponent(who).length === who.length ? who : who.replace(/[^\x20-\x7e]/g, "?");
  if (body instanceof FormData) options.body = body;
  else if (body !== null || method === "POST") {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body ?? {});
  }
  return call(address(path), options, quiet);
}

/** The name under which this browser writes to the journal; "" when none was given. */
export function actor(name = undefined) {
  try {
    if (name !== undefined) localStorage.setItem("actor", name.slice(0, 64));
    return localStorage.getItem("actor") ?? "";
  } catch {
    return "";
  }
}

async function call(url, options, quiet) {
  try {
    let answer = await fetch(url, options);
    if (answer.status === 401 && await signIn()) answer = await fetch(url, options);
    if (!answer.ok) throw await problem(answer);
    if (answer.status === 204) return null;
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const known = error instanceof ApiError ? error : new ApiError(0, "No connection", "The server does not answer.");
    if (!quiet) toast(known.message, { kind: "bad" });
    throw known;
  }
}

async function problem(answer) {
  try {
    const body = await answer.json();
    return new ApiError(answer.status, body.title, body.detail);
  } catch {
    return new ApiError(answer.status, answer.statusText, "");
  }
}

let asking = null; // one dialog however many requests were refused together

/** Asks for a token and opens a session with it; resolves to whether one was opened. */
export function signIn() {
  asking ??= askForToken().finally(() => { asking = null; });
  return asking;
}

async function askForToken() {
  const given = await ask("Sign in", "Access token", {
    type: "password", yes: "Sign in", hint: "Whoever runs this server can give you one. It is kept as a cookie of this site only.",
  });
  if (!given) return false;
  const answer = await fetch(address("session"), {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token: given.trim() }),
  });
  if (!answer.ok) {
    toast((await problem(answer)).message, { kind: "bad" });
    return false;
  }
  document.dispatchEvent(new CustomEvent("session"));
  return true;
}

/**
 * Server-sent events of `path`; `handlers`: event name -> function of the parsed data, plus `open` and `lost`.
 * The browser connects again by itself; after a refusal we try again, slower and slower. Returns the function that stops it.
 */
export function listen(path, handlers, params = {}) {
  let source = null;
  let timer = 0;
  let wait = 1000;
  let stopped = false;
  const connect = () => {
    source = new EventSource(address(path, params));
    source.onopen = () => { wait = 1000; handlers.open?.(); };
    source.onerror = () => {
      handlers.lost?.();
      if (source.readyState !== EventSource.CLOSED || stopped) return;
      timer = setTimeout(connect, wait);
      wait = Math.min(wait * 2, 30000);
    };
    for (const [name, handle] of Object.entries(handlers)) {
      if (name === "open" || name === "lost") continue;
      source.addEventListener(name, (event) => handle(event.data ? JSON.parse(event.data) : null));
    }
  };
  connect();
  return () => { stopped = true; clearTimeout(timer); source.close(); };
}
