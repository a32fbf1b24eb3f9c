// Progressive enhancement: say that a person looks at the page, and show at once which certificate a pasted
// fingerprint belongs to. The server decides.
"use strict";

// Tell the server that a person touched the page: a mail scanner that fetches or renders it sends no real input.
const openedForm = document.querySelector("form[data-opened]");

if (openedForm) {
  const signs = ["pointerdown", "keydown", "wheel"];
  let waiting;
  const send = () => {
    clearTimeout(waiting);
    fetch(openedForm.action, { method: "POST", body: new FormData(openedForm), keepalive: true }).catch(() => {});
  };
  const report = (event) => {
    if (!event.isTrusted) return;
    for (const sign of signs) removeEventListener(sign, report);
    // Often the input is a press on a button, whose own request says the same.
    waiting = setTimeout(send, 1000);
    addEventListener("submit", () => clearTimeout(waiting), { once: true });
  };
  for (const sign of signs) addEventListener(sign, report, { passive: true });
}

const verdict = document.querySelector("[data-verdict]");
const field = verdict && document.getElementById(verdict.dataset.verdict);

if (field) {
  const digests = (list) => list.split(" ").filter(Boolean);
  const label = /^\W*(?:(?:x\.?509|certificate|cert|(?:finger|thumb)print|sha-?\s?(?:1|256)|hash|digest)[\s()]*)+[:=]?/i;
  const check = () => {
    const digits = field.value.replace(label, "").replace(/[\s:.\-_\u200b-\u200f\u2010-\u2015\ufeff]/g, "").toLowerCase();
    const isNew = digests(verdict.dataset.new).includes(digits);
    const isOld = digests(verdict.dataset.old).includes(digits);
    verdict.className = `verdict ${isNew ? "is-fine" : "is-urgent"}`;
    if (isNew) verdict.textContent = "That is the new certificate.";
    else if (isOld) verdict.textContent = "That is the old certificate: look for the new one in your system.";
    else if (digits.length === 64 || digits.length === 40) verdict.textContent = "That is neither the new nor the old certificate.";
    else verdict.textContent = "";
  };
  field.addEventListener("input", check);
}
