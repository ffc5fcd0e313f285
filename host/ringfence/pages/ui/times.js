// Shows times as how long ago they are, and exactly, in the viewer's own zone, to whoever points at one. Times that are
// entered are in that zone, too: the host has them in UTC.
(() => {
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
  const units = [["year", 31557600], ["month", 2629800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const relative = (seconds) => {
    if (Math.abs(seconds) < 2) return words.format(0, "second");
    const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? units.at(-1);
    return words.format(Math.round(seconds / size), unit);
  };
  // Made once: a format takes longer to make than a hundred times to write.
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  const show = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      const text = relative((at - Date.now()) / 1000);
      if (time.textContent !== text) time.textContent = text;
      const exact = format.format(at);
      if (time.title !== exact) time.title = exact;
    }
  };
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
