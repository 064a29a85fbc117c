// Keys, the heatmap slider, the live pictures and the line's state. Without this script every page still works
// by touch, and shows the state at the time at which it was loaded.
"use strict";

const part = {
  d: "#label-defect", o: "#label-overkill", u: "#label-unsure", x: "#label-none",
  ArrowLeft: "#newer", ArrowRight: "#older", Escape: "#up",
};

function typing(target) {
  return target.matches("input:not([type=range]):not([type=checkbox]), select, textarea");
}

function step(slider, by) {
  slider.value = Number(slider.value) + by;
  slider.dispatchEvent(new Event("input"));
}

const slider = document.querySelector("#blend");
if (slider) {
  const heatmap = document.querySelector("#heatmap");
  const stored = sessionStorage.getItem("blend");
  let before = 50;
  if (stored !== null) slider.value = stored;
  const show = () => {
    heatmap.style.opacity = slider.value / 100;
    sessionStorage.setItem("blend", slider.value);
  };
  slider.addEventListener("input", show);
  // Without the focus on the slider, the arrow keys open the neighbours again.
  slider.addEventListener("pointerup", () => slider.blur());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || typing(event.target) || event.target === slider) return;
    if (event.key === "ArrowUp") step(slider, 10);
    else if (event.key === "ArrowDown") step(slider, -10);
    else if (event.key === " " && !event.target.matches("button, a")) {
      const now = Number(slider.value);
      if (now > 0) before = now;
      step(slider, now > 0 ? -now : before);
    } else return;
    event.preventDefault();
  });
  show();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || typing(event.target)) return;
  const wanted = part[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!wanted || (event.target === slider && event.key.startsWith("Arrow"))) return;
  const target = document.querySelector(wanted);
  if (target && !target.disabled) {
    event.preventDefault();
    target.click();
  }
});

// -- the state of the line, and what else is current without a reload

/** Puts the elements of a fragment in the place of those with the same id, and leaves equal ones alone. */
function swap(html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  for (const element of fresh.content.children) {
    const old = element.id && document.getElementById(element.id);
    if (!old || old.isEqualNode(element)) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.className = element.className;
    old.innerHTML = element.innerHTML;
    if (focused) document.getElementById(focused)?.focus();
  }
}

async function load(address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  // A session that has ended leads to the login page.
  if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
  return answer.text();
}

const SILENT_MS = 6000;
const POLL_MS = 2000;
const RECONNECT_MS = 30000;
const lineState = document.querySelector(".line-state");
if (lineState) {
  let stream = null;
  let poll = 0;
  let heardAt = Date.now();
  let clock = "";
  const tell = (html) => { heardAt = Date.now(); swap(html); showClock(); };
  const showClock = () => {
    const place = document.getElementById("clock");
    if (place && clock) place.textContent = clock;
  };
  const ask = async () => {
    try { tell(await load(lineState.dataset.state)); } catch { /* the watch below says so */ }
  };
  const connect = () => {
    clearInterval(poll);
    if (document.hidden || stream) return;
    stream = new EventSource(lineState.dataset.events);
    stream.addEventListener("state", (event) => tell(event.data));
    stream.addEventListener("beat", (event) => { heardAt = Date.now(); clock = event.data; showClock(); });
    stream.addEventListener("changed", () => document.dispatchEvent(new Event("snapshots")));
    stream.addEventListener("error", () => {
      // The browser connects again by itself, unless the server has refused: it has no stream free.
      if (!stream || stream.readyState !== EventSource.CLOSED) return;
      disconnect();
      poll = setInterval(() => {
        if (!document.hidden) { ask(); document.dispatchEvent(new Event("snapshots")); }
      }, POLL_MS);
      setTimeout(connect, RECONNECT_MS);
    });
  };
  const disconnect = () => { stream?.close(); stream = null; };
  // A browser opens few connections to one server: a hidden page needs none.
  document.addEventListener("visibilitychange", () => { document.hidden ? disconnect() : connect(); });
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", connect);
  // An old state must never look like the present one.
  setInterval(() => {
    const bar = document.getElementById("state");
    if (document.hidden || Date.now() - heardAt < SILENT_MS) return;
    bar.className = "state-bar grey";
    bar.innerHTML = "<p class='headline' role='status'></p><p class='sentence'></p>";
    bar.firstChild.textContent = "Not known";
    bar.lastChild.textContent = "The service of this page does not answer: look at the line itself.";
  }, 1000);
  connect();
}

/** Asks again for a picture, which follows its verdict within seconds, and hides the browser's sign for a
 * broken one. */
function retry(image) {
  image.style.visibility = "hidden";
  const tried = Number(image.dataset.tried || 0);
  if (tried >= 12) return;
  image.dataset.tried = tried + 1;
  setTimeout(() => { image.src = image.src; }, 700);
}

document.addEventListener("error", (event) => {
  if (event.target.matches?.("img[data-retry]")) retry(event.target);
}, true);
document.addEventListener("load", (event) => {
  if (event.target.matches?.("img[data-retry]")) event.target.style.visibility = "";
}, true);
// Pictures that have failed before this script was there.
for (const image of document.querySelectorAll("img[data-retry]")) {
  if (image.complete && image.currentSrc && !image.naturalWidth) retry(image);
}

document.querySelectorAll("[data-from][data-every]").forEach((place) => {
  const again = async () => {
    if (!document.hidden) {
      try {
        const html = await load(place.dataset.from);
        // The page has other buttons in another phase.
        const phase = /data-phase="([^"]*)"/.exec(html);
        if (phase && phase[1] !== place.dataset.phase) { location.reload(); return; }
        swap(html);
      } catch { /* the bar at the top says so */ }
    }
    setTimeout(again, Number(place.dataset.every));
  };
  setTimeout(again, Number(place.dataset.every));
});

// -- the wall

// On the page Teach, pictures have buttons of their own.
const wall = document.querySelector(".wall:not(.teach)");
const QUIET_MS = 5000;
const REST_MS = 700;
if (wall) {
  let touchedAt = 0;
  const fresh = document.querySelector("#fresh");
  const cards = () => [...wall.querySelectorAll("li > a")];

  /** Shows the newest cards. What moves under a finger must not be labelled, so the wall rests a moment. */
  const renew = (items) => {
    const known = new Set(items.map((item) => item.id));
    for (const item of [...wall.children]) if (!known.has(item.id)) item.remove();
    let before = wall.firstElementChild;
    for (const item of items) {
      const old = document.getElementById(item.id);
      if (old) { before = old.nextElementSibling; continue; }
      wall.insertBefore(item, before);
    }
    wall.classList.add("resting");
    setTimeout(() => wall.classList.remove("resting"), REST_MS);
    fresh.hidden = true;
    document.querySelector(".empty")?.remove();
  };

  let running = false;
  const look = async (now) => {
    if (running || document.hidden || !wall.dataset.from) return;
    running = true;
    try {
      const found = document.createElement("template");
      found.innerHTML = await load(wall.dataset.from);
      const items = [...found.content.querySelectorAll("li")];
      const summary = found.content.querySelector("#summary");
      if (summary) document.getElementById("summary")?.replaceWith(summary);
      const more = items.filter((item) => !document.getElementById(item.id)).length;
      const busy = Date.now() - touchedAt < QUIET_MS || wall.contains(document.activeElement) || scrollY > 200;
      if (more && busy && !now) {
        fresh.hidden = false;
        fresh.firstElementChild.textContent = `Show ${more} new`;
      } else if (more) renew(items);
    } catch { /* the bar at the top says so */ }
    running = false;
  };
  document.addEventListener("snapshots", () => look(false));
  document.addEventListener("pointerdown", () => { touchedAt = Date.now(); });
  // Other pages show parts in a wall that gets no new ones.
  fresh?.firstElementChild.addEventListener("click", () => { scrollTo(0, 0); look(true); });

  /** Labels a part in its place, and goes on to the next. */
  wall.addEventListener("submit", async (event) => {
    const form = event.target;
    event.preventDefault();
    const item = form.closest("li");
    const chosen = new FormData(form, event.submitter);
    if (event.submitter.getAttribute("aria-pressed") === "true") chosen.set("label", "");
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(chosen), headers: { Accept: "text/plain" } });
    if (!answer.ok) { alert(await answer.text()); return; }
    const next = item.nextElementSibling;
    const made = document.createElement("template");
    made.innerHTML = await answer.text();
    item.replaceWith(made.content.firstElementChild);
    wall.querySelector(".next")?.classList.remove("next");
    if (next) {
      next.classList.add("next");
      next.querySelector("a").focus({ preventScroll: true });
      next.scrollIntoView({ block: "nearest" });
    }
  });

  const labels = { d: "defect", o: "overkill", u: "unsure" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
    const all = cards();
    const now = all.findIndex((card) => card.parentElement.contains(document.activeElement));
    if (labels[event.key.toLowerCase()] && now >= 0) {
      event.preventDefault();
      all[now].parentElement.querySelector(`button.${labels[event.key.toLowerCase()]}`).click();
      return;
    }
    if (!all.length) return;
    const top = all[0].getBoundingClientRect().top;
    const across = Math.max(1, all.filter((card) => card.getBoundingClientRect().top === top).length);
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
    if (by === undefined) return;
    const next = all[now < 0 ? 0 : now + by];
    if (next) {
      event.preventDefault();
      next.focus();
      next.scrollIntoView({ block: "nearest" });
    }
  });
}

const LIVE_MS = 250;
const RETRY_MS = 2000;

function follow(image) {
  const heat = document.querySelector("#heat");
  const again = (ms) => setTimeout(request, ms);
  // One request at a time, and none while the tab is hidden.
  const request = () => {
    if (document.hidden) return again(RETRY_MS);
    const next = new Image();
    next.onload = () => { image.src = next.src; again(LIVE_MS); };
    next.onerror = () => again(RETRY_MS);
    next.src = `${image.dataset.live}?heat=${heat && heat.checked ? 1 : 0}&at=${Date.now()}`;
  };
  request();
}

document.querySelectorAll("img[data-live]").forEach(follow);

const job = document.querySelector("#job[data-again]");
if (job) setTimeout(() => location.reload(), 1000);

// -- signatures

// A form that is shown again after a signature without an answer shows that nothing was changed.
const SIGNING = "signing";
const signedForm = document.querySelector(".signature")?.closest("form");
if (signedForm) {
  const unanswered = signedForm.querySelector("[data-unanswered]");
  if (unanswered && sessionStorage.getItem(SIGNING) === signedForm.action) unanswered.hidden = false;
  signedForm.addEventListener("submit", () => {
    sessionStorage.setItem(SIGNING, signedForm.action);
    signedForm.querySelector("[data-sending]").hidden = false;
    signedForm.querySelectorAll("button").forEach((button) => { button.disabled = true; });
  });
}
// A page that waits for a job is followed by the one with the form.
if (!job) sessionStorage.removeItem(SIGNING);
