// Shows times as how long ago they are, and exactly, in the viewer's own zone, to whoever points at one.
(() => {
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
  const units = [["year", 31557600], ["month", 2629800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const relative = (seconds) => {
    const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? units.at(-1);
    return words.format(Math.round(seconds / size), unit);
  };
  const show = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      const text = relative((at - Date.now()) / 1000);
      if (time.textContent !== text) time.textContent = text;
      const exact = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
      if (time.title !== exact) time.title = exact;
    }
  };
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("htmx:after:swap", show);
  setInterval(show, 10000);
})();
