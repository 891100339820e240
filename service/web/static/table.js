// Sorts, filters and narrows tables that ask for it; how is kept in the address. Cells are sorted by their data-v, else
// by their text, of which a number is what it begins with. A table with data-rest fetches the rows that its page left out.
const address = new URLSearchParams(location.search);
const FIRST = 50; // rows that are laid out at once: of 500 with many columns that takes longer than a blink

export function tendTables() {
  for (const table of document.querySelectorAll("table[data-sortable]")) tend(table);
}

function tend(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const state = { column: null, descending: false, words: address.get("q") ?? "", hidden: new Set() };
  const keys = heads.map((head) => head.dataset.key);

  for (const [column, head] of heads.entries()) {
    if (!keys[column]) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      state.descending = state.column === column ? !state.descending : head.dataset.first === "descending";
      state.column = column;
      keep();
      arrange();
    });
  }

  const more = document.querySelector(`[data-more="${table.id}"]`);
  let whole = !table.dataset.rest;
  let missing = Boolean(whole && more && !more.hidden); // then "Show all" leads to a page with every row
  const arriving = whole ? null : fetchRest(table.dataset.rest, body).then((came) => { whole = true; missing = !came; });
  function arrange() {
    if (whole) {
      sort();
      narrow();
    } else arriving.then(arrange);
  }

  function sort() {
    if (state.column === null) return;
    const sign = state.descending ? -1 : 1;
    const numeric = heads[state.column].classList.contains("n");
    const keyed = Array.from(body.rows, (row) => {
      const cell = row.cells[state.column];
      const text = cell.dataset.v ?? cell.textContent.trim();
      const number = Number.parseFloat(text);
      return { row, value: numeric ? (Number.isNaN(number) ? null : number) : text };
    });
    const collator = new Intl.Collator(undefined, { numeric: true });
    keyed.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
      return sign * (numeric ? a.value - b.value : collator.compare(a.value, b.value));
    });
    body.replaceChildren(...keyed.map(({ row }) => row));
    for (const [column, head] of heads.entries()) {
      if (column === state.column) head.ariaSort = state.descending ? "descending" : "ascending";
      else head.removeAttribute("aria-sort");
    }
  }

  const filter = document.querySelector(`input[data-filter="${table.id}"]`);
  const count = document.querySelector(`[data-count="${table.id}"]`);
  let every = !more || address.get("rows") === "all";
  let revealing = 0;
  const texts = new WeakMap();
  function textOf(row) {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  }
  function narrow() {
    const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
    const later = [];
    let left = 0;
    for (const row of body.rows) {
      const found = words.every((word) => textOf(row).includes(word));
      left += found;
      row.hidden = !found || left > FIRST;
      if (found && row.hidden) later.push(row);
    }
    if (count) count.textContent = words.length ? `${left} of ${body.rows.length} shown` : "";
    if (more && whole && !missing) {
      more.hidden = every || !later.length;
      more.textContent = `Show all ${left}`;
    }
    cancelAnimationFrame(revealing);
    if (every) reveal(later);
  }
  function reveal(rows) {
    if (!rows.length) return;
    revealing = requestAnimationFrame(() => {
      for (const row of rows.splice(0, FIRST)) row.hidden = false;
      reveal(rows);
    });
  }
  more?.addEventListener("click", (event) => {
    if (missing) return;
    event.preventDefault();
    every = true;
    keep();
    arrange();
  });
  if (filter) {
    filter.closest("[hidden]")?.removeAttribute("hidden");
    filter.value = state.words;
    filter.addEventListener("input", () => { state.words = filter.value; keep(); arrange(); });
  }

  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  function narrowColumns() {
    const rules = [...state.hidden].map((key) => `#${table.id} tr > :nth-child(${keys.indexOf(key) + 1})`);
    sheet.replaceSync(rules.length ? `${rules.join(",")} { display: none; }` : "");
  }
  const menu = document.querySelector(`[data-columns="${table.id}"]`);
  if (menu) {
    menu.hidden = false;
    const list = menu.querySelector("div");
    for (const key of (address.get("hide") ?? "").split(",")) if (keys.indexOf(key) > 1) state.hidden.add(key);
    for (const [column, head] of heads.entries()) {
      if (!keys[column] || column < 2) continue;
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = !state.hidden.has(keys[column]);
      box.addEventListener("change", () => {
        state.hidden[box.checked ? "delete" : "add"](keys[column]);
        narrowColumns();
        keep();
      });
      label.append(box, ` ${head.textContent.trim()}`);
      list.append(label);
    }
  }

  function keep() {
    const now = new URL(location.href);
    const set = (name, value) => (value ? now.searchParams.set(name, value) : now.searchParams.delete(name));
    set("sort", state.column === null ? "" : (state.descending ? "-" : "") + keys[state.column]);
    set("q", state.words);
    set("hide", [...state.hidden].join(","));
    if (more) set("rows", every ? "all" : "");
    history.replaceState(null, "", now);
  }

  const wanted = address.get("sort") ?? "";
  const column = keys.indexOf(wanted.replace(/^-/, ""));
  if (wanted && column >= 0) {
    state.column = column;
    state.descending = wanted.startsWith("-");
  }
  narrow();
  arrange();
  narrowColumns();
  body.addEventListener("live:changed", arrange);
}

async function fetchRest(address, body) {
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" } });
    if (!answer.ok) return false;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    body.append(...document.adoptNode(page.querySelector("tbody")).rows);
    return true;
  } catch {
    return false; // away for a moment
  }
}
