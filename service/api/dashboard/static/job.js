// A job, live: reads what there is, follows what happens, and hands both to the parts of the page.
import { FINAL, get, showProblem } from "./api.js";
import { byId, given } from "./dom.js";
import { showEquivalents } from "./equivalents.js";
import { wireActions } from "./job-actions.js";
import { learningCurves } from "./job-curves.js";
import { eventLog } from "./job-events.js";
import { showJob } from "./job-head.js";
import { layerView } from "./job-layers.js";
import { follow } from "./live.js";

const LOOK_MS = 1000; // the layers, the progress and the verdict are read anew this often at most

const data = given("given");
let { job } = data;
const own = `/dashboard/jobs/${encodeURIComponent(job.id)}`;
const public_ = `/jobs/${encodeURIComponent(job.id)}`;

const curves = learningCurves(job);
const layers = layerView({ address: own, job, bounds: data.bounds });
const log = eventLog();
let stop = () => {}; // ends what watches the job
let isWatched = false;
const actions = wireActions({ address: public_, comparison: data.comparison, onChange: show });

/** Show the job as an answer says it is; one that was given before the end, and comes after it, is none. */
function show(next) {
  if (FINAL.includes(job.state) && !FINAL.includes(next.state)) return;
  job = { ...next, spec: job.spec }; // which is not sent again
  showJob(job, data);
  actions.show(job);
  curves.mark(job);
}

// Asked for while it runs, a reading follows when that has ended and the pause is over: never two at once.
function paced(read, pause) {
  let running = null;
  let again = false;
  return function ask() {
    if (running) {
      again = true;
      return running;
    }
    running = Promise.all([read().catch(() => {}), new Promise((resolve) => setTimeout(resolve, pause))]).finally(() => {
      running = null;
      if (again) ask();
      again = false;
    });
    return running;
  };
}

// Readings may overtake each other: what one brings counts only where no later one has begun.
function newest(read, take) {
  let begun = 0;
  return async () => {
    const mine = (begun += 1);
    const found = await read();
    if (mine === begun) take(found);
  };
}

const readHead = newest(() => get(`${own}/head`), show);
async function readJob() {
  try {
    await readHead();
  } catch (error) {
    if (isGone(error)) {
      stop(); // somebody has deleted it
      showProblem(error);
    }
    throw error;
  }
}
const readCurves = newest(() => get(`${own}/curves`), curves.replace);
const lookAgain = paced(async () => {
  if (isWatched) await Promise.all([readJob(), layers.more()]);
}, LOOK_MS);
const isGone = (error) => error?.status === 404;

/** Read everything anew; what cannot be read keeps nothing else from being shown, and is tried again. */
async function readAll() {
  const read = await Promise.allSettled([readJob(), readCurves(), layers.again()]);
  const failures = read.filter(({ status }) => status === "rejected");
  if (failures.length && !failures.some(({ reason }) => isGone(reason))) setTimeout(readAll, 2 * LOOK_MS);
}

const others = {
  epoch: ({ data: epoch }) => curves.add(epoch),
  started: ({ data: { epoch } }) => forget(epoch),
  checkpoint_damaged: ({ data: { epoch } }) => forget(epoch),
};

/** What was seen of later epochs no longer counts: they are trained again. */
function forget(epoch) {
  curves.forgetAfter(epoch);
  layers.forgetAfter(epoch);
}

function watch() {
  const handlers = Object.fromEntries(
    data.events.map((name) => [
      name,
      (event) => {
        log.add(event);
        others[name]?.(event);
        if (FINAL.includes(name)) end();
        else lookAgain();
      },
    ]),
  );
  const stream = follow(`/dashboard/live/jobs/${encodeURIComponent(job.id)}`, handlers, { after: data.last_event, onBack: readAll, onEnd: end });
  const timer = setInterval(() => document.visibilityState === "visible" && lookAgain(), 2 * LOOK_MS);
  isWatched = true;
  stop = () => {
    isWatched = false;
    clearInterval(timer);
    stream.close();
  };
  function end() {
    stop();
    readAll();
  }
}

show(job);
showEquivalents(byId("again"), { spec: data.short, path: "/jobs" });
readAll();
if (!FINAL.includes(job.state)) watch();
