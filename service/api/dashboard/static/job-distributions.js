// The weights or the activations of the chosen layer, distribution by distribution over the epochs; read while it is open.
import { get } from "./api.js";
import { ridgeChart } from "./charts.js";
import { el, fill } from "./dom.js";
import { describe } from "./ridges.js";

const NAMES = { weights: "weights", activations: "activations" };

export function distributionPanel(panel, { address, kind, pick }) {
  const host = el("div");
  const words = el("p", { class: "small-text" });
  fill(panel, host, words, el("p", { class: "muted small-text" }, "The untrained network at the back, the latest in front; all epochs in the same bins. The chosen epoch stands out."));
  const chart = ridgeChart(host, { label: `Distribution of the ${NAMES[kind]} over the epochs`, x: kind === "weights" ? "weight" : "activation", height: 380, onPick: (place) => pick.epoch(rows[place].epoch) });
  let rows = [];
  let layer = 0;
  let running = null;
  let state = null;

  function draw() {
    if (!rows.length) return;
    const epoch = state.looks[state.place].epoch;
    const at = rows.findIndex((row) => row.epoch === epoch);
    const chosen = at < 0 ? rows.length - 1 : at;
    chart.update({ rows: rows.map((row) => ({ ...row, name: `${row.epoch}` })), chosen });
    words.textContent = `Layer ${layer}, epoch ${rows[chosen].epoch}: ${describe(rows[chosen])}.`;
  }

  // One reading at a time; what was chosen meanwhile is read afterwards.
  async function read() {
    if (running) return;
    running = state.layer;
    try {
      const last = layer === state.layer ? (rows[rows.length - 1]?.epoch ?? -1) : -1;
      const found = (await get(`${address}/distributions/${kind}/${running}?after=${last}`)).items;
      rows = last < 0 ? found : [...rows.filter((row) => row.epoch <= last), ...found];
      layer = running;
    } finally {
      running = null;
    }
    draw();
    if (isBehind()) read().catch(() => {});
  }

  const isBehind = () => layer !== state.layer;

  return {
    update(next) {
      state = next;
      const newest = state.looks[state.looks.length - 1].epoch;
      if (isBehind() || (rows[rows.length - 1]?.epoch ?? -1) < newest) read().catch(() => {});
      else draw();
    },
    forget() {
      rows = [];
      layer = 0;
    },
  };
}
