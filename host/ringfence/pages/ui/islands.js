// Loads an island, which is an editor, a chart or the like, for pages that have one, also after a part was made anew.
document.addEventListener("DOMContentLoaded", () => {
  const mount = () => {
    for (const { name, content } of document.querySelectorAll('meta[name^="island-"]')) {
      const places = [...document.querySelectorAll(`[data-${name.slice("island-".length)}]`)];
      // Where it cannot be had, as in a page that is being left, the field or the link that it would stand over is there.
      if (places.length) import(content).then((island) => places.forEach(island.mount), () => {});
    }
  };
  mount();
  document.addEventListener("htmx:after:swap", mount);
});
