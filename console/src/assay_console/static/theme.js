// Light, dark or as the system has it; before the first paint, so that nothing flashes.
(function () {
  "use strict";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  function wanted() {
    try { return localStorage.getItem("assay-theme") || "system"; } catch { return "system"; }
  }
  function apply() {
    const theme = wanted() === "system" ? (dark.matches ? "dark" : "light") : wanted();
    document.documentElement.setAttribute("data-bs-theme", theme);
    document.dispatchEvent(new CustomEvent("assay:theme", { detail: theme }));
  }
  apply();
  dark.addEventListener("change", apply);
  window.assayTheme = {
    wanted,
    next() {
      const order = ["system", "light", "dark"];
      const following = order[(order.indexOf(wanted()) + 1) % order.length];
      try { localStorage.setItem("assay-theme", following); } catch { /* it lasts for this page only */ }
      apply();
      return following;
    },
  };
})();
