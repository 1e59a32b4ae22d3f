// Keeps the live page up to date: parts come from /events, and what has not changed is left alone.
"use strict";
(() => {
  const link = document.getElementById("link");
  let heard = 0;

  const say = (words, isGood) => {
    link.textContent = words;
    link.classList.toggle("good-words", isGood);
  };

  // A picture is swapped when the next one has arrived, so that nothing flickers.
  const loaded = (fresh) =>
    Promise.all([...fresh.querySelectorAll("img")].map((image) => image.decode().catch(() => undefined)));

  const put = async (part, html) => {
    const fresh = document.createElement("div");
    fresh.innerHTML = html;
    if (part.id === "overlay") await loaded(fresh);
    const key = part.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    part.replaceChildren(...fresh.childNodes);
    if (key) part.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
  };

  const source = new EventSource("/events");
  source.onmessage = (message) => {
    heard = Date.now();
    for (const [name, html] of Object.entries(JSON.parse(message.data))) {
      const part = document.getElementById(name);
      if (part && part.hasAttribute("data-part")) put(part, html);
    }
    say("● live", true);
  };
  source.onopen = () => say("● live", true);
  source.onerror = () => say("○ connection lost: what you see is old; trying again", false);
})();
