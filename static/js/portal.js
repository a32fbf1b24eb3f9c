// Progressive enhancement: show at once which certificate a pasted fingerprint belongs to. The server decides.
"use strict";

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
