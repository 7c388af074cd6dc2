"use strict";
const token = new URLSearchParams(location.search).get("token");
// The token should not stay in the history of the browser.
history.replaceState(null, "", location.pathname);

const add = (parent, name, text) => {
  const element = document.createElement(name);
  element.textContent = text;
  return parent.appendChild(element);
};
const main = document.body.appendChild(document.createElement("main"));
add(main, "h1", "Confirm your e-mail address");
const button = add(main, "button", "Confirm my address");
const status = add(main, "p", "");
status.setAttribute("role", "status");

if (!token) {
  button.disabled = true;
  status.textContent = "This link is not complete. Open the link in the mail once more.";
}

button.addEventListener("click", async () => {
  button.disabled = true;
  status.textContent = "One moment…";
  try {
    const answer = await fetch("v1/auth/email/verify", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
    if (answer.ok) {
      status.textContent = "Your address is confirmed. You may close this page.";
      return;
    }
    button.disabled = answer.status < 429;
    status.textContent = answer.status === 400
      ? "This link has expired or does not belong to any registration. Sign in and ask for a new mail."
      : "That did not work. Please try again in a moment.";
  } catch {
    button.disabled = false;
    status.textContent = "The server does not answer. Please try again in a moment.";
  }
});
