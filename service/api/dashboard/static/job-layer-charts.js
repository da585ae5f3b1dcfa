// Mean, variance, tau and gradients of the layers: by epoch with a line for each layer, and by layer after one epoch.
import { lineChart, shadeOf } from "./charts.js";
import { evenly } from "./chart-canvas.js";
import { el, fill } from "./dom.js";

const MOST_LINES = 24; // more layers are shown by some of them
const HEIGHT = 230;

function hosts(panel, count, ...captions) {
  const made = Array.from({ length: count }, () => el("div"));
  fill(panel, made, captions.map((caption) => el("p", { class: "muted small-text" }, caption)));
  return made;
}

/** Lines over the epochs: some layers in shades from the first to the last, the chosen one on top of them. */
function layerLines({ looks, layers, layer }, name) {
  const shown = evenly(layers, MOST_LINES).map((place) => place + 1).filter((one) => one !== layer);
  const line = (one, more) => ({
    name: `layer ${one}`,
    points: looks.map((look) => [look.epoch, look[name][one - 1]]),
    colour: shadeOf(one, layers),
    dashed: false,
    layer: one,
    ...more,
  });
  return [...shown.map((one) => line(one)), line(layer, { strong: true, colour: "chosen" })];
}

/** A line over the layers after the chosen epoch, one of the untrained network, and what the moment map gives. */
function profiles({ looks, place }, name, predicted) {
  const line = (look, of, more) => ({ points: look[of].map((value, index) => [index + 1, value]), ...more });
  const now = looks[place];
  const found = [];
  if (place > 0) found.push(line(looks[0], name, { name: `epoch ${looks[0].epoch}`, colour: "series-8", dashed: true }));
  if (predicted) found.push(line(now, predicted, { name: "by the moment map", colour: "series-3", dashed: true }));
  found.push(line(now, name, { name: `epoch ${now.epoch}`, colour: "series-1", strong: true }));
  return found;
}

const both = (pick) => (epoch, line) => {
  if (line) pick.layer(line.layer);
  pick.epoch(epoch);
};
const epochsOf = ({ looks }) => [looks[0].epoch, Math.max(looks[looks.length - 1].epoch, looks[0].epoch + 1)];
const chosenEpoch = ({ looks, place }) => [{ x: looks[place].epoch, name: "" }];
const chosenLayer = ({ layer }) => [{ x: layer, name: "" }];
const layersOf = ({ layers }) => [1, Math.max(2, layers)];
const dying = ({ isSelu, bounds }) =>
  isSelu ? [{ y: bounds.living_variance[0], name: "vanishing below" }, { y: bounds.living_variance[1], name: "exploding above" }] : [];
const SHADED = "Shaded: where Theorem 1 holds a layer of a SELU network, mean −0.1 to 0.1, variance 0.8 to 1.5.";

/** Which shade is which layer. */
const shades = () => el("p", { class: "small-text muted shades" }, "first layer", el("span", { class: "shade-bar", "aria-hidden": "true" }), "last layer; the strong line is the chosen one. A click chooses layer and epoch.");

export function epochPanel(panel, pick) {
  const [first, second] = hosts(panel, 2, SHADED);
  second.after(shades());
  const options = { x: "epoch", height: HEIGHT, legend: false, onPick: both(pick) };
  const mean = lineChart(first, { ...options, label: "Mean of the activations of each layer by epoch", y: "mean" });
  const variance = lineChart(second, { ...options, label: "Variance of the activations of each layer by epoch", y: "variance", log: true });
  return {
    update(state) {
      const { bounds } = state;
      const common = { marks: chosenEpoch(state), xDomain: epochsOf(state) };
      mean.update({ ...common, series: layerLines(state, "mean"), box: bounds.mean });
      variance.update({ ...common, series: layerLines(state, "variance"), box: bounds.variance, levels: dying(state) });
    },
  };
}

export function layerPanel(panel, pick) {
  const [first, second, third] = hosts(panel, 3, `${SHADED} Tau, the sum of a unit's squared weights, is to start between 0.95 and 1.1. A click chooses the layer.`);
  const options = { x: "layer", height: HEIGHT, onPick: pick.layer };
  const mean = lineChart(first, { ...options, label: "Mean of the activations by layer", y: "mean" });
  const variance = lineChart(second, { ...options, label: "Variance of the activations by layer", y: "variance", log: true });
  const tau = lineChart(third, { ...options, label: "Tau by layer", y: "tau" });
  return {
    update(state) {
      const { bounds } = state;
      const common = { marks: chosenLayer(state), xDomain: layersOf(state) };
      mean.update({ ...common, series: profiles(state, "mean", "predicted_mean"), box: bounds.mean });
      variance.update({ ...common, series: profiles(state, "variance", "predicted_variance"), box: bounds.variance, levels: dying(state) });
      tau.update({ ...common, series: profiles(state, "tau"), box: bounds.tau });
    },
  };
}

export function gradientPanel(panel, pick) {
  const [first, second, third] = hosts(
    panel,
    3,
    "The gradient by a layer's inputs, against that of the last hidden layer: below a thousandth it vanishes, above a thousand it explodes.",
    "The step is the last one of the epoch; from a ten-thousandth to a hundredth of the weights is usual.",
  );
  first.after(shades());
  const norm = lineChart(first, { label: "Norm of the gradient by the weights of each layer, by epoch", x: "epoch", y: "gradient norm", log: true, height: HEIGHT, legend: false, onPick: both(pick) });
  const options = { x: "layer", log: true, height: HEIGHT, onPick: pick.layer };
  const ratio = lineChart(second, { ...options, label: "Gradient of each layer against the last", y: "gradient, of the last's" });
  const step = lineChart(third, { ...options, label: "Step against weights, by layer", y: "step / weights" });
  return {
    update(state) {
      const [low, high] = state.bounds.living_gradient;
      const common = { marks: chosenLayer(state), xDomain: layersOf(state) };
      norm.update({ series: layerLines(state, "gradient_norm"), marks: chosenEpoch(state), xDomain: epochsOf(state) });
      const levels = [{ y: low, name: "vanishing below" }, { y: high, name: "exploding above" }];
      ratio.update({ ...common, series: profiles(state, "gradient_ratio"), levels });
      // The last step of an epoch is not always seen: then the latest one that was.
      const seen = state.looks.slice(0, state.place + 1).filter((look) => look.update_ratio.some((value) => value !== null));
      const last = seen.length ? seen[seen.length - 1] : state.looks[state.place];
      step.update({ ...common, series: profiles({ looks: [last], place: 0 }, "update_ratio") });
    },
  };
}
