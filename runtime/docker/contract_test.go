package docker_test

import (
	"testing"

	"github.com/berth-dev/berth/internal/testimage"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/docker"
	"github.com/berth-dev/berth/runtime/enginetest"
)

func TestContract(t *testing.T) {
	e, err := docker.Open(t.Context(), docker.Options{})
	if err != nil {
		t.Fatalf("this test needs a Docker engine: %v", err)
	}
	t.Cleanup(func() { _ = e.Close() })
	enginetest.Run(t, enginetest.Harness{
		Case:     func(t *testing.T, run func(*testing.T, enginetest.Engine)) { run(t, e) },
		Image:    testimage.Ensure(t, e),
		Prefix:   "berth-contract-",
		Parallel: true,
		NotStaged: map[runtime.State]string{
			runtime.Removing: "the engine is in it only while it removes a container, for milliseconds that cannot be held",
			runtime.Dead:     "it needs a removal that fails inside the engine, such as a busy mount",
		},
	})
}
