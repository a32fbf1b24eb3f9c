// Show the error of a passkey operation; allauth's scripts talk to the browser.
(() => {
  const trouble = document.querySelector("[data-passkey-trouble]");
  const button = document.getElementById("passkey_button");
  if (!trouble || !button) return;

  const say = (text) => {
    trouble.textContent = text;
    trouble.hidden = !text;
  };

  if (!window.PublicKeyCredential) {
    button.disabled = true;
    say("This browser gives no passkeys to this page: they want HTTPS, or the name localhost.");
  }
  button.addEventListener("click", () => say(""));
  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    const name = event.detail.exception && event.detail.exception.name;
    if (name === "InvalidStateError") say("This device holds a passkey of yours for this page already.");
    else if (name === "SecurityError") say("Passkeys want a page with a name: HTTPS, or localhost in place of an address of numbers.");
    else say("No passkey came: it was cancelled, or took too long. Try again.");
  });
})();
