// Keys, outside of any field: help, search, and those that commands of the palette have.
document.addEventListener("DOMContentLoaded", () => {
  const help = document.getElementById("keys");
  if (!help) return;
  const commands = new Map([...document.querySelectorAll("#palette [data-key]")].map((one) => [one.dataset.key, one]));
  let before = "";
  document.addEventListener("click", (event) => { if (event.target === help) help.close(); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest("input, textarea, select, dialog, [contenteditable], [data-editor]")) return;
    const typed = before ? `${before} ${event.key}` : event.key;
    const command = commands.get(typed) ?? commands.get(event.key);
    const search = document.querySelector("[data-search]");
    if (command) { event.preventDefault(); command.click(); }
    else if (event.key === "?") help.showModal();
    else if (event.key === "/" && search) { event.preventDefault(); search.focus(); }
    before = !command && event.key.length === 1 ? event.key : "";
  });
});
