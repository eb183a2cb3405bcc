package balance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// HolderOf returns the process that holds a port which could not be bound; nil where
// that cannot be told: its sockets may be another user's, or the error another one.
func HolderOf(f Frontend, err error) *Process {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil
	}
	return ownerOf("/proc", inodesAt(f))
}

// inodesAt returns the inodes of the sockets that are bound to a frontend's port.
func inodesAt(f Frontend) map[string]bool {
	inodes := map[string]bool{}
	for _, table := range []string{string(f.Protocol), string(f.Protocol) + "6"} {
		file, err := os.Open(filepath.Join("/proc/net", table))
		if err != nil {
			continue // no IPv6 on this machine
		}
		socketsAt(file, f.Protocol, f.Port, inodes)
		_ = file.Close()
	}
	return inodes
}

// The states of sockets that keep others from binding their port, as
// /proc/net/tcp and udp write them (TCP_LISTEN, TCP_CLOSE).
const (
	stateListen = "0A"
	stateBound  = "07"
)

// socketsAt adds the inodes of the sockets that are bound to a port.
func socketsAt(table io.Reader, p Protocol, port uint16, inodes map[string]bool) {
	state := stateListen
	if p == UDP {
		state = stateBound
	}
	at := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(table); lines.Scan(); {
		// sl local_address rem_address st queues timer retrnsmt uid timeout inode …
		field := strings.Fields(lines.Text())
		if len(field) > 9 && strings.HasSuffix(field[1], at) && field[3] == state {
			inodes[field[9]] = true
		}
	}
}

// ownerOf returns the process with the lowest number that has one of the sockets open.
func ownerOf(proc string, inodes map[string]bool) *Process {
	if len(inodes) == 0 {
		return nil
	}
	var owner *Process
	entries, _ := os.ReadDir(proc) // what cannot be read cannot be told
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || owner != nil && owner.PID < pid {
			continue
		}
		if len(openOf(filepath.Join(proc, e.Name(), "fd"), inodes)) > 0 {
			owner = &Process{PID: pid, Command: commandOf(filepath.Join(proc, e.Name()))}
		}
	}
	return owner
}

// openOf returns the descriptors of a process by which it has one of the sockets open.
func openOf(fds string, inodes map[string]bool) []int {
	var open []int
	entries, _ := os.ReadDir(fds) // none of another user's
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(fds, e.Name()))
		if err != nil {
			continue
		}
		inode, ok := strings.CutPrefix(to, "socket:[")
		fd, err := strconv.Atoi(e.Name())
		if ok && err == nil && inodes[strings.TrimSuffix(inode, "]")] {
			open = append(open, fd)
		}
	}
	return open
}

// commandMost is how much of a command line is told, in bytes.
const commandMost = 200

// commandOf returns a process's command line, with what could disturb a terminal
// replaced; its name when it has none.
func commandOf(dir string) string {
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	line = bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '})
	if err != nil || len(line) == 0 {
		line, _ = os.ReadFile(filepath.Join(dir, "comm")) // it may have ended meanwhile
	}
	line = line[:min(len(line), commandMost)]
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSpace(string(line))))
}
