// How good each arm is by its number of hidden layers, and from which depth on theory gives it up.
import { colourOf, lineChart } from "./charts.js";
import { byId, el, fill } from "./dom.js";

export function depthChart() {
  let chart = null;
  return {
    update(arms, metric) {
      chart ??= lineChart(byId("depth-chart"), { label: "Score by number of hidden layers", x: "hidden layers", y: metric, height: 280 });
      const depths = [...new Set(arms.flatMap((arm) => Object.keys(arm.mean).map(Number)))].sort((a, b) => a - b);
      const series = arms.flatMap((arm, place) => {
        const colour = colourOf(place);
        const dots = depths.flatMap((depth) => Object.values(arm.by_seed[depth] ?? {}).map((value) => [depth, value]));
        const line = depths.map((depth) => [depth, arm.mean[depth] ?? null]);
        return [
          { name: arm.arm, colour, points: line },
          { name: `${arm.arm}, seed by seed`, colour, points: dots, dots: "only", quiet: true },
        ];
      });
      const marks = arms.flatMap((arm, place) => (arm.horizon === null ? [] : [{ x: Math.max(arm.horizon, 1), name: `horizon of ${arm.arm}`, colour: colourOf(place) }]));
      chart.update({ series, marks, xTicks: depths });
      fill(byId("depth-words"), arms.map((arm) => el("li", {}, el("strong", {}, `${arm.arm}: `), `horizon ${arm.horizon === null ? "over 256 layers" : `${arm.horizon} ${arm.horizon === 1 ? "layer" : "layers"}`}; ${arm.detail}`)));
    },
  };
}
