// The form of a method: the list of tasks as a combobox, placeholders that can be put into the prompt, and which
// fields a preview found fault with.
(function () {
  "use strict";

  // The field shows the list while it has the focus; arrow keys choose, Enter takes, Escape closes.
  function combobox(root) {
    const input = root.querySelector("input");
    const list = root.querySelector(".task-options");
    const status = root.parentElement.querySelector("[data-task-count]");
    let wanted = false;
    let told = input.value;
    list.setAttribute("role", "listbox");
    input.setAttribute("role", "combobox");
    input.setAttribute("aria-autocomplete", "list");
    input.setAttribute("aria-haspopup", "listbox");
    input.setAttribute("aria-controls", list.id);

    const options = () => [...list.querySelectorAll("[role=option]")];
    const chosen = () => list.querySelector("[aria-selected=true]");

    function show(open) {
      const visible = open && list.childElementCount > 0;
      list.hidden = !visible;
      input.setAttribute("aria-expanded", String(visible));
      if (!visible) mark(null);
    }
    function mark(option) {
      const before = chosen();
      if (before) before.setAttribute("aria-selected", "false");
      if (option === null) { input.removeAttribute("aria-activedescendant"); return; }
      option.setAttribute("aria-selected", "true");
      option.scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", option.id);
    }
    function move(step) {
      const all = options();
      if (all.length === 0) return;
      const at = all.indexOf(chosen());
      mark(all[at < 0 ? (step > 0 ? 0 : all.length - 1) : (at + step + all.length) % all.length]);
    }
    function take(option) {
      if (option.getAttribute("aria-disabled") === "true") return;
      input.value = option.dataset.value;
      wanted = false;
      show(false);
      input.dispatchEvent(new Event("input", { bubbles: true }));
      input.dispatchEvent(new Event("change", { bubbles: true }));
    }

    // Taking an option tells of the change at once; leaving the field must not tell of it again.
    root.addEventListener("change", (event) => {
      if (event.isTrusted && input.value === told) event.stopPropagation();
      told = input.value;
    }, true);
    show(false);
    input.addEventListener("focus", () => { wanted = true; });
    input.addEventListener("input", (event) => { if (event.isTrusted) wanted = true; });
    input.addEventListener("click", () => { wanted = true; show(true); });
    input.addEventListener("blur", () => { wanted = false; show(false); });
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        wanted = true;
        if (list.hidden) show(true);
        move(event.key === "ArrowDown" ? 1 : -1);
      } else if (event.key === "Enter" && !list.hidden && chosen()) {
        event.preventDefault();
        take(chosen());
      } else if (event.key === "Escape" && !list.hidden) {
        event.preventDefault();
        wanted = false;
        show(false);
      }
    });
    // Before the field loses the focus, which would close the list under the pointer.
    list.addEventListener("mousedown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) take(option);
    });
    list.addEventListener("htmx:afterSwap", () => {
      mark(null);
      show(wanted && document.activeElement === input);
      const count = options().length;
      status.textContent = wanted ? `${count} ${count === 1 ? "task" : "tasks"}` : "";
    });
  }

  function placeholders(line) {
    const field = document.getElementById(line.dataset.placeholders);
    for (const code of line.querySelectorAll("code")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "placeholder-insert";
      button.textContent = code.textContent;
      button.setAttribute("aria-label", `Insert ${code.textContent}`);
      button.addEventListener("click", () => {
        field.setRangeText(code.textContent, field.selectionStart, field.selectionEnd, "end");
        field.focus();
        field.dispatchEvent(new Event("input", { bubbles: true }));
      });
      code.replaceWith(button);
    }
  }

  // What the preview found wrong stands at the fields, as a refusal of the form does.
  function showFaults(faults) {
    for (const slot of document.querySelectorAll(".preview-fault")) {
      const message = faults[slot.dataset.key];
      slot.textContent = message ? `Preview: ${message}` : "";
      const field = document.getElementById(`field-${slot.dataset.key}`);
      if (!field || field.classList.contains("is-invalid")) continue;
      if (message) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    }
  }

  function prepare() {
    for (const root of document.querySelectorAll("[data-task-search]:not([data-ready])")) {
      root.dataset.ready = "";
      combobox(root);
    }
    for (const line of document.querySelectorAll("[data-placeholders]:not([data-ready])")) {
      line.dataset.ready = "";
      placeholders(line);
    }
  }

  document.addEventListener("DOMContentLoaded", prepare);
  document.addEventListener("htmx:afterSettle", (event) => {
    prepare();
    if (event.target.id !== "preview-result") return;
    const shown = event.target.querySelector("[data-status]");
    showFaults(JSON.parse((shown && shown.dataset.faults) || "{}"));
    const status = document.querySelector("[data-preview-status]");
    if (shown && status) status.textContent = shown.dataset.status;
  });
})();
