package docker

import (
	"context"
	"io"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/image"

	"github.com/berth-dev/berth/runtime"
)

// Import makes an image of one layer out of a tar archive and returns its ID. No
// registry and no builder is involved.
func (e *Engine) Import(ctx context.Context, tag string, labels map[string]string, archive io.Reader) (string, error) {
	const op = "import image"
	var changes []string
	for _, key := range sortedKeys(labels) {
		changes = append(changes, "LABEL "+strconv.Quote(key)+"="+strconv.Quote(labels[key]))
	}
	call, cancel := context.WithTimeout(ctx, e.timeouts.Transfer)
	defer cancel()
	body, err := e.api().ImageImport(call, image.ImportSource{Source: archive, SourceName: "-"}, tag, image.ImportOptions{Changes: changes})
	if err != nil {
		return "", e.fail(op, tag, err)
	}
	defer body.Close()
	var id string
	err = readProgress(body, func(p runtime.Progress) {
		if strings.HasPrefix(p.Status, "sha256:") {
			id = p.Status
		}
	}, nil)
	if err == nil && id == "" {
		return "", refuse(runtime.KindUnavailable, op, tag, "the engine reported no image")
	}
	return id, e.fail(op, tag, err)
}
