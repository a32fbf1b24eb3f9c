// Progressive enhancement: copying, closing menus, countdowns.
"use strict";

document.documentElement.classList.add("js");

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const done = await copy(button.dataset.copy);
  const icon = button.querySelector(".bi");
  const before = { label: button.getAttribute("aria-label"), icon: icon?.className };
  button.setAttribute("aria-label", done ? "Copied" : "Copying is not possible here");
  button.toggleAttribute("data-copied", done);
  if (icon) icon.className = done ? "bi bi-check2" : "bi bi-x";
  setTimeout(() => {
    button.setAttribute("aria-label", before.label);
    button.removeAttribute("data-copied");
    if (icon) icon.className = before.icon;
  }, 1500);
});

// The clipboard API exists over HTTPS and on localhost only; many installations run on plain HTTP inside a network.
async function copy(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Refused by the browser: use execCommand.
    }
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}

// Menus are <details>: one is open at a time, and a click elsewhere or Escape closes it.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.querySelector("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// "/" focuses the search field, unless a field has the focus.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const field = [...document.querySelectorAll("input[type=search]")].find((input) => input.offsetParent);
  if (!field) return;
  event.preventDefault();
  field.focus();
});

// <time data-countdown>: "in 1 h 4 min", kept up to date while the page is open.
function countDown() {
  for (const element of document.querySelectorAll("time[data-countdown]")) {
    const seconds = Math.round((Date.parse(element.dateTime) - Date.now()) / 1000);
    const away = spell(Math.abs(seconds));
    element.textContent = seconds >= 0 ? `in ${away}` : `${away} ago`;
  }
}

function spell(seconds) {
  const days = Math.floor(seconds / 86400);
  const hours = Math.floor(seconds / 3600) % 24;
  const minutes = Math.floor(seconds / 60) % 60;
  if (days) return hours ? `${days} d ${hours} h` : `${days} d`;
  if (hours) return minutes ? `${hours} h ${minutes} min` : `${hours} h`;
  if (minutes) return seconds < 600 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  return `${seconds} s`;
}

countDown();
setInterval(countDown, 1000);

// Submit a form once on a double click. It can be submitted again after three seconds, since the response may be a
// download, which leaves the page unchanged.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 3000);
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});
