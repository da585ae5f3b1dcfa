// A data set: change its name and its kinds, delete it, read its rows, and say what a training on it would be.
import { ask, doing, get, showProblem } from "./api.js";
import { showTrainCommands } from "./commands.js";
import { byId, confirmed, el, fill, given } from "./dom.js";
import { dataTable } from "./tables.js";

const MOST_COLUMNS = 50;
const dataset = given("given");
const address = `/datasets/${encodeURIComponent(dataset.id)}`;

target();
columns();
if (dataset.rows) rows();
if (!dataset.builtin) changes();

function target() {
  const chosen = byId("target");
  const show = () => {
    const name = chosen.value;
    const query = new URLSearchParams({ dataset: dataset.id, ...(name ? { target: name } : {}) });
    byId("train").href = `/dashboard/jobs/new?${query}`;
    showTrainCommands(byId("commands"), dataset, name);
    const leaks = dataset.related.filter(({ first, second }) => name === first || name === second);
    const others = leaks.map(({ first, second }) => (first === name ? second : first));
    const listed = others.slice(0, 5).flatMap((other, place) => [place ? ", " : "", el("code", {}, el("bdi", {}, other))]);
    const more = others.length > 5 ? ` and ${others.length - 5} more` : "";
    const text = ["Nearly the same as what you predict, so probably a leak: ", listed, more, ". Leave it out of the features."];
    fill(byId("leak"), others.length ? el("p", { class: "banner warn" }, text) : null);
  };
  chosen.addEventListener("input", show);
  show();
}

/** Find columns: among those shown while one types, among all when Enter is pressed. */
function columns() {
  const find = byId("find");
  const shown = [...byId("columns-table").tBodies[0].rows].filter((row) => row.dataset.name !== undefined);
  const isWhole = shown.length === dataset.columns;
  const before = byId("found").textContent;
  find.addEventListener("input", () => {
    const wanted = find.value.toLowerCase();
    for (const row of shown) row.hidden = !row.dataset.name.toLowerCase().includes(wanted);
    const left = shown.filter((row) => !row.hidden).length;
    byId("found").textContent = isWhole && wanted ? `${left} of ${dataset.columns} columns.` : before;
  });
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || isWhole) return;
    location.assign(`?${new URLSearchParams({ find: find.value })}#columns`);
  });
}

function rows() {
  const host = byId("rows");
  const more = byId("more-rows");
  let table = null;
  let names = null;
  let token = null;
  async function read() {
    const next = token ? `&page_token=${encodeURIComponent(token)}` : "";
    const found = await get(`${address}/rows?page_size=${dataset.rows}${next}`);
    names ??= Object.keys(found.items[0] ?? {}).slice(0, MOST_COLUMNS);
    const cells = found.items.map((item) => names.map((name) => item[name]));
    if (table) table.add(cells);
    else {
      table = dataTable(`Rows of ${dataset.name}`, names, cells);
      const rest = dataset.columns - names.length;
      fill(host, rest > 0 ? el("p", { class: "muted small-text" }, `The first ${names.length} columns; ${rest} more are not shown.`) : null, table.host);
    }
    token = found.next_page_token;
    more.hidden = token === null;
  }
  more.addEventListener("click", () => doing(more, read));
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    read()
      .catch((error) => fill(host, el("p", { class: "banner" }, error instanceof TypeError ? "The service does not answer." : error.message)))
      .finally(() => host.setAttribute("aria-busy", "false"));
  }).observe(host);
}

function changes() {
  const form = byId("rename-form");
  const open = byId("rename");
  const toggle = (isOpen) => {
    form.hidden = !isOpen;
    (isOpen ? byId("new-name") : open).focus();
  };
  open.addEventListener("click", () => toggle(form.hidden));
  byId("rename-off").addEventListener("click", () => toggle(false));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const changed = await doing(form.querySelector("[type=submit]"), () => ask("PATCH", address, { json: { name: byId("new-name").value } }));
    if (!changed) return;
    byId("name").textContent = changed.name;
    document.title = `${changed.name} · Data · Selfnorm`;
    toggle(false);
  });
  const remove = byId("delete");
  remove.addEventListener("click", async () => {
    if (!(await confirmed(`Delete “${byId("name").textContent}” with all its rows? Jobs and models made from it stay.`, "Delete"))) return;
    const done = await doing(remove, () => ask("DELETE", address).then(() => true));
    if (done) location.assign("/dashboard/datasets");
  });
  byId("columns-table").addEventListener("change", kind);
  // After a change the page was loaded anew, for what is said of the table may be another; go on where one was.
  if (location.hash.startsWith("#kind-")) document.getElementById(location.hash.slice(1))?.focus();
}

async function kind({ target: select }) {
  const column = select.closest("tr").dataset.name;
  const before = [...select.options].find((option) => option.defaultSelected).value;
  showProblem(null);
  select.disabled = true;
  try {
    await ask("PATCH", address, { json: { kinds: { [column]: select.value } } });
    history.replaceState(null, "", `#${select.id}`);
    location.reload();
  } catch (error) {
    showProblem(error);
    select.value = before;
    select.disabled = false;
    select.focus({ preventScroll: true });
  }
}
