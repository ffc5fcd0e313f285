// Where a page is cut off, or refused something: says so if that is because nobody is signed in any more. A stream of
// events does not tell why it was refused, so the host is asked for something small.
document.addEventListener("DOMContentLoaded", () => {
  const told = document.querySelector(".ended");
  if (!told) return;
  const link = told.querySelector("a");
  let asking = false;
  document.addEventListener("ended", () => {
    link.href = `/sign-in?${new URLSearchParams({ ended: "yes", to: location.pathname + location.search })}`;
    // What somebody is writing is not thrown away: they are told, and send it once they have signed in again.
    if (document.querySelector("form[data-written]")) {
      document.querySelector(".lost:not(.ended)").hidden = true;
      told.hidden = false;
    } else location.assign(link.href);
  });
  document.addEventListener("refused", async () => {
    if (asking) return;
    asking = true;
    const answer = await fetch("/find").catch(() => null);
    asking = false;
    if (answer?.status === 401) document.dispatchEvent(new CustomEvent("ended"));
  });
  document.addEventListener("htmx:response:error", () => document.dispatchEvent(new CustomEvent("refused")));
});
