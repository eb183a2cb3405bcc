// Package testimage makes the one image that tests on real Docker need: a
// static program of many behaviours in an otherwise empty image, built from
// this repository's source by the engine itself. No registry is involved.
//
// Invariant: an image with the same content is built once on a machine, however
// many test processes ask for it at the same time.
package testimage

import (
	"context"
	"crypto/sha256"
	_ "embed" // the workload's source is hashed
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Ref is the image that [Ensure] makes.
const Ref = "berth-workload:test"

// Program is the path of the workload inside the image and its entrypoint.
const Program = "/workload"

const hashLabel = "io.berth.testimage.hash"

// The image holds a user "app" (1000) and an empty, writable /tmp.
const dockerfile = `FROM scratch
COPY rootfs/ /
USER 0
ENV PATH=/
ENTRYPOINT ["/workload"]
CMD ["serve"]
`

//go:embed workload/main.go
var source []byte

//go:embed workload/probes.go
var probesSource []byte

// Engine is what is needed of an engine.
type Engine interface {
	Image(ctx context.Context, ref string) (runtime.Image, error)
	Build(ctx context.Context, build *runtime.Build, progress func(runtime.Progress)) (string, error)
}

// Ensure returns the reference of the test image, building it where the engine
// does not hold it with this content. It fails the test when that is not possible.
func Ensure(tb testing.TB, engine Engine) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Minute)
	defer cancel()
	if err := ensure(ctx, tb.TempDir(), engine); err != nil {
		tb.Fatalf("test image: %v", err)
	}
	return Ref
}

func ensure(ctx context.Context, dir string, engine Engine) error {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	want := hash()
	img, err := engine.Image(ctx, Ref)
	switch {
	case err == nil && img.Labels[hashLabel] == want:
		return nil
	case err != nil && !runtime.IsNotFound(err):
		return err
	}
	root := filepath.Join(dir, "rootfs")
	if err := layOut(root); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(root, "workload"), //nolint:gosec // fixed arguments
		"github.com/berth-dev/berth/internal/testimage/workload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the workload: %w\n%s", err, out)
	}
	_, err = engine.Build(ctx, &runtime.Build{
		Context: dir, DockerfileInline: dockerfile, Tags: []string{Ref}, Labels: map[string]string{hashLabel: want},
	}, nil)
	return err
}

func layOut(root string) error {
	for _, d := range []string{"tmp", "etc", "home/app"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil { //nolint:gosec // world-readable inside the image
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	users := "root:x:0:0:root:/:/workload\napp:x:1000:1000:app:/home/app:/workload\n"
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(users), 0o644); err != nil { //nolint:gosec // as on any system
		return err
	}
	return os.WriteFile(filepath.Join(root, "etc/group"), []byte("root:x:0:\napp:x:1000:\n"), 0o644) //nolint:gosec // as on any system
}

func hash() string {
	h := sha256.New()
	for _, part := range []string{dockerfile, string(source), string(probesSource), goruntime.Version(), goruntime.GOARCH} {
		_, _ = fmt.Fprintf(h, "%d\n%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// lock keeps other test processes of this user from building the same image.
func lock() (unlock func(), err error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("berth-testimage-%d.lock", os.Getuid()))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil // closing unlocks
}
