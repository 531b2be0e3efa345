#!/bin/bash
# The page's program, bundled from Grafana's libraries into the cache. Prints its directory. There already: nothing to do.
# Needs node and npm. Cold: a minute.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/../../../sandbox/cache.sh"

RENDERER=$CACHE/pictures-$(digest_of "$HERE"/package.json "$HERE"/package-lock.json "$HERE"/.npmrc "$HERE"/src/* "$0")

build() { # DIRECTORY
  cp -r "$HERE"/package.json "$HERE"/package-lock.json "$HERE"/.npmrc "$HERE"/src "$1/"
  cd "$1"
  npm ci --no-progress
  node_modules/.bin/esbuild src/main.tsx --bundle --minify --jsx=automatic --format=iife --outfile=renderer.js \
    --banner:js="var process={env:{NODE_ENV:'production'}};" --define:process.env.NODE_ENV='"production"' \
    --define:global=window --loader:.svg=dataurl --log-level=warning \
    --alias:monaco-editor=./src/nothing.cjs --alias:@monaco-editor/react=./src/nothing.cjs
  rm -rf node_modules
}

make_once "$RENDERER" pictures npm "node and npm are not installed" "bundling what draws the pictures"
echo "$RENDERER"
