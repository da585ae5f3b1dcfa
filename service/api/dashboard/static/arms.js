// The networks of a comparison: those with a name of their own to tick, and others as JSON.
import { el, fill } from "./dom.js";

const HEADINGS = { article: "The article's networks", ablations: "Networks that each lack one condition of an SNN" };
const FIRST = "own";

/**
 * Make the arms' field of an element. It gives `specValue()` (undefined where it is left alone, a word, or networks by
 * name), `specValue(value)` and `showCompleted(networks)`. `known` are networks by word and name, without their sizes;
 * `sizes()` what those are to have beside; `onChange` is called when somebody changes anything.
 */
export function armsField(host, { known, sizes, onChange }) {
  const networks = Object.assign({}, ...Object.values(known));
  let isTouched = false;
  const boxes = new Map();
  const own = el("div", { class: "own-arms" });

  const box = (name) => {
    const made = el("input", { type: "checkbox", on: { change: touch } });
    boxes.set(name, made);
    return el("label", { class: "check" }, made, name);
  };
  const groups = Object.entries(known).map(([word, named]) => {
    const names = Object.keys(named).filter((name) => !boxes.has(name));
    const labels = names.map(box);
    return el("div", { role: "group", "aria-label": HEADINGS[word] }, el("p", { class: "small-text muted" }, HEADINGS[word]), el("div", { class: "boxes" }, labels));
  });
  const choice = el("select", { class: "fits", "aria-label": "What the added arm starts from" }, Object.keys(networks).map((name) => el("option", { value: name }, `like ${name}`)));
  const add = el("button", { class: "button small", type: "button", on: { click: () => (addOwn(freeName(), { ...networks[choice.value], ...sizes() }), touch()) } }, "Add an arm of your own");
  fill(host, groups, own, el("div", { class: "actions" }, add, choice));

  function touch() {
    isTouched = true;
    onChange();
  }

  function addOwn(name, network) {
    const place = own.children.length + 1;
    const nameField = el("input", { value: name, "aria-label": `Name of arm ${place}`, autocomplete: "off", on: { input: touch } });
    const text = el("textarea", { rows: 3, "aria-label": `Network of arm ${place} as JSON`, spellcheck: "false" });
    const problem = el("span", { class: "problem" });
    text.value = JSON.stringify(network);
    text.addEventListener("input", () => {
      const isText = typeof parsed(text.value) !== "object";
      problem.textContent = isText ? 'This is no JSON object; one looks like {"kind": "mlp", "hidden_layers": 3, "units": 64}.' : "";
      text.setAttribute("aria-invalid", String(isText));
      touch();
    });
    const remove = el("button", { class: "button small quiet", type: "button" }, "Remove");
    const row = el("div", { class: "own-arm" }, nameField, el("div", {}, text, problem), remove);
    remove.addEventListener("click", () => {
      row.remove();
      touch();
    });
    own.append(row);
  }

  function freeName() {
    const taken = new Set([...boxes.keys(), ...ownArms().map(([name]) => name)]);
    for (let count = 1; ; count += 1) if (!taken.has(`${FIRST}-${count}`)) return `${FIRST}-${count}`;
  }

  // What is no JSON is sent as it is, for the service to say so.
  function parsed(text) {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }

  const ownArms = () => [...own.children].map((row) => [row.querySelector("input").value.trim(), parsed(row.querySelector("textarea").value)]);
  const ticked = () => [...boxes].filter(([, made]) => made.checked).map(([name]) => name);
  const tick = (names) => boxes.forEach((made, name) => (made.checked = names.includes(name)));

  function value() {
    if (!isTouched) return undefined;
    const names = ticked();
    const others = ownArms();
    const word = Object.keys(known).find((one) => Object.keys(known[one]).join() === inOrder(one, names).join());
    if (word && !others.length) return word;
    return Object.fromEntries([...names.map((name) => [name, { ...networks[name], ...sizes() }]), ...others]);
  }

  /** The names in the order of a word, the rest behind them. */
  const inOrder = (word, names) => [...Object.keys(known[word]).filter((name) => names.includes(name)), ...names.filter((name) => !(name in known[word]))];

  function set(next) {
    isTouched = next !== null;
    fill(own);
    if (next === null || typeof next === "string") tick(Object.keys(known[next ?? "article"] ?? {}));
    else {
      tick([]);
      for (const [name, network] of Object.entries(next)) addOwn(name, network);
    }
  }

  host.specValue = (...next) => (next.length ? set(next[0]) : value());
  host.showCompleted = (completed) => !isTouched && completed && tick(Object.keys(completed));
  set(null);
}
