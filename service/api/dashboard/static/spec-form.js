// A form made of a spec's schema: what its fields say as a spec, a spec put into its fields, and what is wrong with them.

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

const controls = (form) => [...form.querySelectorAll("[data-pointer]")];
const stepsOf = (pointer) => pointer.split("/").slice(1);

/** The spec of a form: only fields that somebody has filled in. */
export function readSpec(form) {
  const spec = {};
  const said = controls(form).filter((control) => !control.closest(".field").hidden);
  for (const control of said) {
    const value = valueOf(control);
    if (value !== undefined) place(spec, stepsOf(control.dataset.pointer), value);
  }
  for (const control of said.filter((one) => one.dataset.needed)) {
    const steps = stepsOf(control.dataset.pointer);
    const beside = steps.slice(0, -1).reduce((inside, step) => inside?.[step], spec);
    if (beside && !("kind" in beside)) beside.kind = JSON.parse(control.dataset.needed);
  }
  return spec;
}

/** What a field says; undefined where it is left alone. What cannot be read is sent as it is, for the service to judge. */
function valueOf(control) {
  if (control.specValue) return control.specValue();
  const text = control.value.trim();
  if (text === "") return undefined;
  if ("json" in control.dataset) return JSON.parse(text);
  const takes = (control.dataset.takes ?? "").split(" ");
  if (takes.includes("words")) return text.split(/[\s,]+/).filter(Boolean);
  if (takes.includes("object") && text.startsWith("{")) return parsed(text);
  if (takes.includes("list") && text.startsWith("[")) return parsed(text);
  if (takes.includes("list") && text.includes(",")) return text.split(",").map((part) => part.trim()).filter(Boolean).map(numberOr);
  return takes.includes("integer") || takes.includes("number") ? numberOr(text) : control.value;
}

const numberOr = (text) => (NUMBER.test(text) ? Number(text) : text);

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Set a field of an object; one that stands in the way, as early stopping that is off, stays. */
function place(spec, steps, value) {
  let inside = spec;
  for (const step of steps.slice(0, -1)) {
    if (inside[step] === null) return;
    inside[step] ??= {};
    inside = inside[step];
  }
  inside[steps.at(-1)] = value;
}

/** Put a spec into a form; fields that it does not name are left as they are. */
export function writeSpec(form, spec) {
  // What decides which fields there are comes first.
  for (const control of controls(form)) {
    const value = lookUp(spec, control.dataset.pointer);
    if (value === undefined) continue;
    if (control.specValue) control.specValue(value);
    else if ("json" in control.dataset) choose(control, value === null || typeof value !== "object" ? JSON.stringify(value) : "");
    else if (control.tagName === "SELECT") choose(control, value ?? "", String(value ?? ""));
    else control.value = written(value);
  }
  showConditions(form);
}

/** Choose an option, which is made where there is none. */
function choose(select, value, name = value) {
  const has = [...select.options].some((option) => option.value === value);
  if (!has && value !== "null") select.add(new Option(name, value));
  select.value = [...select.options].some((option) => option.value === value) ? value : "";
}

function written(value) {
  if (value === null) return "";
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** The field of a spec that a pointer names; undefined where there is none. */
export function lookUp(spec, pointer) {
  return stepsOf(pointer).reduce((inside, step) => (inside === null || inside === undefined ? undefined : inside[step]), spec);
}

/** Show the fields that there are for what is chosen, and hide the others. */
export function showConditions(form) {
  for (const field of form.querySelectorAll("[data-shown-by]")) {
    const decides = form.querySelector(`[data-pointer="${field.dataset.shownBy}"]`);
    const isThere = JSON.parse(field.dataset.shownFor).includes(decides.value);
    field.hidden = !isThere || decides.closest(".field").hidden;
  }
}

/** Show in fields that are left alone what will be taken for them. */
export function showCompleted(form, spec) {
  for (const control of controls(form)) {
    const value = lookUp(spec, control.dataset.pointer);
    if (control.showCompleted) {
      control.showCompleted(value);
      continue;
    }
    if (value === undefined || control.closest(".field").hidden) continue;
    const text = value === null ? "none" : typeof value === "object" ? written(value) : String(value);
    const usual = control.querySelector?.("[data-default]");
    const isObject = value !== null && typeof value === "object";
    if (usual) usual.textContent = `auto: ${isObject ? "yes" : text}`;
    else if ("placeholder" in control) control.placeholder = text;
  }
}

/** Show violations at their fields; those that no field is for are returned. */
export function showViolations(form, errors) {
  const left = [];
  const texts = new Map();
  for (const error of errors) {
    const pointer = nearest(form, error.pointer.replace(/^#/, ""));
    if (pointer) texts.set(pointer, [...(texts.get(pointer) ?? []), error.detail]);
    else left.push(error);
  }
  for (const control of controls(form)) {
    const details = texts.get(control.dataset.pointer);
    if (details) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
    const problem = control.closest(".field").querySelector("[data-problem-of]");
    const text = details ? details.join("; ") : "";
    if (problem.textContent !== text) problem.textContent = text;
    if (details) control.closest("details")?.setAttribute("open", "");
  }
  return left;
}

/** The field that a pointer leads to, or leads into; the first of them where it names what holds several. */
function nearest(form, pointer) {
  const known = controls(form).filter((control) => !control.closest(".field").hidden).map((control) => control.dataset.pointer);
  const into = known.filter((one) => pointer === one || pointer.startsWith(`${one}/`));
  if (into.length) return into.reduce((longest, one) => (one.length > longest.length ? one : longest));
  const opening = pointer && `${pointer}/`;
  return opening ? known.find((one) => one.startsWith(opening)) : undefined;
}
