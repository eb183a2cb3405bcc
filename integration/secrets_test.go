package integration

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Fault 47: secret values are read by the container and found nowhere else: not
// in a record, label, log, event or plan, nor in a file that outlives memory.
func TestSecretsShowUpNowhere(t *testing.T) {
	w := newWorld(t, "")
	fromEnv, fromFile := canary(t), canary(t)
	w.setenv("CANARY_SECRET", fromEnv)
	w.write("secret.txt", fromFile)
	w.compose(`
services:
  web:
    image: IMAGE
    command: [readfile, /run/secrets/env, /run/secrets/file]
    secrets:
      - {source: env, mode: 0400}
      - {source: file, uid: "0", mode: 0400}
  keeper:
    image: IMAGE
    command: [sleep]
    secrets: [env, file]
    x-berth: {probes: {
      readiness: {exec: {command: [PROGRAM, healthcheck, /run/secrets/env]}, period: 1s, timeout: 10s},
      liveness: {exec: {command: [PROGRAM, readfile, /run/secrets/file]}, period: 1s, timeout: 10s, failureThreshold: 60}}}
  broken:
    image: localhost:1/nowhere/at-all:1
    secrets: [env, file]
    profiles: [broken]
secrets:
  env: {environment: CANARY_SECRET}
  file: {file: secret.txt}
`)
	outputs := map[string][]byte{}
	up := w.must("up", "-d")
	outputs["berth up -d"] = []byte(up.stdout + up.stderr)
	// Its probes print the secrets, and are shown without them.
	s := awaitProbes(t, w, "keeper/1", func(s standing) bool {
		p := s.Replicas[0].Probes
		return len(p.Readiness.Results) > 2 && len(p.Liveness.Results) > 0
	})
	if p := s.Replicas[0].Probes; p.Readiness.Results[0].Output != "exit code 1: unhealthy: ***" || p.Liveness.Results[0].Output != "exit code 0: ***" {
		t.Errorf("the probes' outputs are shown as %+v", p)
	}
	for _, args := range [][]string{
		{"explain", "keeper/1"}, {"explain", "keeper/1", "--format", "json"}, {"plan"}, {"plan", "--format", "json"}, {"config"}, {"config", "--format", "json"}, {"config", "--hash", "*"},
		{"ps", "-a", "--no-trunc"}, {"ps", "-a", "--format", "json"}, {"ls", "--format", "json"}, {"--profile", "broken", "up", "-d"},
		{"--progress", "json", "up", "-d", "--force-recreate"},
	} {
		r := w.berth(args...)
		outputs["berth "+strings.Join(args, " ")] = []byte(r.stdout + r.stderr)
	}
	// The container did get them.
	logs, err := w.logs(t.Context(), w.one("web").ID)
	if err != nil || !bytes.Contains(logs, []byte(fromEnv)) || !bytes.Contains(logs, []byte(fromFile)) {
		t.Errorf("the container cannot read its secrets (%v):\n%s", err, logs)
	}
	maps.Copy(outputs, w.evidence(t.Context()))
	delete(outputs, strings.TrimPrefix(w.one("web").Names[0], "/")+".log") // it prints them on purpose
	for name := range outputs {
		// The daemon keeps contents in its runtime folder, which is memory: checked below.
		if strings.HasPrefix(name, "files/run/") {
			delete(outputs, name)
		}
	}
	if len(outputs) < 12 {
		t.Fatalf("only %v were looked at", slices.Sorted(maps.Keys(outputs)))
	}
	for name, content := range outputs {
		for _, value := range []string{fromEnv, fromFile} {
			for form, shape := range map[string]string{"plain": value, "base64": base64.StdEncoding.EncodeToString([]byte(value)), "hex": hex.EncodeToString([]byte(value))} {
				if bytes.Contains(content, []byte(shape)) {
					t.Errorf("%s holds a secret (%s)", name, form)
				}
			}
		}
	}
	w.must("down", "-v")
	w.nothingLeft()
	_ = filepath.WalkDir(w.base, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(path, w.dir+"/") {
			return nil //nolint:nilerr // a file that has gone holds nothing
		}
		if content, err := os.ReadFile(path); err == nil && (bytes.Contains(content, []byte(fromEnv)) || bytes.Contains(content, []byte(fromFile))) {
			t.Errorf("%s still holds a secret after down", path)
		}
		return nil
	})
}

func canary(t *testing.T) string {
	t.Helper()
	raw := make([]byte, 12)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	return "canary-" + hex.EncodeToString(raw)
}
