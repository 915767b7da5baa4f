// From a fault to its line in the editor: <a data-line="3">.
(function () {
  "use strict";
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-line]");
    const editor = document.getElementById("field-document");
    if (!link || !editor) return;
    event.preventDefault();
    const lines = editor.value.split("\n");
    const wanted = Math.min(Number(link.dataset.line), lines.length);
    const begin = lines.slice(0, wanted - 1).reduce((sum, line) => sum + line.length + 1, 0);
    editor.focus();
    editor.setSelectionRange(begin, begin + lines[wanted - 1].length);
    editor.scrollTop = editor.scrollHeight * ((wanted - 1) / lines.length) - editor.clientHeight / 3;
    editor.scrollLeft = 0;
  });
})();
