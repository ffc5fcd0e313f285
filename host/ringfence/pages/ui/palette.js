// The command palette: pages, what there is to do, and what the host finds of these words as one types.
document.addEventListener("DOMContentLoaded", () => {
  const palette = document.getElementById("palette");
  if (!palette) return;
  const input = palette.querySelector("[role=combobox]");
  const list = palette.querySelector("[role=listbox]");
  const nothing = palette.querySelector("[data-none]");
  const lines = palette.querySelector("[data-lines]");
  const question = palette.querySelector("[data-question]");
  const options = () => [...list.querySelectorAll("[role=option]")].filter((one) => !one.closest("li").hidden);
  const PAUSE = 150;
  const LONGEST = 15000;
  let asking = false;
  let timer = null;

  const choose = (option) => {
    for (const one of list.querySelectorAll("[aria-selected]")) one.removeAttribute("aria-selected");
    if (option) {
      option.id ||= `option-${Math.random().toString(36).slice(2)}`;
      option.setAttribute("aria-selected", "true");
      option.scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", option.id);
    } else input.removeAttribute("aria-activedescendant");
  };
  const chosen = () => list.querySelector("[aria-selected]");
  const keepChosen = () => {
    const now = options();
    nothing.hidden = now.length > 0;
    if (!now.includes(chosen())) choose(now[0]);
  };

  // One question at a time: the host would go on with one that is given up, and answer the newest after all of them.
  const find = async () => {
    if (asking) return;
    asking = true;
    const words = input.value.trim();
    const found = words ? await ask(words) : [];
    asking = false;
    // Typed on meanwhile: the newest words are asked for at once.
    if (input.value.trim() !== words) find();
    else show(found);
  };
  const ask = async (words) => {
    try {
      const answer = await fetch(`/find?${new URLSearchParams({ q: words })}`, { signal: AbortSignal.timeout(LONGEST) });
      return answer.ok ? (await answer.json()).found : [];
    } catch { return []; /* No host, or none that answers: what is here already can be chosen all the same. */ }
  };
  const show = (found) => {
    for (const one of list.querySelectorAll("[data-found]")) one.remove();
    for (const one of found) {
      const item = document.createElement("li");
      const link = document.createElement("a");
      const kind = document.createElement("span");
      const name = document.createElement("bdi");
      item.dataset.found = "";
      item.setAttribute("role", "none");
      link.href = one.to;
      link.tabIndex = -1;
      link.setAttribute("role", "option");
      name.textContent = one.words;
      kind.textContent = one.kind;
      kind.className = "hint";
      link.append(name, " ", kind);
      item.append(link);
      list.append(item);
    }
    keepChosen();
  };
  const filter = () => {
    const wanted = input.value.toLowerCase().split(/\s+/);
    for (const item of list.querySelectorAll("li:not([data-found])")) {
      item.hidden = !wanted.every((word) => item.textContent.toLowerCase().includes(word));
    }
    choose(options()[0]);
    keepChosen();
    clearTimeout(timer);
    timer = setTimeout(find, PAUSE);
  };
  const turnTo = (part) => {
    lines.hidden = part !== lines;
    question.hidden = part !== question;
  };
  const open = () => {
    input.value = "";
    turnTo(lines);
    filter();
    if (!palette.open) palette.showModal();
    input.focus();
  };

  input.addEventListener("input", filter);
  input.addEventListener("keydown", (event) => {
    const now = options();
    const at = now.indexOf(chosen());
    if (event.key === "ArrowDown") choose(now[Math.min(at + 1, now.length - 1)]);
    else if (event.key === "ArrowUp") choose(now[Math.max(at - 1, 0)]);
    else if (event.key === "Enter") chosen()?.click();
    else return;
    event.preventDefault();
  });
  // What changes something is asked about first, in the palette itself; a key that leads here opens it for that.
  palette.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.ask || form.dataset.answered) return;
    event.preventDefault();
    question.querySelector("p").textContent = form.dataset.ask;
    question.querySelector("[data-yes]").onclick = () => {
      form.dataset.answered = "yes";
      form.requestSubmit();
    };
    turnTo(question);
    if (!palette.open) palette.showModal();
    question.querySelector("[data-no]").focus();
  });
  question.querySelector("[data-no]").addEventListener("click", () => palette.close());
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-open=palette]")) open();
    else if (event.target === palette) palette.close();
  });
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); open(); }
  });
});
