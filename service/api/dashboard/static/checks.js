// What a spec comes to before anybody trains it: its cost, the rules of the lint, warnings, and what would be better.
import { badge, byId, duration, el, fill, number } from "./dom.js";
import { json } from "./equivalents.js";
import { lookUp } from "./spec-form.js";

const WORDS = { fail: "Will not work", warn: "Look at this", pass: "Holds" };

/** Show what the service answers to a spec that it would take; null where nothing is asked yet. */
export function showChecks(answer, apply = () => {}) {
  if (!answer) {
    fill(byId("summary"), el("p", { class: "muted" }, "Choose a data set: what the network will cost, and whether it can keep its signal, is said here while you fill in the form."));
    fill(byId("checks"));
    return;
  }
  const of = (status) => answer.lint.filter((finding) => finding.status === status);
  const worst = of("fail").length ? "fail" : of("warn").length ? "warn" : "pass";
  fill(byId("summary"), el("p", { class: `banner ${worst}` }, sentence(answer.spec, of("fail").length, of("warn").length)));
  fill(
    byId("checks"),
    figures(answer),
    suggestion(answer, apply),
    ["fail", "warn"].map((status) => findings(status, of(status))),
    answer.warnings.length ? [el("h3", {}, "About the data"), el("ul", { class: "plain" }, answer.warnings.map((text) => el("li", {}, el("bdi", {}, text))))] : null,
    of("pass").length ? el("details", {}, el("summary", {}, `${of("pass").length} rules hold`), findings("pass", of("pass"))) : null,
  );
}

/** Say that a spec would be refused, and of what is wrong that which no field is for. */
export function showRefused(error, left) {
  const isAnswer = Boolean(error.status);
  const text = isAnswer ? "This cannot be trained as it stands: see the fields that are marked." : "The service does not answer at the moment.";
  const said = isAnswer && !error.errors.length ? error.message : text;
  fill(byId("summary"), el("p", { class: "banner fail" }, said));
  fill(byId("checks"), left.length ? el("ul", { class: "plain" }, left.map(({ pointer, detail }) => el("li", {}, el("code", {}, pointer), " ", el("bdi", {}, detail)))) : null);
}

function sentence({ task, target, features, network }, failing, warning) {
  const kind = network.kind === "snn" ? "A self-normalizing" : "A regular";
  const many = `${number(features.length)} ${features.length === 1 ? "column" : "columns"}`;
  const rules = (count) => (count === 1 ? "one rule" : `${count} rules`);
  const said = failing
    ? `It can be trained, but not as it should be: ${rules(failing)} of the lint ${failing === 1 ? "fails" : "fail"}.`
    : warning
      ? `It can be trained; ${rules(warning)} of the lint ${warning === 1 ? "warns" : "warn"}.`
      : "Nothing speaks against it.";
  return [`${kind} network for the ${task === "classification" ? "classes" : "numbers"} of `, el("bdi", {}, shortened(target)), `, from ${many}. ${said}`];
}

const shortened = (text) => (text.length > 60 ? `${text.slice(0, 59)}…` : text);

function figures({ parameters, memory_bytes: memory, training_seconds: seconds }) {
  const figure = (value, label) => el("div", {}, el("span", { class: "value" }, value), el("span", { class: "label" }, label));
  return el("div", { class: "figures" }, figure(number(parameters), "parameters"), figure(size(memory), "memory, at most"), figure(duration(seconds), "to train, about"));
}

function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  const step = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  return `${number(bytes / 1000 ** step)} ${units[step]}`;
}

function findings(status, found) {
  if (!found.length) return null;
  const one = ({ rule, detail, value, source, layer }) =>
    el("li", {},
      badge(rule.replaceAll("_", " "), status), layer === null || detail.includes(`layer ${layer}`) ? " " : ` layer ${layer}: `, el("bdi", {}, detail),
      el("span", { class: "under" }, value === null ? null : `${number(value)} · `, source));
  return el("div", { class: "findings" }, status === "pass" ? null : el("h3", {}, WORDS[status]), el("ul", { class: "plain" }, found.map(one)));
}

/** Offer what the lint would change, field by field. */
function suggestion({ spec, suggested_spec: suggested }, apply) {
  if (!suggested) return null;
  const changes = differences(spec, suggested);
  const button = el("button", { class: "button small", type: "button", on: { click: () => apply(partial(changes)) } }, "Apply");
  const line = ({ pointer, value }) => el("li", {}, el("code", {}, pointer.slice(1).replaceAll("/", ".")), " ", json(lookUp(spec, pointer) ?? null), " → ", json(value));
  return el("div", { class: "banner" },
    el("div", { class: "head" }, el("h3", {}, "What the lint would change"), el("div", { class: "actions" }, button)),
    el("ul", {}, changes.map(line)));
}

function differences(from, to, way = "") {
  return Object.entries(to).flatMap(([name, value]) => {
    const pointer = `${way}/${name}`;
    const before = from?.[name];
    const opens = value !== null && typeof value === "object" && !Array.isArray(value) && before !== null && typeof before === "object";
    if (opens) return differences(before, value, pointer);
    return JSON.stringify(before) === JSON.stringify(value) ? [] : [{ pointer, value }];
  });
}

function partial(changes) {
  const spec = {};
  for (const { pointer, value } of changes) {
    const steps = pointer.split("/").slice(1);
    let inside = spec;
    for (const step of steps.slice(0, -1)) inside = inside[step] ??= {};
    inside[steps.at(-1)] = value;
  }
  return spec;
}
