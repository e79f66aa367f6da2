// Keeps a page as it would be after a reload: every notice of /events leads to one reading of this same address, and what changed in an
// element marked data-live takes its place. What a person has opened or is writing in stays. Without this script the page reloads itself.
"use strict";

// Milliseconds between two readings, so that a flood of notices costs a few of them; a page that is dear to read says more.
const PAUSE = Number(document.documentElement.dataset.pause || 400);
const sign = document.getElementById("live");
let wanted = false;
let reading = false;

function say(text, bad) {
  sign.textContent = text;
  sign.classList.toggle("bad", bad);
}

function inUse(element) {
  const active = document.activeElement;
  const writes = active && element.contains(active) && active.matches("input, select, textarea");
  return writes || element.querySelector("details.confirm[open]") !== null;
}

function take(fresh) {
  document.title = fresh.title;
  for (const old of document.querySelectorAll("[data-live]")) {
    const made = fresh.getElementById(old.id);
    if (!made || made.innerHTML === old.dataset.seen || inUse(old)) continue;
    const seen = made.innerHTML;
    const open = [...old.querySelectorAll("details[open][id]")].map((one) => one.id);
    const focused = document.activeElement && old.contains(document.activeElement) ? document.activeElement.closest("[id]") : null;
    const focusedId = focused ? focused.id : null;
    old.className = made.className;
    old.replaceChildren(...made.childNodes);
    old.dataset.seen = seen;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focusedId && focusedId !== old.id) document.getElementById(focusedId)?.querySelector("summary, a, button")?.focus();
  }
}

async function read() {
  if (reading) return;
  reading = true;
  while (wanted) {
    wanted = false;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (answer.redirected && new URL(answer.url).pathname === "/login") return location.reload();
      if (answer.ok) {
        take(new DOMParser().parseFromString(await answer.text(), "text/html"));
        say("live", false);
      }
    } catch {
      say("no connection", true);
    }
    await new Promise((done) => setTimeout(done, PAUSE));
  }
  reading = false;
}

function changed() {
  wanted = true;
  read();
}

const events = new EventSource("/events");
events.onopen = () => { say("live", false); changed(); };
events.onerror = () => say("no connection", true);
for (const kind of ["run", "delivery", "decision", "episode", "pause", "breaker", "playbook", "reload", "change", "step", "note"]) {
  events.addEventListener(kind, changed);
}
setInterval(changed, 10000); // ages and countdowns

// An empty choice is no filter; the address stays short and is understood.
for (const form of document.querySelectorAll("form.filters")) {
  form.addEventListener("submit", () => {
    for (const field of form.querySelectorAll("[data-optional]")) field.disabled = !field.value;
  });
}
