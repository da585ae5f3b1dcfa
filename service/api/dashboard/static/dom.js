// What pages are made of: elements whose text is text, and numbers and times as people read them.

/** Make an element. Attributes: `class`, `dataset`, `on` (listeners by event), booleans, anything else as it is. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else if (name === "dataset") Object.assign(made.dataset, value);
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined).map(piece));
  return made;
}

const piece = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));

/** The element of this id, which the page must have. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element ${id}`);
  return found;
}

/** Put other children into an element. */
export function fill(host, ...children) {
  host.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined).map(piece));
  return host;
}

/** The values that the server left in the page as `<script type="application/json" id="...">`. */
export const given = (id) => JSON.parse(byId(id).textContent);

// Made when they are first needed: the first one takes longer than anything else that a page does before it is painted.
const lazily = (make) => {
  let made = null;
  return () => (made ??= make());
};
const plain = lazily(() => new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }));
const whole = lazily(() => new Intl.NumberFormat("en"));

/** A number with four digits that count; a dash where there is none. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return whole().format(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e7) ? value.toExponential(3) : plain().format(value);
}

/** Seconds in the unit that suits them. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${plain().format(Math.round(seconds * 10) / 10)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 360) / 10} h`;
}

/** Write every <time> of a part of the page in the reader's zone; with `data-exact` to the second. */
export function localTimes(root = document) {
  const form = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const exact = lazily(() => new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" }));
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    time.textContent = ("exact" in time.dataset ? exact() : form).format(moment);
    time.title = time.dateTime;
  }
}

/** A <time> in the reader's zone. */
export function timeOf(text, { exact = false } = {}) {
  if (!text) return document.createTextNode("–");
  const made = el("time", { datetime: text, "data-exact": exact });
  const host = el("span", {}, made);
  localTimes(host);
  return made;
}

/** A state or a verdict as a badge. */
export const badge = (text, kind = `state-${text}`) => el("span", { class: `badge ${kind}` }, text);

/** A block of code with a button that copies it. */
export function codeBlock(label, text) {
  const button = el("button", { class: "button quiet small", type: "button", "data-copy": "" }, "Copy");
  const pre = el("pre", { tabindex: "0", "aria-label": label }, el("code", {}, text));
  return el("figure", { class: "code" }, el("figcaption", {}, label, button), pre);
}

/** Ask before something that cannot be taken back; resolves to whether the reader agreed. */
export function confirmed(question, action) {
  return new Promise((resolve) => {
    const close = (answer) => () => dialog.close(answer);
    const dialog = el(
      "dialog",
      { "aria-label": question },
      el("p", {}, question),
      el(
        "div",
        { class: "actions" },
        el("button", { class: "button danger", type: "button", on: { click: close("yes") } }, action),
        el("button", { class: "button", type: "button", autofocus: true, on: { click: close("no") } }, "Leave it"),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-copy]") : null;
  if (!button) return;
  const code = button.closest("figure").querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent); // which is there only on https and loopback
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "Chosen: press Ctrl+C";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
});

/** Do something when the page, as it came, has been painted. */
export const painted = (work) => requestAnimationFrame(() => setTimeout(work));

// What a browser knows of zones takes it a while to load.
painted(() => localTimes());
