// Light or dark as the system has it, until somebody switches; that is kept in this browser.
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const kept = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  if (kept() === "light" || kept() === "dark") root.dataset.theme = kept();
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-switch]")) return;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* Not kept, then. */ }
  });
})();
