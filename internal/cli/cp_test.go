package cli

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tree is a folder as text: a line an entry, sorted.
func treeText(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, file)
		info, err := d.Info()
		switch {
		case err != nil:
			return err
		case d.IsDir():
			rel += "/"
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(file)
			if err != nil {
				return err
			}
			rel += " -> " + to
		default:
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			rel += " = " + string(data)
		}
		lines = append(lines, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func TestCopyRoundTrip(t *testing.T) {
	b := readBench(t)
	b.start("web", 1, "serve")
	b.start("web", 2, "serve")
	b.write("src/a.txt", "first")
	b.write("src/deep/b.txt", "second")
	if err := os.Symlink("a.txt", filepath.Join(b.dir, "src/link")); err != nil {
		t.Fatal(err)
	}
	const whole = "a.txt = first\ndeep/\ndeep/b.txt = second\nlink -> a.txt"
	tests := []struct {
		name     string
		in, out  []string
		from     string // folder to look at
		want     string
		inErrOut string // beginning of the error of the copy out
	}{
		{"folder into a directory", []string{"src", "web:/tmp"}, []string{"web:/tmp/src", "o1"}, "o1", whole, ""},
		{"folder under a new name", []string{"src", "web:/tmp/new"}, []string{"web:/tmp/new", "o2"}, "o2", whole, ""},
		{"contents", []string{"src/.", "web:/home/app"}, []string{"web:/home/app/.", "o3"}, "o3", whole, ""},
		{"into a folder that is there", []string{"src", "web:/tmp"}, []string{"--index", "2", "web:/tmp/src", "o3"}, "o3/src", whole, ""},
		{"file under a new name", []string{"src/a.txt", "web:/tmp/c.txt"}, []string{"web:/tmp/c.txt", "o3/c.txt"}, "o3", "a.txt = first\nc.txt = first\ndeep/\ndeep/b.txt = second\nlink -> a.txt\nsrc/\nsrc/a.txt = first\nsrc/deep/\nsrc/deep/b.txt = second\nsrc/link -> a.txt", ""},
		{"file onto a file", []string{"src/deep/b.txt", "web:/tmp/c.txt"}, []string{"web:/tmp/c.txt", "o2/a.txt"}, "o2", "a.txt = second\ndeep/\ndeep/b.txt = second\nlink -> a.txt", ""},
		{"link itself", []string{"src/link", "web:/tmp/l"}, []string{"web:/tmp/l", "o1/deep"}, "o1/deep", "b.txt = second\nl -> a.txt", ""},
		{"link followed", []string{"-L", "src/link", "web:/tmp/f"}, []string{"web:/tmp/f", "o1/deep"}, "o1/deep", "b.txt = second\nf = first\nl -> a.txt", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.t = t
			b.reset()
			if code := b.run(append([]string{"cp"}, tt.in...)...); code != 0 {
				t.Fatalf("copy in: exit code %d: %s", code, b.err.String())
			}
			if code := b.run(append([]string{"cp"}, tt.out...)...); code != 0 {
				t.Fatalf("copy out: exit code %d: %s", code, b.err.String())
			}
			if got := treeText(t, filepath.Join(b.dir, tt.from)); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
			b.wantOut("")
			b.wantInErr(" Container shop-web-1  Copied  ")
		})
	}
}

func TestCopyRefuses(t *testing.T) {
	b := readBench(t)
	b.start("web", 1, "serve")
	b.start("web", 2, "serve")
	b.write("dir/a", "x")
	b.write("file", "x")
	tests := []struct {
		name, from, to, want string
	}{
		{"folder onto a file", "dir", "web:/etc/passwd", "berth: copy dir to shop-web-1:/etc/passwd: a directory cannot be copied onto a file"},
		{"file as a folder", "file/", "web:/tmp", "berth: copy file/: not a directory"},
		{"file into what is not there", "file", "web:/nope/", "berth: copy file to shop-web-1:/nope/: no such directory"},
		{"out: folder onto a file", "web:/tmp", "file", "berth: copy shop-web-1:/tmp to file: a directory cannot be copied onto a file"},
		{"out: file as a folder", "web:/etc/passwd/.", "x", "berth: copy shop-web-1:/etc/passwd/.: not a directory"},
		{"out: into what is not there", "web:/etc/passwd", "nope/", "berth: copy shop-web-1:/etc/passwd to nope/: no such directory"},
		{"out: no parent", "web:/etc/passwd", "no/pe", "berth: copy shop-web-1:/etc/passwd to no/pe: "},
		{"archive into several", "-", "web:/tmp", "berth: standard input can be copied into one container only; service web has 2, choose one with --index"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.t = t
			b.reset()
			before := treeText(t, b.dir)
			if code := b.run("cp", tt.from, tt.to); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			lines := strings.Split(strings.TrimSpace(b.err.String()), "\n")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, tt.want) {
				t.Errorf("%s\nwant %s", last, tt.want)
			}
			if after := treeText(t, b.dir); after != before {
				t.Errorf("the folder is now:\n%s", after)
			}
		})
	}
}

func TestCopyStreamsArchives(t *testing.T) {
	b := readBench(t)
	b.start("web", 1, "serve")
	b.in = string(archiveWith(t, entry{name: "piped", data: "through"}))
	if code := b.run("cp", "-", "web:/tmp"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	if code := b.run("cp", "web:/tmp/piped", "-"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	r := tar.NewReader(strings.NewReader(b.out.String()))
	h, err := r.Next()
	if err != nil || h.Name != "piped" || h.Size != int64(len("through")) {
		t.Errorf("%+v, %v", h, err)
	}
	b.reset()
	if code := b.run("cp", "-", "web:/etc/passwd"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantErr("berth: copy to shop-web-1:/etc/passwd: an archive is extracted into a directory, and this is none\n")
}

func TestCopyDryRunCopiesNothing(t *testing.T) {
	b := readBench(t)
	b.start("web", 1, "serve")
	if code := b.run("--dry-run", "cp", "web:/etc/passwd", "here"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.err.String())
	}
	b.wantOut("copy web:/etc/passwd to here in container shop-web-1\n")
	if _, err := os.Stat(filepath.Join(b.dir, "here")); err == nil {
		t.Error("it was copied")
	}
}

// entry is one entry of an archive; without a type a file, or a directory when the name ends in a slash.
type entry struct {
	name, data, link string
	kind             byte
	mode             int64
}

func archiveWith(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{
			Name: e.name, Typeflag: e.kind, Linkname: e.link, Size: int64(len(e.data)), Mode: e.mode, ModTime: time.Unix(1e9, 0), Format: tar.FormatPAX,
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(e.name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExtractStaysInItsPlace(t *testing.T) {
	folder := entry{name: "d/"}
	tests := []struct {
		name    string
		entries []entry
		want    string // the error, or empty
		inside  string // what the place holds then
	}{
		{"plain", []entry{folder, {name: "d/a", data: "x"}}, "", "a = x"},
		{"up", []entry{folder, {name: "d/../../evil", data: "x"}}, "d/../../evil: not below what was asked for", ""},
		{"up beside", []entry{folder, {name: "d/../victim", data: "x"}}, "d/../victim: not below what was asked for", ""},
		{"absolute", []entry{folder, {name: "/victim", data: "x"}}, "/victim: not below what was asked for", ""},
		{"through a link up", []entry{folder, {name: "d/l", link: "..", kind: tar.TypeSymlink}, {name: "d/l/victim", data: "x"}}, "d/l/victim: ", "l -> .."},
		{"through an absolute link", []entry{folder, {name: "d/l", link: "/tmp", kind: tar.TypeSymlink}, {name: "d/l/victim", data: "x"}}, "d/l/victim: ", "l -> /tmp"},
		{"onto a link", []entry{folder, {name: "d/l", link: "../victim", kind: tar.TypeSymlink}, {name: "d/l", data: "x"}}, "", "l = x"},
		{"hard link out", []entry{folder, {name: "d/h", link: "victim", kind: tar.TypeLink}}, "d/h: not below what was asked for", ""},
		{"hard link through a link", []entry{folder, {name: "d/l", link: "..", kind: tar.TypeSymlink}, {name: "d/h", link: "d/l/victim", kind: tar.TypeLink}}, "d/h: ", "l -> .."},
		{"hard link inside", []entry{folder, {name: "d/a", data: "x"}, {name: "d/h", link: "d/a", kind: tar.TypeLink}}, "", "a = x\nh = x"},
		{"folder over a link", []entry{folder, {name: "d/l", link: "..", kind: tar.TypeSymlink}, {name: "d/l/"}}, "d/l/: ", "l -> .."},
		{"file over a folder", []entry{folder, {name: "d/s/"}, {name: "d/s", data: "x"}}, "d/s: a directory stands where a file is to be", "s/"},
		{"no name", []entry{folder, {name: "d/a", data: "x"}, {name: "", data: "y"}}, ": not below what was asked for", "a = x"},
		{"empty", nil, "the archive is empty", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			victim := filepath.Join(dir, "victim")
			if err := os.WriteFile(victim, []byte("whole"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := extract(t.Context(), bytes.NewReader(archiveWith(t, tt.entries...)), place{dir: dir, name: "to"}, false)
			switch {
			case err == nil && tt.want != "":
				t.Errorf("no error, want %s", tt.want)
			case err != nil && (tt.want == "" || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("error %v, want %s", err, tt.want)
			}
			if data, err := os.ReadFile(victim); err != nil || string(data) != "whole" {
				t.Errorf("the file beside is now %q (%v)", data, err)
			}
			if len(tt.entries) == 0 {
				return
			}
			if got := treeText(t, filepath.Join(dir, "to")); got != tt.inside {
				t.Errorf("inside:\n%s\nwant:\n%s", got, tt.inside)
			}
		})
	}
}

func TestExtractKeepsModesAndTimesAndLeavesDevicesOut(t *testing.T) {
	dir := t.TempDir()
	archive := archiveWith(t,
		entry{name: "d/", mode: 0o500}, entry{name: "d/run", data: "x", mode: 0o4755}, entry{name: "d/null", kind: tar.TypeChar}, entry{name: "d/pipe", kind: tar.TypeFifo})
	skipped, err := extract(t.Context(), bytes.NewReader(archive), place{dir: dir, name: "to"}, false)
	if err != nil || !slices.Equal(skipped, []string{"d/null", "d/pipe"}) {
		t.Errorf("left out %q, %v", skipped, err)
	}
	modes := map[string]fs.FileMode{}
	for _, name := range []string{"to", "to/run"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		modes[name] = info.Mode()
		if !info.ModTime().Equal(time.Unix(1e9, 0)) {
			t.Errorf("%s is of %v", name, info.ModTime())
		}
	}
	if want := map[string]fs.FileMode{"to": fs.ModeDir | 0o500, "to/run": 0o755}; !maps.Equal(modes, want) {
		t.Errorf("modes %v, want %v: no set-user-ID bit comes out of a container", modes, want)
	}
	if err := os.Chmod(filepath.Join(dir, "to"), 0o700); err != nil { // so that it can be removed
		t.Fatal(err)
	}
}

func TestExtractContentsLeavesTheFolderItselfAlone(t *testing.T) {
	dir := t.TempDir()
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	archive := archiveWith(t, entry{name: "d/", mode: 0o111}, entry{name: "d/a", data: "x"})
	if _, err := extract(t.Context(), bytes.NewReader(archive), place{dir: dir}, false); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(dir)
	if err != nil || after.Mode() != before.Mode() {
		t.Errorf("mode %v, was %v (%v)", after.Mode(), before.Mode(), err)
	}
	if got := treeText(t, dir); got != "a = x" {
		t.Errorf("inside: %s", got)
	}
}

func TestArchiveOwners(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, owners := range []bool{false, true} {
		archive := archiveOf(filepath.Join(dir, "a"), "b", owners)
		h, err := tar.NewReader(archive).Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := archive.Close(); err != nil {
			t.Error(err)
		}
		want := 0
		if owners {
			want = os.Getuid()
		}
		if h.Name != "b" || h.Uid != want || h.Uname != "" || h.Mode != 0o600 {
			t.Errorf("owners %t: %+v", owners, h)
		}
	}
}
