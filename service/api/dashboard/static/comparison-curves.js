// The learning curves of all arms in one chart: the mean over the seeds, with a band of one deviation.
import { get, showProblem } from "./api.js";
import { colourOf, lineChart } from "./charts.js";
import { byId, el, fill, number } from "./dom.js";

const LOWER_IS_BETTER = ["loss", "mae", "rmse"];

/** Mean and deviation of a sample over the runs, epoch by epoch, as tables have them; of the epochs that a run has not, over the others. */
function mean(runs, part) {
  const found = new Map();
  for (const run of runs) {
    run.epochs.forEach((epoch, place) => {
      const value = run[part][place] ?? null;
      if (value === null) return;
      if (!found.has(epoch)) found.set(epoch, []);
      found.get(epoch).push(value);
    });
  }
  const epochs = [...found.keys()].sort((a, b) => a - b);
  return epochs.map((epoch) => {
    const values = found.get(epoch);
    const middle = values.reduce((sum, value) => sum + value, 0) / values.length;
    const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
    return [epoch, middle, Math.sqrt(squares / Math.max(1, values.length - 1))];
  });
}

function linesOf({ arm, note, runs }, place, { training, seeds }) {
  const colour = colourOf(place);
  const hasValidation = runs.some((run) => run.validation.some((value) => value !== null));
  const main = hasValidation ? "validation" : "training";
  const found = mean(runs, main);
  const name = `${arm}${note ? ` (${note})` : ""}`;
  const lines = [];
  if (seeds) {
    for (const run of runs) lines.push({ name: `${arm}, seed ${run.seed}`, colour, thin: true, quiet: true, dashed: false, points: run.epochs.map((epoch, at) => [epoch, run[main][at]]) });
  }
  if (training && hasValidation) lines.push({ name: `${name}, training`, colour, dashed: true, points: mean(runs, "training") });
  const band = runs.length > 1 && !seeds ? found.map(([epoch, middle, deviation]) => [epoch, middle - deviation, middle + deviation]) : [];
  lines.push({ name, colour, dashed: false, points: found, band });
  return lines;
}

/** The card; `read` asks for the chosen metric anew, at first for the usual one. */
export function comparisonCurves(address, usual) {
  const chooser = byId("metric");
  const controls = ["curves-log", "curves-training", "curves-seeds"].map(byId);
  const [log, training, seeds] = controls;
  const host = byId("curves");
  const chart = lineChart(host, { label: "Learning curves of all arms", x: "epoch", height: 340 });
  let found = null;

  function draw() {
    const arms = found?.arms ?? [];
    host.hidden = !arms.length;
    byId("curves-tools").hidden = !arms.length;
    if (!arms.length) return;
    const series = arms.flatMap((arm, place) => linesOf(arm, place, { training: training.checked, seeds: seeds.checked }));
    chart.update({ series, y: found.metric, log: log.checked, cuts: LOWER_IS_BETTER.includes(found.metric) });
    const part = arms.some((arm) => arm.runs.some((run) => run.validation.length)) ? "validation" : "training";
    const thinned = found.every > 1 ? ` Of very many epochs every ${number(found.every)}th is drawn.` : "";
    byId("curves-words").textContent = `${found.metric} on the ${part} rows: mean over the seeds that have succeeded, and one deviation around it.${thinned}`;
  }

  function offer() {
    if (chooser.options.length === found.metrics.length) return;
    fill(chooser, found.metrics.map((name) => el("option", { value: name }, name)));
    if (found.metric) chooser.value = found.metric;
  }

  async function read() {
    const metric = chooser.value;
    const answer = await get(`${address}/curves?metric=${encodeURIComponent(metric || usual)}`);
    if (chooser.value !== metric) return; // another one was chosen meanwhile
    found = answer;
    offer();
    draw();
  }

  chooser.addEventListener("change", () => read().catch(showProblem));
  for (const control of controls) control.addEventListener("change", draw);
  return { read };
}
