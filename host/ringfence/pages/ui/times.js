// Shows times as how long ago they are, and exactly, in the viewer's own zone, to whoever points at one. Times that are
// entered are in that zone, too: the host has them in UTC.
(() => {
  const units = [["year", 31557600], ["month", 2629800], ["day", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  // Written here, as `Intl` takes longer to load than all else of a page's scripts.
  const relative = (seconds) => {
    const length = Math.abs(seconds);
    if (length < 2) return "now";
    // Whole units, of which a fiftieth may be missing: what was an hour ago a few seconds before is not 59 minutes.
    const [unit, count] = units.map(([unit, size]) => [unit, Math.floor(length / size + 0.02)]).find(([, count]) => count);
    const words = `${count} ${unit}${unit.length > 3 && count > 1 ? "s" : ""}`;
    return seconds < 0 ? `${words} ago` : `in ${words}`;
  };
  const show = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const text = relative((new Date(time.dateTime) - Date.now()) / 1000);
      if (time.textContent !== text) time.textContent = text;
    }
  };
  document.addEventListener("pointerover", ({ target }) => {
    const time = target.closest?.("time[datetime]");
    if (time) time.title = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  });
  const two = (number) => String(number).padStart(2, "0");
  const local = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
  const entered = "input[type=datetime-local][data-utc]";
  const begin = () => {
    for (const field of document.querySelectorAll(entered)) if (field.value) field.value = local(new Date(`${field.value}Z`));
  };
  const label = () => { for (const zone of document.querySelectorAll("[data-zone]")) zone.textContent = "(your time)"; };
  document.addEventListener("formdata", (event) => {
    for (const field of event.target.querySelectorAll(entered)) {
      if (field.value) event.formData.set(field.name, new Date(field.value).toISOString());
    }
  });
  document.addEventListener("DOMContentLoaded", () => { begin(); label(); show(); });
  document.addEventListener("htmx:after:swap", () => { label(); show(); });
  setInterval(show, 10000);
})();
