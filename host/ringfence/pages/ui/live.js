// Keeps an open page as it is on the host: one stream of server-sent events says which of its parts to fetch anew.
//
// The browser's own EventSource gives up where a proxy or a host that stops answers with an error, and a new one would
// begin at the end; so the last position is kept here, and each connection goes on from it.
document.addEventListener("DOMContentLoaded", () => {
  const begin = document.body.dataset.position;
  const every = [...document.querySelectorAll("[data-part][hx-get]")];
  const parts = every.filter((part) => part.hasAttribute("data-live"));
  const reload = document.querySelector("[data-reload]");
  if (reload) setTimeout(() => location.reload(), 1000 * reload.dataset.reload);
  if (begin === undefined || every.length === 0) return;
  const [lost, ended] = document.querySelectorAll(".lost");
  const waiting = new Set();
  let position = begin;
  let source = null;
  let pause = 500;
  let timer = null;

  // What somebody is writing is not taken from under their hands: the part waits until they have left it.
  // So does a list that grows at its top, until they have scrolled back to that.
  const busy = (part) => part.matches(":has(:is(input, select, textarea):focus, [data-editor]:focus-within, [data-written])")
    || (scrollY > 300 && part.querySelector("[data-follow]") !== null);
  const renew = (part) => {
    if (busy(part)) { waiting.add(part); return; }
    waiting.delete(part);
    part.dispatchEvent(new CustomEvent("anew"));
  };
  document.addEventListener("focusout", () => setTimeout(() => waiting.forEach(renew)));
  document.addEventListener("scroll", () => { if (scrollY <= 300) waiting.forEach(renew); }, { passive: true });

  const connect = () => {
    clearTimeout(timer);
    if (source || document.hidden || parts.length === 0) return;
    const query = new URLSearchParams({ after: position });
    for (const part of parts) query.append("watch", part.dataset.part);
    source = new EventSource(`/live?${query}`);
    const mine = source;
    source.onopen = () => { pause = 500; lost.hidden = true; ended.hidden = true; };
    source.onmessage = (event) => { position = event.lastEventId || position; };
    source.addEventListener("anew", (event) => {
      position = event.lastEventId || position;
      const names = new Set(event.data.split(" "));
      for (const part of parts) if (names.has(part.dataset.part)) renew(part);
    });
    source.addEventListener("ended", () => {
      close();
      document.dispatchEvent(new CustomEvent("ended"));
    });
    source.onerror = () => {
      if (mine !== source) return;
      close();
      if (!ended.hidden) return;
      lost.hidden = false;
      timer = setTimeout(connect, pause * (0.75 + Math.random() / 2));
      pause = Math.min(pause * 2, 10000);
      document.dispatchEvent(new CustomEvent("refused"));
    };
  };
  document.addEventListener("ended", () => clearTimeout(timer));
  const close = () => { source?.close(); source = null; };
  // A tab that nobody looks at holds no connection: browsers have few for each host.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : connect()));
  addEventListener("pagehide", close);
  // Signing out ends the session, and this stream with it, before the browser has followed the form's answer: reloading
  // the page at that news would have it give up the answer.
  document.addEventListener("submit", (event) => { if (event.target.matches('[action="/sign-out"]')) close(); });
  addEventListener("pageshow", connect);
  // What comes too often for the event log (results of checks) is asked for: an element says where, and what it has seen.
  let looking = false;
  setInterval(async () => {
    if (looking || document.hidden) return;
    looking = true;
    const elements = [...document.querySelectorAll("[data-fresh]")];
    for (const address of new Set(elements.map((one) => one.dataset.fresh))) {
      const answer = await fetch(address).then((found) => {
        if (found.status === 401) document.dispatchEvent(new CustomEvent("refused"));
        return found.ok ? found.text() : null;
      }).catch(() => null);
      for (const one of elements) {
        const part = one.dataset.fresh === address && answer !== null && answer !== one.dataset.seen && one.closest("[data-part]");
        if (part) renew(part);
      }
    }
    looking = false;
  }, 1000);
  // What somebody has opened or closed stays so where it is made anew, in whichever row it stands by then.
  const key = (one) => `${one.closest("tr, li")?.querySelector("th, td, time")?.textContent}|${one.querySelector("summary")?.textContent}`;
  let kept = new Map();
  document.addEventListener("htmx:before:swap", () => {
    kept = new Map([...document.querySelectorAll("main details")].map((one) => [key(one), one.open]));
  });
  document.addEventListener("htmx:after:swap", () => {
    for (const one of document.querySelectorAll("main details")) one.open = kept.get(key(one)) ?? one.open;
  });
  // Only what was not answered at all, or by an error, is tried again.
  document.addEventListener("htmx:error", (event) => {
    const part = event.target.closest?.("[data-part]");
    if (part) setTimeout(() => renew(part), 2000);
  });
  // What goes on without an event, such as a job, says how often to look, in seconds, for as long as it does.
  let beats = 0;
  setInterval(() => {
    if (document.hidden) return;
    beats += 1;
    for (const part of every) {
      const pace = part.querySelector("[data-renew]")?.dataset.renew;
      if (pace && beats % pace === 0) renew(part);
    }
  }, 1000);
  connect();
});
