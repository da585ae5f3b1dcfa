// The head of a job's page: state, progress, verdict, what it came to, metrics.
import { FINAL } from "./api.js";
import { badge, byId, duration, el, fill, number } from "./dom.js";

/** Put into an element only what is not there already, so that nobody is told twice. */
function once(host, signature, ...children) {
  const text = JSON.stringify(signature);
  if (host.dataset.shows === text) return;
  host.dataset.shows = text;
  fill(host, ...children);
}

/** Show a job as it is now. */
export function showJob(job, { titles, waiting, resumable }) {
  document.title = `${job.spec.model} (${job.state}) · Selfnorm`;
  once(byId("state"), [job.state, job.pause_requested], badge(job.state), job.pause_requested ? " pausing" : null);
  showProgress(job);
  showVerdict(job, titles);
  once(byId("end"), [job.state, job.error, job.model], endOf(job, resumable));
  once(byId("warnings"), job.warnings, job.warnings.map((warning) => el("p", { class: "banner warn" }, warning)));
  once(byId("metrics"), job.metrics, metricsTable(job.metrics));
  byId("curves-empty").textContent = waiting[job.state];
}

function showProgress(job) {
  const { epoch, epochs, fraction, rows_per_second: speed, eta_seconds: left } = job.progress;
  byId("progress").value = fraction;
  const parts = [`epoch ${number(epoch)} of ${number(epochs)}`];
  if (job.queue_position !== null) parts.unshift(job.queue_position === 1 ? "first in line" : `number ${number(job.queue_position)} in line`);
  if (speed) parts.push(`${number(Math.round(speed))} rows/s`);
  if (left && !FINAL.includes(job.state)) parts.push(`${duration(left)} left at most`);
  if (job.attempts > 1) parts.push(`attempt ${job.attempts}`);
  if (job.started_at && job.finished_at) parts.push(`took ${duration((new Date(job.finished_at) - new Date(job.started_at)) / 1000)}`);
  byId("progress-text").textContent = parts.join(" · ");
}

function showVerdict({ verdict, state }, titles) {
  const host = byId("verdict");
  const [kind, title] = titles[verdict?.status ?? "unknown"];
  // Of a training that failed, what was well the last time that somebody looked is no good news.
  host.className = `banner big capital ${state === "failed" && kind === "pass" ? "" : kind}`;
  const detail = verdict ? verdict.detail : "Its layers are looked at before the first epoch; then it stands here.";
  const advice = (verdict?.advice ?? []).map((text) => el("li", {}, text));
  once(host, [title, detail, verdict?.advice], el("h2", { id: "verdict-title" }, title), el("p", {}, detail), advice.length ? el("ul", {}, advice) : null);
}

function endOf(job, resumable) {
  if (job.model) {
    const { name, version } = job.model;
    const address = `/dashboard/models/${encodeURIComponent(name)}`;
    const buttons = [
      el("a", { class: "button primary", href: `${address}/predict?version=${version}` }, "Predict with it"),
      el("a", { class: "button", href: address }, "The model"),
    ];
    return el("div", { class: "banner pass ended" }, el("p", {}, "It is version ", el("strong", {}, version), " of the model ", el("bdi", {}, name), "."), el("div", { class: "actions" }, buttons));
  }
  if (job.error) {
    const { code, detail } = job.error;
    const hint = resumable.includes(code)
      ? "Try it again: it goes on from its last checkpoint, where it has one."
      : ["The same would happen again: ", el("a", { href: `/dashboard/jobs/new?job=${encodeURIComponent(job.id)}` }, "change the spec"), " and submit that."];
    return el("div", { class: "banner fail" }, el("p", {}, el("strong", {}, `It failed: ${code.replaceAll("_", " ")}.`)), el("p", {}, detail), el("p", {}, hint));
  }
  return job.state === "cancelled" ? el("p", { class: "banner" }, "It was cancelled and has made no model.") : null;
}

function metricsTable({ latest, best, test }) {
  const parts = [latest, best, test].filter(Boolean);
  const all = parts.flatMap((part) => Object.keys(part)).filter((name) => name !== "epoch" && !name.endsWith("_not_finite"));
  const names = [...new Set(all.map((name) => name.replace(/^val_/, "")))];
  if (!names.length) return el("p", { class: "muted" }, "They come with the first epoch.");
  const cell = (part, name) => el("td", { class: "number" }, part?.[`${name}_not_finite`] ?? number(part?.[name]));
  const group = (text, part) => el("th", { scope: "colgroup", colspan: 2 }, part ? `${text}, epoch ${number(part.epoch)}` : text);
  const column = (text) => el("th", { scope: "col", class: "number" }, text);
  const head = [
    el("tr", {}, el("td", { rowspan: 2 }), group("Latest", latest), group("Best", best), el("th", { scope: "col", rowspan: 2, class: "number" }, "Test")),
    el("tr", {}, ["train", "val", "train", "val"].map(column)),
  ];
  const rows = names.map((name) =>
    el("tr", {}, el("th", { scope: "row" }, name), [latest, best].flatMap((part) => [cell(part, name), cell(part, `val_${name}`)]), cell(test, name)),
  );
  const caption = el("caption", { class: "visually-hidden" }, "Metrics of the latest epoch, of the best one, and on the test part");
  const table = el("table", { class: "close" }, caption, el("thead", {}, head), el("tbody", {}, rows));
  return el("div", { class: "table-wrap", tabindex: 0, role: "region", "aria-label": "Metrics" }, table);
}
