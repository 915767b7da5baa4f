// The wizard's third step: faults that the plan's check names are marked at their fields while one types.
(function () {
  "use strict";

  function mark() {
    const form = document.getElementById("wizard-form");
    const plan = document.getElementById("plan");
    if (!form || !plan) return;
    const wrong = new Set(Array.from(plan.querySelectorAll("[data-fault]"), (fault) => fault.dataset.fault));
    for (const field of form.elements) {
      if (!field.name) continue;
      const isWrong = wrong.has(field.name);
      if (isWrong || field.dataset.marked) {
        field.classList.toggle("is-invalid", isWrong);
        if (isWrong) field.setAttribute("aria-invalid", "true"); else field.removeAttribute("aria-invalid");
        field.dataset.marked = "yes";
      }
    }
  }

  document.addEventListener("htmx:afterSwap", (event) => { if (event.target.id === "plan") mark(); });
})();
