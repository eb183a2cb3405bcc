package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// haproxyPackages are the Debian packages of HAProxy, with the libraries that a
// plain system lacks.
var haproxyPackages = []string{"haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"}

// haproxyCache is where they are kept.
const haproxyCache = ".cache/haproxy"

const haproxyConfig = `global
  maxconn 4096
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen bench
  bind %s
  balance roundrobin
`

// haproxy runs HAProxy in front of the same replicas. The error is a reason why it
// cannot be had.
func (b *bench) haproxy(ctx context.Context, to []string) (c *carrier, stop func(), err error) {
	stop = func() {}
	program, libraries, err := findHAProxy(ctx)
	if err != nil {
		return nil, stop, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, stop, err
	}
	config := fmt.Sprintf(haproxyConfig, loopback(port))
	for i, address := range to {
		config += fmt.Sprintf("  server s%d %s\n", i+1, address)
	}
	file := filepath.Join(b.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, stop, err
	}
	cmd := exec.CommandContext(ctx, program, "-db", "-f", file) // #nosec G204 -- found a moment ago
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraries)
	stop, err = startCarrier(ctx, cmd, loopback(port))
	if err != nil {
		return nil, stop, err
	}
	return &carrier{name: "HAProxy", to: []string{loopback(port)}, pid: cmd.Process.Pid}, stop, nil
}

// acceptsMost is how long somebody has to begin to listen.
const acceptsMost = 10 * time.Second

// accepts waits until a connection is accepted.
func accepts(ctx context.Context, to string) error {
	ctx, cancel := context.WithTimeout(ctx, acceptsMost)
	defer cancel()
	for {
		conn, err := dialer.DialContext(ctx, "tcp", to)
		if err == nil {
			return conn.Close()
		}
		if sleep(ctx, acceptLook) != nil {
			return err
		}
	}
}

// findHAProxy is the program, and where its libraries are: this machine's, or
// Debian's, whose packages are fetched once and unpacked, not installed.
func findHAProxy(ctx context.Context) (program, libraries string, err error) {
	if program, err = exec.LookPath("haproxy"); err == nil {
		return program, "", nil
	}
	root, err := filepath.Abs(filepath.Join(haproxyCache, "root"))
	if err != nil {
		return "", "", err
	}
	program = filepath.Join(root, "usr/sbin/haproxy")
	if _, err := os.Stat(program); err != nil {
		if err := fetchHAProxy(ctx, root); err != nil {
			return "", "", fmt.Errorf("HAProxy is not installed, and its packages could not be fetched: %w", err)
		}
	}
	found, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	return program, strings.Join(found, ":"), err
}

func fetchHAProxy(ctx context.Context, root string) error {
	archives := filepath.Dir(root)
	if err := os.MkdirAll(root, 0o755); err != nil { // #nosec G301 -- nothing in it is secret
		return err
	}
	fetch := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "APT::Sandbox::User=", "download"}, haproxyPackages...)...) // #nosec G204 -- fixed arguments
	fetch.Dir = archives
	if data, err := fetch.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download: %w: %s", err, strings.TrimSpace(string(data)))
	}
	files, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if data, err := exec.CommandContext(ctx, "dpkg-deb", "-x", f, root).CombinedOutput(); err != nil { // #nosec G204 -- fetched a moment ago
			return fmt.Errorf("dpkg-deb -x %s: %w: %s", f, err, strings.TrimSpace(string(data)))
		}
	}
	return nil
}
