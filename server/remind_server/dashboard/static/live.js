// Keeps the page current: on an event from the server it fetches the page again and replaces the parts that changed.
"use strict";
const main = document.querySelector("main");
const light = document.getElementById("live");
let refreshing = false;
let again = "";

function say(state, text) {
  if (!light) return;
  light.dataset.state = state;
  light.textContent = text;
}

// `what`: "health" if only the answer of a site is new, else "page".
async function refresh(what) {
  if (refreshing) {
    again = again === "page" ? again : what;
    return;
  }
  refreshing = true;
  try {
    const answer = await fetch(what === "health" ? main.dataset.health : location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname === "/sign-in") return signedOut();
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (what === "page" || butAnswers(seenBy(fresh)) === butAnswers(main.dataset.seen)) replaceParts(fresh);
      else again = "page"; // more than an answer was new
      if (what === "page") document.dispatchEvent(new Event("refreshed"));
    }
  } catch {
    // the server cannot be reached; the event stream reconnects and shows this
  } finally {
    refreshing = false;
    if (again) {
      const next = again;
      again = "";
      refresh(next);
    }
  }
}

function seenBy(page) {
  return page.querySelector("main").dataset.seen;
}

// The last seen state is run:change:status; on the page of a run, a fourth part counts the answers of the current round.
function butAnswers(seen) {
  return main.dataset.health ? seen.split(":").slice(0, 3).join(":") : seen;
}

function replaceParts(fresh) {
  main.dataset.seen = seenBy(fresh);
  for (const part of fresh.querySelectorAll("[data-live]")) {
    const old = document.getElementById(part.id);
    const focus = old.contains(document.activeElement) ? document.activeElement.id : "";
    const kept = [...old.querySelectorAll("[id]")].map((e) => [e.id, e.scrollLeft, e.scrollTop, e.checked]);
    const open = [...old.querySelectorAll("details[open] > summary[id]")].map((e) => e.id);
    old.replaceChildren(...document.adoptNode(part).childNodes);
    for (const [id, left, top, checked] of kept) {
      const element = document.getElementById(id);
      if (!element) continue;
      element.scrollLeft = left;
      element.scrollTop = top;
      if (checked) element.checked = true;
    }
    for (const id of open) document.getElementById(id)?.parentElement.setAttribute("open", "");
    if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
  }
  tellTimes();
}

function signedOut() {
  say("lost", "signed out: open the page again");
}

function listen() {
  const events = new EventSource(main.dataset.events);
  events.addEventListener("open", () => say("on", "live"));
  events.addEventListener("change", (event) => {
    if (event.data === main.dataset.seen) return;
    refresh(butAnswers(event.data) === butAnswers(main.dataset.seen) ? "health" : "page");
  });
  events.addEventListener("error", async () => {
    say("lost", "connection lost, trying again");
    if (events.readyState !== EventSource.CLOSED) return; // it reconnects by itself
    const answer = await fetch(main.dataset.events, { method: "HEAD" }).catch(() => null);
    if (answer?.status === 401) signedOut();
    else setTimeout(listen, 3000);
  });
  addEventListener("pagehide", () => events.close());
}

function duration(seconds) { // as in remind/durations.py
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

function tellTimes() {
  for (const element of document.querySelectorAll("[data-moment]")) {
    const moment = new Date(1000 * element.dataset.moment);
    const today = moment.toDateString() === new Date().toDateString();
    element.textContent = today ? moment.toLocaleTimeString() : moment.toLocaleString();
  }
  for (const element of document.querySelectorAll("[data-until]")) {
    const left = element.dataset.until - Date.now() / 1000;
    element.textContent = left > 0 ? `in ${duration(left)}` : "overdue";
  }
}

function limitTicks() {
  const button = document.getElementById("compare");
  if (!button) return;
  const ticked = document.querySelectorAll("input[name=run]:checked").length;
  button.disabled = ticked < 2 || ticked > Number(button.dataset.most);
}

// A link to a word opens the list that explains it.
function openWords() {
  if (location.hash.startsWith("#word")) document.getElementById("words")?.setAttribute("open", "");
}

addEventListener("hashchange", openWords);
openWords();
tellTimes();
limitTicks();
setInterval(tellTimes, 1000);
document.addEventListener("change", limitTicks);
document.addEventListener("refreshed", limitTicks);
if (main.dataset.events) listen();
