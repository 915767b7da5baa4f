// What every screen needs. Pages hold no scripts of their own: what differs is in data attributes.
(function () {
  "use strict";

  // Points in time in the reader's own zone; the whole in the title.
  function localTimes(root) {
    for (const element of root.querySelectorAll("time[datetime]:not([data-local])")) {
      const moment = new Date(element.getAttribute("datetime"));
      if (Number.isNaN(moment.getTime())) continue;
      element.title = element.textContent;
      element.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
      element.dataset.local = "";
    }
  }

  const themeNames = { system: "System", light: "Light", dark: "Dark" };
  function showTheme() {
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      const name = themeNames[window.assayTheme.wanted()];
      button.querySelector("[data-theme-name]").textContent = name;
    }
  }

  // What scrolls sideways can be scrolled by keyboard, and only that is a stop on the way through the page.
  function markScrolling() {
    for (const element of document.querySelectorAll(".table-wrap, pre.text")) {
      widths.observe(element);
      const scrolls = element.scrollWidth > element.clientWidth || element.scrollHeight > element.clientHeight;
      if (scrolls) element.tabIndex = 0;
      else element.removeAttribute("tabindex");
    }
  }
  const widths = new ResizeObserver(markScrolling);

  // Copies, and says so where the button stands.
  function copy(button) {
    navigator.clipboard.writeText(button.dataset.copy).then(() => {
      if (button.dataset.copied !== undefined) return;
      const said = document.createElement("span");
      said.className = "copied";
      said.setAttribute("role", "status");
      said.textContent = "Copied";
      button.dataset.copied = "";
      button.append(said);
      setTimeout(() => { said.remove(); delete button.dataset.copied; }, 2000);
    });
  }

  function prepare(root) {
    localTimes(root);
    markScrolling();
    const refusal = root.querySelector("[data-focus]");
    if (refusal) refusal.focus();
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-theme-switch]")) { window.assayTheme.next(); showTheme(); }
    const copier = event.target.closest("[data-copy]");
    if (copier) copy(copier);
  });
  // Asks before what cannot be undone: <form data-confirm="Delete ...?">.
  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });
  document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));
  document.addEventListener("DOMContentLoaded", () => { showTheme(); prepare(document); });
})();
