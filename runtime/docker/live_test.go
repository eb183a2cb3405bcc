package docker

import (
	"testing"

	"github.com/berth-dev/berth/internal/testimage"
)

func TestInfo(t *testing.T) {
	e := open(t)
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.CPUs < 1 || info.Memory <= 0 || info.APIVersion == "" || info.Host == "" {
		t.Errorf("incomplete: %+v", info)
	}
}

func TestTestImage(t *testing.T) {
	e := open(t)
	ref := testimage.Ensure(t, e)
	img, err := e.Image(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	again := testimage.Ensure(t, e)
	if img2, err := e.Image(t.Context(), again); err != nil || img2.ID != img.ID {
		t.Errorf("built twice: %v %v, %v", img.ID, img2.ID, err)
	}
}
