// A comparison, live: looks every two seconds whether anything has changed while its jobs run.
import { ask, doing, FINAL, Problem, showProblem } from "./api.js";
import { comparisonCurves } from "./comparison-curves.js";
import { depthChart } from "./comparison-depths.js";
import { badge, byId, confirmed, el, fill, given, number } from "./dom.js";
import { showEquivalents } from "./equivalents.js";
import { showLive } from "./live.js";
import { tableCard } from "./text-tables.js";

const PAUSE_MS = 2000;

const { id, task, short, shown: first } = given("given");
const own = `/dashboard/comparisons/${encodeURIComponent(id)}`;
const public_ = `/comparisons/${encodeURIComponent(id)}`;
const curves = comparisonCurves(own, task === "classification" ? "accuracy" : "rmse");
const depths = depthChart();
const isFinal = (shown) => FINAL.includes(shown.state);
let last = null;

/** Show what the server says of it; only what has changed is drawn again. */
function show(shown) {
  const differs = (name) => JSON.stringify(shown[name]) !== JSON.stringify(last?.[name]);
  if (differs("state")) {
    fill(byId("state"), badge(shown.state));
    showActions(shown);
  }
  if (differs("progress")) {
    const { finished_jobs: done, total } = shown.progress;
    byId("progress").value = done;
    byId("progress-text").textContent = `${number(done)} of ${number(total)} jobs have ended`;
  }
  if (differs("verdict") || differs("state")) showVerdict(shown);
  if (differs("tables")) showTables(shown.tables);
  if (differs("jobs")) fill(byId("jobs"), jobTable(shown.jobs));
  if (differs("depths") && shown.depths) depths.update(shown.depths, shown.metric);
  last = shown;
}

function showVerdict(shown) {
  const ended = isFinal(shown);
  const nothing = ended ? "No job has begun, and none will." : "Nothing yet: no job has begun.";
  const sentences = shown.verdict.length ? shown.verdict : [nothing];
  byId("verdict").className = `banner big${shown.has_winner ? " pass" : ""}`;
  fill(byId("verdict"), el("h2", { id: "verdict-title" }, ended ? "What it comes to" : "So far"), sentences.map((text) => el("p", {}, text)));
}

function showTables(tables) {
  const open = new Set([...document.querySelectorAll("#tables details[open]")].map((details) => details.closest("section").getAttribute("aria-labelledby")));
  fill(byId("tables"), tables.map((table) => tableCard(table, open.has(`table-${table.id}`))));
}

function jobTable(rows) {
  const link = (job) => el("td", {}, el("a", { class: `badge state-${job.state}`, href: `/dashboard/jobs/${encodeURIComponent(job.id)}` }, job.state));
  const head = el("tr", {}, el("th", { scope: "col" }, "Arm"), rows[0].seeds.map(({ seed }) => el("th", { scope: "col" }, `seed ${seed}`)));
  const body = rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.arm), row.seeds.map(link)));
  const table = el("table", {}, el("caption", { class: "visually-hidden" }, "Jobs by arm and seed"), el("thead", {}, head), el("tbody", {}, body));
  return el("div", { class: "table-wrap", tabindex: 0, role: "region", "aria-label": "Jobs by arm and seed" }, table);
}

function showActions(shown) {
  const name = isFinal(shown) ? "delete" : "cancel";
  const button = el("button", { class: "button danger", type: "button" }, isFinal(shown) ? "Delete" : "Cancel");
  button.addEventListener("click", () => doing(button, () => (name === "delete" ? remove() : cancel())));
  fill(byId("actions"), button);
}

async function cancel() {
  if (!(await confirmed("Cancel every job of this comparison that has not ended?", "Cancel the jobs"))) return;
  await ask("POST", `${public_}/cancel`);
  await look();
}

async function remove() {
  if (!(await confirmed("Delete this comparison with all of its jobs? Their models stay.", "Delete the comparison"))) return;
  await ask("DELETE", public_);
  location.assign("/dashboard/comparisons");
}

// The browser keeps what it was sent with its ETag, so that an unchanged comparison is answered with 304.
const look = async () => show(await ask("GET", `${own}/shown`, { cache: "no-cache" }));

async function watch() {
  showLive("live");
  while (!isFinal(last)) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    if (document.visibilityState !== "visible") continue;
    const began = performance.now();
    try {
      await look();
      await curves.read();
      showLive("live");
    } catch (error) {
      if (error instanceof Problem && error.status === 404) {
        showLive(null);
        showProblem(error); // somebody has deleted it
        return;
      }
      showLive("lost");
    }
    // One that takes long to read is read less often.
    await new Promise((resolve) => setTimeout(resolve, 3 * (performance.now() - began)));
  }
  showLive(null);
  readCurves(); // what the last jobs have come to, also where that could not be read above
}

show(first);
showEquivalents(byId("again"), { spec: short, path: "/comparisons" });
const readCurves = () => curves.read().catch(() => setTimeout(readCurves, PAUSE_MS));
readCurves();
if (!isFinal(first)) watch();
