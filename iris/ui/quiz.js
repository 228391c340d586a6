// The form of a quiz: what is answered or pressed goes to the server; a new item begins with nothing chosen, and the
// focus goes to what is new.
const state = { key: element.querySelector("form")?.dataset.key };

element.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  trigger("submit", { action: "answer", key: form.dataset.key, answer: new FormData(form).get("answer") ?? "" });
});

element.addEventListener("click", (event) => {
  const pressed = event.target.closest("[data-action]");
  if (pressed) trigger("submit", { action: pressed.dataset.action, key: pressed.closest("form").dataset.key, answer: "" });
});

watch("value", () => {
  const form = element.querySelector("form");
  if (!form || form.dataset.key === state.key) return;
  state.key = form.dataset.key;
  form.reset(); // Gradio changes the old form into the new one, and what was chosen would stay chosen
  form.querySelector("[data-focus]")?.focus({ preventScroll: true });
  form.scrollIntoView({ block: "nearest" });
});
