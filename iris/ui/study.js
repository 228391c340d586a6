// Review by keyboard, and the clock of a drill.
(() => {
  const find = (selector) => document.querySelector(selector);
  const seen = (node) => node && node.offsetParent !== null;

  // Space or Enter turns the card, 1 to 4 grade it; not while something is typed or another button has the focus.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !seen(find("#iris-review"))) return;
    if (event.target.closest?.("input, textarea, select, button, summary, [contenteditable], [role='listbox']")) return;
    const turn = find("#iris-card-turn");
    const button = /^[1-4]$/.test(event.key)
      ? find(`#iris-grade-${event.key}`)
      : event.key === " " || event.key === "Enter" ? turn : null;
    if (seen(button)) {
      event.preventDefault();
      button.click();
    }
  });
  // After a press the focus leaves the buttons, so that the keys go on working.
  document.addEventListener("click", (event) => {
    const pressed = event.target.closest?.("#iris-card-turn, #iris-grades button");
    if (pressed) pressed.blur();
  });

  // Gradio's own date field has a button without a name: a text field becomes the browser's date field instead.
  const dates = () => document.querySelectorAll(".iris-date input[type='text']").forEach((field) => { field.type = "date"; });

  // The server says how much time is left; from there on the browser counts by a clock that nobody can set.
  let shown = "";
  let end = 0;
  let over = true;
  function tick() {
    dates();
    const clock = find("#iris-clock");
    if (!clock) return;
    if (clock.dataset.drill !== shown) {
      shown = clock.dataset.drill;
      end = performance.now() + Number(clock.dataset.left);
      over = false;
    }
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (clock.textContent !== text) clock.textContent = text;
    clock.classList.toggle("late", left <= 60);
    if (!left && !over) {
      over = true;
      find("#iris-drill-time-up")?.click();
    }
  }
  setInterval(tick, 250);
  // A computer that slept may have stopped that clock: ask the server again.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && find("#iris-clock")) find("#iris-drill-wake")?.click();
  });
})();
