#!/usr/bin/env bash
# The demo behind `make demo`: the quickstart stack from nothing to a page.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PORT=${PORT:-8080}
stack=(bin/berth -f compose-examples/quickstart/compose.yaml)
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

# Somebody else's port is a plain message here, before anything is made. If the
# demo itself is up already, the port is its own.
if [ -z "$("${stack[@]}" ps --status running -q web 2>/dev/null)" ] && (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then
	echo "demo: port $PORT is taken by another program; choose one that is free: make demo PORT=9080" >&2
	exit 1
fi

say "1. The image, from ./compose-examples/quickstart/app ($ berth build --quiet)"
"${stack[@]}" build --quiet

say "2. The stack ($ berth up -d --wait)"
"${stack[@]}" up -d --wait

say "3. What runs ($ berth ps)"
"${stack[@]}" ps

say "4. The page (http://127.0.0.1:$PORT/)"
if command -v curl >/dev/null; then curl -fsS "http://127.0.0.1:$PORT/"; else compose-examples/quickstart/bin/app check "http://127.0.0.1:$PORT/"; fi

say "Try next, from this folder:"
cat <<TEXT
  cd compose-examples/quickstart$([ "$PORT" = 8080 ] || echo "; export PORT=$PORT")
  ../../bin/berth plan                                nothing to do
  docker rm -f quickstart-web-1                       and a moment later ...
  ../../bin/berth ps                                  ... it is back
  GREETING='Good day' ../../bin/berth plan            what a change would do, and why
  GREETING='Good day' ../../bin/berth up -d           do it
  ../../bin/berth logs -f                             what the services say

Take it down, the visits' volume included:
  ../../bin/berth down -v
TEXT
