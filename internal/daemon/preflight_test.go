package daemon

import (
	"fmt"
	"net"
	"os"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/berth-dev/berth/runtime"
)

// Whoever publishes a port that another process holds is told which one that is.
func TestPortTakenNamesTheProcess(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	d := &Daemon{cfg: Config{LocalEngine: true}, balancing: newBalancing(nil)}
	port := uint16(l.Addr().(*net.TCPAddr).Port) // #nosec G115 -- a port
	why := d.portTaken("shop", runtime.Port{HostIP: "127.0.0.1", Protocol: "tcp"}, port, nil)
	want := fmt.Sprintf("process %d (", os.Getpid())
	if goruntime.GOOS != "linux" {
		want = "a process of this machine"
	}
	if !strings.HasPrefix(why, want) || !strings.Contains(why, "listens on it already") {
		t.Errorf("said %q, want it to begin with %q", why, want)
	}
}
