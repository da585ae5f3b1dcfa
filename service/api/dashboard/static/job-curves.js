// The learning curves of a job: training and validation of the chosen metric, the best epoch marked.
import { lineChart } from "./charts.js";
import { byId, el, fill, number } from "./dom.js";

const ORDER = ["loss", "accuracy", "f1", "auc", "r2", "rmse", "mae"];
const LOWER_IS_BETTER = ["loss", "mae", "rmse"];
const plain = (name) => name.replace(/^val_/, "");

export function learningCurves(job) {
  const chooser = byId("metric");
  const log = byId("curves-log");
  const chart = lineChart(byId("curves"), { label: "Learning curves", x: "epoch", height: 300 });
  const series = new Map(); // by metric: [[epoch, value]] in order
  let best = job.metrics.best;
  let last = 0;

  function put(name, epoch, value) {
    if (name === "epoch" || name.endsWith("_not_finite")) return;
    if (!series.has(name)) series.set(name, []);
    const points = series.get(name);
    const place = points.length && points[points.length - 1][0] >= epoch ? points.findIndex(([x]) => x >= epoch) : points.length;
    points.splice(place, points[place]?.[0] === epoch ? 1 : 0, [epoch, value]);
    last = Math.max(last, epoch);
  }

  function offer() {
    const names = [...new Set([...series.keys()].map(plain))].sort((a, b) => (ORDER.indexOf(a) + 9) % 9 - (ORDER.indexOf(b) + 9) % 9);
    byId("curves-tools").hidden = !names.length;
    byId("curves").hidden = !names.length;
    byId("curves-empty").hidden = names.length > 0;
    if (chooser.options.length === names.length) return;
    const chosen = chooser.value;
    fill(chooser, names.map((name) => el("option", { value: name }, name)));
    if (names.includes(chosen)) chooser.value = chosen;
  }

  function draw() {
    offer();
    const name = chooser.value;
    if (!name) return;
    const lines = [
      { name: "training", points: series.get(name) ?? [], colour: "series-1", dashed: true },
      { name: "validation", points: series.get(`val_${name}`) ?? [], colour: "series-2" },
    ].filter((one) => one.points.some(([, value]) => value !== null));
    const until = job.progress.epochs;
    const running = !["succeeded", "failed", "cancelled"].includes(job.state);
    const marks = best ? [{ x: best.epoch, name: `best, epoch ${number(best.epoch)}` }] : [];
    const xDomain = [1, Math.max(last, running && until <= 3 * last ? until : last)];
    chart.update({ series: lines, marks, y: name, log: log.checked, cuts: LOWER_IS_BETTER.includes(name), xDomain });
  }

  chooser.addEventListener("change", draw);
  log.addEventListener("change", draw);

  return {
    /** Show these epochs, `epochs` with a value for each by metric, and of others what came after them meanwhile. */
    replace({ every, epochs, metrics }) {
      const until = epochs[epochs.length - 1] ?? 0;
      const later = [...series].map(([name, points]) => [name, points.filter(([x]) => x > until)]);
      series.clear();
      for (const [name, values] of Object.entries(metrics)) series.set(name, values.map((value, place) => [epochs[place], value]));
      for (const [name, points] of later) if (points.length) series.set(name, [...(series.get(name) ?? []), ...points]);
      last = Math.max(until, ...later.map(([, points]) => points.at(-1)?.[0] ?? 0));
      byId("curves").dataset.every = every;
      draw();
    },
    /** Add an epoch with what it measured. */
    add(epoch) {
      for (const [name, value] of Object.entries(epoch)) put(name, epoch.epoch, value);
      draw();
    },
    forgetAfter(epoch) {
      for (const [name, points] of series) series.set(name, points.filter(([x]) => x <= epoch));
      last = Math.min(last, epoch);
      draw();
    },
    /** Take the best epoch and the state from the job. */
    mark(next) {
      job = next;
      best = job.metrics.best;
      const which = job.state === "succeeded" ? "The model is that of epoch" : "So far the best is epoch";
      const said = best ? `${which} ${number(best.epoch)}, by ${job.spec.training.monitor}.` : "";
      byId("best-epoch").textContent = said;
      draw();
    },
  };
}
