// Sets the colours before the page is painted: as the system has them, or as the reader chose. A classic script for which
// painting waits, but reading the page does not; a module would run after the first paint.
(() => {
  const names = { auto: "Auto", light: "Light", dark: "Dark" };
  const spoken = { auto: "as the system has them", light: "light", dark: "dark" };
  const read = () => {
    try {
      const kept = localStorage.getItem("theme");
      return kept in names ? kept : "auto";
    } catch {
      return "auto"; // storage may be shut
    }
  };
  const apply = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };
  apply(read());
  const begin = () => {
    const button = document.getElementById("theme");
    const show = (theme) => {
      button.textContent = names[theme];
      button.setAttribute("aria-label", `Colours: ${spoken[theme]}`);
    };
    show(read());
    button.addEventListener("click", () => {
      const order = Object.keys(names);
      const next = order[(order.indexOf(read()) + 1) % order.length];
      try {
        localStorage.setItem("theme", next);
      } catch {
        // Then it holds for this page only.
      }
      apply(next);
      show(next);
    });
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
