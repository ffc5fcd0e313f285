// Marks each form with something entered that the host has not shown: `data-written`, for as long as that is so.
document.addEventListener("DOMContentLoaded", () => {
  const isWritten = (field) => {
    if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
    if (field.tagName !== "SELECT") return "defaultValue" in field && field.value !== field.defaultValue;
    const options = [...field.options];
    const first = field.multiple || options.some((one) => one.defaultSelected) ? null : options[0];
    return options.some((one) => one.selected !== (one.defaultSelected || one === first));
  };
  const look = (form) => form.toggleAttribute("data-written", [...form.elements].some(isWritten));
  const all = () => document.querySelectorAll("form[method=post]").forEach(look);
  document.addEventListener("input", (event) => { if (event.target.form?.method === "post") look(event.target.form); });
  document.addEventListener("reset", () => setTimeout(all));
  document.addEventListener("htmx:after:swap", all);
  // A browser that goes back fills in what was entered then.
  addEventListener("pageshow", all);
});
