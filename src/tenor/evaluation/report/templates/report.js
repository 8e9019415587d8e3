"use strict";
// A link to a folded part opens it, so that a cell of the matrix leads straight to its rows.
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  target.scrollIntoView({ block: "start" });
  const summary = target.querySelector("summary");
  if (summary) summary.focus({ preventScroll: true });
}
addEventListener("hashchange", openTarget);
addEventListener("DOMContentLoaded", openTarget);
// The same link clicked twice changes no address.
addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (link && link.getAttribute("href") === location.hash) openTarget();
});
// A heading's button sorts its table's rows: numbers from high to low first, words from a to z.
addEventListener("click", (event) => {
  const button = event.target.closest("th button");
  if (!button) return;
  const heading = button.closest("th"), table = heading.closest("table"), column = heading.cellIndex;
  const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
  const numeric = heading.dataset.kind === "number";
  const first = numeric ? "descending" : "ascending", other = numeric ? "ascending" : "descending";
  const order = heading.getAttribute("aria-sort") === first ? other : first;
  const sign = order === "ascending" ? 1 : -1;
  for (const each of table.querySelectorAll("th[aria-sort]")) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    const one = key(a), two = key(b);
    if ((one === "") !== (two === "")) return one === "" ? 1 : -1;
    return sign * (numeric ? Number(one) - Number(two) : one.localeCompare(two));
  });
  table.tBodies[0].append(...rows);
});
