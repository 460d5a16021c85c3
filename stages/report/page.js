// Two conveniences; the page is complete without them.
(() => {
  // Theme: follows the system until the reader chooses.
  const root = document.documentElement;
  const button = document.querySelector(".theme");
  const order = ["auto", "dark", "light"];
  const show = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.textContent = `theme: ${theme}`;
  };
  let theme = "auto";
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = order[(order.indexOf(theme) + 1) % order.length];
    show(theme);
  });
  show(theme);

  // Marks of the figures say what they show; pointing at one shows it as a small note.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const marks = 'figure path[aria-label][role="graphics-symbol"]';
  document.addEventListener("pointerover", (event) => {
    const mark = event.target instanceof Element ? event.target.closest(marks) : null;
    tip.hidden = mark === null;
    if (mark === null) return;
    tip.textContent = mark.getAttribute("aria-label");
    const box = mark.getBoundingClientRect();
    const left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, Math.min(box.top, event.clientY) - tip.offsetHeight - 8)}px`;
  });
})();
