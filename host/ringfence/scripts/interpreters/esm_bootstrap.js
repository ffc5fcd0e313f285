// Runs inside the sandbox, in Node.js: wait, then import the script as a module. Trusted, and kept small.
//
// A script is an ES module. Its default export is the run's value; if that is a function, it is called with the
// context, and what it returns (or resolves to) is the value.
"use strict";

const fs = require("fs");
const PAYLOAD = 3, CHANNEL = 4, BOOTSTRAP = 5;

function writeAll(descriptor, data) {
  for (let sent = 0; sent < data.length;) sent += fs.writeSync(descriptor, data, sent);
}

// By position: the descriptor shares its offset with the supervisor, who has written up to the end.
function readAll(descriptor) {
  const data = Buffer.alloc(fs.fstatSync(descriptor).size);
  for (let got = 0; got < data.length;) got += fs.readSync(descriptor, data, got, data.length - got, got);
  return data;
}

fs.closeSync(BOOTSTRAP);
if (fs.readSync(CHANNEL, Buffer.alloc(16)) === 0) process.exit(125);
const data = readAll(PAYLOAD);
fs.closeSync(PAYLOAD);

const line = data.indexOf(10);
const [variables, words, context] = data.toString("latin1", 0, line).split(" ").map(Number);
let at = line + 1;
for (const pair of data.toString("utf8", at, at + variables).split("\0").slice(0, -1)) {
  const equals = pair.indexOf("=");
  process.env[pair.slice(0, equals)] = pair.slice(equals + 1);
}
at += variables;
const [script, ...args] = data.toString("utf8", at, at + words).split("\0").slice(0, -1);
at += words;
const given = context ? JSON.parse(data.toString("utf8", at, at + context)) : null;

process.argv.splice(1, Infinity, script, ...args);
process.chdir(process.env.HOME);

writeAll(CHANNEL, Buffer.from("started\n"));
import(require("url").pathToFileURL(script))
  .then((module) => (typeof module.default === "function" ? module.default(given) : module.default))
  .then((value) => {
    const text = JSON.stringify(value);
    if (text !== undefined && text !== "null") writeAll(CHANNEL, Buffer.from(text));
  })
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
