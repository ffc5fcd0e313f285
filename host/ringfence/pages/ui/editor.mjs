// An editor over a text field. The field keeps the text, so that the form is sent as it is without us.
//
// It stands in a shadow root: there CodeMirror sets its styles by style sheets that it makes, and not by a <style>, which
// the Content-Security-Policy forbids; and what makes the page's parts anew leaves it alone.
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { javascript } from "@codemirror/lang-javascript";
import { json } from "@codemirror/lang-json";
import { python } from "@codemirror/lang-python";
import { yaml } from "@codemirror/lang-yaml";
import { HighlightStyle, StreamLanguage, bracketMatching, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { shell } from "@codemirror/legacy-modes/mode/shell";
import { lintKeymap, linter } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState } from "@codemirror/state";
import { EditorView, drawSelection, highlightSpecialChars, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { check } from "./schema.mjs";

const LANGUAGES = {
  json: () => json(), yaml: () => yaml(), python: () => python(), javascript: () => javascript({ typescript: true }),
  shell: () => StreamLanguage.define(shell), text: () => [],
};
const COLOURS = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.bool, tags.null], color: "var(--code-word)" },
  { tag: [tags.string, tags.special(tags.string), tags.regexp], color: "var(--code-text)" },
  { tag: [tags.number, tags.atom], color: "var(--code-number)" },
  { tag: tags.comment, color: "var(--soft)" },
  { tag: [tags.propertyName, tags.definition(tags.variableName), tags.function(tags.variableName)], color: "var(--accent)" },
]);
// The underlines of mistakes are lines of text here: as images within style sheets, the policy would refuse them.
const wavy = (colour) => ({ backgroundImage: "none", textDecoration: `underline wavy var(${colour})`, textDecorationSkipInk: "none" });
const THEME = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "var(--raised)", font: "var(--code)", border: "1px solid var(--line)", borderRadius: "var(--radius)", overflow: "hidden", maxHeight: "70vh" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "2px" },
  ".cm-scroller": { font: "inherit", overflow: "auto" },
  ".cm-content": { caretColor: "var(--ink)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-gutters": { backgroundColor: "transparent", color: "var(--soft)", border: "0" },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": { background: "var(--off-paper) !important" },
  ".cm-selectionMatch, &.cm-focused .cm-matchingBracket": { backgroundColor: "var(--warn-paper)" },
  ".cm-specialChar": { color: "var(--bad)" },
  ".cm-lintRange-error": wavy("--bad"), ".cm-lintRange-warning": wavy("--warn"),
  ".cm-tooltip, .cm-panels": { backgroundColor: "var(--raised)", color: "var(--ink)", border: "1px solid var(--line)" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--bad)" },
  ".cm-panels input, .cm-panels button": { color: "inherit", background: "var(--raised)", border: "1px solid var(--line)" },
});

// What replaces coloured text would have the browser keep its colour by a style in the markup, which the policy refuses.
const PLAIN = EditorView.domEventHandlers({
  beforeinput(event, view) {
    if (event.inputType !== "insertText" || !event.data || view.composing || view.state.readOnly || view.state.selection.main.empty) return false;
    view.dispatch(view.state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true });
    event.preventDefault();
    return true;
  },
});

const schemas = new Map();
const schemaAt = (address) => {
  if (!address) return null;
  if (!schemas.has(address)) {
    const headers = { "X-CSRF-Token": document.querySelector('meta[name="csrf"]')?.content ?? "" };
    schemas.set(address, fetch(address, { headers }).then((answer) => (answer.ok ? answer.json() : null), () => null));
  }
  return schemas.get(address);
};

const editors = new WeakMap();

// Put an editor into `place`, or bring the one that is there to what the field has by now.
export function mount(place) {
  const field = place.querySelector("textarea");
  const there = editors.get(place);
  if (there) {
    const text = there.state.doc.toString();
    if (text !== field.value && !there.hasFocus) there.dispatch({ changes: { from: 0, to: text.length, insert: field.value } });
    return;
  }
  const label = document.querySelector(`label[for="${CSS.escape(field.id)}"]`);
  const language = place.dataset.editor;
  const described = (field.getAttribute("aria-describedby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent);
  const root = place.attachShadow({ mode: "open" });
  const said = document.createElement("p");
  said.setAttribute("role", "status");
  const find = async (view) => {
    const found = check(view.state.doc.toString(), language, await schemaAt(place.dataset.schema));
    const first = found.slice(0, 3).map((one) => `Line ${view.state.doc.lineAt(one.from).number}: ${one.message}`);
    said.textContent = [...first, found.length > 3 ? `And ${found.length - 3} more.` : ""].join(" ");
    return found;
  };
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: field.value,
      extensions: [
        lineNumbers(), highlightSpecialChars(), history(), drawSelection(), indentOnInput(), bracketMatching(),
        highlightSelectionMatches(), indentUnit.of(language === "python" || language === "shell" ? "    " : "  "),
        (LANGUAGES[language] ?? LANGUAGES.text)(), syntaxHighlighting(COLOURS), THEME, PLAIN,
        language === "json" || language === "yaml" ? linter(find, { delay: 300 }) : [],
        // Esc and then Tab leaves, as everywhere with this editor.
        keymap.of([...defaultKeymap, ...historyKeymap, ...searchKeymap, ...lintKeymap, indentWithTab]),
        EditorState.readOnly.of(field.readOnly || field.disabled),
        EditorView.contentAttributes.of({
          "aria-label": [label?.textContent.trim(), ...described, "Press Escape and then Tab to leave."].filter(Boolean).join(". "),
          "aria-invalid": field.getAttribute("aria-invalid") ?? "false", spellcheck: "false",
        }),
        EditorView.updateListener.of((update) => {
          if (!update.docChanged || field.value === update.state.doc.toString()) return;
          field.value = update.state.doc.toString();
          field.dispatchEvent(new Event("input", { bubbles: true }));
        }),
      ],
    }),
  });
  Object.assign(said.style, { color: "var(--bad)", margin: ".2rem 0" });
  root.append(said);
  view.dom.style.minHeight = `${field.rows * 1.5}em`;
  label?.addEventListener("click", () => view.focus());
  field.addEventListener("focus", () => view.focus());
  editors.set(place, view);
}
