// Tabs: buttons of which one is chosen, by a click or the arrow keys, and the panel that it opens.
import { byId } from "./dom.js";

/** Make a tablist work; `onOpen` is called with the panel that has been opened. Returns what opens the tab of an id. */
export function wireTabs(list, onOpen = () => {}) {
  const tabs = [...list.querySelectorAll('[role="tab"]')];
  const choose = (chosen) => {
    for (const tab of tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
    onOpen(byId(chosen.getAttribute("aria-controls")));
  };
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      const chosen = tabs[(next + tabs.length) % tabs.length];
      choose(chosen);
      chosen.focus();
    });
  });
  return (id) => choose(byId(id));
}
