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

  // A form is sent once: until its answer comes, or the page is left by Escape, its buttons do nothing.
  function sent(form, button) {
    form.setAttribute("aria-busy", "true");
    const said = document.createElement("span");
    said.className = "visually-hidden";
    said.setAttribute("role", "status");
    said.dataset.sent = "";
    form.append(said);
    said.textContent = "Sent; waiting for the answer";
    if (button) button.setAttribute("aria-disabled", "true");
  }
  function released() {
    for (const form of document.querySelectorAll("form[aria-busy]")) form.removeAttribute("aria-busy");
    for (const said of document.querySelectorAll("[data-sent]")) said.remove();
    for (const button of document.querySelectorAll("button[aria-disabled]")) button.removeAttribute("aria-disabled");
  }

  // A part that could not be asked for says so where it stands, until something is answered again.
  function unanswered(event) {
    const { elt, xhr } = event.detail;
    if (document.querySelector("[data-unanswered]") || !elt.isConnected) return;
    const notice = document.createElement("div");
    notice.className = "alert alert-warning";
    notice.setAttribute("role", "alert");
    notice.dataset.unanswered = "";
    const title = document.createElement("strong");
    title.textContent = xhr && xhr.status ? `The console answered ${xhr.status}.` : "The console does not answer.";
    const again = document.createElement("a");
    again.href = window.location.href;
    again.textContent = "Load the page again";
    const goesOn = (elt.getAttribute("hx-trigger") || "").startsWith("every");
    const text = goesOn ? " What stands here may be old; it is asked for again and again. " : " This part is missing. ";
    notice.append(title, text, again);
    (elt.closest(".table-wrap") || elt).before(notice);
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
    if (question && !window.confirm(question)) { event.preventDefault(); return; }
    const form = event.target;
    if (form.getAttribute("method") !== "post" || event.defaultPrevented) return;
    if (form.getAttribute("aria-busy") === "true") { event.preventDefault(); return; }
    // After all others have seen it: some forms are sent by scripts, which tell of it themselves.
    setTimeout(() => { if (!event.defaultPrevented) sent(form, event.submitter); });
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") released(); });
  window.addEventListener("pageshow", released);
  document.addEventListener("htmx:beforeRequest", (event) => event.detail.target.setAttribute("aria-busy", "true"));
  document.addEventListener("htmx:afterRequest", (event) => event.detail.target.removeAttribute("aria-busy"));
  for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) document.addEventListener(name, unanswered);
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    if (event.detail.xhr.status < 400) for (const notice of document.querySelectorAll("[data-unanswered]")) notice.remove();
  });
  document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));
  document.addEventListener("DOMContentLoaded", () => { showTheme(); prepare(document); });
})();
