// Command entrypoint is process 1 of the server images that make images builds
// from Debian packages. It prepares what a server needs (a database cluster, the
// owner of a data folder), gives up root and replaces itself by the server, so
// that signals reach the server directly.
//
// The first argument picks the preparation: postgres, redis-server, nginx. Any
// other command is run as it is.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const serverID = 999 // user and group of PostgreSQL and Redis in their images

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "entrypoint:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("no command: name the server to run, such as postgres")
	}
	switch {
	case args[0] == "postgres":
		return startPostgres(args)
	case args[0] == "redis-server":
		return startRedis(args)
	case strings.HasPrefix(args[0], "-") || strings.HasSuffix(args[0], ".conf"):
		// Options alone are Redis's: no other of these servers is started so.
		return startRedis(append([]string{"redis-server"}, args...))
	default:
		return replace(args)
	}
}

// startRedis lets other containers in (the image has no interface but the one
// on the stack's networks) and keeps the data folder its own.
func startRedis(args []string) error {
	if err := giveTo("/data"); err != nil {
		return err
	}
	if err := dropRoot("/data"); err != nil {
		return err
	}
	at := 1
	if len(args) > 1 && !strings.HasPrefix(args[1], "-") {
		at = 2 // a configuration file comes first
	}
	full := append([]string{}, args[:at]...)
	full = append(full, "--protected-mode", "no")
	return replace(append(full, args[at:]...))
}

// giveTo makes dir the server's own, with all that is in it, when root runs us.
func giveTo(dir string) error {
	if os.Getuid() != 0 {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, serverID, serverID)
	})
}

// dropRoot gives up root for good; home becomes $HOME.
func dropRoot(home string) error {
	if os.Getuid() != 0 {
		return nil
	}
	if err := syscall.Setgroups([]int{serverID}); err != nil {
		return fmt.Errorf("give up root's groups: %w", err)
	}
	if err := syscall.Setgid(serverID); err != nil {
		return fmt.Errorf("give up root's group: %w", err)
	}
	if err := syscall.Setuid(serverID); err != nil {
		return fmt.Errorf("give up root: %w", err)
	}
	return os.Setenv("HOME", home)
}

// replace becomes the command.
func replace(args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return fmt.Errorf("run %s: %w", args[0], err)
	}
	// #nosec G204 -- running the image's command is this program's whole task
	if err := syscall.Exec(path, args, os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}
	return nil
}
