// The list of evaluations: Compare needs two runs or more, and says so.
(function () {
  "use strict";
  function prepare() {
    const form = document.querySelector("[data-compare]");
    if (!form) return;
    const button = form.querySelector("button[type=submit]");
    const help = form.querySelector("#compare-help");
    function show() {
      const chosen = form.querySelectorAll("input[name=run]:checked").length;
      button.disabled = chosen < 2;
      button.classList.toggle("btn-primary", chosen >= 2);
      button.classList.toggle("btn-outline-secondary", chosen < 2);
      help.textContent = chosen === 0
        ? "Select two or more runs below to compare them."
        : chosen === 1 ? "Select one more run." : `${chosen} runs selected.`;
    }
    form.addEventListener("change", show);
    // The browser brings the checks back when the reader goes back.
    window.addEventListener("pageshow", show);
    show();
  }
  document.addEventListener("DOMContentLoaded", prepare);
})();
