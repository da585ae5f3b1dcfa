// Where one starts: a table that is dropped, a built-in one that is trained on at once; and the latest jobs, live.
import { create, leaving } from "./api.js";
import { badge, el, timeOf } from "./dom.js";
import { follow } from "./live.js";
import { dropZone, upload } from "./upload.js";

const MOST = 8;
const SVG = "http://www.w3.org/2000/svg";

dropZone(document.querySelector(".upload"), async (file, stage) => {
  const dataset = await upload(file, stage);
  stage.say("Done; opening it.");
  location.assign(`/dashboard/datasets/${encodeURIComponent(dataset.id)}`);
});

for (const button of document.querySelectorAll("[data-train]")) {
  const json = { dataset: button.dataset.train, training: { test_fraction: 0.2 } };
  const open = ({ id }) => location.assign(`/dashboard/jobs/${encodeURIComponent(id)}`);
  button.addEventListener("click", () => leaving(button, () => create("/jobs", { json }), open));
}

const list = document.getElementById("jobs"); // when there is something
const nothing = document.getElementById("no-jobs");
if (list) follow("/dashboard/live/jobs", { jobs: show });

/** Put what has changed into the list; `order` is there where jobs have come or gone. Rows stay, so that a focus does. */
function show({ jobs, order }) {
  const rows = new Map([...list.querySelectorAll("[data-job]")].map((row) => [row.dataset.job, row]));
  for (const job of jobs) {
    const made = rowOf(job);
    const before = rows.get(job.id);
    if (!before) rows.set(job.id, made);
    else [...made.cells].slice(1).forEach((cell, place) => before.cells[place + 1].replaceWith(cell));
  }
  if (!order) return;
  const known = order.slice(0, MOST).map((id) => rows.get(id)).filter(Boolean);
  const wanted = known.length ? known : [nothing.content.firstElementChild.cloneNode(true)];
  wanted.forEach((row, place) => {
    if (list.rows[place] !== row) list.insertBefore(row, list.rows[place] ?? null);
  });
  while (list.rows.length > wanted.length) list.rows[wanted.length].remove();
}

function rowOf(job) {
  return el(
    "tr",
    { dataset: { job: job.id } },
    el(
      "td",
      { class: "name" },
      el("a", { href: `/dashboard/jobs/${encodeURIComponent(job.id)}` }, el("bdi", {}, job.model)),
      el("br"),
      el("span", { class: "small-text muted" }, timeOf(job.created_at)),
    ),
    el("td", { class: "name" }, el("bdi", {}, job.dataset_name)),
    el("td", {}, badge(job.state)),
    el(
      "td",
      {},
      el("progress", { max: 1, value: job.fraction, "aria-label": `Progress of ${job.model}` }),
      el("br"),
      el("span", { class: "small-text muted" }, `epoch ${job.epoch} of ${job.epochs}`),
    ),
    el("td", {}, job.points ? sparkline(job) : null),
    el("td", {}, result(job), job.verdict ? [" ", badge(job.verdict, `verdict-${job.verdict}`)] : null),
  );
}

function result(job) {
  if (job.error) return el("span", { class: "small-text" }, job.error);
  return job.metric ? [`${job.metric} `, el("strong", {}, job.value)] : null;
}

function sparkline({ points, curve }) {
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "polyline");
  for (const [name, value] of Object.entries({ class: "sparkline", viewBox: "0 0 120 28", role: "img", "aria-label": curve })) svg.setAttribute(name, value);
  line.setAttribute("points", points);
  svg.append(line);
  return svg;
}
