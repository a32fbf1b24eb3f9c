// The pages of rotations. The runbook renews itself; what somebody has opened or is typing stays as it is.
"use strict";

function isBusy(part) {
  const focused = document.activeElement;
  if (focused && part.contains(focused) && focused.matches("input, textarea, select")) return true;
  for (const field of part.querySelectorAll("form textarea, form input:not([type=hidden])")) {
    if (field.value !== field.defaultValue) return true;
  }
  return false;
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.target.closest("[data-live]");
  if (part && isBusy(part)) event.preventDefault();
});

// Typing may have begun while the answer was on its way.
document.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.target.closest("[data-live]");
  if (part && isBusy(part)) event.detail.shouldSwap = false;
});

let opened = new Map();
let focused = "";
document.addEventListener("htmx:beforeSwap", (event) => {
  if (!event.detail.shouldSwap || !event.detail.target.matches("[data-live]")) return;
  opened = new Map([...document.querySelectorAll("main details[id]")].map((part) => [part.id, part.open]));
  focused = document.activeElement?.closest("main [id]")?.id ?? "";
});
document.addEventListener("htmx:afterSettle", () => {
  for (const [id, open] of opened) {
    const part = document.getElementById(id);
    if (part && open) part.open = true;
  }
  const part = focused && document.getElementById(focused);
  if (part && document.activeElement === document.body) part.focus({ preventScroll: true });
  opened = new Map();
  focused = "";
});

// A form that comes back with errors (422) is shown like any other answer; chosen files stay where they are.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.boosted && event.detail.xhr.status === 422) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

// A link into a folded part opens it.
function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const fold = target && target.closest("details");
  if (fold) fold.open = true;
}
openTarget();
window.addEventListener("hashchange", openTarget);
