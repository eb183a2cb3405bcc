package fake

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TestImage is the image of package internal/testimage in memory: its containers
// and the commands run in them take the same arguments and behave the same,
// apart from the network, which does not exist here.
func TestImage() Image {
	return Image{
		Entrypoint: []string{"/workload"},
		Command:    []string{"serve"},
		Env:        []string{"PATH=/"},
		User:       "0",
		Files: map[string]string{ //nolint:gosec // an empty password file holds no credentials
			"/workload":   "a program",
			"/etc/passwd": "root:x:0:0:root:/:/workload\napp:x:1000:1000:app:/home/app:/workload\n",
			"/etc/group":  "root:x:0:\napp:x:1000:\n",
		},
		Dirs:     []string{"/tmp", "/home/app"},
		Workload: Workload{Main: testProgram, Exec: testProgram, Binaries: []string{"/workload", "workload"}},
	}
}

// testProgram is the workload of the test image.
func testProgram(p *Process) int {
	behaviours := map[string]func(*Process, []string) (int, error){
		"serve": testServe, "sleep": testSleep, "exit": testExit, "print": testPrint, "tick": testTick, "cat": testCat,
		"ignoreterm": testIgnoreTerm, "alloc": testAlloc, "spawn": testSpawn, "burn": testBurn, "env": testEnv,
		"readfile": testReadFile, "writefile": testWriteFile, "rm": testRemove, "stat": testStat, "ls": testList,
		"whoami": testWhoami, "tty": testTTY, "healthcheck": testHealthcheck,
	}
	name, args := "help", []string(nil)
	if len(p.Args) > 1 {
		name, args = p.Args[1], p.Args[2:]
	}
	f, ok := behaviours[name]
	if !ok {
		p.errorf("workload: unknown behaviour %q; there are %s\n", name, strings.Join(slices.Sorted(maps.Keys(behaviours)), ", "))
		return 2
	}
	code, err := f(p, args)
	if err != nil {
		p.errorf("workload: %v\n", err)
		code = max(code, 1)
	}
	return code
}

// printf writes to stdout; a process whose output is gone does not care.
func (p *Process) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.Stdout, format, args...) }
func (p *Process) errorf(format string, args ...any) { _, _ = fmt.Fprintf(p.Stderr, format, args...) }

// forever is a waiting time that no test outlives.
const forever = 100 * 365 * 24 * time.Hour

// wait waits for d or a signal to end; ended says that one has come. A signal
// that the Go runtime turns into the end of the program gives its exit code.
func (p *Process) wait(d time.Duration) (ended bool, code int) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return !p.gate(), 0
		case <-p.killed:
			return true, 0
		case sig := <-p.signals:
			switch {
			case !p.gate() || sig == "TERM" || sig == "INT":
				return true, 0
			case sig == "HUP" || sig == "QUIT" || sig == "ABRT":
				return true, 2
			}
		}
	}
}

func optional(args []string, i int) (time.Duration, error) {
	if len(args) <= i {
		return 0, nil
	}
	return time.ParseDuration(args[i])
}

func testServe(p *Process, args []string) (int, error) {
	port := "8080"
	if len(args) > 0 {
		port = args[0]
	}
	p.printf("listening on %s\n", port)
	_, code := p.wait(forever)
	p.printf("stopping\n")
	return code, nil
}

func testSleep(p *Process, args []string) (int, error) {
	d, err := optional(args, 0)
	if err != nil {
		return 2, err
	}
	p.printf("sleeping\n")
	if d <= 0 {
		d = forever
	}
	_, code := p.wait(d)
	return code, nil
}

func testExit(p *Process, args []string) (int, error) {
	if len(args) == 0 {
		return 2, errors.New("exit needs a code")
	}
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return 2, err
	}
	d, err := optional(args, 1)
	if err != nil {
		return 2, err
	}
	p.wait(d)
	return code & 0xff, nil
}

func testPrint(p *Process, args []string) (int, error) {
	ended := false
	for _, a := range args {
		text, isErr := strings.CutPrefix(a, "err:")
		pause, isPause := strings.CutPrefix(a, "sleep:")
		switch {
		case isErr:
			p.errorf("%s\n", text)
		case isPause:
			d, err := time.ParseDuration(pause)
			if err != nil {
				return 2, err
			}
			if !ended {
				ended, _ = p.wait(d)
			}
		case a == "forever":
			if !ended {
				ended, _ = p.wait(forever)
			}
		default:
			p.printf("%s\n", a)
		}
	}
	return 0, nil
}

func testTick(p *Process, args []string) (int, error) {
	d, err := optional(args, 0)
	if err != nil || d <= 0 {
		return 2, errors.New("tick needs an interval")
	}
	for i := 1; ; i++ {
		p.printf("tick %d\n", i)
		if ended, code := p.wait(d); ended {
			return code, nil
		}
	}
}

func testCat(p *Process, _ []string) (int, error) {
	copied := make(chan error, 1)
	go func() { // ends with stdin, which the engine closes with the process
		_, err := io.Copy(p.Stdout, p.Stdin)
		copied <- err
	}()
	for {
		select {
		case err := <-copied:
			return 0, err
		case <-p.killed:
			return 0, nil
		case sig := <-p.signals:
			if slices.Contains([]string{"TERM", "INT", "HUP", "QUIT", "ABRT"}, sig) {
				return 2, nil // as the Go runtime does
			}
		}
	}
}

func testIgnoreTerm(p *Process, _ []string) (int, error) {
	p.printf("ignoring signals\n")
	<-p.killed
	return 0, nil
}

func testAlloc(p *Process, args []string) (int, error) {
	if len(args) == 0 {
		return 2, errors.New("alloc needs a number of bytes")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 0 {
		return 2, fmt.Errorf("%q is not a number of bytes", args[0])
	}
	if !p.Alloc(int64(n)) {
		return 0, nil
	}
	p.printf("allocated %d\n", max(n, 1))
	return testSleep(p, args[1:])
}

func testSpawn(p *Process, args []string) (int, error) {
	n := 1
	if len(args) > 0 {
		var err error
		if n, err = strconv.Atoi(args[0]); err != nil || n < 0 || n > 64 {
			return 2, fmt.Errorf("%q is not a number of children between 0 and 64", args[0])
		}
	}
	p.engine.mu.Lock()
	p.children = uint64(n)
	p.engine.mu.Unlock()
	p.printf("spawned %d\n", n)
	_, code := p.wait(forever)
	return code, nil
}

func testBurn(p *Process, args []string) (int, error) {
	d, err := optional(args, 0)
	if err != nil {
		return 2, err
	}
	if d == 0 {
		d = forever
	}
	p.engine.mu.Lock()
	p.burning = p.engine.nowLocked()
	p.engine.mu.Unlock()
	p.printf("burning\n")
	_, code := p.wait(d)
	return code, nil
}

func testEnv(p *Process, keys []string) (int, error) {
	values := map[string]string{}
	for _, kv := range p.Env {
		k, v, _ := strings.Cut(kv, "=")
		values[k] = v
	}
	if len(keys) == 0 {
		for _, k := range slices.Sorted(maps.Keys(values)) {
			p.printf("%s=%s\n", k, values[k])
		}
	}
	for _, k := range keys {
		v, ok := values[k]
		if !ok {
			v = "<unset>"
		}
		p.printf("%s\n", v)
	}
	return 0, nil
}

// at makes a path absolute.
func (p *Process) at(name string) string {
	if path.IsAbs(name) {
		return name
	}
	return path.Join(p.Dir, name)
}

func testReadFile(p *Process, args []string) (int, error) {
	for _, a := range args {
		b, err := p.ReadFile(p.at(a))
		if err != nil {
			return 1, err
		}
		if _, err := p.Stdout.Write(b); err != nil {
			return 1, err
		}
	}
	return 0, nil
}

func testWriteFile(p *Process, args []string) (int, error) {
	if len(args) != 2 {
		return 2, errors.New("writefile needs a path and a text")
	}
	return 0, p.WriteFile(p.at(args[0]), []byte(args[1]), 0o644)
}

func testRemove(p *Process, args []string) (int, error) {
	for _, a := range args {
		if err := p.Remove(p.at(a)); err != nil {
			return 1, err
		}
	}
	return 0, nil
}

func testStat(p *Process, args []string) (int, error) {
	for _, a := range args {
		f, err := p.lstat(p.at(a))
		if err != nil {
			return 1, err
		}
		p.printf("%s %04o %d:%d %d\n", a, f.mode.Perm(), f.uid, f.gid, len(f.data))
	}
	return 0, nil
}

func (p *Process) lstat(name string) (*file, error) {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	m, rel := p.c.resolve(name)
	if f := m.tree.files[rel]; f != nil {
		return f, nil
	}
	return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
}

func testList(p *Process, args []string) (int, error) {
	for _, a := range args {
		f, err := p.lstat(p.at(a))
		if err != nil {
			return 1, err
		}
		if !f.mode.IsDir() {
			return 1, &fs.PathError{Op: "readdir", Path: a, Err: errors.New("not a directory")}
		}
		for _, name := range p.names(p.at(a)) {
			p.printf("%s\n", name)
		}
	}
	return 0, nil
}

// names are the entries of a directory, mount points included.
func (p *Process) names(dir string) []string {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	m, rel := p.c.resolve(dir)
	var names []string
	for _, q := range m.tree.under(rel) {
		if q != rel && path.Dir(q) == rel {
			names = append(names, path.Base(q))
		}
	}
	for _, t := range p.c.trees {
		if path.Dir(t.target) == clean(dir) {
			names = append(names, path.Base(t.target))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func testWhoami(p *Process, _ []string) (int, error) {
	uid, gid, err := p.ids()
	p.printf("%s:%s %s %s\n", uid, gid, p.Dir, p.Getenv("HOSTNAME"))
	return 0, err
}

// ids looks the user up as the Docker Engine does: a name in /etc/passwd, a
// number as it is, each with its group unless another one is given.
func (p *Process) ids() (uid, gid string, err error) {
	user, group, _ := strings.Cut(p.User, ":")
	if user == "" {
		user = "0"
	}
	uid, gid = user, "0"
	passwd, err := p.ReadFile("/etc/passwd")
	if err != nil {
		return uid, gid, err
	}
	for line := range strings.SplitSeq(string(passwd), "\n") {
		if f := strings.Split(line, ":"); len(f) > 3 && (f[0] == user || f[2] == user) {
			uid, gid = f[2], f[3]
			break
		}
	}
	if group != "" {
		gid = group
	}
	return uid, gid, nil
}

func testTTY(p *Process, args []string) (int, error) {
	p.engine.mu.Lock()
	tty, size := p.tty, p.size
	p.engine.mu.Unlock()
	p.printf("tty=%t rows=%d cols=%d\n", tty, size.Rows, size.Cols)
	if len(args) == 0 || args[0] != "watch" {
		return 0, nil
	}
	for {
		select {
		case <-p.killed:
			return 0, nil
		case sig := <-p.signals:
			if sig == "TERM" || sig == "INT" {
				return 0, nil
			}
		case <-p.resized:
			size := p.Size()
			p.printf("rows=%d cols=%d\n", size.Rows, size.Cols)
		}
	}
}

func testHealthcheck(p *Process, args []string) (int, error) {
	name := "/tmp/unhealthy"
	if len(args) > 0 {
		name = args[0]
	}
	b, err := p.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		p.printf("healthy\n")
		return 0, nil
	}
	p.printf("unhealthy: %s\n", strings.TrimSpace(string(b)))
	return 1, nil
}
