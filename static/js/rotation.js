// The pages of rotations. The runbook renews itself; what somebody has opened or is typing stays as it is.
"use strict";

function isBusy(part) {
  if (part.matches(":active")) return true; // a button that goes while it is pressed was never pressed
  const focused = document.activeElement;
  // Ticks are no typing: they are put back after the part was renewed.
  if (focused && part.contains(focused) && focused.matches("input:not([type=checkbox]), textarea, select")) return true;
  for (const field of part.querySelectorAll("form textarea, form input:not([type=hidden], [type=checkbox])")) {
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
let ticked = [];
let focused = "";
document.addEventListener("htmx:beforeSwap", (event) => {
  if (!event.detail.shouldSwap || !event.detail.target.matches("[data-live]")) return;
  opened = new Map([...document.querySelectorAll("main details[id]")].map((part) => [part.id, part.open]));
  ticked = [...document.querySelectorAll("main input[type=checkbox][id]:checked")].map((box) => box.id);
  focused = document.activeElement?.closest("main [id]")?.id ?? "";
});
document.addEventListener("htmx:afterSettle", () => {
  for (const [id, open] of opened) {
    const part = document.getElementById(id);
    if (part && open) part.open = true;
  }
  for (const id of ticked) {
    const box = document.getElementById(id);
    if (box) box.checked = true;
  }
  const part = focused && document.getElementById(focused);
  if (part && document.activeElement === document.body) part.focus({ preventScroll: true });
  opened = new Map();
  ticked = [];
  focused = "";
});

// One box ticks all that have its name.
document.addEventListener("change", (event) => {
  const name = event.target.dataset?.all;
  if (!name) return;
  for (const box of event.target.form.querySelectorAll(`input[type=checkbox][name="${name}"]`)) {
    box.checked = event.target.checked;
  }
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

// A button that says for how many it is, as boxes are ticked: data-count holds {mails} and {partners}.
function countTicked(form) {
  const button = form.querySelector("[data-count]");
  if (!button) return;
  const ticked = [...form.querySelectorAll("input[type=checkbox][name=partner]:checked")];
  const mails = ticked.reduce((sum, box) => sum + Number(box.dataset.mails ?? 0), 0);
  const several = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  button.disabled = ticked.length === 0;
  button.textContent = ticked.length
    ? button.dataset.count
        .replace("{mails}", several(mails, "mail"))
        .replace("{partners}", several(ticked.length, "partner"))
    : button.dataset.none;
}
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-counted]");
  if (form) countTicked(form);
});
for (const form of document.querySelectorAll("form[data-counted]")) countTicked(form);
