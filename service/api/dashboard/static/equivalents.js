// What a form asks for, as people type it elsewhere: a curl line, Python, the command line; in tabs that can be copied.
import { codeBlock, el, fill } from "./dom.js";
import { wireTabs } from "./tabs.js";

const DEFAULT_URL = "http://127.0.0.1:8000";

/** Requests by the path that they go to: the client's name for it, and the command with what it has options for. */
const KINDS = {
  "/jobs": {
    client: "jobs",
    name: "job",
    command: "train",
    options: {
      target: "--target",
      task: "--task",
      model: "--model",
      tags: "--tag",
      "network.kind": "--kind",
      "network.hidden_layers": "--hidden-layers",
      "network.units": "--units",
      "network.dropout": "--dropout",
      "training.epochs": "--epochs",
      "training.batch_size": "--batch-size",
      "training.learning_rate": "--learning-rate",
      "training.test_fraction": "--test-fraction",
      "training.seed": "--seed",
    },
  },
  "/comparisons": {
    client: "comparisons",
    name: "comparison",
    command: "compare",
    options: {
      target: "--target",
      task: "--task",
      model: "--model",
      tags: "--tag",
      preset: "--preset",
      seeds: "--seeds",
      "training.epochs": "--epochs",
      "training.batch_size": "--batch-size",
      "training.learning_rate": "--learning-rate",
      "training.test_fraction": "--test-fraction",
    },
  },
};

/** Texts that send `spec` to `path` (/jobs, /comparisons): [{label, text}], each ready to be pasted. */
export function equivalents({ spec, path = "/jobs", origin = location.origin }) {
  const kind = KINDS[path];
  return [
    { label: "curl", text: curl(spec, origin + path) },
    { label: "Python", text: python(spec, kind, origin) },
    { label: "Command line", text: commandLine(spec, kind, origin) },
  ];
}

function curl(spec, address) {
  return `curl ${quoted(address)} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(json(spec))}`;
}

function python(spec, { client, name }, origin) {
  const fields = Object.entries(spec).map(([field, value]) => `        ${field}=${literal(value)},\n`).join("");
  const url = origin === DEFAULT_URL ? "" : literal(origin);
  return [
    "from service.client import Client",
    "",
    `with Client(${url}) as client:`,
    `    ${name} = client.${client}.submit(\n${fields}    )`,
    `    ${name} = client.${client}.wait(${name}.id)`,
  ].join("\n");
}

function commandLine(spec, { command, options }, origin) {
  const { arms: said, dataset, ...others } = spec;
  // Networks by name have an option each; a word that stands for some is a field like any other.
  const [arms, rest] = typeof said === "string" ? [{}, { arms: said, ...others }] : [said ?? {}, others];
  const parts = ["selfnorm", command];
  if (dataset !== undefined) parts.push(quoted(dataset));
  for (const [name, network] of Object.entries(arms)) parts.push(option("--arm", `${name}=${json(network)}`));
  for (const [field, value] of leaves(rest)) parts.push(...told(field, value, options[field]));
  if (origin !== DEFAULT_URL) parts.push(option("--url", origin));
  return folded(parts);
}

/** A field as an option of its own where there is one; what such an option cannot say goes as JSON. */
function told(field, value, name) {
  if (name === "--tag") return value.map((tag) => option(name, tag));
  const plain = Array.isArray(value) ? value.every(Number.isInteger) : value !== null;
  if (name && plain) return [option(name, Array.isArray(value) ? value.join(",") : String(value))];
  return [option("--set", `${field}=${typeof value === "string" && !readsAsJson(value) ? value : json(value)}`)];
}

const option = (name, value) => (value.startsWith("-") ? `${name}=${quoted(value)}` : `${name} ${quoted(value)}`);

/** Every field that is no object, by its way through the objects; of an object with words of the user's as names, the object. */
function leaves(value, way = []) {
  return Object.entries(value).flatMap(([name, inner]) => {
    const here = [...way, name];
    const opens = inner !== null && typeof inner === "object" && !Array.isArray(inner) && name !== "class_weights";
    return opens && Object.keys(inner).length ? leaves(inner, here) : [[here.join("."), inner]];
  });
}

function readsAsJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Put parts into lines of some eighty characters. */
function folded(parts) {
  const lines = [parts[0]];
  for (const part of parts.slice(1)) {
    const last = lines[lines.length - 1];
    if (last.length + part.length < 80) lines[lines.length - 1] = `${last} ${part}`;
    else lines.push(`  ${part}`);
  }
  return lines.join(" \\\n");
}

// Characters that show nothing, or turn the direction of what follows, are written out: what is read is what is run.
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}]/gu;
const units = (character) => Array.from({ length: character.length }, (_, place) => character.charCodeAt(place));
const hex = (code, digits) => code.toString(16).padStart(digits, "0");
const inJson = (character) => units(character).map((code) => `\\u${hex(code, 4)}`).join("");
const inPython = (character) => `\\U${hex(character.codePointAt(0), 8)}`;

/** JSON as the documentation writes it, with a space behind commas and colons. */
export function json(value) {
  if (Array.isArray(value)) return `[${value.map(json).join(", ")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value).replace(HIDDEN, inJson);
  return `{${Object.entries(value).map(([name, inner]) => `${json(name)}: ${json(inner)}`).join(", ")}}`;
}

/** A value as Python writes it. */
export function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "string") return JSON.stringify(value).replace(HIDDEN, inPython);
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, inner]) => `${literal(name)}: ${literal(inner)}`).join(", ")}}`;
}

/** A word of a shell's line. */
export function quoted(text) {
  if (/^[\w./:@%+=,-]+$/.test(text)) return text;
  if (text.search(HIDDEN) < 0) return `'${text.replaceAll("'", "'\\''")}'`;
  const inner = text.replace(/[\\']/g, "\\$&").replace(HIDDEN, (found) => `\\U${hex(found.codePointAt(0), 8)}`);
  return `$'${inner}'`;
}

/** Show the texts of a request in tabs; called again, it changes the texts and leaves the chosen tab. */
export const showEquivalents = (host, request) => showTexts(host, equivalents(request));

/** Show texts ([{label, text}]) in tabs; called again with as many, it changes them and leaves the chosen tab. */
export function showTexts(host, texts) {
  if (host.querySelector('[role="tablist"]')) {
    const codes = host.querySelectorAll("pre > code");
    texts.forEach(({ text }, place) => (codes[place].textContent = text));
    return;
  }
  const name = (what, place) => `${host.id || "equivalents"}-${what}-${place}`;
  const tabs = texts.map(({ label }, place) =>
    el("button", { type: "button", role: "tab", id: name("tab", place), "aria-controls": name("panel", place) }, label),
  );
  const panels = texts.map(({ label, text }, place) =>
    el("div", { role: "tabpanel", id: name("panel", place), "aria-labelledby": name("tab", place) }, codeBlock(label, text)),
  );
  const list = el("div", { class: "tabs", role: "tablist", "aria-label": "The same request elsewhere" }, tabs);
  fill(host, list, panels);
  wireTabs(list)(tabs[0].id);
}
