// The list of comparisons: those that have not ended are looked at again every three seconds.
import { FINAL, get, Problem } from "./api.js";
import { badge, fill } from "./dom.js";
import { showLive } from "./live.js";

const PAUSE_MS = 3000;

const unfinished = () => [...document.querySelectorAll("[data-comparison]")].filter((row) => !FINAL.includes(row.dataset.state));

function show(row, found) {
  const part = (name) => row.querySelector(`[data-part="${name}"]`);
  const { finished_jobs: done, total } = found.progress;
  if (row.dataset.state !== found.state) fill(part("state"), badge(found.state));
  row.dataset.state = found.state;
  part("bar").value = done;
  part("count").textContent = `${done} of ${total}`;
  part("verdict").textContent = found.verdict ? `${found.verdict.split(". ")[0].replace(/\.$/, "")}.` : "–";
}

async function look() {
  for (const row of unfinished()) {
    try {
      show(row, await get(`/comparisons/${encodeURIComponent(row.dataset.comparison)}`, { cache: "no-cache" }));
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) throw error;
      row.remove();
    }
  }
}

async function watch() {
  while (unfinished().length) {
    showLive("live");
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    if (document.visibilityState !== "visible") continue;
    await look().catch(() => showLive("lost"));
  }
  showLive(null);
}

if (document.getElementById("comparisons")) watch();
