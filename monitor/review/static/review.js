// Keys, the heatmap slider and the live pictures. Without this script every page still works by touch.
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

const wall = document.querySelector(".wall");
if (wall) {
  const cards = [...wall.querySelectorAll("a")];
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
    const top = cards[0].getBoundingClientRect().top;
    const across = Math.max(1, cards.filter((card) => card.getBoundingClientRect().top === top).length);
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
    if (by === undefined) return;
    const now = cards.indexOf(document.activeElement);
    const next = cards[now < 0 ? 0 : now + by];
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

const status = document.querySelector("#status[data-from]");
if (status) {
  const request = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(status.dataset.from, { headers: { Accept: "text/html" } });
        if (answer.ok) status.innerHTML = await answer.text();
      } catch {
        status.textContent = "The service of this page does not answer.";
      }
    }
    setTimeout(request, 1500);
  };
  setTimeout(request, 1500);
}

const job = document.querySelector("#job[data-again]");
if (job) setTimeout(() => location.reload(), 1000);
