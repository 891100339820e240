// Keeps parts of a page as the server would show them now: [data-live] with an id is replaced when it has changed.
// <main data-events> says which stream tells of changes, <main data-poll> after how many seconds to look again,
// <form data-watch> that its own address shows what its fields ask for.
const shown = new WeakMap();
let asked = null;

async function look(address) {
  asked?.abort();
  asked = new AbortController();
  let text;
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" }, cache: "no-store", signal: asked.signal });
    if (!answer.ok) return null;
    text = await answer.text();
  } catch {
    return null; // away for a moment, or a later look took its place
  }
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(old.id);
    if (!next) continue;
    const html = next.innerHTML;
    if ((shown.get(old) ?? old.innerHTML) === html) continue;
    shown.set(old, html);
    old.replaceChildren(...document.adoptNode(next).childNodes);
    old.dispatchEvent(new CustomEvent("live:changed", { bubbles: true }));
  }
  return fresh.querySelector("main");
}

export function followLive() {
  const { events, poll } = document.querySelector("main").dataset;
  if (events) followEvents(events);
  else if (poll) again(Number(poll));
  for (const form of document.querySelectorAll("form[data-watch]")) watch(form);
}

function followEvents(address) {
  const stream = new EventSource(address);
  let waiting = null;
  stream.addEventListener("progress", () => {
    waiting ??= setTimeout(async () => { await look(location.href); waiting = null; }, 500);
  });
  stream.addEventListener("done", () => {
    stream.close();
    location.reload();
  });
  addEventListener("pagehide", () => stream.close());
}

function again(seconds) {
  setTimeout(async () => {
    const main = document.hidden ? undefined : await look(location.href);
    if (main && !("poll" in main.dataset)) location.reload();
    else again(seconds);
  }, seconds * 1000);
}

function watch(form) {
  let waiting = null;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const fields = new URLSearchParams();
      for (const [name, value] of new FormData(form)) if (name !== "csrf" && value) fields.append(name, value);
      // Not form.dataset: a field of that name stands in its place.
      const address = `${form.getAttribute("data-watch")}?${fields}`;
      history.replaceState(null, "", address);
      look(address);
    }, 250);
  });
}
