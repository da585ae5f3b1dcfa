// The layers of a job's network after its epochs: what was seen, which layer and which epoch are chosen, which tab is open.
import { get } from "./api.js";
import { byId, number } from "./dom.js";
import { distributionPanel } from "./job-distributions.js";
import { epochPanel, gradientPanel, layerPanel } from "./job-layer-charts.js";
import { wireTabs } from "./tabs.js";

/** The card; `address` is where its numbers are read, `bounds` where the theorems hold a layer. */
export function layerView({ address, job, bounds }) {
  const layerSlider = byId("layer");
  const lookSlider = byId("look");
  const state = { looks: [], layers: 0, layer: 0, place: 0, bounds, isSelu: job.spec.network.activation === "selu" };
  let isLatest = true;
  const pick = { layer: chooseLayer, epoch: chooseEpoch };
  const panels = {};
  const make = {
    epochs: (host) => epochPanel(host, pick),
    layers: (host) => layerPanel(host, pick),
    gradients: (host) => gradientPanel(host, pick),
    weights: (host) => distributionPanel(host, { address, kind: "weights", pick }),
    activations: (host) => distributionPanel(host, { address, kind: "activations", pick }),
  };
  let open = "epochs";

  function draw() {
    if (!state.looks.length) return;
    panels[open] ??= make[open](byId(`panel-${open}`));
    panels[open].update(state);
    sayWords();
  }

  function sayWords() {
    const look = state.looks[state.place];
    const at = (name) => look[name]?.[state.layer - 1] ?? null;
    const epoch = look.epoch === 0 ? "0, untrained" : number(look.epoch);
    const latest = isLatest && state.looks.length > 1 ? ", the latest" : "";
    byId("layer-said").textContent = `${state.layer} of ${state.layers}`;
    byId("look-said").textContent = epoch + latest;
    layerSlider.setAttribute("aria-valuetext", `layer ${state.layer} of ${state.layers}`);
    lookSlider.setAttribute("aria-valuetext", `epoch ${epoch}`);
    const parts = [
      `mean ${number(at("mean"))}`,
      `variance ${number(at("variance"))} (${number(at("predicted_variance"))} by the moment map)`,
      `tau ${number(at("tau"))}`,
      `gradient ${number(at("gradient_norm"))}, ${number(at("gradient_ratio"))} of the last layer's`,
      `${number(Math.round((at("dead") ?? 0) * 1000) / 10)} % of ${number(at("units"))} units dead`,
    ];
    byId("layer-words").textContent = `Layer ${state.layer} after epoch ${epoch}: ${parts.join(" · ")}`;
  }

  function take(looks) {
    state.looks = looks;
    if (!looks.length) return;
    byId("layers").hidden = false;
    byId("layers-empty").hidden = true;
    state.layers = looks[0].mean.length;
    layerSlider.max = state.layers;
    if (!state.layer) {
      state.layer = Math.min(job.verdict?.layer ?? state.layers, state.layers);
      if (looks.length === 1 && job.finished_at) openTab("tab-layers"); // there are no lines over one epoch
    }
    layerSlider.value = state.layer;
    lookSlider.max = looks.length - 1;
    state.place = isLatest ? looks.length - 1 : Math.min(state.place, looks.length - 1);
    lookSlider.value = state.place;
    draw();
  }

  function chooseLayer(layer) {
    state.layer = Math.max(1, Math.min(state.layers, Math.round(layer)));
    layerSlider.value = state.layer;
    draw();
  }

  function choosePlace(place) {
    state.place = place;
    isLatest = place === state.looks.length - 1;
    lookSlider.value = place;
    draw();
  }

  function chooseEpoch(epoch) {
    const distance = (look) => Math.abs(look.epoch - epoch);
    choosePlace(state.looks.reduce((best, look, place) => (distance(look) < distance(state.looks[best]) ? place : best), 0));
  }

  layerSlider.addEventListener("input", () => chooseLayer(Number(layerSlider.value)));
  lookSlider.addEventListener("input", () => choosePlace(Number(lookSlider.value)));
  const openTab = wireTabs(byId("layers").querySelector('[role="tablist"]'), (panel) => {
    open = panel.id.replace("panel-", "");
    draw();
  });

  let readings = 0;

  /** Read the looks after an epoch; null where something has been read or forgotten since that was asked. */
  async function read(after) {
    const mine = (readings += 1);
    const { items } = await get(`${address}/layers?after=${after}`);
    return mine === readings ? items : null;
  }
  const forget = () => Object.values(panels).forEach((panel) => panel.forget?.());

  return {
    /** Read everything anew. */
    async again() {
      const looks = await read(-1);
      if (!looks) return;
      forget();
      take(looks);
    },
    /** Read what is new. */
    async more() {
      const last = state.looks[state.looks.length - 1]?.epoch ?? -1;
      const looks = await read(last);
      if (looks?.length) take([...state.looks, ...looks]);
    },
    /** What was seen of later epochs no longer counts, nor what is being read; the panels may know more than there is here. */
    forgetAfter(epoch) {
      readings += 1;
      forget();
      take(state.looks.filter((look) => look.epoch <= epoch));
    },
  };
}
