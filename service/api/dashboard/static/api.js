// Asks the API, and says what it answered where that is a refusal.
import { byId, el, fill } from "./dom.js";

/** A refusal: `status`, `code`, `detail`, `errors` ([{pointer, detail}]). */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || `the service answered ${status}`);
    this.status = status;
    this.code = body.code || "error";
    this.errors = body.errors || [];
  }
}

/** Ask; resolves to the answer's JSON (null for 204), rejects with a Problem, or with a TypeError without a connection. */
export async function ask(method, address, { json, body, type, signal, key, cache } = {}) {
  const headers = { Accept: "application/json" };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  else if (type) headers["Content-Type"] = type;
  if (key) headers["Idempotency-Key"] = key;
  const answer = await fetch(address, { method, headers, body: json === undefined ? body : JSON.stringify(json), signal, cache });
  if (answer.status === 204) return null;
  const text = await answer.text();
  let content = {};
  try {
    content = JSON.parse(text);
  } catch {
    content = { detail: text.slice(0, 300) };
  }
  if (!answer.ok) throw new Problem(answer.status, content);
  return content;
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
      const passes = error instanceof TypeError || (error instanceof Problem && error.status === 503);
      if (!passes || attempt === 3) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** attempt));
    }
  }
}

// crypto.randomUUID is there only on https and loopback.
const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Every page of a list, one after the other, at most so many items. */
export async function all(address, most = 1000) {
  const items = [];
  const mark = address.includes("?") ? "&" : "?";
  let token = null;
  do {
    const found = await get(`${address}${mark}page_size=100${token ? `&page_token=${encodeURIComponent(token)}` : ""}`);
    items.push(...found.items);
    token = found.next_page_token;
  } while (token && items.length < most);
  return items;
}

/** Show what went wrong at the head of the page; null takes it away. */
export function showProblem(error) {
  const host = byId("problems");
  if (!error) {
    fill(host);
    return;
  }
  const lost = error instanceof TypeError;
  const text = lost ? "The service does not answer. It may be starting again; try once more in a few seconds." : error.message;
  // The text names the first violations; where they are listed, that is enough. "#" is all that was sent.
  const place = (pointer) => (pointer === "#" ? null : [el("code", {}, pointer), " "]);
  const all = (error.errors || []).map((item) => el("li", {}, place(item.pointer), item.detail));
  fill(host, el("div", { class: "banner fail" }, all.length ? el("ul", { class: "plain" }, all) : el("p", {}, text)));
  host.scrollIntoView({ block: "nearest" });
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
