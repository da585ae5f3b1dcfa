// A file of rows that comes back with the answers beside them: a small CSV at once, anything else by a worker.
import { Problem, ask, create, get } from "./api.js";
import { cells, records } from "./csv.js";
import { el, fill, number } from "./dom.js";
import { dataTable } from "./tables.js";
import { bytes, upload } from "./upload.js";

const AT_ONCE_BYTES = 8_000_000;
const SHOWN_ROWS = 20;
const SHOWN_COLUMNS = 50;
const HEAD_BYTES = 1_000_000;

/** Answer a file; what the service does not take as it is can be sent to a worker, by `run`, who is more patient. */
export async function predictFile(host, about, file, stage, run) {
  fill(host);
  const toWorker = (again, next) => byWorker(host, about, again, next);
  if (!/\.(csv|txt)$/i.test(file.name) || file.size > AT_ONCE_BYTES) {
    await toWorker(file, stage);
    return;
  }
  try {
    await atOnce(host, about, file, stage);
  } catch (error) {
    if (!(error instanceof Problem) || ![400, 413, 422].includes(error.status)) throw error;
    const again = el("button", { class: "button", type: "button", on: { click: () => run(file, toWorker) } }, "Send it to a worker");
    fill(host, el("p", {}, "A worker also takes other separators and columns that the model does not know, and leaves a row without an answer where it cannot give one."), again);
    throw error;
  }
}

async function atOnce(host, { model, named }, file, stage) {
  stage.progress(null);
  stage.say(`Answering ${file.name}, ${bytes(file.size)}.`);
  const text = await file.text();
  const query = new URLSearchParams({ model, ...named });
  const headers = { "Content-Type": "text/csv", Accept: "text/csv" };
  const answer = await fetch(`/predict?${query}`, { method: "POST", headers, body: text, signal: stage.signal });
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  const warnings = Number(answer.headers.get("Selfnorm-Warnings"));
  const [rows, answers] = [records(text), records(await answer.text())];
  // One line for each line; should they ever differ, the answers alone are still in the order of the rows.
  const lines = rows.length === answers.length ? rows.map((row, place) => `${row},${answers[place]}`) : answers;
  stage.say("");
  const shown = lines.slice(0, SHOWN_ROWS + 1).map(cells);
  const link = el("a", { class: "button primary", download: `${stem(file)}-predictions.csv`, href: URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" })) }, "Download CSV");
  fill(
    host,
    el("p", { role: "status" }, `${number(lines.length - 1)} rows answered${warnings ? `, with ${warnings} warning${warnings === 1 ? "" : "s"} about odd rows` : ""}. `, link),
    preview(file, shown, answers.length ? cells(answers[0]).length : 1),
  );
}

async function byWorker(host, { model, named }, file, stage) {
  fill(host);
  const dataset = await upload(file, stage, { name: stem(file).slice(0, 100) });
  stage.say("Waiting for a worker.");
  const keep = dataset.columns.map((column) => column.name);
  const asked = { model, ...named, dataset: dataset.id, keep };
  let job = await create("/predictions", { json: asked }).catch(async (error) => {
    await ask("DELETE", `/datasets/${encodeURIComponent(dataset.id)}`).catch(() => {}); // it came for this alone
    throw error;
  });
  const address = `/predictions/${encodeURIComponent(job.id)}`;
  const stop = () => ask("POST", `${address}/cancel`).catch(() => {});
  stage.signal.addEventListener("abort", stop);
  const isOver = () => ["succeeded", "failed", "cancelled"].includes(job.state);
  while (!isOver()) {
    job = await get(`${address}?wait=1`);
    stage.progress(job.progress.rows_done ? job.progress.fraction : null);
    stage.say(job.state === "queued" ? `Waiting for a worker: number ${job.queue_position ?? 1} in line.` : `${number(job.progress.rows_done)} of ${number(job.progress.rows)} rows answered.`);
  }
  stage.say("");
  if (job.state !== "succeeded") {
    const why = job.error ? job.error.detail : "It was cancelled.";
    fill(host, el("p", { class: "banner fail" }, why), stored(dataset));
    return;
  }
  await showResult(host, { file, job, address, dataset });
}

async function showResult(host, { file, job, address, dataset }) {
  const { result } = job;
  const shown = await head(`${address}/result?format=csv`);
  const unanswered = result.unanswered ? ` ${number(result.unanswered)} have no answer.` : "";
  fill(
    host,
    el("p", { role: "status" }, `${number(result.rows)} rows answered.${unanswered}`),
    el("p", { class: "actions" }, el("a", { class: "button primary", href: `${address}/result?format=csv`, download: `${stem(file)}-predictions.csv` }, "Download CSV"), el("a", { class: "button", href: `${address}/result?format=parquet`, download: `${stem(file)}-predictions.parquet` }, "Download Parquet")),
    [...job.warnings, ...result.warnings].map((warning) => el("p", { class: "banner warn" }, el("bdi", {}, warning))),
    preview(file, shown, result.columns.length - dataset.columns.length),
    stored(dataset),
  );
}

const stored = (dataset) =>
  el("p", { class: "muted small-text" }, "The rows are stored as the data set ", el("a", { href: `/dashboard/datasets/${encodeURIComponent(dataset.id)}` }, el("bdi", {}, dataset.name)), "; delete it there when you have what you need.");

/** Read the first records of a result, and no more of it. */
async function head(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (text.length < HEAD_BYTES) {
    const { done, value } = await reader.read();
    if (done) return records(text, SHOWN_ROWS + 1).map(cells);
    text += value;
    if (records(text, SHOWN_ROWS + 2).length > SHOWN_ROWS + 1) break;
  }
  await reader.cancel();
  return records(text, SHOWN_ROWS + 1).map(cells);
}

/** The first rows, with the answers in front, where they are seen. */
function preview(file, [names, ...rows], answers) {
  const turned = (row) => [...row.slice(-answers), ...row.slice(0, -answers)].slice(0, SHOWN_COLUMNS);
  const table = dataTable(`First rows of ${file.name}, with their answers`, turned(names), rows.map(turned));
  return [el("h3", {}, "First rows"), table.host];
}

const stem = (file) => file.name.replace(/\.[^.]*$/, "") || "rows";
