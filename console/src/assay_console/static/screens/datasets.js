// Uploading a file with progress: the file itself is sent, piece by piece, and the answer says where to go.
(function () {
  "use strict";

  function size(bytes) {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
    return `${unit ? bytes.toPrecision(3) : bytes} ${units[unit]}`;
  }

  function begin(form) {
    const file = form.elements.file.files[0];
    const find = (name) => form.querySelector(`[data-upload-${name}]`);
    const refused = document.querySelector("[data-upload-refused]");
    const request = new XMLHttpRequest();
    const address = `${form.action}?${new URLSearchParams({ split: form.elements.split.value, filename: file.name })}`;

    function show(text) { find("text").textContent = text; }
    function end(text) {
      find("progress").hidden = true;
      find("submit").disabled = false;
      find("status").textContent = text;
    }
    function complain(title, text) {
      const alert = document.createElement("div");
      alert.className = "alert alert-danger";
      alert.setAttribute("role", "alert");
      const strong = document.createElement("strong");
      strong.textContent = title;
      alert.append(strong, ` ${text}`);
      refused.replaceChildren(alert);
    }

    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      find("bar").value = event.total ? event.loaded / event.total : 1;
      show(`Uploading: ${size(event.loaded)} of ${size(event.total)}`);
    });
    request.upload.addEventListener("load", () => {
      find("bar").removeAttribute("value");
      show("All sent; the platform reads the rows");
      find("status").textContent = "All sent; the platform reads the rows";
    });
    request.addEventListener("load", () => {
      const type = request.getResponseHeader("Content-Type") || "";
      const elsewhere = request.getResponseHeader("HX-Redirect");
      if (elsewhere) { window.location.assign(elsewhere); return; }
      if (request.status === 201) { window.location.assign(JSON.parse(request.responseText).location); return; }
      end("The upload was refused");
      if (type.startsWith("text/html")) {
        refused.innerHTML = request.responseText;
        const alert = refused.querySelector("[role=alert]");
        if (alert) { alert.tabIndex = -1; alert.focus(); }
      } else {
        complain("The upload failed.", `The gateway answered ${request.status}. Try again.`);
      }
    });
    request.addEventListener("error", () => {
      end("The upload broke off");
      complain("The upload broke off.", "The file may be too large or have changed, or the network failed. Nothing was changed.");
    });
    request.addEventListener("abort", () => end("The upload was cancelled"));
    find("cancel").onclick = () => request.abort();

    refused.replaceChildren();
    find("submit").disabled = true;
    find("progress").hidden = false;
    find("bar").value = 0;
    show(`Uploading ${size(file.size)}`);
    find("status").textContent = "Uploading";
    request.open("POST", address);
    request.setRequestHeader("Content-Type", "application/x-ndjson");
    request.setRequestHeader("HX-Request", "true");
    request.send(file);
  }

  // The address keeps which source was chosen, so that it can be sent to somebody and reloaded.
  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-sources] input[name=source]")) return;
    const here = new URL(window.location.href);
    here.searchParams.set("source", event.target.value);
    window.history.replaceState(window.history.state, "", here);
  });

  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-upload]");
    if (!form || !form.elements.file.files.length) return;
    event.preventDefault();
    begin(form);
  });
})();
