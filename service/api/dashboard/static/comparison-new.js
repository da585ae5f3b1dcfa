// The form of a comparison: what it says is looked at while it is filled in, and becomes a comparison.
import { ask, create, get, leaving, Lost, Problem, showProblem } from "./api.js";
import { armsField } from "./arms.js";
import { badge, byId, duration, el, fill, given, number } from "./dom.js";
import { showEquivalents } from "./equivalents.js";
import { featureList } from "./feature-list.js";
import { readSpec, showCompleted, showConditions, showViolations, writeSpec } from "./spec-form.js";

const PAUSE_MS = 350;

const LISTS = ["seeds", "depths", "levels"]; // of numbers; a single one is one, too
const numberOr = (text) => (text === "" || Number.isNaN(Number(text)) ? text : Number(text));

const form = byId("form");
const start = given("given");
const SIZES = Object.keys(start.sizes);
const fieldOf = (pointer) => form.querySelector(`[data-pointer="${pointer}"]`);
const features = featureList(fieldOf("/features"), start.trainable, () => changed());
let preset = "";
let columns = [];
let target = null;
let timer = null;
let asking = new AbortController();

/** The sizes of networks that are written out one by one; a depth sweep gives them their depth. */
function sizes() {
  const said = readSizes();
  const { hidden_layers: depth, ...others } = { ...start.sizes, ...said };
  return fieldOf("/depths").value.trim() ? others : { hidden_layers: depth, ...others };
}

function readSizes() {
  const fields = SIZES.map((name) => [name, fieldOf(`/${name}`).value.trim()]).filter(([, text]) => text !== "");
  return Object.fromEntries(fields.map(([name, text]) => [name, numberOr(text)]));
}

armsField(fieldOf("/arms"), { known: start.arms, sizes, onChange: () => changed() });

/** What the form says: of a preset only what differs from it. */
function spec() {
  const said = readSpec(form);
  if (typeof said.arms === "object") for (const name of SIZES) delete said[name]; // each network has its own
  for (const name of LISTS) if (name in said) said[name] = [said[name]].flat().map(numberOr);
  if (!preset) return said;
  const usual = start.presets[preset];
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
  const { training = {}, ...others } = said;
  const top = Object.entries(others).filter(([name, value]) => !same(value, usual[name]));
  const inner = Object.entries(training).filter(([name, value]) => !same(value, usual.training[name]));
  return { preset, ...Object.fromEntries(top), ...(inner.length ? { training: Object.fromEntries(inner) } : {}) };
}

function choosePreset(name) {
  form.reset();
  preset = name;
  for (const button of form.querySelectorAll("[data-preset]")) button.setAttribute("aria-pressed", String(button.dataset.preset === name));
  writeSpec(form, { arms: null, features: null, ...(start.presets[name] ?? {}) });
  showConditions(form);
  void chooseDataset(fieldOf("/dataset").value);
  changed();
}

async function chooseDataset(id) {
  const list = byId("columns");
  fill(list);
  columns = [];
  showColumns(null);
  if (!id) return;
  try {
    const { columns: found } = await get(`/datasets/${encodeURIComponent(id)}`);
    if (fieldOf("/dataset").value !== id) return;
    fill(list, found.slice(0, 2000).map(({ name }) => el("option", { value: name })));
    columns = found.map(({ name, kind }) => [name, kind]);
    showColumns(fieldOf("/target").value || target); // which an answer may have named meanwhile
  } catch (error) {
    if (fieldOf("/dataset").value === id) showProblem(error);
  }
}

/** Offer as features the columns but the target. */
function showColumns(next) {
  target = next;
  features.show(columns, target);
}

/** Ask no more what the form comes to: no answer to that is to stand in the place of another one. */
function lookNoMore() {
  clearTimeout(timer);
  asking.abort();
}

/** Somebody has changed something: when that has rested for a moment, ask what it comes to. */
function changed() {
  lookNoMore();
  timer = setTimeout(look, PAUSE_MS);
}

async function look() {
  const said = spec();
  showEquivalents(byId("same"), { spec: said, path: "/comparisons" });
  if (!said.dataset && !preset) return showCost(null);
  asking = new AbortController();
  const { signal } = asking;
  try {
    const answer = await ask("POST", "/comparisons?validate_only=true", { json: said, signal });
    if (signal.aborted) return;
    showViolations(form, []);
    // Networks that are written out have their sizes, and the spec none beside them.
    showCompleted(form, { ...answer.spec, ...start.sizes, depths: undefined, levels: undefined });
    if (target !== answer.spec.target) showColumns(answer.spec.target);
    showCost(answer);
  } catch (error) {
    if (!signal.aborted) refuse(error);
  }
}

function showCost(answer) {
  if (!answer) {
    fill(byId("summary"), el("p", { class: "muted" }, "Choose a data set, or one of the article's experiments: how many trainings that takes, and how long, is said here."));
    fill(byId("arms-completed"));
    return;
  }
  const figure = (value, label) => el("div", {}, el("span", { class: "value" }, value), el("span", { class: "label" }, label));
  fill(
    byId("summary"),
    el("div", { class: "figures" }, figure(number(answer.jobs), answer.jobs === 1 ? "training" : "trainings"), figure(duration(answer.training_seconds), "together, about, on two cores")),
    answer.warnings.map((text) => el("p", { class: "banner warn" }, text)),
  );
  const line = ([name, network]) =>
    el("li", {}, el("strong", {}, name), name === answer.spec.reference ? [" ", badge("reference", "")] : null, el("span", { class: "under" }, words(network)));
  fill(byId("arms-completed"), Object.entries(answer.spec.arms).map(line));
}

function words({ kind, hidden_layers: layers, units, dropout, activation, initializer, normalization, standardize }) {
  const parts = [kind === "snn" ? "SNN" : "MLP", layers ? `${layers} × ${units}` : `${units} units`, activation, initializer.replaceAll("_", " ")];
  if (normalization) parts.push(`${normalization} normalization`);
  if (dropout) parts.push(`dropout ${dropout}`);
  if (!standardize) parts.push("raw inputs");
  return parts.join(", ");
}

function refuse(error) {
  if (!(error instanceof Problem || error instanceof Lost)) throw error;
  const left = showViolations(form, error instanceof Problem ? error.errors : []);
  const text = error.errors?.length ? "This cannot be compared as it stands: see the fields that are marked." : error.message;
  fill(byId("summary"), el("p", { class: "banner fail" }, text), left.length ? el("ul", { class: "plain" }, left.map(({ pointer, detail }) => el("li", {}, el("code", {}, pointer), " ", detail))) : null);
}

form.addEventListener("input", (event) => {
  const pointer = event.target.dataset?.pointer;
  if (!pointer) return;
  showConditions(form);
  if (pointer === "/dataset") {
    writeSpec(form, { target: null, features: null });
    void chooseDataset(event.target.value);
  }
  changed();
});
for (const button of form.querySelectorAll("[data-preset]")) {
  button.addEventListener("click", () => choosePreset(button.dataset.preset === preset ? "" : button.dataset.preset));
}
byId("anew").addEventListener("click", () => choosePreset(""));

form.addEventListener("submit", (event) => {
  event.preventDefault();
  lookNoMore();
  const compare = async () => {
    try {
      return await create("/comparisons", { json: spec() });
    } catch (error) {
      if (error instanceof Problem) refuse(error);
      form.querySelector('[aria-invalid="true"]')?.focus();
      throw error;
    }
  };
  leaving(byId("submit"), compare, ({ id }) => location.assign(`/dashboard/comparisons/${encodeURIComponent(id)}`));
});

if (start.preset) choosePreset(start.preset);
else {
  writeSpec(form, { dataset: start.dataset });
  void chooseDataset(start.dataset);
  void look();
}
byId("submit").disabled = false; // now somebody listens
