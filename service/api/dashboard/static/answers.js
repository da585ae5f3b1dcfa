// What a model said: the answer, how sure it is, and what each column had to do with it.
import { el, fill, number } from "./dom.js";

const MOST_CLASSES = 10;
const MOST_COLUMNS = 15;
const SVG = "http://www.w3.org/2000/svg";
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });

/** A number of a regression, or a class, as people read it. */
export const said = (value) => (typeof value === "number" ? precise.format(value) : String(value));

/** Show an answer to one row. */
export function showAnswer(host, answer, target, truth) {
  const [prediction] = answer.predictions;
  const known = truth === undefined || truth === null ? null : el("p", { class: "muted small-text" }, "The table says ", el("bdi", {}, said(truth)), " of this row.");
  fill(
    host,
    el("p", { class: "answer" }, el("span", { class: "muted" }, el("bdi", {}, target), " "), el("strong", {}, el("bdi", {}, said(prediction)))),
    known,
    answer.probabilities ? probabilities(answer.classes, answer.probabilities[0]) : null,
    (answer.warnings ?? []).map((warning) => el("p", { class: "banner warn" }, el("bdi", {}, warning))),
    el("p", { class: "muted small-text" }, `Version ${answer.version} answered.`),
  );
}

function probabilities(classes, shares) {
  const order = classes.map((_, place) => place);
  if (classes.length > MOST_CLASSES) order.sort((a, b) => shares[b] - shares[a]);
  const rows = order.slice(0, MOST_CLASSES).flatMap((place) => {
    const label = String(classes[place]);
    const text = percent(shares[place]);
    return [el("bdi", { class: "label" }, label), el("meter", { min: 0, max: 1, value: shares[place], "aria-label": `Probability of ${label}` }, text), el("span", { class: "number" }, text)];
  });
  const rest = classes.length - MOST_CLASSES;
  return [el("div", { class: "bars" }, rows), rest > 0 ? el("p", { class: "muted small-text" }, `And ${rest} less likely ones.`) : null];
}

/** A share in percent, with a digit behind the point where it lies near an end; what is not all is never called all. */
function percent(share) {
  if (share > 0.9995 && share < 1) return "over 99.9 %";
  if (share < 0.0005 && share > 0) return "under 0.1 %";
  return `${(100 * share).toFixed(share === 0 || share === 1 || (share >= 0.0995 && share < 0.985) ? 0 : 1)} %`;
}

/** Show how the answers of thinned networks spread. */
export function showUncertainty(host, { classes, uncertainty }) {
  const { samples, mean, standard_deviation: deviation, predictive_entropy: entropy, mutual_information: own } = uncertainty;
  const heading = el("h3", {}, "How sure is it?");
  if (!classes) {
    const text = [el("strong", {}, said(mean[0])), " ± ", el("strong", {}, number(deviation[0])), `: mean and standard deviation of ${samples} randomly thinned networks.`];
    fill(host, heading, el("p", {}, text), el("p", { class: "muted small-text" }, "This is what the network does not know. It is no interval around the truth, which scatters by itself."));
    return;
  }
  const order = classes.map((_, place) => place).sort((a, b) => mean[0][b] - mean[0][a]).slice(0, MOST_CLASSES);
  const rows = order.flatMap((place) => {
    const label = String(classes[place]);
    const text = `${percent(mean[0][place])} ± ${percent(deviation[0][place])}`;
    return [el("bdi", { class: "label" }, label), el("meter", { min: 0, max: 1, value: mean[0][place], "aria-label": `Mean probability of ${label}` }, text), el("span", { class: "number" }, text)];
  });
  fill(
    host,
    heading,
    el("p", {}, `Mean and standard deviation of ${samples} randomly thinned networks:`),
    el("div", { class: "bars" }, rows),
    el("p", { class: "muted small-text" }, `Uncertainty about the class: ${number(entropy[0])} nats of at most ${number(Math.log(classes.length))}. `, `${number(own[0])} of it is the network's own, which more data could remove; the rest is classes that overlap.`),
  );
}

/** Show what each column contributed. */
export function showExplanation(host, { classes, explanations }) {
  const [contributions] = explanations.contributions;
  const all = Object.entries(contributions).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a));
  const shown = all.slice(0, MOST_COLUMNS);
  const rest = all.slice(MOST_COLUMNS);
  if (rest.length) shown.push([`${rest.length} other columns`, rest.reduce((sum, [, value]) => sum + value, 0)]);
  const most = Math.max(...shown.map(([, value]) => Math.abs(value)), Number.MIN_VALUE);
  const what = classes ? ["the probability of ", el("bdi", {}, String(explanations.classes[0]))] : "the answer";
  const rows = shown.flatMap(([name, value]) => [el("bdi", { class: "label" }, name), signedBar(value / most), el("span", { class: "number" }, `${value > 0 ? "+" : ""}${number(value)}`)]);
  fill(
    host,
    el("h3", {}, "Why?"),
    el("p", {}, "An average row gets ", el("strong", {}, number(explanations.baseline[0])), "; this one ", el("strong", {}, number(explanations.answers[0])), ". What each column adds to ", what, ":"),
    el("div", { class: "bars" }, rows),
    el("p", { class: "muted small-text" }, `By integrated gradients; ${number(explanations.gap[0])} is left over. It says what the network does, not what would happen if the value changed.`),
  );
}

/** A bar from the middle to the left or to the right; the number beside it says it to those who do not see it. */
function signedBar(share) {
  const svg = document.createElementNS(SVG, "svg");
  const bar = document.createElementNS(SVG, "rect");
  const axis = document.createElementNS(SVG, "line");
  const width = Math.abs(share) * 50;
  set(svg, { class: "signed", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  set(bar, { class: share < 0 ? "less" : "more", x: share < 0 ? 50 - width : 50, y: 1, width, height: 8 });
  set(axis, { class: "zero", x1: 50, x2: 50, y1: 0, y2: 10 });
  svg.append(bar, axis);
  return svg;
}

const set = (element, attributes) => Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
