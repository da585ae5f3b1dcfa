// The list of jobs: its first page follows what happens; each job that has not ended can be cancelled.
import { ask, doing, FINAL } from "./api.js";
import { byId, confirmed, duration, el, fill, given, localTimes, number, painted } from "./dom.js";
import { follow } from "./live.js";

const { now, live } = given("given");
let clockOffset = now * 1000 - Date.now(); // the service's clock against this one

const rows = byId("jobs");
const rowOf = (id) => [...rows.children].find((row) => row.dataset.job === id);
const cellsOf = (row) => Object.fromEntries([...row.querySelectorAll("[data-cell]")].map((cell) => [cell.dataset.cell, cell]));

/** Change a text or an attribute only where it is another, so that nothing flickers and nothing is said twice. */
function setText(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
  if (cell.classList.contains("clamped")) cell.title = text;
}
function setAttribute(cell, name, value) {
  if (value === null) cell.removeAttribute(name);
  else if (cell.getAttribute(name) !== value) cell.setAttribute(name, value);
}

/** Whether a state is from before the end that a row shows already: it was told earlier, and has come later. */
const isPast = (row, state) => FINAL.includes(cellsOf(row).state.textContent) && !FINAL.includes(state);

/** Show a job in its row. */
function show(row, job) {
  const cells = cellsOf(row);
  const address = encodeURIComponent(job.id);
  row.dataset.job = job.id;
  setText(cells.state, job.state);
  setAttribute(cells.state, "class", `badge state-${job.state}`);
  setText(cells.error, job.error ?? "");
  setAttribute(cells.link, "href", `/dashboard/jobs/${address}`);
  setText(cells.model, job.model);
  setText(cells.version, job.version === null ? "" : ` v${job.version}`);
  setText(cells.network, job.network);
  setAttribute(cells.dataset, "href", `/dashboard/datasets/${encodeURIComponent(job.dataset)}`);
  setText(cells.dataset.firstElementChild, job.dataset_name);
  setText(cells.target, job.target);
  setAttribute(cells.bar, "value", String(job.fraction));
  setAttribute(cells.bar, "aria-label", `Progress of ${job.model}`);
  setText(cells.epoch, `epoch ${number(job.epoch)} of ${number(job.epochs)}`);
  setAttribute(cells.curve, "aria-label", job.curve || "No epoch yet");
  setAttribute(cells.curve.firstElementChild, "points", job.points);
  setText(cells.value, job.value ?? "–");
  setText(cells.metric, job.metric ?? "");
  setText(cells.verdict, job.verdict ?? "–");
  setAttribute(cells.verdict, "class", job.verdict && `badge verdict-${job.verdict}`);
  setAttribute(cells.verdict, "title", job.verdict_detail);
  setText(cells.detail, job.verdict_detail ?? "");
  setAttribute(cells.again, "href", `/dashboard/jobs/new?job=${address}`);
  setAttribute(cells.again, "aria-label", `Again with changes: ${job.model}`);
  setAttribute(cells.cancel, "aria-label", `Cancel ${job.model}`);
  cells.cancel.hidden = !job.can_be_cancelled;
  cells.again.hidden = job.can_be_cancelled;
  cells.duration.dataset.started = job.started_at ?? "";
  cells.duration.dataset.finished = job.finished_at ?? "";
  showDuration(cells.duration);
}

/** Make the row of a job that is new here. */
function made(job) {
  const row = byId("row").content.firstElementChild.cloneNode(true);
  const cells = cellsOf(row);
  fill(cells.created, el("time", { datetime: job.created_at }));
  localTimes(cells.created);
  const tags = job.tags.map((tag) => [el("a", { class: "tag", href: `/dashboard/jobs?tag=${encodeURIComponent(tag)}`, title: tag }, tag), " "]);
  fill(cells.tags, tags);
  return row;
}

function showDuration(cell) {
  const { started, finished } = cell.dataset;
  if (!started) return setText(cell, "–");
  const until = finished ? Date.parse(finished) : Date.now() + clockOffset;
  const seconds = Math.max(0, (until - Date.parse(started)) / 1000);
  return setText(cell, duration(finished ? seconds : Math.floor(seconds)));
}

/** Take what has changed: jobs, and where the page is another, their order and the token of the next page. */
function take({ jobs, order, next }) {
  for (const job of jobs) {
    const row = rowOf(job.id) ?? rows.appendChild(made(job));
    if (isPast(row, job.state)) continue;
    const before = row.querySelector('[data-cell="state"]').textContent;
    show(row, job);
    if (job.state !== before) byId("news").textContent = `${job.model}: ${job.state}`;
  }
  if (!order) return;
  const kept = order.map(rowOf).filter(Boolean);
  for (const row of [...rows.children]) if (!kept.includes(row)) row.remove();
  kept.forEach((row, place) => {
    if (rows.children[place] !== row) rows.insertBefore(row, rows.children[place]);
  });
  byId("list").hidden = kept.length === 0;
  byId("none").hidden = kept.length > 0;
  showOlder(next);
}

function showOlder(token) {
  const link = byId("older");
  link.hidden = token === null;
  if (token === null) return;
  const address = new URL(location.href);
  address.searchParams.set("page_token", token);
  link.href = address.pathname + address.search;
}

rows.addEventListener("click", async (event) => {
  const button = event.target.closest('[data-action="cancel"]');
  if (!button) return;
  const row = button.closest("tr");
  const name = row.querySelector('[data-cell="model"]').textContent;
  if (!(await confirmed(`Cancel the job of ${name}? What it has learned is lost.`, "Cancel it"))) return;
  const job = await doing(button, () => ask("POST", `/jobs/${encodeURIComponent(row.dataset.job)}/cancel`));
  if (!job || isPast(row, job.state)) return;
  const { state } = cellsOf(row);
  setText(state, job.state);
  setAttribute(state, "class", `badge state-${job.state}`);
  button.hidden = true;
  byId("news").textContent = `${name}: ${job.state}`;
});

document.getElementById("filter")?.addEventListener("formdata", (event) => {
  for (const [name, value] of [...event.formData]) if (!value.trim()) event.formData.delete(name);
});

setInterval(() => {
  for (const cell of rows.querySelectorAll('[data-cell="duration"]')) if (!cell.dataset.finished) showDuration(cell);
}, 1000);

// The page comes with what there is; what follows can wait until that is painted.
if (live) painted(() => follow(live, { jobs: take }));
