// The pages of rotations. The runbook refreshes itself without losing open sections, focus and input.
"use strict";

function isBusy(part) {
  if (part.matches(":active")) return true; // replacing a button while it is pressed would lose the click
  const focused = document.activeElement;
  // Checkboxes don't block the refresh: they are restored afterwards.
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

// The user may have started typing during the request.
document.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.target.closest("[data-live]");
  if (part && isBusy(part)) event.detail.shouldSwap = false;
});

let opened = new Map();
let checked = [];
let focused = "";
document.addEventListener("htmx:beforeSwap", (event) => {
  if (!event.detail.shouldSwap || !event.detail.target.closest("[data-live]")) return;
  opened = new Map([...document.querySelectorAll("main details[id]")].map((part) => [part.id, part.open]));
  checked = [...document.querySelectorAll("main input[type=checkbox][id]:checked")].map((box) => box.id);
  focused = document.activeElement?.closest("main [id]")?.id ?? "";
});
document.addEventListener("htmx:afterSettle", () => {
  for (const [id, open] of opened) {
    const part = document.getElementById(id);
    if (part && open) part.open = true;
  }
  for (const id of checked) {
    const box = document.getElementById(id);
    if (box) box.checked = true;
  }
  const part = focused && document.getElementById(focused);
  if (part && document.activeElement === document.body) part.focus({ preventScroll: true });
  opened = new Map();
  checked = [];
  focused = "";
});

// A checkbox with data-all sets all checkboxes of that name.
document.addEventListener("change", (event) => {
  const name = event.target.dataset?.all;
  if (!name) return;
  for (const box of event.target.form.querySelectorAll(`input[type=checkbox][name="${name}"]`)) {
    box.checked = event.target.checked;
  }
});

// A form with errors (422) is swapped in like any other response, so that chosen files are kept.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.boosted && event.detail.xhr.status === 422) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

// A link into a closed <details> opens it.
function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const fold = target && target.closest("details");
  if (fold) fold.open = true;
}
openTarget();
window.addEventListener("hashchange", openTarget);

// Show the number of selected partners on a button: data-count contains {mails} and {partners}.
function updateCount(form) {
  const button = form.querySelector("[data-count]");
  if (!button) return;
  const selected = [...form.querySelectorAll("input[type=checkbox][name=partner]:checked")];
  const mails = selected.reduce((sum, box) => sum + Number(box.dataset.mails ?? 0), 0);
  const several = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  button.disabled = selected.length === 0;
  button.textContent = selected.length
    ? button.dataset.count
        .replace("{mails}", several(mails, "mail"))
        .replace("{partners}", several(selected.length, "partner"))
    : button.dataset.none;
}
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-counted]");
  if (form) updateCount(form);
});
for (const form of document.querySelectorAll("form[data-counted]")) updateCount(form);
