// The form of one row: fields to values as the service takes them, and values to fields.
import { byId, el } from "./dom.js";

const PATTERN_PARTS = { "%Y": "year", "%m": "month", "%d": "day", "%H": "hour", "%M": "minute", "%S": "second" };

/**
 * The form; `fields` are what the server said of them, `row` is the whole row that it begins with. Of a model with more
 * columns than fields, the box with JSON holds all of them, and follows the fields as they follow it.
 */
export function rowForm({ fields, row, width }, onChange) {
  const controls = [...document.querySelectorAll("[data-place]")];
  const whole = width > fields.length ? byId("whole") : null;
  const typed = fields.map((field, place) => [field, controls[place]]).filter(([, control]) => isTyped(control));
  let values = { ...row, ...Object.fromEntries(typed.map(([field, control]) => [field.name, valueOf(control, field)])) };

  function show() {
    fields.forEach((field, place) => setValue(controls[place], field, values[field.name]));
    if (whole) whole.value = JSON.stringify(values, null, 1);
  }
  controls.forEach((control, place) => {
    control.addEventListener("input", () => {
      const field = fields[place];
      values = { ...values, [field.name]: valueOf(control, field) };
      if (whole) whole.value = JSON.stringify(values, null, 1);
      onChange();
    });
  });
  whole?.addEventListener("change", () => {
    const read = parsed(whole.value);
    whole.setCustomValidity(read ? "" : "This is no JSON object: {\"column\": value, ...}");
    if (!read) return;
    values = read;
    fields.forEach((field, place) => setValue(controls[place], field, values[field.name]));
    onChange();
  });
  show();
  return {
    /** Whether somebody typed into it before this script ran; that stays. */
    isTyped: typed.length > 0,
    values: () => values,
    /** Put a row of the table into the form; columns that the model does not take are left out. */
    fill(cells) {
      const dates = new Map(fields.filter((field) => field.written).map((field) => [field.name, field]));
      const taken = Object.keys(row).map((name) => [name, dates.has(name) ? isoDate(cells[name], dates.get(name)) : (cells[name] ?? null)]);
      values = Object.fromEntries(taken);
      show();
      onChange();
    },
    /** The first field that is not in order, after the browser has said so. */
    isInOrder: () => [...controls, ...(whole ? [whole] : [])].every((control) => control.reportValidity()),
  };
}

const isTyped = (control) => (control.options ? control.selectedIndex > 0 : control.value !== "");

function valueOf(control, field) {
  if (control.value === "") return null;
  if (field.control === "choice") return JSON.parse(control.value);
  if (field.holds === "number") return Number(control.value);
  if (field.holds === "boolean") return control.value === "true";
  return control.value;
}

function setValue(control, field, value) {
  const isGap = value === null || value === undefined;
  if (field.control !== "choice") {
    control.value = isGap ? "" : String(value);
    return;
  }
  const text = isGap ? "" : JSON.stringify(field.holds === "boolean" ? Boolean(value) : value);
  const same = [...control.options].find((option) => option.value === text || (text && option.value && JSON.parse(option.value) === JSON.parse(text)));
  if (same) control.value = same.value;
  else {
    // A category that training did not see: it may be asked about, and the answer says so.
    control.append(el("option", { value: text }, isGap ? "(missing)" : String(value)));
    control.value = text;
  }
}

/** Turn a date as the table writes it into ISO 8601, which the service understands beside it. */
function isoDate(text, { control, written }) {
  if (typeof text !== "string" || !text.trim()) return null;
  const length = control === "date" ? 10 : 19;
  if (/^\s*\d{4}-\d{2}-\d{2}/.test(text)) {
    const hasZone = /(Z|[+-]\d{2}:?\d{2})\s*$/.test(text.slice(10));
    return (hasZone ? new Date(text.trim()).toISOString() : text.trim().replace(" ", "T")).slice(0, length);
  }
  const digits = text.match(/\d+/g) ?? [];
  const parts = Object.fromEntries((written.match(/%[YmdHMS]/g) ?? []).map((mark, place) => [PATTERN_PARTS[mark], (digits[place] ?? "0").padStart(2, "0")]));
  const { year, month, day, hour = "00", minute = "00", second = "00" } = parts;
  return `${year}-${month}-${day}T${hour}:${minute}:${second}`.slice(0, length);
}

function parsed(text) {
  try {
    const read = JSON.parse(text);
    return read !== null && typeof read === "object" && !Array.isArray(read) ? read : null;
  } catch {
    return null;
  }
}
