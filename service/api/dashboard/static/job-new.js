// The form of a job: what it says is looked at while it is filled in, can be tried on real rows, and becomes a job.
import { ask, create, doing, get, leaving, Lost, Problem, showProblem } from "./api.js";
import { showChecks, showRefused } from "./checks.js";
import { byId, el, given } from "./dom.js";
import { showEquivalents } from "./equivalents.js";
import { featureList } from "./feature-list.js";
import { probe } from "./probe.js";
import { readSpec, showCompleted, showConditions, showViolations, writeSpec } from "./spec-form.js";

const PAUSE_MILLISECONDS = 300;
const MOST_CHOICES = 2000;

const form = byId("form");
const start = given("given");
const fieldOf = (pointer) => form.querySelector(`[data-pointer="${pointer}"]`);
const features = featureList(fieldOf("/features"), start.trainable, () => changed());
let columns = null;

/** Offer the columns of the data set: as target, as features, and where a field names a column. */
function showColumns(found) {
  columns = found;
  const items = found?.items ?? [];
  const old = fieldOf("/target");
  const attributes = Object.fromEntries([...old.attributes].filter(({ name }) => name !== "list").map(({ name, value }) => [name, value]));
  const usual = found?.default_target;
  const first = usual ? `auto: ${usual}` : "choose one";
  const control = items.length > MOST_CHOICES || !items.length
    ? el("input", { ...attributes, list: "columns", placeholder: usual ?? "" })
    : el("select", attributes, el("option", { value: "", "data-default": "" }, first), items.map(([name, kind]) => el("option", { value: name }, `${name} (${kind})`)));
  old.replaceWith(control);
  // What was typed or chosen while the columns were read stays, where the new control can say it.
  if (!control.options || [...control.options].some(({ value }) => value === old.value)) control.value = old.value;
  else changed();
  byId("columns").replaceChildren(...items.slice(0, MOST_CHOICES).map(([name]) => el("option", { value: name })));
  showFeatures();
}

const target = () => fieldOf("/target").value || columns?.default_target || null;
const showFeatures = () => features.show(columns?.items ?? [], target());

async function chooseDataset(id) {
  writeSpec(form, { target: null, features: null });
  if (!id) {
    showColumns(null);
    return;
  }
  try {
    const found = await get(`/datasets/${encodeURIComponent(id)}`);
    // A data set that comes with the service knows its own target.
    const usual = found.builtin ? await ask("POST", "/jobs?validate_only=true", { json: { dataset: id } }) : null;
    if (fieldOf("/dataset").value !== id) return;
    showColumns({ items: found.columns.map(({ name, kind }) => [name, kind]), default_target: usual?.spec.target ?? null });
  } catch (error) {
    if (fieldOf("/dataset").value !== id) return;
    showColumns(null);
    showProblem(error);
  }
}

let timer = null;
let asking = new AbortController();

/** Ask no more what the form comes to: no answer to that is to stand in the place of another one. */
function lookNoMore() {
  clearTimeout(timer);
  asking.abort();
}

/** Somebody has changed something: when that has rested for a moment, ask what it comes to. */
function changed() {
  lookNoMore();
  timer = setTimeout(look, PAUSE_MILLISECONDS);
}

async function look() {
  const spec = readSpec(form);
  showEquivalents(byId("same"), { spec });
  byId("probe").disabled = !spec.dataset;
  if (!spec.dataset) {
    showViolations(form, []);
    showChecks(null);
    return;
  }
  asking = new AbortController();
  const { signal } = asking;
  try {
    const answer = await ask("POST", "/jobs?validate_only=true", { json: spec, signal });
    if (signal.aborted) return;
    showViolations(form, []);
    showCompleted(form, answer.spec);
    showChecks(answer, (suggested) => {
      writeSpec(form, suggested);
      changed();
    });
  } catch (error) {
    if (signal.aborted) return;
    refuse(error);
  }
}

/** Say at the fields what is wrong with them, and beside the form what is wrong with no field, or with the service. */
function refuse(error) {
  if (!(error instanceof Problem || error instanceof Lost)) throw error;
  showRefused(error, showViolations(form, error instanceof Problem ? error.errors : []));
}

form.addEventListener("input", (event) => {
  const pointer = event.target.dataset?.pointer;
  if (!pointer) return;
  showConditions(form);
  if (pointer === "/dataset") void chooseDataset(event.target.value);
  if (pointer === "/target") showFeatures();
  changed();
});

form.addEventListener("reset", () => {
  setTimeout(() => {
    writeSpec(form, { features: null });
    showConditions(form);
    showColumns(null);
    changed();
  });
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  lookNoMore();
  const train = async () => {
    byId("sending").textContent = "Sending …";
    try {
      return await create("/jobs", { json: readSpec(form) });
    } catch (error) {
      if (error instanceof Problem) refuse(error);
      form.querySelector('[aria-invalid="true"]')?.focus();
      throw error;
    } finally {
      byId("sending").textContent = "";
    }
  };
  leaving(byId("submit"), train, ({ id }) => location.assign(`/dashboard/jobs/${encodeURIComponent(id)}`));
});

byId("probe").addEventListener("click", () => doing(byId("probe"), () => probe(byId("probed"), readSpec(form)).catch((error) => {
  if (error instanceof Problem) refuse(error);
  throw error;
})));

writeSpec(form, { dataset: start.spec.dataset ?? "" });
showColumns(start.columns);
writeSpec(form, start.spec);
showFeatures();
void look();
byId("submit").disabled = false; // now somebody listens
