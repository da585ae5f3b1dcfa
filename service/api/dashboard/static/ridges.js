// Distributions one behind the other, as they change over time: the oldest at the back, the newest in front.
import { MARGIN, axis, canvas, evenly, join, tick } from "./chart-canvas.js";
import { number } from "./dom.js";

const d3 = globalThis.d3; // a classic script, which the page loads before its modules
const MOST = 26; // ridges that can be told apart
const LEFT = 52;
const HEAD = 52; // room for the ridge at the back

/**
 * Data: `rows` ([{name, low, high, counts}], oldest first) and `chosen`, the place of the row that is drawn strongest.
 * Options: `label`, `x` (the axis' name), `height`, `onPick` (called with the place of the ridge that was clicked).
 */
export function ridgeChart(host, { label, x: xName, height = 320, onPick }) {
  const { svg, update } = canvas(host, { label, height }, draw);
  svg.classed("picks", Boolean(onPick));
  const layers = Object.fromEntries(["across", "ridges", "names"].map((name) => [name, svg.append("g")]));

  function draw({ rows, chosen = rows.length - 1 }, width) {
    const places = [...new Set([...evenly(rows.length, MOST), Math.min(chosen, rows.length - 1)])].filter((place) => place >= 0).sort((a, b) => a - b);
    const shown = places.map((place) => ({ ...rows[place], place }));
    const x = d3.scaleLinear().domain(rangeOf(shown)).range([LEFT, width - MARGIN.right]).clamp(true);
    const step = shown.length < 2 ? 0 : (height - MARGIN.bottom - HEAD) / (shown.length - 1);
    const base = (index) => (shown.length < 2 ? height - MARGIN.bottom : HEAD + index * step);
    const highest = d3.max(shown, (row) => d3.max(row.counts)) || 1;
    const rise = d3.scaleLinear().domain([0, highest]).range([0, shown.length < 2 ? height - MARGIN.bottom - 20 : Math.max(46, Math.min(90, step * 3))]);
    const area = (row, index) => d3.area().curve(d3.curveMonotoneX)
      .x((_, bin) => x(row.low + ((bin + 0.5) / row.counts.length) * (row.high - row.low)))
      .y0(base(index)).y1((count) => base(index) - rise(count))(row.counts);
    join(layers.ridges, "path", shown).attr("class", (row) => `ridge ${row.place === chosen ? "series-2 strong" : "series-1"}`).attr("d", area)
      .on("click", (row) => onPick?.(row.place));
    axis(layers.across, d3.axisBottom(x).ticks(Math.max(3, Math.floor(width / 90))).tickFormat(tick), `translate(0,${height - MARGIN.bottom + 3})`);
    const every = Math.ceil(shown.length / 9);
    const named = shown.map((row, index) => ({ text: row.name, x: LEFT - 6, y: base(index), anchor: "end", row, index }))
      .filter(({ row, index }) => row.place === chosen || (index % every === 0 && Math.abs(index - shown.findIndex((one) => one.place === chosen)) > 1));
    join(layers.names, "text", [...named, { text: xName, x: (LEFT + width) / 2, y: height - 3, anchor: "middle" }])
      .text((name) => name.text).attr("text-anchor", (name) => name.anchor).attr("x", (name) => name.x).attr("y", (name) => name.y);
  }

  return { update };
}

/** A distribution in words. */
export function describe({ low, high, counts }) {
  const width = (high - low) / counts.length;
  const total = d3.sum(counts);
  if (!total) return "nothing in it is finite";
  const middle = (bin) => low + (bin + 0.5) * width;
  const mean = d3.sum(counts, (count, bin) => count * middle(bin)) / total;
  const deviation = Math.sqrt(d3.sum(counts, (count, bin) => count * (middle(bin) - mean) ** 2) / total);
  const edge = (counts[0] + counts[counts.length - 1]) / total;
  const beyond = edge > 0.005 ? `, ${number(Math.round(edge * 1000) / 10)} % at the edges or beyond` : "";
  return `mean about ${number(+mean.toPrecision(2))}, deviation about ${number(+deviation.toPrecision(2))}${beyond}`;
}

/** The part of the bins in which anything lies, a little wider. */
function rangeOf(rows) {
  let low = Infinity;
  let high = -Infinity;
  for (const row of rows) {
    const width = (row.high - row.low) / row.counts.length;
    const first = row.counts.findIndex((count) => count > 0);
    if (first < 0) continue;
    let last = row.counts.length - 1;
    while (row.counts[last] === 0) last -= 1;
    low = Math.min(low, row.low + first * width);
    high = Math.max(high, row.low + (last + 1) * width);
  }
  if (low > high) return [0, 1];
  const margin = (high - low) * 0.04 || 0.5;
  return [low - margin, high + margin];
}
