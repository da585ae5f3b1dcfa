// A file of rows that comes back with the answers beside them: a small CSV at once, anything else by a worker.
import { answered, ask, create, get, passes, Problem } from "./api.js";
import { cells, records } from "./csv.js";
import { el, fill, number } from "./dom.js";
import { dataTable } from "./tables.js";
import { bytes, upload } from "./upload.js";

const AT_ONCE_BYTES = 8_000_000;
const SHOWN_ROWS = 20;
const SHOWN_COLUMNS = 50;
const HEAD_BYTES = 1_000_000;
const PAUSE_MILLISECONDS = 1000;

/** The prediction by a worker that the page's address names, so that it is found again when the page is loaded anew; or null. */
export const remembered = () => new URLSearchParams(location.search).get("prediction");

function remember(id) {
  const address = new URL(location.href);
  if (id) address.searchParams.set("prediction", id);
  else address.searchParams.delete("prediction");
  history.replaceState(null, "", address);
}

/** Answer a file; what the service does not take as it is can be sent to a worker, by `run`, who is more patient. */
export async function predictFile(host, about, file, stage, run) {
  fill(host);
  remember(null);
  const toWorker = (again, next) => byWorker(host, about, again, next);
  if (!/\.(csv|txt)$/i.test(file.name) || file.size > AT_ONCE_BYTES) {
    await toWorker(file, stage);
    return;
  }
  const text = await decoded(file);
  try {
    await atOnce(host, about, file, text, stage);
  } catch (error) {
    if (!(error instanceof Problem) || ![400, 413, 422].includes(error.status)) throw error;
    const again = el("button", { class: "button", type: "button", on: { click: () => run(file, toWorker) } }, "Send it to a worker");
    fill(host, el("p", {}, "A worker also takes other separators and columns that the model does not know, and leaves a row without an answer where it cannot give one."), again);
    throw error;
  }
}

async function atOnce(host, { model, named }, file, text, stage) {
  stage.progress(null);
  stage.say(`Answering ${file.name}, ${bytes(file.size)}.`);
  const query = new URLSearchParams({ model, ...named });
  const headers = { "Content-Type": "text/csv", Accept: "text/csv" };
  const answer = await answered(fetch(`/predict?${query}`, { method: "POST", headers, body: file, signal: stage.signal }));
  if (!answer.ok) throw await refusal(answer);
  const warnings = Number(answer.headers.get("Selfnorm-Warnings"));
  const [rows, answers] = [records(text), records(await answered(answer.text()))];
  // One line for each line; should they ever differ, the answers alone are still in the order of the rows.
  const lines = rows.length === answers.length ? rows.map((row, place) => `${row},${answers[place]}`) : answers;
  stage.say("");
  const shown = lines.slice(0, SHOWN_ROWS + 1).map(cells);
  const link = el("a", { class: "button primary", download: `${stem(file.name)}-predictions.csv`, href: URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" })) }, "Download CSV");
  fill(
    host,
    el("p", { role: "status" }, `${number(lines.length - 1)} rows answered${warnings ? `, with ${warnings} warning${warnings === 1 ? "" : "s"} about odd rows` : ""}. `, link),
    preview(file.name, shown, answers.length ? cells(answers[0]).length : 1),
  );
}

const refusal = async (answer) => new Problem(answer.status, await answer.json().catch(() => ({})));

/** The text of a file; what is no UTF-8 is refused here, as by the service, for else a browser replaces letters of it. */
async function decoded(file) {
  const content = await file.arrayBuffer();
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    throw new Problem(422, { detail: `${file.name} is not UTF-8 (perhaps Latin-1 or Windows-1252); save it as UTF-8.` });
  }
}

async function byWorker(host, { model, named }, file, stage) {
  fill(host);
  const dataset = await upload(file, stage, { name: stem(file.name).slice(0, 100) });
  stage.say("Waiting for a worker.");
  const keep = dataset.columns.map((column) => column.name);
  const asked = { model, ...named, dataset: dataset.id, keep };
  const job = await create("/predictions", { json: asked }).catch(async (error) => {
    await ask("DELETE", `/datasets/${encodeURIComponent(dataset.id)}`).catch(() => {}); // it came for this alone
    throw error;
  });
  remember(job.id);
  await followPrediction(host, job.id, stage);
}

/** Show how far a worker has come with a prediction, and what has come out. A service that is away is waited for. */
export async function followPrediction(host, id, stage) {
  const address = `/predictions/${encodeURIComponent(id)}`;
  const job = await ended(address, stage);
  const dataset = await get(`/datasets/${encodeURIComponent(job.spec.dataset)}`).catch(() => null); // it may be deleted by now
  stage.say("");
  if (job.state === "succeeded") await showResult(host, { job, address, dataset });
  else fill(host, el("p", { class: "banner fail" }, job.error ? job.error.detail : "It was cancelled."), stored(dataset));
}

async function ended(address, stage) {
  stage.progress(null);
  for (;;) {
    const job = await get(`${address}?wait=1`).catch((error) => {
      if (passes(error)) return null;
      remember(null);
      throw error;
    });
    if (["succeeded", "failed", "cancelled"].includes(job?.state)) return job;
    stage.say(job ? stand(job) : "The service does not answer at the moment; it is asked again.");
    if (!job) await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS));
    else {
      stage.progress(job.progress.rows_done ? job.progress.fraction : null);
      if (stage.signal.aborted) await ask("POST", `${address}/cancel`).catch(() => {}); // and again, should it be lost
    }
  }
}

const stand = ({ state, queue_position: place, progress }) =>
  state === "queued" ? `Waiting for a worker: number ${place ?? 1} in line.` : `${number(progress.rows_done)} of ${number(progress.rows)} rows answered.`;

async function showResult(host, { job, address, dataset }) {
  const { result } = job;
  const name = dataset?.name ?? "rows";
  const shown = await head(`${address}/result?format=csv`);
  const unanswered = result.unanswered ? ` ${number(result.unanswered)} have no answer.` : "";
  fill(
    host,
    el("p", { role: "status" }, `${number(result.rows)} rows answered.${unanswered}`),
    el("p", { class: "actions" }, el("a", { class: "button primary", href: `${address}/result?format=csv`, download: `${name}-predictions.csv` }, "Download CSV"), el("a", { class: "button", href: `${address}/result?format=parquet`, download: `${name}-predictions.parquet` }, "Download Parquet")),
    [...job.warnings, ...result.warnings].map((warning) => el("p", { class: "banner warn" }, el("bdi", {}, warning))),
    preview(name, shown, result.columns.length - job.spec.keep.length),
    stored(dataset),
  );
}

const stored = (dataset) =>
  dataset && el("p", { class: "muted small-text" }, "The rows are stored as the data set ", el("a", { href: `/dashboard/datasets/${encodeURIComponent(dataset.id)}` }, el("bdi", {}, dataset.name)), "; delete it there when you have what you need.");

/** Read the first records of a result, and no more of it. */
async function head(address) {
  const answer = await answered(fetch(address));
  if (!answer.ok) throw await refusal(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (text.length < HEAD_BYTES) {
    const { done, value } = await answered(reader.read());
    if (done) return records(text, SHOWN_ROWS + 1).map(cells);
    text += value;
    if (records(text, SHOWN_ROWS + 2).length > SHOWN_ROWS + 1) break;
  }
  await reader.cancel();
  return records(text, SHOWN_ROWS + 1).map(cells);
}

/** The first rows, with the answers in front, where they are seen. */
function preview(name, [names, ...rows], answers) {
  const turned = (row) => [...row.slice(-answers), ...row.slice(0, -answers)].slice(0, SHOWN_COLUMNS);
  const table = dataTable(`First rows of ${name}, with their answers`, turned(names), rows.map(turned));
  return [el("h3", {}, "First rows"), table.host];
}

const stem = (name) => name.replace(/\.[^.]*$/, "") || "rows";
