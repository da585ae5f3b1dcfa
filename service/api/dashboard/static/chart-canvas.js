// What all charts share: a drawing that follows its host's width, axes, and what to keep of more points than can be seen.
import { el, fill } from "./dom.js";

const d3 = globalThis.d3; // a classic script, which the page loads before its modules
export const MARGIN = { top: 12, right: 14, bottom: 36, left: 54 };
export const SERIES = 8;

/** The class that gives a series its colour; after eight they come again, dashed. */
export const colourOf = (place) => `series-${(place % SERIES) + 1}`;

/** The class that gives a layer its shade, from the first (blue) to the last (orange). */
export const shadeOf = (layer, layers) => `shade-${layers < 2 ? 0 : Math.round(((layer - 1) / (layers - 1)) * 11)}`;

/** At most so many (2 or more) of the places from 0 to `count` - 1, evenly spread, the first and the last among them. */
export function evenly(count, most) {
  if (count <= most) return d3.range(count);
  return [...new Set(d3.range(most).map((step) => Math.round((step * (count - 1)) / (most - 1))))];
}

/** Put as many elements into a group as there are data. Of this D3 (5.7) selections have no `join`. */
export function join(group, tag, data) {
  const found = group.selectAll(tag).data(data);
  found.exit().remove();
  return found.enter().append(tag).merge(found);
}

/** A host that draws again when its width or its data change, once a frame at most, and only where it can be seen. */
export function canvas(host, { label, height }, draw) {
  host.classList.add("chart");
  const svg = d3.select(host).append("svg").attr("role", "img").attr("aria-label", label).attr("height", height);
  let data = null;
  let asked = false;
  let width = host.clientWidth;
  const paint = () => {
    asked = false;
    if (!data || !host.isConnected || width < 60) return;
    svg.attr("viewBox", `0 0 ${width} ${height}`);
    draw(data, width, height);
  };
  const ask = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(paint);
  };
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now === width && svg.attr("viewBox")) return;
    width = now;
    ask();
  }).observe(host);
  return {
    svg,
    update(next) {
      data = next;
      ask();
    },
  };
}

/**
 * What to draw of a line with more points than can be seen, which are in order: of every stretch the mean, and as a band
 * the lowest and the highest, so that no peak is lost. (A line up and down through all of them costs the browser more
 * than a frame.)
 */
export function condensed(points, stretches) {
  const middle = [];
  const band = [];
  for (let stretch = 0; stretch < stretches; stretch += 1) {
    const start = Math.floor((stretch * points.length) / stretches);
    const end = Math.floor(((stretch + 1) * points.length) / stretches);
    let [low, high, sum] = [Infinity, -Infinity, 0];
    for (let place = start; place < end; place += 1) {
      const value = points[place][1];
      if (value < low) low = value;
      if (value > high) high = value;
      sum += value;
    }
    const x = (points[start][0] + points[end - 1][0]) / 2;
    middle.push([x, sum / (end - start)]);
    band.push([x, low, high]);
  }
  return { middle: [points[0], ...middle, points[points.length - 1]], band };
}

/** The least and the greatest of some numbers, a little apart where they are the same. */
export function span(values, isLog) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value) || (isLog && value <= 0)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return isLog ? [0.1, 1] : [0, 1];
  if (isLog) {
    const room = Math.max(Math.log10(high / low) * 0.05, low === high ? 0.3 : 0.02);
    return [low / 10 ** room, high * 10 ** room];
  }
  const room = (high - low) * 0.05 || Math.abs(low) * 0.5 || 0.5;
  return [low - room, high + room];
}

const plain = d3.format("~g");

/** A number beside an axis. */
export function tick(value) {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? d3.format(".0e")(value) : plain(+value.toPrecision(6));
}

/** What to write along a logarithmic axis: powers of ten, and 2 and 5 of them where there are few. */
export function decades([low, high]) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  if (last - first >= 2) {
    const every = Math.ceil((last - first) / 6);
    return d3.range(first, last + 1, every).map((exponent) => 10 ** exponent);
  }
  const all = d3.range(first - 1, last + 2).flatMap((exponent) => [1, 2, 5].map((step) => step * 10 ** exponent));
  const inside = all.filter((value) => value >= low && value <= high);
  return inside.length > 1 ? inside : d3.ticks(low, high, 4);
}

/** Draw an axis in the fonts of the page. */
export function axis(group, made, move) {
  group.attr("class", "axis").attr("transform", move).call(made.tickSizeOuter(0)).attr("font-family", null).attr("font-size", null);
}

/** The names of lines, with a key in their colours, and a place for a value behind each. */
export function legend(host, series) {
  const signature = series.map((one) => `${one.name}\u0000${one.colour}\u0000${one.dashed}`).join("\u0001");
  if (host.dataset.signature === signature) return;
  host.dataset.signature = signature;
  const key = (one) => el("span", { class: `key ${one.colour}${one.dashed ? " dashed" : ""}` });
  fill(host, series.map((one) => el("li", {}, key(one), `${one.name} `, el("span", { class: "value" }))));
}
