// Rows as a table that can be scrolled: what cells hold, as text.
import { el, number } from "./dom.js";

const LONGEST = 200;

/** A cell as people read it. */
export function cellText(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : number(value);
  const text = String(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

/** A table of rows, arrays in the order of `names`; with `add` it gets more of them. Columns of numbers stand to the right. */
export function dataTable(caption, names, rows) {
  const sides = names.map((_, place) => (typeof rows.find((row) => row[place] !== null)?.[place] === "number" ? "number" : null));
  const heads = names.map((name, place) => el("th", { scope: "col", title: name, class: sides[place] }, el("bdi", {}, name)));
  const body = el("tbody");
  const table = el("table", { class: "cells" }, el("caption", { class: "visually-hidden" }, caption), el("thead", {}, el("tr", {}, heads)), body);
  const host = el("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": caption }, table);
  const cell = (value, place) => el("td", { class: sides[place], title: String(value ?? "") }, el("bdi", {}, cellText(value)));
  const add = (more) => body.append(...more.map((row) => el("tr", {}, row.map(cell))));
  add(rows);
  return { host, add };
}
