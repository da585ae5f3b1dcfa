// What can be done with a job in its state: cancel, pause, resume, try again, delete.
import { ask, create, doing, leaving } from "./api.js";
import { byId, confirmed, el, fill } from "./dom.js";

const BY_STATE = {
  queued: ["pause", "cancel"],
  running: ["pause", "cancel"],
  paused: ["resume", "cancel"],
  cancelling: [],
  succeeded: ["delete"],
  failed: ["retry", "delete"],
  cancelled: ["delete"],
};
const WORDS = { pause: "Pause", resume: "Resume", cancel: "Cancel", retry: "Try again", delete: "Delete" };
const QUESTIONS = {
  cancel: ["Cancel this job? It ends without a model, and what it has learned is lost.", "Cancel the job"],
  delete: ["Delete this job with its metrics, layers and log? Its model stays.", "Delete the job"],
};

/** Offer what can be done; `onChange` is called with the job as an action leaves it. */
export function wireActions({ address, comparison, onChange }) {
  let offered = null;

  async function run(name) {
    if (name in QUESTIONS && !(await confirmed(...QUESTIONS[name]))) return;
    if (name === "delete") {
      await ask("DELETE", address);
      location.assign("/dashboard/jobs");
      return;
    }
    onChange(await ask("POST", `${address}/${name}`));
  }

  const retry = (pressed) => leaving(pressed, () => create(`${address}/retry`), ({ id }) => location.assign(`/dashboard/jobs/${encodeURIComponent(id)}`));

  function button(name) {
    const kind = { cancel: "danger", delete: "danger", retry: "primary", resume: "primary" }[name] ?? "";
    const made = el("button", { class: `button ${kind}`, type: "button" }, WORDS[name]);
    made.addEventListener("click", () => (name === "retry" ? retry(made) : doing(made, () => run(name))));
    return made;
  }

  function show(job) {
    const names = BY_STATE[job.state]
      .map((name) => (name === "pause" && job.pause_requested ? "resume" : name))
      .filter((name) => name !== "delete" || !comparison); // it goes together with its comparison only
    if (offered === names.join()) return;
    offered = names.join();
    fill(byId("actions"), names.map(button));
  }

  return { show };
}
