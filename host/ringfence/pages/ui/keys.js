// The command palette, and keys.
document.addEventListener("DOMContentLoaded", () => {
  const palette = document.getElementById("palette");
  const keys = document.getElementById("keys");
  if (!palette) return;
  const input = palette.querySelector("input");
  const links = [...palette.querySelectorAll("a")];
  const shown = () => links.filter((link) => !link.parentElement.hidden);
  const choose = (link) => {
    for (const one of links) one.classList.toggle("chosen", one === link);
    link?.scrollIntoView({ block: "nearest" });
  };
  const filter = () => {
    const wanted = input.value.toLowerCase().split(/\s+/);
    for (const link of links) {
      link.parentElement.hidden = !wanted.every((word) => link.textContent.toLowerCase().includes(word));
    }
    choose(shown()[0]);
  };
  const open = () => { input.value = ""; filter(); palette.showModal(); };
  input.addEventListener("input", filter);
  palette.addEventListener("keydown", (event) => {
    const now = shown();
    const at = now.findIndex((link) => link.classList.contains("chosen"));
    if (event.key === "ArrowDown") choose(now[Math.min(at + 1, now.length - 1)]);
    else if (event.key === "ArrowUp") choose(now[Math.max(at - 1, 0)]);
    else if (event.key === "Enter" && document.activeElement === input) now[at]?.click();
    else return;
    event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-open=palette]")) open();
    else if (event.target === palette || event.target === keys) event.target.close();
  });
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); open(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [contenteditable]")) return;
    if (event.key === "?") keys.showModal();
    const search = document.querySelector("[data-search]");
    if (event.key === "/" && search) { event.preventDefault(); search.focus(); }
  });
});
