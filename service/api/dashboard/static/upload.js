// Files on their way to the service: a place to drop them on, how far they have come, and what was refused.
import { Lost, parsed, Problem, repeatable, showProblem } from "./api.js";

const UNITS = ["bytes", "kB", "MB", "GB"];
const stopped = (text) => new DOMException(text, "AbortError");

/**
 * Let files be dropped on the page, or chosen, one at a time. `use(file, stage)` does what is to be done with one;
 * `stage.say(text)`, `stage.progress(fraction, or null while nobody knows)` and `stage.signal` are for it. Returns `run`,
 * which does something else with a file.
 */
export function dropZone(host, use) {
  const label = host.querySelector("label.drop");
  const input = host.querySelector("input");
  const progress = host.querySelector(".upload-progress");
  const bar = host.querySelector("progress");
  const said = host.querySelector(".upload-said");
  let stop = null;

  function take(files) {
    const problem = refusal(files, Number(host.dataset.maxBytes));
    if (problem) showProblem(new Problem(0, { detail: problem }));
    else run(files[0], use);
  }

  async function run(file, work) {
    if (stop) return;
    showProblem(null);
    stop = new AbortController();
    const stage = {
      signal: stop.signal,
      say: (text) => (said.textContent = text),
      progress(fraction) {
        if (fraction === null) bar.removeAttribute("value");
        else bar.value = fraction;
      },
    };
    input.disabled = true;
    progress.hidden = false;
    try {
      await work(file, stage);
    } catch (error) {
      if (error.name === "AbortError") stage.say(error.message);
      else {
        stage.say("");
        showProblem(error);
      }
    } finally {
      stop = null;
      input.disabled = false;
      input.value = "";
      progress.hidden = true;
    }
  }

  input.addEventListener("change", () => take([...input.files]));
  progress.querySelector("button").addEventListener("click", () => stop?.abort(stopped("Stopped; nothing was kept.")));
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0; // elements within elements are entered before the outer ones are left
  const mark = (by) => {
    depth = Math.max(0, depth + by);
    label.classList.toggle("over", depth > 0);
  };
  addEventListener("dragenter", (event) => holdsFiles(event) && mark(1));
  addEventListener("dragleave", (event) => holdsFiles(event) && mark(-1));
  // Without these two a browser would leave the page and show the file.
  addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    mark(-depth);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.());
    take(entries.some((entry) => entry?.isDirectory) ? [] : [...event.dataTransfer.files]);
  });
  return run;
}

function refusal(files, most) {
  if (!files.length) return "That was no file. Drop a file, not a folder.";
  if (files.length > 1) return `Drop one file at a time; got ${files.length}.`;
  const [file] = files;
  if (!file.size) return `${file.name} is empty. A table has a line of names and at least one row.`;
  return file.size > most ? `${file.name} has ${bytes(file.size)}; at most ${bytes(most)} are taken. Send a part of it.` : null;
}

/** A number of bytes as people read it. */
export function bytes(count) {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  return `${Number((count / 1000 ** power).toPrecision(3))} ${UNITS[power]}`;
}

/** Send a table; resolves to the data set that was made of it. `missing` are words that stand for a missing cell. */
export function upload(file, stage, { name = "", missing = [] } = {}) {
  const query = new URLSearchParams(missing.map((word) => ["missing", word]));
  if (name) query.set("name", name);
  const address = `/datasets${query.size ? `?${query}` : ""}`;
  stage.say(`Sending ${file.name}, ${bytes(file.size)}.`);
  const way = { hasArrived: false }; // whatever comes of later attempts, what has arrived once may have been stored
  return repeatable((key) => send(file, address, key, stage, way));
}

/** Send by XMLHttpRequest, for `fetch` does not tell how much has gone. */
function send(file, address, key, stage, way) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(way.hasArrived ? stopped(`Stopped, but all of ${file.name} had arrived: it may be stored. The list of data sets says so.`) : stage.signal.reason);
    if (stage.signal.aborted) {
      stop();
      return;
    }
    const request = new XMLHttpRequest();
    request.open("POST", address);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Idempotency-Key", key);
    request.upload.addEventListener("progress", ({ loaded, total }) => stage.progress(total ? loaded / total : null));
    request.upload.addEventListener("load", () => {
      way.hasArrived = true;
      stage.progress(null);
      stage.say(`Reading ${file.name}: every column is looked at, in all its cells.`);
    });
    request.addEventListener("load", () => {
      const answer = parsed(request.responseText);
      if (request.status < 300) resolve(answer);
      else reject(new Problem(request.status, answer));
    });
    request.addEventListener("error", () => reject(new Lost()));
    request.addEventListener("abort", stop);
    stage.signal.addEventListener("abort", () => request.abort());
    const form = new FormData();
    form.append("file", file);
    request.send(form);
  });
}
