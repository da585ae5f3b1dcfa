// A probe: the untrained network on real rows, layer by layer, against what theory foresees.
import { ask } from "./api.js";
import { lineChart } from "./charts.js";
import { el, fill, number } from "./dom.js";

/** Probe the network of a spec, and show what was seen. */
export async function probe(host, spec) {
  fill(host, el("p", { class: "muted", role: "status" }, "Looking at the layers …"));
  let seen = null;
  try {
    seen = await ask("POST", "/probe", { json: spec });
  } catch (error) {
    fill(host);
    throw error;
  }
  const { verdict, prediction } = seen;
  const good = ["held", "stable"].includes(verdict.status);
  const chart = el("div");
  fill(
    host,
    el("p", { class: `banner ${good ? "pass" : "fail"}`, role: "status" }, verdict.detail[0].toUpperCase() + verdict.detail.slice(1)),
    chart,
    el("p", { class: "small-text" }, horizon(prediction)),
    el("p", { class: "small-text muted" }, `On ${number(seen.rows)} rows with ${number(seen.inputs)} inputs each, in ${number(seen.seconds)} s. The same network trains with other weights where you give another seed.`),
  );
  draw(chart, seen);
}

function horizon({ horizon: layers, detail }) {
  if (layers === null) return `Foreseen: ${detail}. The signal lives through 256 hidden layers and more.`;
  return `Foreseen: ${detail}. The signal lives for ${layers} hidden ${layers === 1 ? "layer" : "layers"}.`;
}

function draw(host, { layers }) {
  const points = (rows, name) => rows.map((row) => [row.layer, row[name]]);
  const series = [
    { name: "variance, seen", points: points(layers, "variance"), colour: "series-1" },
    { name: "variance, foreseen", points: points(layers, "predicted_variance"), colour: "series-1", dashed: true },
    { name: "mean, seen", points: points(layers, "mean"), colour: "series-2" },
    { name: "mean, foreseen", points: points(layers, "predicted_mean"), colour: "series-2", dashed: true },
  ];
  const chart = lineChart(host, { label: "Mean and variance of every layer, as seen and as foreseen", x: "hidden layer", y: "mean, variance", height: 220 });
  chart.update({ series, yIncludes: [0, 1] });
}
