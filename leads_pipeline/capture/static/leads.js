// Sends forms marked data-leads, and leads.send({...}), to the capture service that this file came from. What is not
// acknowledged waits in localStorage, 7 days at most. No cookie. How to use it: docs/capture.md.
// Served without these comments and without indentation, and then below 5 KB: a test holds it there.
(() => {
  const { src, dataset } = document.currentScript, url = new URL("v1/leads", src);
  const PREFIX = `leads.js:${url.host}:`, WEEK = 6048e5, MOST = 100, PAUSE = 200, SLOWEST = 3e5;
  const TEXTS = { stored: "Thank you.", waiting: "Not sent yet; it will be.", refused: "Refused." };
  const { now } = Date;
  // What this page sent and waits for: id → { form, text, resolve }. Kept apart from what the browser keeps.
  const open = {}, memory = {};
  let timer, busy, pause = 0;

  // One entry per lead, so that two tabs cannot overwrite each other's. In memory where storage is blocked or full.
  const save = (item) => {
    const name = PREFIX + item.id, text = JSON.stringify(item);
    try { localStorage[name] = text; delete memory[name]; } catch { memory[name] = text; }
  };
  const drop = (name) => {
    delete memory[name];
    try { delete localStorage[name]; } catch {}
  };
  // One that always fails holds up no other: who was tried least goes first.
  const queue = () => {
    let all = memory;
    try { all = { ...localStorage, ...memory }; } catch {}
    const items = [];
    for (const name in all) {
      if (!name.startsWith(PREFIX)) continue;
      const item = JSON.parse(all[name]);
      if (now() - item.at > WEEK) drop(name);
      else if (item.body) items.push(item);
    }
    return items.sort((a, b) => a.tries - b.tries || a.at - b.at);
  };
  // What the server asked to wait for outlives the page; our own backoff does not.
  const wait = () => Math.max(0, pause - now(), ...queue().map((item) => item.due - now()));

  const textOf = (form) => "" + new URLSearchParams(new FormData(form));
  const tell = (id, status, more) => {
    const { form, text, resolve } = open[id] || {}, note = form?.querySelector("[data-leads-status]");
    const detail = { ...more, id, status };
    if (note) note.textContent = note.dataset[status] || more?.message || TEXTS[status];
    if (status != "waiting") {
      delete open[id];
      resolve?.(detail);
    }
    // Not what was typed into it meanwhile, perhaps by somebody else.
    if (status == "stored" && form && textOf(form) == text) form.reset();
    (form?.isConnected ? form : document).dispatchEvent(new CustomEvent("leads:" + status, { bubbles: true, detail }));
  };

  const post = ({ id, key, body }) => fetch(url, {
    method: "POST", body, keepalive: body.length < 2e4, signal: AbortSignal.timeout?.(2e4),
    headers: { "Content-Type": "application/json", "X-API-Key": key, "Idempotency-Key": id },
  });
  const attempt = async () => {
    const [item] = queue();
    if (!item || wait()) return;
    const { id, at } = item;
    let response, answer;
    item.tries++;
    save(item);
    try {
      response = await post(item);
      answer = await response.json();
    } catch {}
    const code = response?.status;
    if (answer?.lead_id) {
      drop(PREFIX + id);
      pause = now() + PAUSE;
      tell(id, "stored", answer);
    } else if (/^4(?!08|25|29)/.test(code)) {
      const refused = answer?.error || { code };
      save({ id, at, refused });
      tell(id, "refused", refused);
    } else {
      // Exponential backoff with full jitter, after what the server asked for: seconds, or a date.
      const after = response?.headers.get("Retry-After") || 0;
      item.due = now() + Math.max(0, after * 1e3 || Date.parse(after) - now() || 0);
      pause = item.due + Math.random() * Math.min(SLOWEST, 500 * 2 ** item.tries);
      save(item);
      tell(id, "waiting");
    }
  };
  // One tab sends at a time where the browser has locks; elsewhere the Idempotency-Key makes a second post harmless.
  const turn = async () => {
    if (busy) return;
    busy = 1;
    await (navigator.locks?.request(PREFIX, attempt).catch(attempt) ?? attempt());
    busy = 0;
    next();
  };
  const next = () => {
    clearTimeout(timer);
    if (queue()[0]) timer = setTimeout(turn, Math.min(SLOWEST, wait()));
  };

  const send = (lead, form) => new Promise((resolve) => {
    // Not randomUUID: that one is missing on pages without https.
    const id = crypto.getRandomValues(new Uint32Array(4)).join("-"), key = form?.dataset.key || dataset.key;
    const found = { landing_page: location.href.split("#")[0] };
    for (const [name, value] of new URLSearchParams(location.search))
      if (name.startsWith("utm_")) found[name.replace("utm_campaign", "campaign")] = value;
    open[id] = { form, text: form && textOf(form), resolve };
    if (queue().length >= MOST) return tell(id, "refused", { code: "queue_full" });
    save({ id, key, at: now(), tries: 0, due: 0, body: JSON.stringify({ ...found, ...lead }) });
    if (pause > now() + PAUSE) tell(id, "waiting");
    next();
  });
  const read = (form) => {
    const entries = new FormData(form), lead = {}, consent = [];
    for (const { name, checked, dataset: said, labels } of form.querySelectorAll("[type=checkbox][name^=consent]")) {
      entries.delete(name);
      // A box that is not ticked says nothing; it does not withdraw what was agreed to before.
      if (checked) consent.push({
        granted: true, purpose: said.consentPurpose, channel: said.consentChannel, occurred_at: new Date(),
        text_version: said.consentVersion || labels[0]?.textContent.trim().slice(0, 200),
      });
    }
    if (consent[0]) lead.consent = consent;
    for (const name of entries.keys()) {
      const values = entries.getAll(name).filter((value) => value.trim?.());
      if (values[0]) lead[name] = values[1] ? values : values[0];
    }
    return lead;
  };

  // A second click while the first is under way is not a second lead.
  addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || !form.matches("[data-leads]")) return;
    event.preventDefault();
    if (!Object.values(open).some(({ text }) => text == textOf(form))) send(read(form), form);
  });
  // Another tab sent what this one waits for.
  addEventListener("storage", ({ key, newValue }) => {
    const id = key?.slice(PREFIX.length), refused = newValue && JSON.parse(newValue).refused;
    if (open[id] && (refused || !newValue)) tell(id, refused ? "refused" : "stored", refused);
  });
  addEventListener("online", () => { pause = 0; next(); });
  addEventListener("pagehide", () => {
    for (const item of queue().slice(0, 5)) if (!item.tries) post(item).catch(() => {});
  });
  window.leads = { send };
  next();
})();
