package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/pkg/stdcopy"
)

// artefacts keeps what explains a failed test: every container's record and
// log, the project's events, the plan as it is now, and berth's own files.
func (w *world) artefacts(ctx context.Context) {
	dir := filepath.Join(shared.repo, ".cache", "failed", strings.ReplaceAll(w.t.Name(), "/", "_"))
	_ = os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Logf("artefacts: %v", err)
		return
	}
	for name, content := range w.evidence(ctx) {
		path := filepath.Join(dir, name)
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			w.t.Logf("artefacts: %v", err)
		}
	}
	w.t.Logf("what is known about the failure is in %s", dir)
}

// evidence is all that can be known of the project from outside, by file name.
func (w *world) evidence(ctx context.Context) map[string][]byte {
	all := map[string][]byte{}
	note := func(name string, content []byte, err error) {
		if err != nil {
			content = fmt.Appendf(content, "\n(%v)\n", err)
		}
		all[name] = content
	}
	list, err := w.raw.ContainerList(ctx, container.ListOptions{All: true, Filters: w.byProject()})
	if err != nil {
		note("containers", nil, err)
	}
	for _, c := range list {
		name := strings.TrimPrefix(c.Names[0], "/")
		_, inspect, err := w.raw.ContainerInspectWithRaw(ctx, c.ID, false)
		note(name+".inspect.json", inspect, err)
		logs, err := w.logs(ctx, c.ID)
		note(name+".log", logs, err)
	}
	happened, err := w.events(ctx)
	note("events.json", happened, err)
	for _, args := range [][]string{{"plan"}, {"plan", "--format", "json"}, {"ps", "-a", "--format", "json"}, {"ls", "-a", "--format", "json"}} {
		cmd := w.command(ctx, append(w.prefix[:len(w.prefix):len(w.prefix)], args...)...)
		out, err := cmd.CombinedOutput()
		note("berth-"+strings.Join(args, ""), out, err)
	}
	for _, sub := range []string{"state", "run", "cache"} {
		root := filepath.Join(w.base, sub)
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil //nolint:nilerr // a file that has gone meanwhile explains nothing
			}
			content, err := os.ReadFile(path)
			rel, _ := filepath.Rel(w.base, path)
			note(filepath.Join("files", rel), content, err)
			return nil
		})
	}
	return all
}

func (w *world) logs(ctx context.Context, id string) ([]byte, error) {
	stream, err := w.raw.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	var out bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &out, stream)
	return out.Bytes(), err
}

// events returns the project's events of the last ten minutes.
func (w *world) events(ctx context.Context) ([]byte, error) {
	now := time.Now()
	messages, failed := w.raw.Events(ctx, events.ListOptions{
		Since: fmt.Sprint(now.Add(-10 * time.Minute).Unix()), Until: fmt.Sprint(now.Unix() + 1), Filters: w.byProject(),
	})
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for {
		select {
		case m := <-messages:
			if err := enc.Encode(m); err != nil {
				return out.Bytes(), err
			}
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return out.Bytes(), err
		}
	}
}
