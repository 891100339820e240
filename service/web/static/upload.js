// Sends a dropped or chosen archive as the body of one request, and says how far it is.
export function tendUploads() {
  for (const form of document.querySelectorAll("form[data-upload]")) tend(form);
}

function tend(form) {
  const input = form.querySelector("input[type=file]");
  const name = form.querySelector("input[name=name]");
  const bar = form.querySelector("progress");
  const said = form.querySelector("[role=status]");
  const stop = form.querySelector("[data-stop]");
  form.hidden = false;

  const over = (is) => (event) => { event.preventDefault(); form.classList.toggle("over", is); };
  form.addEventListener("dragover", over(true));
  form.addEventListener("dragleave", over(false));
  form.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.files.length) send(input.files[0]);
    else said.textContent = "Choose a file first.";
  });

  function send(file) {
    const request = new XMLHttpRequest();
    const wanted = name.value.trim() || file.name.replace(/\.(zip|tar|tar\.gz|tgz|parquet|csv|tsv)$/i, "") || "dataset";
    const columns = ["text_column", "label_column"].map((each) => [each, form.querySelector(`[name=${each}]`).value.trim()]);
    const query = new URLSearchParams([["name", wanted], ...columns.filter(([, value]) => value)]);
    request.open("POST", `/v1/datasets?${query}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    const started = performance.now();
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      bar.max = total;
      bar.value = loaded;
      const left = ((performance.now() - started) / loaded) * (total - loaded) / 1000;
      said.textContent = loaded < total
        ? `${Math.floor((100 * loaded) / total)} % of ${(total / 1e6).toFixed(1)} MB, about ${Math.ceil(left)} s left`
        : "Looking at the archive …";
    });
    const ended = (text) => { said.textContent = text; bar.hidden = stop.hidden = true; };
    request.addEventListener("load", () => {
      if (request.status < 300) location.assign(`/datasets/${request.response.id}`);
      else ended(`${request.response?.title ?? "Refused"}: ${request.response?.detail ?? request.status}`);
    });
    request.addEventListener("error", () => ended("The connection broke. Try again: nothing was kept."));
    request.addEventListener("abort", () => ended("Stopped: nothing was kept."));
    stop.onclick = () => request.abort();
    bar.hidden = stop.hidden = false;
    said.textContent = `Sending ${file.name} …`;
    request.send(file);
  }
}
