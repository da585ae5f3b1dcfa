// Lines over an axis, in the colours of the page: what the pointer or the arrow keys are at can be read off.
import { MARGIN, SERIES, axis, canvas, colourOf, condensed, decades, join, legend, span, tick } from "./chart-canvas.js";
import { el, fill, number } from "./dom.js";

export { colourOf, shadeOf } from "./chart-canvas.js";
export { ridgeChart } from "./ridges.js";

const d3 = globalThis.d3; // a classic script, which the page loads before its modules
const SPIKE = 3; // so many times as large as all but the largest two in a hundred ...
const STRETCH = 3; // pixels of which a line shows no more than its mean, its lowest and its highest
const CUT = 1.25; // ... then the axis ends at so many times of what those are
let made = 0;

/**
 * Lines over a common axis. Options: `label` (said by screen readers), `x`, `y` (the axes' names), `log` (y), `wholeX`
 * (ticks at whole numbers), `height`, `legend` (without one, the nearest line's value stands at the pointer), `onPick`
 * (called with the x that was clicked, or with Enter, and with the nearest series).
 *
 * Data: `series` ([{name, points: [[x, y]] in order, band: [[x, low, high]], colour, dashed, strong, thin, dots, quiet}];
 * a quiet one is not in the legend), and where they are wanted `box` ([low, high] of y, the domain of a theorem), `levels` ([{y, name}]), `marks` ([{x, name}]),
 * `xDomain`, `xTicks` (then x is logarithmic), `yIncludes`, `cuts` (whether spikes may be cut off), and `y`, `log`
 * in place of the options.
 */
export function lineChart(host, options) {
  const { label, x: xName, wholeX = true, height = 260, onPick } = options;
  const drawn = el("div");
  const keys = el("ul", { class: "legend", hidden: options.legend === false });
  const said = el("p", { class: "visually-hidden", role: "status" });
  fill(host, drawn, keys, said);
  let data = null;
  let width = 0;
  let at = null; // the x that is read off ...
  let pointer = null; // ... and where the pointer is above it
  let steps = null;
  const scales = {};
  const { svg, update } = canvas(drawn, { label, height }, draw);
  svg.attr("tabindex", 0).attr("focusable", "true").classed("picks", Boolean(onPick));
  const clip = `clip-${(made += 1)}`;
  const frame = svg.append("clipPath").attr("id", clip).append("rect");
  const layers = {};
  for (const name of ["rows", "across", "up", "under", "lines", "over", "names"]) {
    layers[name] = svg.append("g");
    if (["under", "lines"].includes(name)) layers[name].attr("clip-path", `url(#${clip})`);
  }
  const cursor = layers.over.append("line").attr("class", "cursor").attr("visibility", "hidden");
  const where = layers.over.append("text").attr("class", "where").attr("y", MARGIN.top - 2);

  function draw(next, nextWidth) {
    width = nextWidth;
    const log = next.log ?? options.log ?? false;
    const series = next.series.map((one, place) => ({
      ...one,
      points: one.points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y) && (!log || y > 0)),
      colour: one.colour ?? colourOf(place),
      dashed: one.dashed ?? place >= SERIES,
    }));
    const most = width / STRETCH;
    for (const one of series) {
      const dense = one.points.length > 2 * most && one.dots !== "only" ? condensed(one.points, Math.floor(most)) : null;
      one.drawn = dense?.middle ?? one.points;
      one.haze = dense?.band ?? [];
    }
    data = { ...next, series, log, y: next.y ?? options.y };
    steps = null;
    const cut = scale();
    axes(cut);
    under();
    lines();
    legend(keys, series.filter((one) => !one.quiet));
    place();
  }

  function scale() {
    const ys = [...(data.yIncludes ?? []), ...(data.box ?? [])];
    const xs = [];
    for (const one of data.series) {
      for (const [x, y] of one.points) {
        xs.push(x);
        ys.push(y);
      }
      for (const [, low, high] of one.band ?? []) ys.push(low, high);
    }
    const across = data.xDomain ?? (xs.length ? d3.extent(xs) : [0, 1]);
    const margin = across[0] === across[1] ? 0.5 : 0;
    scales.x = data.xTicks ? d3.scaleLog().domain(span([...xs, ...data.xTicks], true)) : d3.scaleLinear().domain([across[0] - margin, across[1] + margin]);
    scales.x.range([MARGIN.left, width - MARGIN.right]);
    const up = span(ys, data.log);
    const cut = data.cuts && !data.log ? spike(ys) : null;
    if (cut !== null) up[1] = cut;
    scales.y = (data.log ? d3.scaleLog() : d3.scaleLinear()).domain(up).range([height - MARGIN.bottom, MARGIN.top]);
    frame.attr("x", MARGIN.left).attr("width", width - MARGIN.left - MARGIN.right).attr("y", MARGIN.top - 2).attr("height", height - MARGIN.top - MARGIN.bottom + 4);
    return cut;
  }

  function axes(cut) {
    const [left, right] = scales.x.domain();
    const count = Math.max(2, Math.min(8, Math.floor(width / 80)));
    const whole = wholeX ? d3.ticks(left, right, Math.min(count, Math.max(1, right - left))).filter(Number.isInteger) : d3.ticks(left, right, count);
    const rows = data.log ? decades(scales.y.domain()) : scales.y.ticks(5);
    axis(layers.across, d3.axisBottom(scales.x).tickValues(data.xTicks ?? whole).tickFormat(d3.format("~g")), `translate(0,${height - MARGIN.bottom})`);
    axis(layers.up, d3.axisLeft(scales.y).tickValues(rows).tickFormat(tick), `translate(${MARGIN.left},0)`);
    join(layers.rows, "line", rows).attr("class", "grid-line").attr("x1", MARGIN.left).attr("x2", width - MARGIN.right).attr("y1", scales.y).attr("y2", scales.y);
    const up = cut === null ? data.y : `${data.y} (cut at ${tick(+cut.toPrecision(3))})`;
    const names = [[xName, (MARGIN.left + width - MARGIN.right) / 2, height - 4, 0], [up, 12, (MARGIN.top + height - MARGIN.bottom) / 2, -90]];
    join(layers.names, "text", names).attr("text-anchor", "middle").text((row) => row[0])
      .attr("transform", ([, x, y, turn]) => `translate(${x},${y}) rotate(${turn})`);
  }

  function under() {
    const box = data.box ? [data.box] : [];
    join(layers.under, "rect", box).attr("class", "box").attr("x", MARGIN.left).attr("width", width - MARGIN.left - MARGIN.right)
      .attr("y", ([, high]) => scales.y(high)).attr("height", ([low, high]) => Math.max(1, scales.y(low) - scales.y(high)));
    const bands = data.series.flatMap((one) => [one.band ?? [], one.haze].filter((rows) => rows.length).map((rows) => ({ rows, colour: one.colour })));
    const area = d3.area().x((row) => scales.x(row[0])).y0((row) => scales.y(row[1])).y1((row) => scales.y(row[2]));
    const inside = (row) => row.every(Number.isFinite) && (!data.log || row[1] > 0);
    join(layers.under, "path", bands).attr("class", (one) => `band ${one.colour}`).attr("d", (one) => area(one.rows.filter(inside)));
    const marks = (data.marks ?? []).map((mark) => ({ ...mark, x1: scales.x(mark.x), x2: scales.x(mark.x), y1: MARGIN.top, y2: height - MARGIN.bottom }));
    const [low, high] = scales.y.domain();
    const levels = (data.levels ?? []).filter((level) => level.y >= low && level.y <= high)
      .map((level) => ({ ...level, x1: MARGIN.left, x2: width - MARGIN.right, y1: scales.y(level.y), y2: scales.y(level.y) }));
    const rules = [...marks, ...levels];
    join(layers.under, "line", rules).attr("class", (rule) => `mark ${rule.colour ?? ""}`)
      .attr("x1", (rule) => rule.x1).attr("x2", (rule) => rule.x2).attr("y1", (rule) => rule.y1).attr("y2", (rule) => rule.y2);
    const far = (rule) => rule.x2 > width * 0.7;
    join(layers.under, "text", rules).text((rule) => rule.name)
      .attr("x", (rule) => (far(rule) ? rule.x2 - 5 : rule.x2 + 5)).attr("text-anchor", (rule) => (far(rule) ? "end" : "start"))
      .attr("y", (rule) => (rule.y1 === rule.y2 ? rule.y1 - 4 : MARGIN.top + 10));
  }

  function lines() {
    const line = d3.line().x((point) => scales.x(point[0])).y((point) => scales.y(point[1]));
    join(layers.lines, "path", data.series).attr("class", (one) => `line ${one.colour}${one.dashed ? " dashed" : ""}${one.strong ? " strong" : ""}${one.thin ? " thin" : ""}`)
      .attr("d", (one) => (one.dots === "only" ? null : line(one.drawn)));
    const dots = data.series.flatMap((one) => (one.dots || one.points.length === 1 ? one.points.map((point) => ({ point, one })) : []));
    join(layers.lines, "circle", dots).attr("r", (dot) => (dot.one.dots === "only" ? 2.5 : 3.5)).attr("class", (dot) => `dot ${dot.one.colour}`)
      .attr("cx", (dot) => scales.x(dot.point[0])).attr("cy", (dot) => scales.y(dot.point[1]));
  }

  /** The series that is drawn nearest to the pointer at the x that is read off; the strong one where there is no pointer. */
  function nearest() {
    let found = null;
    let least = Infinity;
    for (const one of data.series) {
      const point = valueOf(one);
      if (!point) continue;
      const far = pointer === null ? (one.strong ? 0 : 1) : Math.abs(scales.y(point[1]) - pointer);
      if (far < least) [found, least] = [one, far];
    }
    return found;
  }

  const valueOf = ({ points }) => {
    if (at === null) return points[points.length - 1];
    const place = d3.bisector((point) => point[0]).left(points, at);
    return points[place]?.[0] === at ? points[place] : undefined;
  };

  function place() {
    const values = keys.querySelectorAll(".value");
    data.series.filter((one) => !one.quiet).forEach((one, index) => {
      const text = number(valueOf(one)?.[1] ?? null);
      if (values[index] && values[index].textContent !== text) values[index].textContent = text;
    });
    cursor.attr("visibility", at === null ? "hidden" : "visible");
    if (at === null) return void where.text("");
    const one = options.legend === false ? nearest() : null;
    where.text(`${xName} ${number(at)}${one ? `, ${one.name}: ${number(valueOf(one)[1])}` : ""}`);
    const x = scales.x(at);
    cursor.attr("x1", x).attr("x2", x).attr("y1", MARGIN.top).attr("y2", height - MARGIN.bottom);
    where.attr("x", x).attr("text-anchor", x > width * 0.8 ? "end" : x < width * 0.2 ? "start" : "middle");
  }

  function all() {
    steps ??= [...new Set(data.series.flatMap((one) => one.points.map(([x]) => x)))].sort((a, b) => a - b);
    return steps;
  }

  function readAt(x, y = null) {
    if (!data) return;
    pointer = y;
    const right = x === null ? 0 : d3.bisectLeft(all(), x);
    const [before, after] = [all()[right - 1], all()[right]];
    at = x === null ? null : (after === undefined || (before !== undefined && x - before < after - x) ? before : after) ?? null;
    place();
  }

  function speak() {
    const words = data.series.filter((one) => !one.quiet).slice(0, 12).map((one) => [one.name, valueOf(one)]).filter(([, point]) => point && Number.isFinite(point[1]));
    said.textContent = at === null ? "" : `${xName} ${at}: ${words.map(([name, point]) => `${name} ${number(point[1])}`).join(", ")}`;
  }

  const pick = () => at !== null && onPick?.(at, nearest());
  svg.node().addEventListener("pointermove", (event) => {
    if (!data) return;
    const { left, top } = svg.node().getBoundingClientRect();
    readAt(scales.x.invert(event.clientX - left), event.clientY - top);
  });
  svg.node().addEventListener("pointerleave", () => readAt(null));
  svg.node().addEventListener("click", pick);
  svg.node().addEventListener("keydown", (event) => {
    if (!data || !["ArrowLeft", "ArrowRight", "Escape", "Enter"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "Enter") return void pick();
    if (event.key === "Escape" || !all().length) readAt(null);
    else {
      const index = at === null ? all().length - 1 : all().indexOf(at) + (event.key === "ArrowRight" ? 1 : -1);
      readAt(all()[Math.max(0, Math.min(all().length - 1, index))]);
    }
    speak();
  });

  return { update };
}

/** Where an axis is to end that one stumble would press all else flat on; null where there is none. */
function spike(values) {
  const every = Math.ceil(values.length / 1000);
  const some = values.filter((value, place) => place % every === 0 && Number.isFinite(value)).sort((a, b) => a - b);
  const usual = d3.quantile(some, 0.98);
  return usual > 0 && d3.max(values) > SPIKE * usual ? usual * CUT : null;
}
