// Which columns a network predicts from: boxes to tick; of very many columns, their names one below the other.
import { el, fill } from "./dom.js";

const MOST_BOXES = 300;

/**
 * Make a group of boxes of an element. It gives `specValue()` (the names, undefined where they are left alone) and
 * `specValue(names)`, `showCompleted(names)`, and `show(columns, target)`; `trainable` are the kinds of columns that are
 * taken where nobody says which; `onChange` is called when somebody changes it.
 */
export function featureList(host, trainable, onChange) {
  let columns = [];
  let target = null;
  let said = null; // the names, where somebody has said them
  let completed = null;
  let area = null;

  const isTaken = ([name, kind]) => (said ?? completed)?.includes(name) ?? trainable.includes(kind);

  function draw() {
    area = null;
    if (!columns.length) {
      fill(host, el("p", { class: "muted small-text" }, "The columns are listed when a data set is chosen."));
      return;
    }
    if (columns.length > MOST_BOXES) drawArea();
    else drawBoxes();
  }

  function drawArea() {
    area = el("textarea", { rows: "5", "aria-label": "Names of the features, one on each line", placeholder: `all that can be trained on of ${columns.length} columns` });
    area.value = (said ?? []).join("\n");
    area.addEventListener("input", () => {
      const names = area.value.split("\n").filter((name) => name !== "");
      said = names.length ? names : null;
      onChange();
    });
    fill(host, area);
  }

  function drawBoxes() {
    const boxes = columns.filter(([name]) => name !== target).map(([column, kind]) => {
      const box = el("input", { type: "checkbox", checked: isTaken([column, kind]), dataset: { column, kind }, on: { change: tick } });
      return el("label", { class: "check" }, box, el("bdi", {}, column), el("span", { class: "muted small-text" }, kind));
    });
    const list = el("div", { class: "boxes scroll", tabindex: "0", role: "region", "aria-label": "Columns" }, boxes);
    const back = el("button", { class: "button small quiet", type: "button", hidden: said === null, on: { click: leaveAlone } }, "All that can be trained on");
    const none = el("button", { class: "button small quiet", type: "button", on: { click: () => set([]) } }, "None");
    fill(host, list, el("div", { class: "actions" }, back, none));
  }

  function tick() {
    set([...host.querySelectorAll("input:checked")].map((box) => box.dataset.column), { redraws: false });
  }

  function set(names, { redraws = true } = {}) {
    said = names;
    if (redraws) draw();
    else host.querySelector(".actions button").hidden = false;
    onChange();
  }

  function leaveAlone() {
    said = null;
    draw();
    host.querySelector("input")?.focus();
    onChange();
  }

  host.specValue = (...names) => {
    if (!names.length) return said ?? undefined;
    [said] = names;
    draw();
    return undefined;
  };
  host.showCompleted = (names) => {
    completed = names ?? null;
    if (said || area) return;
    for (const box of host.querySelectorAll("input")) box.checked = isTaken([box.dataset.column, box.dataset.kind]);
  };
  return {
    show(next, nextTarget) {
      if (next !== columns) completed = null;
      columns = next;
      target = nextTarget;
      said = said?.filter((name) => name !== target) ?? null;
      draw();
    },
  };
}
