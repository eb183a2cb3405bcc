package peer

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestListener(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if pid, err := Listener(socket); err != nil || pid != os.Getpid() {
		t.Errorf("process %d, %v; this is %d", pid, err, os.Getpid())
	}
	if _, err := Listener(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("somebody listens where nobody does")
	}
}
