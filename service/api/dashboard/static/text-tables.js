// Tables of texts, as the server tells them: the first column names the rows.
import { el } from "./dom.js";

function cellOf({ text, more, badge }) {
  const said = badge === null ? text : el("span", { class: `badge ${badge}` }, text);
  return [said, more ? el("span", { class: "under" }, more) : null];
}

/** A table: `title`, `note`, `head`, `rows`, and how many of the last columns are `words`. */
export function textTable({ title, note, head, rows, words }) {
  const numbers = head.length - words;
  const column = (text, place) => el("th", { scope: "col", class: place > 0 && place < numbers ? "number" : null }, text);
  const cell = (value, place) =>
    place === 0 ? el("th", { scope: "row" }, cellOf(value)) : el("td", { class: place < numbers ? "number" : null }, cellOf(value));
  const table = el(
    "table",
    { class: "results" },
    el("caption", { class: "visually-hidden" }, title),
    el("thead", {}, el("tr", {}, head.map(column))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell)))),
  );
  return [el("p", { class: "muted small-text" }, note), el("div", { class: "table-wrap", tabindex: 0, role: "region", "aria-label": title }, table)];
}

/** A card with a table in it. */
export function tableCard(table, isOpen) {
  const inside = textTable(table);
  const folded = table.is_folded ? el("details", { open: isOpen }, el("summary", {}, `${table.rows.length} tests`), inside) : inside;
  return el("section", { class: `card${table.is_wide ? " across" : ""}`, "aria-labelledby": `table-${table.id}` }, el("h2", { id: `table-${table.id}` }, table.title), folded);
}
