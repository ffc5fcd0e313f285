// Keeps an open page as it is on the host: one stream of server-sent events says which of its parts to fetch anew.
//
// The browser's own EventSource gives up where a proxy or a host that stops answers with an error, and a new one would
// begin at the end; so the last position is kept here, and each connection goes on from it.
document.addEventListener("DOMContentLoaded", () => {
  const begin = document.body.dataset.position;
  const parts = [...document.querySelectorAll("[data-part][hx-get]")];
  if (begin === undefined || parts.length === 0) return;
  const lost = document.querySelector(".lost");
  const waiting = new Set();
  let position = begin;
  let source = null;
  let pause = 500;
  let timer = null;

  // What somebody is writing is not taken from under their hands: the part waits until they have left it.
  const busy = (part) => part.matches(":has(:is(input, select, textarea):focus), :has([data-written])");
  const renew = (part) => {
    if (busy(part)) { waiting.add(part); return; }
    waiting.delete(part);
    part.dispatchEvent(new CustomEvent("anew"));
  };
  document.addEventListener("input", (event) => event.target.closest("form[method=post]")?.setAttribute("data-written", ""));
  document.addEventListener("focusout", () => setTimeout(() => waiting.forEach(renew)));

  const connect = () => {
    clearTimeout(timer);
    if (source || document.hidden) return;
    const query = new URLSearchParams({ after: position });
    for (const part of parts) query.append("watch", part.dataset.part);
    source = new EventSource(`/live?${query}`);
    const mine = source;
    source.onopen = () => { pause = 500; lost.hidden = true; };
    source.onmessage = (event) => { position = event.lastEventId || position; };
    source.addEventListener("anew", (event) => {
      position = event.lastEventId || position;
      const names = new Set(event.data.split(" "));
      for (const part of parts) if (names.has(part.dataset.part)) renew(part);
    });
    source.addEventListener("ended", () => { close(); location.reload(); });
    source.onerror = () => {
      if (mine !== source) return;
      close();
      lost.hidden = false;
      timer = setTimeout(connect, pause * (0.75 + Math.random() / 2));
      pause = Math.min(pause * 2, 10000);
    };
  };
  const close = () => { source?.close(); source = null; };
  // A tab that nobody looks at holds no connection: browsers have few for each host.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : connect()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", connect);
  // What comes too often for the event log (results of checks) is asked for: an element says where, and what it has seen.
  let looking = false;
  setInterval(async () => {
    if (looking || document.hidden) return;
    looking = true;
    const elements = [...document.querySelectorAll("[data-fresh]")];
    for (const address of new Set(elements.map((one) => one.dataset.fresh))) {
      const answer = await fetch(address).then((found) => (found.ok ? found.text() : null)).catch(() => null);
      for (const one of elements) {
        const part = one.dataset.fresh === address && answer !== null && answer !== one.dataset.seen && one.closest("[data-part]");
        if (part) renew(part);
      }
    }
    looking = false;
  }, 1000);
  // Only what was not answered at all, or by an error, is tried again.
  document.addEventListener("htmx:error", (event) => {
    const part = event.target.closest?.("[data-part]");
    if (part) setTimeout(() => renew(part), 2000);
  });
  connect();
});
