// The example page's own part: shows what leads.js says. A page of yours needs none of this.
"use strict";

const log = document.getElementById("log");
const PREFIX = "leads.js:";

function add(kind, title, text) {
  log.querySelector(".empty")?.remove();
  const entry = document.createElement("li");
  entry.className = kind;
  const time = document.createElement("time");
  time.textContent = new Date().toLocaleTimeString([], { hour12: false });
  const name = document.createElement("b");
  name.textContent = title;
  entry.append(time, name);
  if (text) {
    const more = document.createElement("small");
    more.textContent = text;
    entry.append(more);
  }
  log.prepend(entry);
}

function waiting() {
  try {
    return Object.keys(localStorage).filter((name) => name.startsWith(PREFIX) && JSON.parse(localStorage[name]).body).length;
  } catch {
    return 0; // blocked: leads.js keeps its queue in memory
  }
}

function refresh() {
  document.getElementById("connection").textContent = navigator.onLine ? "online" : "offline";
  document.getElementById("waiting").textContent = String(waiting());
}

const SAID = {
  stored: ["stored", ({ lead_id }) => `Lead ${lead_id} is committed. Follow it: leads journey ${lead_id}`],
  waiting: ["waiting", () => "No answer, or told to wait. Kept in this browser and tried again, later each time."],
  refused: ["refused", ({ code, message }) => [code, message].filter(Boolean).join(": ")],
};
for (const [status, [title, text]] of Object.entries(SAID)) {
  document.addEventListener(`leads:${status}`, (event) => {
    add(status, title, text(event.detail));
    document.querySelector("[data-leads-status]")?.setAttribute("data-state", status);
    refresh();
  });
}
document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-leads]")) add("", "submitted", "Written to local storage under a new Idempotency-Key.");
}, true);
addEventListener("online", () => { add("", "online again", "Sends what waits."); refresh(); });
addEventListener("offline", () => { add("", "offline"); refresh(); });
addEventListener("storage", refresh);
setInterval(refresh, 1000);
const left = waiting();
if (left) add("", "left from before", `${left} waiting in this browser; sent now.`);
refresh();
