
"use strict";
// Sorting, filtering and the theme switch. Without this script the page is whole, in the order of the table.
(() => {
  const root = document.documentElement;

  // --- theme: the system's until the button is used; remembered where the browser lets a file remember.
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const remembered = (value) => {
    try {
      if (value) localStorage.setItem("harness-theme", value);
      return localStorage.getItem("harness-theme");
    } catch (error) {
      return null;
    }
  };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Use the light theme" : "Use the dark theme");
  };
  const stored = remembered();
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;
  button.hidden = false;
  label();
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered(root.dataset.theme);
    label();
  });
  system.addEventListener("change", label);

  // --- print: everything is open on paper.
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });

  // --- the results table
  const table = document.querySelector("#results-table table");
  if (!table) return;
  const bodies = [...table.tBodies];
  const original = new Map(bodies.map((body) => [body, [...body.rows]]));
  const isFixed = (row) => row.classList.contains("summary") || row.classList.contains("group");
  const keyOf = (row, column) => {
    if (column === null) return row.querySelector('th[scope="row"]').textContent.trim();
    const cell = [...row.cells].find((each) => each.dataset.column === column);
    if (!cell || cell.classList.contains("missing")) return null; // stays below, whichever way the others go
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const compare = (one, other) =>
    typeof one === "number" && typeof other === "number"
      ? one - other
      : String(one).localeCompare(String(other), "en", { numeric: true });
  const sortBy = (column, direction) => {
    for (const body of bodies) {
      const rows = original.get(body);
      const movable = rows.filter((row) => !isFixed(row));
      if (direction) {
        const keyed = movable.map((row, place) => ({ row, place, key: keyOf(row, column) }));
        keyed.sort((one, other) => {
          if (one.key === null || other.key === null) return (one.key === null) - (other.key === null) || one.place - other.place;
          return direction * compare(one.key, other.key) || one.place - other.place;
        });
        movable.splice(0, movable.length, ...keyed.map((entry) => entry.row));
      }
      let next = 0;
      for (const row of rows) body.append(isFixed(row) ? row : movable[next++]);
    }
  };
  const headers = [...table.tHead.querySelectorAll('th[data-column], th[id$="-corner"]')];
  for (const header of headers) {
    const column = header.dataset.column ?? null;
    const sort = document.createElement("button");
    sort.type = "button";
    sort.className = "sort";
    sort.append(...header.childNodes);
    header.append(sort);
    sort.addEventListener("click", () => {
      const now = header.getAttribute("aria-sort");
      const next = now === null ? "ascending" : now === "ascending" ? "descending" : null;
      for (const each of headers) each.removeAttribute("aria-sort");
      if (next) header.setAttribute("aria-sort", next);
      sortBy(column, next === "ascending" ? 1 : next === "descending" ? -1 : 0);
    });
  }
  for (const name of table.querySelectorAll('tbody th[scope="row"]')) {
    for (const node of [...name.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE)) {
      const parts = node.data.split(/(?<=_)/);
      node.replaceWith(...parts.flatMap((part, place) => (place ? [document.createElement("wbr"), part] : [part])));
    }
  }
  for (const hint of document.querySelectorAll(".js-only")) hint.hidden = false;

  // --- filter
  const form = document.getElementById("filter-form");
  const input = document.getElementById("filter");
  const count = document.getElementById("filter-count");
  const all = bodies.flatMap((body) => original.get(body)).filter((row) => !isFixed(row));
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  const filter = () => {
    const words = input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of all) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = words.length ? `${shown} of ${all.length} rows` : "";
  };
  input.addEventListener("input", filter);
})();
