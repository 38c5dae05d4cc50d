// Tables: the full text of a cell or a row, under the pointer and by arrow keys; sorting that keeps the position;
// wide tables that fit on paper.
"use strict";
const PAPER = 1030; // pixels of the width of A4 in landscape, without margins
const tip = document.createElement("div");
tip.id = "tip";
tip.setAttribute("role", "tooltip");
tip.hidden = true;
document.body.append(tip);

// The full name of a row, and all numbers of a cell of groups × sites.
function words(element) {
  const cell = element.closest(".matrix td");
  if (!cell) return element.closest("[data-tip]")?.dataset.tip ?? element.closest("tr")?.querySelector("th [data-tip]")?.dataset.tip;
  const row = cell.parentElement;
  const site = row.closest("table").querySelectorAll("thead th")[cell.cellIndex];
  const group = row.querySelector("th [data-tip]")?.dataset.tip ?? row.querySelector("th").textContent.trim();
  return `${group} at ${site.textContent.trim()}: ${cell.title || cell.dataset.words || cell.textContent.trim().replace(/\s+/g, " ")}`;
}

function show(element) {
  const text = words(element);
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const box = element.getBoundingClientRect();
  const width = Math.min(tip.offsetWidth, innerWidth - 16);
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - width - 8))}px`;
  tip.style.top = `${box.bottom + tip.offsetHeight + 8 < innerHeight ? box.bottom + 4 : Math.max(4, box.top - tip.offsetHeight - 4)}px`;
}

document.addEventListener("pointerover", (event) => {
  const element = event.target.closest?.(".combo, .matrix tbody td, [data-tip]");
  if (element) show(element);
  else tip.hidden = true;
});
document.addEventListener("focusin", (event) => {
  const row = event.target.closest?.("tbody tr");
  const combo = row?.querySelector("th [data-tip]");
  if (combo) show(combo);
  else if (!event.target.closest?.(".scroll")) tip.hidden = true;
});
document.addEventListener("scroll", () => { tip.hidden = true; }, true);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") tip.hidden = true;
  const region = event.target.closest?.(".scroll[role=region]");
  const step = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
  if (!region || region !== event.target || !step || event.altKey || event.ctrlKey || event.metaKey) return;
  const rows = [...region.querySelectorAll("tbody tr")];
  if (!rows.length) return;
  event.preventDefault();
  const now = region.querySelector(".current");
  let r = rows.findIndex((row) => row.contains(now)) + step[0];
  r = Math.max(0, Math.min(rows.length - 1, now ? r : 0));
  let c = now ? now.cellIndex + step[1] : 0;
  c = Math.max(0, Math.min(rows[r].cells.length - 1, c));
  now?.classList.remove("current");
  const cell = rows[r].cells[c];
  cell.classList.add("current");
  cell.scrollIntoView({ block: "nearest", inline: "nearest" });
  requestAnimationFrame(() => show(cell.querySelector("[data-tip]") ?? cell));
});

// Another order or score: fetch the page and replace its parts in place, so that the scroll position is kept.
document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("main [data-live] a[href^='?']");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const { href, id } = link;
  await load(href);
  history.pushState(null, "", href);
  document.getElementById(id)?.focus({ preventScroll: true });
});
addEventListener("popstate", () => load(location.href));

async function load(address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok || new URL(answer.url).pathname !== location.pathname) return location.assign(address);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  replaceParts(fresh);
  const [old, other] = [document, fresh].map((page) => page.querySelector("#curves figure"));
  if (old && other) {
    old.querySelector("figcaption").textContent = other.querySelector("figcaption").textContent;
    old.querySelector("[data-chart]").dataset.chart = other.querySelector("[data-chart]").dataset.chart;
  }
  document.dispatchEvent(new Event("refreshed"));
}

const printing = matchMedia("print");
printing.addEventListener("change", () => fit(printing.matches));
addEventListener("beforeprint", () => fit(true));
addEventListener("afterprint", () => fit(false));

function fit(paper) {
  for (const table of document.querySelectorAll(".scroll > table")) {
    table.style.zoom = "";
    if (paper && table.scrollWidth > PAPER) table.style.zoom = String(PAPER / table.scrollWidth);
  }
}
