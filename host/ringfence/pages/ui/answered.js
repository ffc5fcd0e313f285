// What answers a form stands in the history as the page that the form was on, so that going back or reloading sends
// nothing a second time.
if (document.body.hasAttribute("data-answer") && document.referrer) {
  const from = new URL(document.referrer);
  if (from.origin === location.origin) history.replaceState(null, "", from);
}
