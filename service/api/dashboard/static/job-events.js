// The log of a job, newest first, as it happens.
import { byId, el, number, timeOf } from "./dom.js";

const MOST_EPOCHS = 100; // kept in the page; the curves have them all

/** The log; `add` takes an event of the stream. */
export function eventLog() {
  const host = byId("log");
  const box = byId("log-epochs");
  const choose = () => host.classList.toggle("with-epochs", box.checked);
  box.addEventListener("change", choose);
  choose();
  return {
    add(event) {
      host.prepend(line(event));
      if (event.event !== "epoch") return;
      const epochs = host.querySelectorAll('[data-event="epoch"]');
      if (epochs.length > MOST_EPOCHS) epochs[epochs.length - 1].remove();
    },
  };
}

function line({ event, data, created_at: at }) {
  const words = Object.entries(data).map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "number" ? number(value) : value}`);
  return el("li", { dataset: { event } }, timeOf(at, { exact: true }), " ", el("strong", {}, event.replaceAll("_", " ")), " ", el("span", {}, words.join(", ")));
}
