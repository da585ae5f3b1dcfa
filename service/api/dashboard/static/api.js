// Asks the API, and says what it answered where that is a refusal.
import { byId, el, fill } from "./dom.js";

/** The states that no job and no comparison leaves. */
export const FINAL = ["succeeded", "failed", "cancelled"];

/** A refusal: `status`, `code`, `detail`, `errors` ([{pointer, detail}]). */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || `the service answered ${status}`);
    this.status = status;
    this.code = body.code || "error";
    this.errors = body.errors || [];
  }
}

/** No answer: the connection was lost, or never was. */
export class Lost extends Error {
  constructor(cause) {
    super("The service does not answer. It may be starting again; try once more in a few seconds.", { cause });
  }
}

/** What a browser's own request comes to; that it breaks off becomes a Lost, for a TypeError may be a fault of ours, too. */
export const answered = (request) =>
  request.catch((error) => {
    throw error.name === "AbortError" ? error : new Lost(error);
  });

/** Whether the same request may be taken later: nobody answered, a part is down, or the first of its key is still under way. */
export const passes = (error) =>
  error instanceof Lost || (error instanceof Problem && (error.status === 503 || error.code === "request_still_running"));

/** Ask; resolves to the answer's JSON (null for 204), rejects with a Problem, or with a Lost without a connection. */
export async function ask(method, address, { json, body, type, signal, key, cache } = {}) {
  const headers = { Accept: "application/json" };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  else if (type) headers["Content-Type"] = type;
  if (key) headers["Idempotency-Key"] = key;
  const content = json === undefined ? body : JSON.stringify(json);
  const answer = await answered(fetch(address, { method, headers, body: content, signal, cache }));
  if (answer.status === 204) return null;
  const told = parsed(await answered(answer.text()));
  if (!answer.ok) throw new Problem(answer.status, told);
  return told;
}

/** The JSON of an answer; what is none, as of a proxy, becomes the detail of a refusal. */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return { detail: text.slice(0, 300) };
  }
}

export const get = (address, options) => ask("GET", address, options);

/** POST something that makes something, once: asked again after a lost connection it makes nothing twice. */
export const create = (address, options) => repeatable((key) => ask("POST", address, { ...options, key }));

/** Run what makes something under a key; after a lost connection, or where a part is down, again under the same one. */
export async function repeatable(work) {
  const key = newKey();
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await work(key);
    } catch (error) {
      if (!passes(error) || attempt === 3) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** attempt));
    }
  }
}

// crypto.randomUUID is there only on https and loopback.
const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Show what went wrong at the head of the page; null takes it away. A fault of the page itself is told to the browser, too. */
export function showProblem(error) {
  const host = byId("problems");
  if (!error) {
    fill(host);
    return;
  }
  const isOurs = !(error instanceof Problem || error instanceof Lost);
  const text = isOurs ? `This page has a fault (${error.message}). Load it again; if that does not help, please report it.` : error.message;
  // The text names the first violations; where they are listed, that is enough. "#" is all that was sent.
  const place = (pointer) => (pointer === "#" ? null : [el("code", {}, pointer), " "]);
  const all = (error.errors || []).map((item) => el("li", {}, place(item.pointer), item.detail));
  fill(host, el("div", { class: "banner fail", dataset: { status: error.status ?? "" } }, all.length ? el("ul", { class: "plain" }, all) : el("p", {}, text)));
  host.scrollIntoView({ block: "nearest" });
  if (isOurs) reportError(error);
}

/** Run something for a button: it is off meanwhile, and what goes wrong is shown. */
export async function doing(button, work) {
  button.disabled = true;
  showProblem(null);
  try {
    return await work();
  } catch (error) {
    showProblem(error);
    return undefined;
  } finally {
    button.disabled = false;
  }
}

/**
 * Do what leads away from the page: where `work` succeeds, `go` is called with what it made, and the button stays off until
 * the page has gone, so that a second press, which may come before that, does nothing twice.
 */
export async function leaving(button, work, go) {
  let isGone = false;
  await doing(button, async () => {
    const made = await work();
    go(made);
    isGone = true;
  });
  if (!isGone) return;
  button.disabled = true;
  button.setAttribute("autocomplete", "off"); // else Firefox keeps it off on the page that is loaded again
  addEventListener("pageshow", ({ persisted }) => persisted && (button.disabled = false), { once: true });
}
