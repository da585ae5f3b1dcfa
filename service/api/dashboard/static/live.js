// A stream of events that comes back by itself, and says in the page's head whether it is there.
import { byId } from "./dom.js";

const HIDDEN_MILLISECONDS = 10_000; // so long a page that nobody sees keeps its stream

/** Show whether what the page shows is live; null takes the words away. */
export function showLive(state) {
  const host = byId("live");
  host.hidden = state === null;
  host.classList.toggle("on", state === "live");
  host.textContent = { live: "live", lost: "connecting again", null: "" }[state] ?? "";
}

/**
 * Follow a stream: `handlers` by the event's name, each called with its data. Events with a number come once each, in
 * order; where `after` is given, the address is asked for those that follow the last one that came. `onBack` is called when the stream has come back after it was lost,
 * `onEnd` when the server says that nothing follows; `close` of what is returned ends it before.
 */
export function follow(address, handlers, { after = null, onBack = () => {}, onEnd = () => {} } = {}) {
  let last = after ?? 0;
  let source = null;
  let timer = null;
  let wasLost = false;
  let isOver = false;

  // A new EventSource cannot say what has come already, but its address can.
  const here = () => (after === null ? address : `${address}?after=${last}`);

  function open() {
    source = new EventSource(here());
    source.addEventListener("open", () => {
      showLive("live");
      if (wasLost) onBack();
      wasLost = false;
    });
    source.addEventListener("error", () => {
      // A browser gives up where it is answered with an error, as by a service that is starting or has ended the stream.
      const gaveUp = source.readyState === EventSource.CLOSED;
      wasLost = true;
      showLive("lost");
      if (gaveUp) check();
    });
    for (const [name, handler] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        // A stream that was opened anew may begin at its start.
        const number = Number(event.lastEventId);
        if (number && number <= last) return;
        last = number || last;
        handler(JSON.parse(event.data));
      });
    }
  }

  async function check() {
    const lost = source;
    try {
      const answer = await fetch(here(), { headers: { Accept: "text/event-stream", "Last-Event-ID": String(last) }, cache: "no-store" });
      await answer.body?.cancel();
      if (answer.status === 204 || answer.status === 404) {
        close();
        onEnd();
        return;
      }
    } catch {
      // It is not there yet.
    }
    if (!isOver && source === lost) timer = setTimeout(open, 1000);
  }

  // A browser has six connections for all pages of a service: one that nobody sees gives its own back.
  let leaving = null;
  function seen() {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(leave, HIDDEN_MILLISECONDS);
    else if (!source && !isOver) open();
  }
  function leave() {
    clearTimeout(timer);
    source?.close();
    source = null;
    wasLost = true;
  }

  function close() {
    isOver = true;
    clearTimeout(timer);
    clearTimeout(leaving);
    document.removeEventListener("visibilitychange", seen);
    source?.close();
    showLive(null);
  }

  // A page that is opened where nobody sees it, as in a tab in the background, waits for its stream until somebody does.
  seen();
  document.addEventListener("visibilitychange", seen);
  addEventListener("pagehide", leave);
  addEventListener("pageshow", ({ persisted }) => persisted && seen());
  return { close };
}
