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
  const chart = ridgeChart(host, { label: `Distribution of the ${NAMES[kind]} over the epochs`, x: kind === "weights" ? "weight" : "activation", height: 380, onPick: (place) => rows[place] && pick.epoch(rows[place].epoch) });
  let rows = [];
  let layer = 0;
  let until = -1; // the newest look that there was when the rows were asked for
  let forgotten = 0; // how often
  let isReading = false;
  let state = null;

  function draw() {
    if (!rows.length) return;
    const epoch = state.looks[state.place].epoch;
    const at = rows.findIndex((row) => row.epoch === epoch);
    const chosen = at < 0 ? rows.length - 1 : at;
    chart.update({ rows: rows.map((row) => ({ ...row, name: `${row.epoch}` })), chosen });
    words.textContent = `Layer ${layer}, epoch ${rows[chosen].epoch}: ${describe(rows[chosen])}.`;
  }

  const newest = (list) => list[list.length - 1]?.epoch ?? -1;

  /** Read what the panel lacks; what is forgotten meanwhile is not taken. */
  async function take() {
    const asked = { layer: state.layer, until: newest(state.looks), forgotten };
    const last = layer === asked.layer ? newest(rows) : -1;
    const { items } = await get(`${address}/distributions/${kind}/${asked.layer}?after=${last}`);
    if (asked.forgotten !== forgotten) return;
    rows = last < 0 ? items : [...rows, ...items];
    ({ layer, until } = asked);
  }

  // One reading at a time; what was chosen or came meanwhile is read afterwards.
  async function read() {
    if (isReading) return;
    isReading = true;
    try {
      await take();
    } finally {
      isReading = false;
    }
    draw();
    if (isBehind()) read().catch(() => {});
  }

  // A look without a distribution, as of a layer that is not finite, must not be asked for again and again.
  const isBehind = () => state.looks.length > 0 && (layer !== state.layer || until < newest(state.looks));

  return {
    update(next) {
      state = next;
      if (isBehind()) read().catch(() => {});
      else draw();
    },
    forget() {
      rows = [];
      layer = 0;
      until = -1;
      forgotten += 1;
    },
  };
}
