// What is wrong with a JSON or YAML document, and where: first how it is written, then against a JSON schema. Pure.
import { isAlias, isMap, isScalar, isSeq, parseDocument } from "yaml";

const MOST = 50;
const DEEPEST = 60;

export function check(text, language, schema) {
  if (!text.trim()) return [];
  if (language === "json") {
    try { JSON.parse(text); } catch (error) { return [notJson(text, error)]; }
  }
  const document = parseDocument(text, { version: "1.2", prettyErrors: false, uniqueKeys: true, stringKeys: false });
  const found = [...document.errors, ...document.warnings].map((one) => mistake(one.pos, one.message, text));
  if (found.length || !schema) return found.slice(0, MOST);
  return compare(document.contents, schema, schema, 0).slice(0, MOST).map(({ range, message }) => mistake(range, message, text));
}

const mistake = (range, message, text) => {
  // At the end of the text, its last character is marked: a mark has to be seen.
  const from = Math.min(range?.[0] ?? 0, text.length - 1);
  return { from, to: Math.max(from + 1, Math.min(range?.[1] ?? text.length, text.length)), severity: "error", message };
};

const notJson = (text, error) => {
  const known = /position (\d+)/.exec(error.message);
  const at = known ? Number(known[1]) : text.length;
  return mistake([at, at + 1], `This is not JSON: ${error.message.replace(/ in JSON at position.*/, "")}.`, text);
};

const typeOf = (node) => {
  if (isMap(node)) return "object";
  if (isSeq(node)) return "array";
  const value = node?.value ?? null;
  if (value === null) return "null";
  if (typeof value === "number" || typeof value === "bigint") return Number.isInteger(Number(value)) ? "integer" : "number";
  return typeof value;
};
const WORDS = { object: "a mapping", array: "a list", string: "a text", integer: "a whole number", number: "a number", boolean: "true or false", null: "nothing" };
const or = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`);
const plain = (node) => (isScalar(node) ? node.value : node?.toJSON?.() ?? null);
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const matches = (pattern, text) => { try { return new RegExp(pattern, "u").test(text); } catch { return true; } };

const resolve = (schema, root) => {
  for (let steps = 0; schema?.$ref !== undefined && steps < 20; steps += 1) {
    if (!schema.$ref.startsWith("#/")) return true;
    schema = schema.$ref.slice(2).split("/").reduce((at, part) => at?.[decodeURIComponent(part).replace(/~1/g, "/").replace(/~0/g, "~")], root);
  }
  return schema ?? true;
};

function compare(node, given, root, depth, range = node?.range) {
  const schema = resolve(given, root);
  if (schema === true || depth > DEEPEST || isAlias(node)) return [];
  const at = (message, where = range) => ({ range: where, message, depth });
  if (schema === false) return [at("This is not allowed here.")];
  const type = typeOf(node);
  const types = [schema.type ?? []].flat();
  if (types.length && !types.includes(type) && !(type === "integer" && types.includes("number"))) {
    return [at(`This must be ${or(types.map((one) => WORDS[one] ?? one))}, and is ${WORDS[type]}.`)];
  }
  if ("const" in schema && !same(plain(node), schema.const)) return [at(`This must be ${JSON.stringify(schema.const)}.`)];
  if (schema.enum && !schema.enum.some((one) => same(one, plain(node)))) return [at(`This must be ${or(schema.enum.map((one) => JSON.stringify(one)))}.`)];
  const found = [];
  if (type === "string") {
    const length = [...node.value].length;
    if (length < schema.minLength) found.push(at(schema.minLength === 1 ? "This must not be empty." : `This must have at least ${schema.minLength} characters.`));
    if (length > schema.maxLength) found.push(at(`This may have at most ${schema.maxLength} characters, and has ${length}.`));
    if (schema.pattern && !matches(schema.pattern, node.value)) found.push(at(`This must be like ${schema.pattern}.`));
  }
  if (type === "integer" || type === "number") {
    const value = Number(node.value);
    if (value < schema.minimum || value <= schema.exclusiveMinimum) found.push(at(`This must be ${"minimum" in schema ? `at least ${schema.minimum}` : `more than ${schema.exclusiveMinimum}`}.`));
    if (value > schema.maximum || value >= schema.exclusiveMaximum) found.push(at(`This must be ${"maximum" in schema ? `at most ${schema.maximum}` : `less than ${schema.exclusiveMaximum}`}.`));
  }
  if (type === "array") {
    if (node.items.length < schema.minItems) found.push(at(`This list must have at least ${schema.minItems} entries.`));
    if (node.items.length > schema.maxItems) found.push(at(`This list may have at most ${schema.maxItems} entries.`));
    node.items.forEach((item, place) => {
      const inner = schema.prefixItems?.[place] ?? schema.items;
      if (inner !== undefined) found.push(...compare(item, inner, root, depth + 1, item?.range ?? range));
    });
  }
  if (type === "object") found.push(...compareKeys(node, schema, root, depth, at));
  for (const inner of schema.allOf ?? []) found.push(...compare(node, inner, root, depth, range));
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) {
    const tried = choices.map((one) => compare(node, one, root, depth, range));
    // What fits none is told by the one that it fits best: whose mistakes lie deepest, and are fewest.
    const deepest = (one) => Math.max(...one.map((each) => each.depth));
    if (tried.every((one) => one.length)) found.push(...tried.sort((one, other) => deepest(other) - deepest(one) || one.length - other.length)[0]);
  }
  return found;
}

function compareKeys(node, schema, root, depth, at) {
  const found = [];
  const seen = new Set();
  for (const { key, value } of node.items) {
    const name = String(plain(key));
    seen.add(name);
    const own = Object.hasOwn(schema.properties ?? {}, name) ? schema.properties[name] : undefined;
    const patterns = Object.entries(schema.patternProperties ?? {}).filter(([pattern]) => matches(pattern, name)).map(([, inner]) => inner);
    const inner = own === undefined ? patterns : [own, ...patterns];
    if (!inner.length && schema.additionalProperties === false) {
      found.push({ ...at(`${name} is not known here. Known: ${or(Object.keys(schema.properties ?? {}))}.`, key?.range), depth: depth + 1 });
    } else if (!inner.length && typeof schema.additionalProperties === "object") inner.push(schema.additionalProperties);
    if (schema.propertyNames?.pattern && !matches(schema.propertyNames.pattern, name)) found.push(at(`The name ${name} must be like ${schema.propertyNames.pattern}.`, key?.range));
    for (const one of inner) found.push(...compare(value, one, root, depth + 1, value?.range ?? key?.range));
  }
  for (const name of schema.required ?? []) if (!seen.has(name)) found.push(at(`${name} is missing.`));
  return found;
}
