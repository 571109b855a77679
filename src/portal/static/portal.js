"use strict";
// What the page does beyond plain HTML: the proof of work (ALTCHA's format), the list of rules that
// ticks itself, and passwords that can be looked at. Nothing is sent from here.

const robot = document.getElementById("robot");
if (robot) {
  const solution = document.getElementById("solution");
  const told = document.getElementById("robot-told");
  const hex = (octets) => Array.from(new Uint8Array(octets), (o) => o.toString(16).padStart(2, "0")).join("");
  const solve = async ({ algorithm, challenge, salt, maxnumber, signature }) => {
    const text = new TextEncoder();
    for (let from = 0; from <= maxnumber; from += 500) {
      const numbers = Array.from({ length: 500 }, (_, at) => from + at);
      const digests = await Promise.all(
        numbers.map((number) => crypto.subtle.digest("SHA-256", text.encode(salt + number))));
      const found = digests.findIndex((digest) => hex(digest) === challenge);
      if (found >= 0) return JSON.stringify({ algorithm, challenge, number: numbers[found], salt, signature });
    }
    return "";
  };
  const begin = async () => {
    if (!robot.checked || solution.value) return;
    told.textContent = robot.dataset.working;
    solution.value = await solve(JSON.parse(robot.dataset.challenge));
    told.textContent = robot.dataset.done;
  };
  robot.addEventListener("change", begin);
  // Browsers remember ticks over a reload.
  begin();
  robot.form.addEventListener("submit", async (event) => {
    if (solution.value || !robot.checked) return;
    event.preventDefault();
    while (!solution.value) await new Promise((wait) => setTimeout(wait, 100));
    robot.form.requestSubmit();
  });
}

const rules = document.getElementById("rules");
if (rules) {
  const field = document.getElementById(rules.dataset.of);
  const names = JSON.parse(rules.dataset.names);
  const holds = {
    length: (text) => Array.from(text).length >= 8,
    letters: (text) => /[a-z]/.test(text) && /[A-Z]/.test(text),
    digit: (text) => /[0-9]/.test(text),
    special: (text) => /[!-/:-@[-`{-~]/.test(text),
    repeated: (text) => !/(.)\1\1/su.test(text),
    name: (text) => !names.some((name) => text.toLowerCase().includes(name)),
  };
  field.addEventListener("input", () => {
    for (const rule of rules.children) {
      const kept = field.value !== "" && holds[rule.dataset.rule](field.value);
      rule.className = field.value === "" ? "" : kept ? "kept" : "broken";
    }
  });
}

for (const field of document.querySelectorAll("input[type=password][data-show]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = field.dataset.show;
  button.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-controls", field.id);
  button.addEventListener("click", () => {
    const shows = field.type === "password";
    field.type = shows ? "text" : "password";
    button.setAttribute("aria-pressed", String(shows));
  });
  field.form.addEventListener("submit", () => { field.type = "password"; });
  field.after(button);
}
