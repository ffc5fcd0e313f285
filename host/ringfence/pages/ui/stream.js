// Shows what a run writes while it runs: server-sent events, appended as text to each <pre data-stream=ADDRESS>.
//
// A connection that is cut goes on from the last piece that is shown. The text is bounded: of what is longer than the
// bound, the beginning goes, as it does in a terminal; the run's own page has all of it once it has ended.
(() => {
  const MOST_CHARACTERS = 500000;
  const open = new Map();

  const follow = (box) => {
    let after = box.dataset.after ?? "";
    let pause = 500;
    let source = null;
    let timer = null;
    const stop = () => { clearTimeout(timer); source?.close(); source = null; };
    const append = ({ stream, text }) => {
      // Whoever has scrolled up to read stays where they are.
      const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      const piece = document.createElement("span");
      if (stream === "stderr") piece.className = "stderr";
      piece.textContent = text;
      box.append(piece);
      for (let size = box.textContent.length; size > MOST_CHARACTERS && box.childElementCount > 1;) {
        size -= box.firstElementChild.textContent.length;
        box.firstElementChild.remove();
      }
      if (atEnd) box.scrollTop = box.scrollHeight;
    };
    const say = (words) => {
      const told = document.querySelector(`[data-said="${box.id}"]`);
      if (told) told.textContent = words;
    };
    const renew = () => box.closest("[data-part]")?.dispatchEvent(new CustomEvent("anew"));
    const connect = () => {
      if (!box.isConnected) { open.delete(box); return; }
      source = new EventSource(`${box.dataset.stream}?after=${encodeURIComponent(after)}`);
      source.onopen = () => { pause = 500; say("Running: the output comes as it is written."); };
      source.addEventListener("output", (event) => {
        after = event.lastEventId || after;
        // That it runs is told by nothing else than what it writes.
        if (!box.childElementCount) renew();
        append(JSON.parse(event.data));
      });
      source.addEventListener("end", (event) => {
        const { status, said } = JSON.parse(event.data);
        stop();
        say(said || `The run has ended: ${status}.`);
        // The page around it, if it is live, has the whole result now.
        renew();
      });
      source.onerror = () => {
        stop();
        say("The connection is lost. Trying again…");
        timer = setTimeout(connect, pause * (0.75 + Math.random() / 2));
        pause = Math.min(pause * 2, 10000);
        document.dispatchEvent(new CustomEvent("refused"));
      };
    };
    open.set(box, stop);
    box.scrollTop = box.scrollHeight;
    connect();
  };
  const look = () => {
    for (const [box, stop] of open) if (!box.isConnected) { stop(); open.delete(box); }
    for (const box of document.querySelectorAll("[data-stream]")) if (!open.has(box)) follow(box);
  };
  document.addEventListener("DOMContentLoaded", look);
  document.addEventListener("htmx:after:swap", look);
  addEventListener("pagehide", () => { for (const stop of open.values()) stop(); open.clear(); });
  addEventListener("pageshow", (event) => { if (event.persisted) look(); });
})();
