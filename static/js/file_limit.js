// Progressive enhancement: reject a file that is far too large before it is uploaded.
"use strict";

const MAX_BYTES = 1024 * 1024;
const file = document.querySelector("input[type=file]");

if (file) {
  const note = document.createElement("p");
  note.className = "invalid-feedback d-block";
  note.setAttribute("role", "status");
  file.after(note);
  file.addEventListener("change", () => {
    const chosen = file.files[0];
    const isTooLarge = chosen !== undefined && chosen.size > MAX_BYTES;
    note.textContent = isTooLarge
      ? `This file has ${(chosen.size / MAX_BYTES).toFixed(1)} MiB, and a certificate has a few KB: choose the certificate’s own file.`
      : "";
    if (isTooLarge) file.value = "";
  });
}
