#!/usr/bin/env bash
# Runs govulncheck ($1) and fails for every vulnerability this code reaches that
# .ci/vuln-allow.txt does not name. Its database is asked over the network: where
# that cannot be reached nothing is known, and the run fails and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
report=$(mktemp)
trap 'rm -f "$report"' EXIT
status=0
"$1" ./... >"$report" 2>&1 || status=$?
# 0: none; 3: some were found; anything else: it could not look.
if [ "$status" != 0 ] && [ "$status" != 3 ]; then
	tail -n 5 "$report" >&2
	echo "vuln: govulncheck could not look (exit $status, see above); it needs code that compiles and its database at vuln.go.dev" >&2
	exit 1
fi
found=$(sed -n 's/^Vulnerability #[0-9]*: \(GO-[0-9-]*\).*/\1/p' "$report" | sort -u)
allowed=$(sed 's/#.*//; s/[[:space:]]*$//; /^$/d' .ci/vuln-allow.txt | sort -u)
bad=$(comm -23 <(printf '%s' "$found" | sed '/^$/d') <(printf '%s\n' "$allowed"))
if [ -n "$bad" ]; then
	cat "$report"
	echo "vuln: not allowed: $(tr '\n' ' ' <<<"$bad")" >&2
	exit 1
fi
echo "vuln: nothing reached beyond the allow-list (found: $(tr '\n' ' ' <<<"${found:-none}"))"
