#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME, one after another. Inputs are
# not made smaller: that would take the whole time of a slow target.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
found=0
while IFS=: read -r file target; do
	found=$((found + 1))
	echo "fuzz ${file%/*} $target"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-20s}" -fuzzminimizetime 1x "./${file%/*}"
done < <(git ls-files '*_test.go' | xargs -r grep -HoE '^func Fuzz[A-Za-z0-9_]*' | sed 's/:func /:/' | sort)
[ "$found" -gt 0 ] || { echo "fuzz: no fuzz target found" >&2; exit 1; }
echo "fuzz: $found targets, each for ${FUZZTIME:-20s}"
