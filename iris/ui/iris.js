// What Gradio's components leave out: names for screen readers, questions shown to the letter, and a few keys.
() => {
  const find = (selector) => document.querySelector(selector);
  const set = (node, name, value) => {
    if (node && node.getAttribute(name) !== value) node.setAttribute(name, value);
  };

  // A question is text, not Markdown: <b>, $x$ and <|im_start|> are shown as they were typed. Gradio puts a message's
  // source into its label; it is moved from there into an element of its own, which the style sheet shows instead.
  const QUESTION = "user's message: ";
  const ANSWER = "bot's message: ";
  function showToTheLetter(message) {
    const label = message.getAttribute("aria-label") || "";
    let shown = message.querySelector(":scope > .iris-asked");
    if (label.startsWith(QUESTION)) {
      if (!shown) {
        shown = document.createElement("div");
        shown.className = "iris-asked";
        message.append(shown);
      }
      shown.textContent = label.slice(QUESTION.length);
      set(message, "role", "group");
      set(message, "aria-label", "You asked");
    } else if (label.startsWith(ANSWER)) {
      shown?.remove(); // a question stood here before
      set(message, "role", "group");
      set(message, "aria-label", "Iris answered");
    }
  }

  function tidy() {
    document.querySelectorAll("#iris-chat [data-testid='user'], #iris-chat [data-testid='bot']").forEach(showToTheLetter);
    set(find("#iris-question textarea"), "aria-label", "Your question"); // else the button in its label is in its name
    const stop = find("#iris-question .stop-button");
    set(stop, "aria-label", "Stop");
    set(stop, "title", "Stop (Esc)");
    set(find("#iris-question .submit-button"), "aria-label", "Send");
    set(find("#iris-question .submit-button"), "title", "Send (Enter)");
    for (const line of document.querySelectorAll("#iris-status, #iris-notice, .iris-line")) {
      set(line, "role", "status");
      set(line, "aria-live", "polite");
    }
    const log = find("#iris-chat [role='log']");
    set(log, "aria-label", "Conversation");
    set(log, "tabindex", "0"); // scrolls by keyboard
    set(log, "aria-busy", stop ? "true" : "false"); // an answer is read out when it is complete, not word by word
    find("#iris-chat [role='complementary']")?.removeAttribute("role");
    const examples = find("#iris-chat .examples");
    set(examples, "role", "group");
    set(examples, "aria-label", "Example questions");
    const edited = find("#iris-chat .edit-textarea");
    if (edited && !edited.hasAttribute("aria-label")) {
      set(edited, "aria-label", "Edit your question");
      set(edited, "title", "Enter sends, Esc leaves it as it was");
      edited.focus();
    }
    for (const wide of document.querySelectorAll("#iris-chat .prose :is(pre, table, .katex-display), .iris-rich :is(pre, table, math)")) {
      if (wide.scrollWidth > wide.clientWidth) set(wide, "tabindex", "0");
    }
  }

  new MutationObserver(tidy).observe(document.body, {
    childList: true,
    subtree: true,
    attributes: true,
    attributeFilter: ["aria-label"],
  });
  tidy();

  document.addEventListener("keydown", (event) => {
    if (event.target.matches?.("#iris-chat .edit-textarea")) {
      const [send, leave] = event.target.closest(".message-row").nextElementSibling.querySelectorAll("button");
      const button = event.key === "Escape" ? leave : event.key === "Enter" && !event.shiftKey ? send : null;
      if (button && !event.isComposing) {
        event.preventDefault();
        button.click();
        find("#iris-question textarea")?.focus();
      }
    } else if (event.key === "Escape") {
      find("#iris-question .stop-button")?.click();
    }
  });
  // A button that vanishes takes the focus with it: whoever works by keyboard goes on in the question box.
  document.addEventListener("click", (event) => {
    const byKeyboard = event.detail === 0;
    if (byKeyboard && event.target.closest?.("#iris-question button, #iris-chat .example, #iris-new")) {
      find("#iris-question textarea")?.focus();
    }
  });

  // On a class's own network the page comes over http, where browsers have no clipboard to write to.
  if (!navigator.clipboard) {
    const writeText = async (text) => {
      const copy = document.createElement("textarea");
      copy.value = text;
      copy.style.position = "fixed";
      copy.style.opacity = "0";
      document.body.append(copy);
      copy.select();
      const done = document.execCommand("copy");
      copy.remove();
      if (!done) throw new Error("This browser does not let the page copy.");
    };
    Object.defineProperty(navigator, "clipboard", { value: { writeText }, configurable: true });
  }
}
