#!/usr/bin/env bash
# Guess, written down first: a Jupyter Book whose configuration does not ask for Thebe (live code) has nothing
# of it in its pages.
# Found: jupyter-book 1.0.4.post1 always loads sphinx-thebe, which writes `const THEBE_JS_URL = ...` into every
# page twice, at the top level of two classic scripts. The second is an error that every reader's browser logs, and each page names a
# foreign host (unpkg.com), also with `thebe: false` in launch_buttons, which is the default.
# Remedy: leave sphinx_thebe out of Sphinx's list of extensions.
# Output seen: jupyter-book 1.0.4.post1, sphinx-thebe 0.3.1: declared twice, "Identifier 'THEBE_JS_URL' has already
# been declared", unpkg.com named. Needs node.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupyter-book==1.0.4.post1 sphinx-thebe==0.3.1
mkdir "$folder/book"
printf 'title: A book\nlaunch_buttons:\n  thebe: false\n' > "$folder/book/_config.yml"
printf 'format: jb-book\nroot: index\n' > "$folder/book/_toc.yml"
printf '# A page\n\nWith one sentence.\n' > "$folder/book/index.md"
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/jupyter-book" build "$folder/book" --quiet > "$folder/log" 2>&1
cat > "$folder/look.js" <<'JS'
const page = require("fs").readFileSync(process.argv[2], "utf8");
const scripts = [...page.matchAll(/<script>([^<]*THEBE_JS_URL[^<]*)<\/script>/g)].map((found) => found[1]);
console.log("scripts that declare it:", scripts.length);
const context = require("vm").createContext({ document: {}, window: {} });
let message = "no error";
try {
  for (const script of scripts) require("vm").runInContext(script, context);
} catch (error) {
  message = `${error.name}: ${error.message}`;
}
console.log(message);
console.log("names unpkg.com:", page.includes("unpkg.com"));
const asSeen = scripts.length === 2 && message.includes("already been declared") && page.includes("unpkg.com");
if (!asSeen) throw new Error("this has changed");
JS
node "$folder/look.js" "$folder/book/_build/html/index.html"
